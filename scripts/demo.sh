#!/usr/bin/env bash
# The main job, end to end, without any daemon: bakes the staged template in
# templates/web, two final images in parallel, pushes them to a real registry on
# loopback, bakes again from the cache, and runs one of them from the registry.
# Where a Docker Engine answers, the images are loaded into it as well. Installs
# what is missing, stops what it started.
. "$(dirname "$0")/lib.sh"
cd "$root"

need_packages curl ca-certificates
start_registry
export IMGBAKE_CACHE_DIR=$work/cache
load=false
if answers "${DOCKER_HOST:-unix:///var/run/docker.sock}"; then load=true; fi

# The base image: Debian's own where its registry can be reached, else one
# made here from packages.
if curl -sS -m 5 -o /dev/null https://registry-1.docker.io/v2/ 2>/dev/null; then
  base=debian:bookworm-slim
else
  say "no public registry can be reached: baking a Debian base image"
  base=$registry/debian:bookworm-slim
  debian_base
fi

bake() {
  bin/imgbake build -var base="$base" -var registry="$registry" -var version=1.0.0 --load=$load "$@" templates/web
}

say "baking templates/web: base -> runtime -> web and worker"
bake --record "$work/record.json"

say "baking it again: every step comes from the cache"
bake

say "running the image from the registry, with an empty cache"
bin/imgbake build -var image="$registry/web:1.0.0" --cache-dir "$work/elsewhere" --load=false scripts/demo/check.yaml

say "in the registry"
for repository in web worker; do
  curl -fsS "http://$registry/v2/$repository/tags/list"
done
if [ $load = true ]; then
  say "the images $registry/web:1.0.0 and $registry/worker:1.0.0 stay in your Docker Engine"
fi
