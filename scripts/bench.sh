#!/usr/bin/env bash
# Measures imgbake beside public peers, all in one run: docker build with and
# without BuildKit, docker push, buildah, skopeo, buildx, and Debian's packer. Prints a
# table of ratios as Markdown; progress goes to standard error. A missed goal is
# told and is no failure; something that does not run is one.
#
#   scripts/bench.sh [--json FILE] [--run 'REGEXP of WORKLOAD/TOOL'] [--imgbake PROGRAM]
#
# BENCH_RUNS is how often each cell is run, 5 unless told. Takes root: the engine,
# the registry and buildah's store are its own, in namespaces for the network and
# for mounts, so that neither meets what is on the machine.
. "$(dirname "$0")/lib.sh"

# What can be reached from outside the namespaces comes first.
if [ -z "${BENCH_WORK:-}" ]; then
  need_packages docker.io docker-registry buildah skopeo packer runc strace gzip \
    mmdebstrap debian-archive-keyring iptables iproute2 util-linux ca-certificates curl
  if [ "$(id -u)" != 0 ]; then
    echo "the bench takes root" >&2
    exit 1
  fi
  (cd "$root" && go build -o "$work/bench" ./scripts/bench)
  BENCH_ROOTFS=$(debian_rootfs)
  BENCH_BUILDX=$cache/buildx-v0.14.1
  if [ ! -x "$BENCH_BUILDX" ]; then
    say "building buildx, once"
    GOBIN=$work GOFLAGS="-ldflags=-X=github.com/docker/buildx/version.Version=${BENCH_BUILDX##*-}" \
      go install "github.com/docker/buildx/cmd/buildx@${BENCH_BUILDX##*-}"
    mv "$work/buildx" "$BENCH_BUILDX"
  fi
  export BENCH_ROOTFS BENCH_BUILDX BENCH_WORK=$work
  # In a session of its own, it is told to end once, by this one; and it does
  # end with this one.
  TMPDIR=$work setsid setpriv --pdeathsig TERM \
    unshare --net --mount --propagation private -- "$root/scripts/bench.sh" "$@" &
  started+=("$!")
  wait "$!"
  exit
fi

# The peers are Debian's, whatever else is on the path.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=$BENCH_WORK/home
export IMGBAKE_CACHE_DIR=$BENCH_WORK/cache CHECKPOINT_DISABLE=1 LC_ALL=C
unset CI DOCKER_CONTEXT DOCKER_CONFIG DOCKER_BUILDKIT "${!PKR_VAR_@}" "${!PACKER_@}" "${!BUILDAH_@}"
mkdir -p "$HOME" "$BENCH_WORK/containers" "$BENCH_WORK/memory" /var/lib/containers
ip link set lo up
mount -t tmpfs bench "$BENCH_WORK/memory"
mount --bind "$BENCH_WORK/containers" /var/lib/containers

say "starting a private Docker Engine and a registry"
own_engine "$work/engine"
start_registry
"$BENCH_WORK/bench" --work "$BENCH_WORK" --rootfs "$BENCH_ROOTFS" --registry "$registry" --storage "$work/registry" \
  --memory "$BENCH_WORK/memory" --imgbake "$root/bin/imgbake" --buildx "$BENCH_BUILDX" --runs "${BENCH_RUNS:-5}" "$@" &
started+=("$!")
wait "$!"
