#!/usr/bin/env bash
# release-image.sh FOLDER REPOSITORY VERSION [FLAG...] bakes the action's image
# from what release-build.sh left in FOLDER, with the program it left there,
# pushes it and prints REPOSITORY@DIGEST. Flags are those of `imgbake build`.
set -euo pipefail
shopt -s inherit_errexit

out=$1 repository=$2 version=$3
shift 3
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tar -xzf "$out/imgbake-$version-linux-$(go env GOHOSTARCH 2>/dev/null || dpkg --print-architecture).tar.gz" -C "$work" --strip-components=1
"$work/imgbake" build --plain --load=false --cache-dir "$work/cache" --record "$work/record.json" \
  --var "repository=$repository" --var "version=$version" "$@" "$out/image" >&2
jq -er '.bakes[-1].published[0]' "$work/record.json"
