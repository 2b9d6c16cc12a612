#!/usr/bin/env bash
# The main job, end to end: bakes the staged template in templates/web on a real
# Docker Engine, two final images in parallel, pushes them to a real registry on
# loopback, and runs one of them. Installs what is missing, stops what it started.
. "$(dirname "$0")/lib.sh"
cd "$root"

need_packages curl ca-certificates
start_engine
start_registry
export IMGBAKE_CACHE_DIR=$work/cache

# The base image: Debian's own where its registry can be reached, else one
# made here from packages.
if curl -sS -m 5 -o /dev/null https://registry-1.docker.io/v2/ 2>/dev/null; then
  base=debian:bookworm-slim
else
  say "no public registry can be reached: baking a Debian base image"
  base=$registry/debian:bookworm-slim
  debian_base
fi

say "baking templates/web: base -> runtime -> web and worker"
bin/imgbake build -var base="$base" -var registry="$registry" -var version=1.0.0 --record "$work/record.json" templates/web

say "running the image"
port=$(free_port)

container=$(docker_api POST /containers/create "{\"Image\":\"$registry/web:1.0.0\",\"HostConfig\":{\"AutoRemove\":true,\"PortBindings\":{\"8080/tcp\":[{\"HostIp\":\"127.0.0.1\",\"HostPort\":\"$port\"}]}}}" | sed 's/.*"Id":"\([0-9a-f]*\)".*/\1/')
docker_api POST "/containers/$container/start"
answer=""
for _ in $(seq 50); do
  answer=$(curl -fsS "http://127.0.0.1:$port/" 2>/dev/null) && break
  sleep 0.1
done
echo "$answer"
docker_api POST "/containers/$container/kill" || true
echo "$answer" | grep -q '<html' || { echo "the image did not answer" >&2; exit 1; }

say "in the registry"
for repository in web worker; do
  curl -fsS "http://$registry/v2/$repository/tags/list"
done
if [ -z "${own_engine_pid:-}" ]; then
  # the engine is the user's: say what stays in it
  say "the images $registry/web:1.0.0 and $registry/worker:1.0.0 stay in your Docker Engine"
fi
