#!/usr/bin/env bash
# Runs every test: the fast ones with the race detector, then the ones that
# need root, a real Docker Engine and a real registry.
. "$(dirname "$0")/lib.sh"
cd "$root"

need_dockerd
[ -x "$(command -v docker)" ] || need_packages docker-cli # in Debian 12 it comes with the engine
need_packages iptables iproute2 ca-certificates curl git gcc libc6-dev docker-registry mmdebstrap debian-archive-keyring apache2-utils openssh-server openssh-client umoci uidmap slirp4netns jq zstd
start_engine
IMGBAKE_TEST_ROOTFS=$(debian_rootfs)
export IMGBAKE_TEST_ROOTFS
export IMGBAKE_TEST_BIN=$root/bin
IMGBAKE_TEST_ACT=$(scripts/tool.sh act github.com/nektos/act v0.2.89)
export IMGBAKE_TEST_ACT

say "vet, format and lint"
scripts/lint.sh
say "fast tests, with the race detector"
CGO_ENABLED=1 go test -race ./...
say "tests on a real engine"
go test -tags engine -count=1 -timeout 35m -p 1 ./...
say "cross builds"
for os in linux darwin; do
  for arch in amd64 arm64; do
    GOOS=$os GOARCH=$arch CGO_ENABLED=0 go build -buildvcs=false -o /dev/null ./cmd/imgbake
  done
done
