#!/usr/bin/env bash
# tool.sh NAME MODULE VERSION prints the path of a tool written in Go. It is
# fetched through the module proxy, once for each version.
set -euo pipefail

name=$1 module=$2 version=$3
dir=${IMGBAKE_DEV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/imgbake-dev}
tool=$dir/$name-$version
if [ ! -x "$tool" ]; then
  mkdir -p "$dir"
  fresh=$(mktemp -d "$dir/$name-XXXXXX")
  trap 'rm -rf "$fresh"' EXIT
  GOBIN=$fresh CGO_ENABLED=0 go install "$module@$version" >&2
  mv "$fresh/$name" "$tool"
fi
echo "$tool"
