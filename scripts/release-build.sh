#!/usr/bin/env bash
# release-build.sh VERSION FOLDER [PLATFORM...] builds what a release is made
# of: an archive for each platform with the program, its helpers and the
# license; checksums.txt; and in FOLDER/image what imgbake itself bakes the
# action's image from. The same commit gives the same bytes.
set -euo pipefail

version=$1 out=$2
shift 2
[ $# -gt 0 ] || set -- linux/amd64 linux/arm64 darwin/amd64 darwin/arm64
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# compile OS ARCH COMMAND FILE
compile() {
  GOOS=$1 GOARCH=$2 CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$version" -o "$4" "./cmd/$3"
}

# pack FOLDER ENTRY... writes a tar that depends on nothing but names, modes and content.
pack() {
  local dir=$1
  shift
  tar -C "$dir" --format=gnu --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$@"
}

for arch in amd64 arm64; do
  compile linux "$arch" imgbake-helper "$work/imgbake-helper-linux-$arch"
done
for platform; do
  os=${platform%/*} arch=${platform#*/}
  dir=$work/imgbake-$version-$os-$arch
  mkdir "$dir"
  cp LICENSE README.md "$work"/imgbake-helper-linux-* "$dir"
  compile "$os" "$arch" imgbake "$dir/imgbake"
  pack "$work" "${dir##*/}" | gzip -9n >"$out/${dir##*/}.tar.gz"
  if [ "$os" = linux ]; then
    image=$work/image-$arch
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$image/etc/ssl/certs/ca-certificates.crt"
    install -d -m 1777 "$image/tmp"
    install -m 755 "$dir/imgbake" "$image/imgbake"
    mkdir -p "$out/image"
    pack "$image" etc imgbake tmp >"$out/image/$arch.tar"
  fi
done
[ ! -d "$out/image" ] || cp scripts/release/imgbake.yaml "$out/image"
(cd "$out" && sha256sum -- *.tar.gz >checksums.txt)
