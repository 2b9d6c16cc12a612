# Functions the scripts share. Everything started here is stopped by `stop_all`,
# by process id, and lives in one temporary folder. To be sourced by bash.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${IMGBAKE_DEV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/imgbake-dev}
work=$(mktemp -d "${TMPDIR:-/tmp}/imgbake-XXXXXX")
mkdir -p "$cache"
started=()        # process ids, in order
binfmt_enabled=() # by need_platforms

say() { printf '\033[1m==> %s\033[0m\n' "$*" >&2; }

# need_packages PACKAGE... installs Debian packages that are missing. It asks
# nothing as root, and says what to type otherwise.
need_packages() {
  local missing=() p
  if ! command -v dpkg-query >/dev/null; then
    say "this is no Debian: whatever is like its packages $* must be there"
    return
  fi
  for p in "$@"; do
    dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "missing: ${missing[*]}. Please run:" >&2
    echo "  sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  say "installing ${missing[*]}"
  # Services that a package would start are ours to start and stop.
  local policy=/usr/sbin/policy-rc.d status=0
  if [ -e $policy ]; then policy=; else printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy; fi
  apt_install "${missing[@]}" >"$work/apt.log" 2>&1 || status=$?
  [ -z "$policy" ] || rm -f "$policy"
  [ $status = 0 ] || { tail -n 30 "$work/apt.log" >&2; exit 1; }
}

# apt_install reads the package lists once a run.
apt_install() {
  export DEBIAN_FRONTEND=noninteractive
  [ -e "$work/apt.lists" ] || { apt-get update -q && touch "$work/apt.lists"; } || return
  apt-get install -y -q --no-install-recommends "$@"
}

# need_dockerd installs Debian's engine where there is none of any kind.
need_dockerd() { [ -x "$(command -v dockerd)" ] || need_packages docker.io; }

# answers SOCKET-OR-HOST tells whether a Docker Engine answers there.
answers() {
  case $1 in
    unix://*) curl -fsS -m 5 --unix-socket "${1#unix://}" http://engine/_ping >/dev/null 2>&1 ;;
    tcp://*) curl -fsS -m 5 "http://${1#tcp://}/_ping" >/dev/null 2>&1 ;;
    *) return 1 ;;
  esac
}

# until_ready WHAT PID COMMAND... repeats a command until it succeeds, while the
# process lives, at most 60 seconds.
until_ready() {
  local what=$1 pid=$2 end=$((SECONDS + 60))
  shift 2
  until "$@"; do
    if ! kill -0 "$pid" 2>/dev/null || [ $SECONDS -ge $end ]; then
      echo "$what did not start:" >&2
      tail -n 20 "$work/$what.log" >&2
      exit 1
    fi
    sleep 0.1
  done
}

# start_engine exports DOCKER_HOST: an engine that answers already, or else one
# of our own with its data in the temporary folder.
start_engine() {
  local host=${DOCKER_HOST:-unix:///var/run/docker.sock}
  if [ -z "${IMGBAKE_OWN_ENGINE:-}" ] && answers "$host"; then
    export DOCKER_HOST=$host
    return
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "no Docker Engine answers at $host, and starting one takes root" >&2
    exit 1
  fi
  say "starting a Docker Engine"
  own_engine "$work/engine"
}

# own_engine FOLDER [dockerd flag...] starts a private Docker Engine with all
# its state in FOLDER and exports DOCKER_HOST. It has a bridge of its own, since
# two engines that share docker0 take it from each other, and the firewall is
# put back as it was in the end.
own_engine() {
  local dir=$1 subnet
  shift
  need_dockerd
  need_packages iptables iproute2 ca-certificates curl
  mkdir -p "$dir"
  bridge=imgbake$((RANDOM % 10000))
  subnet=172.$((20 + RANDOM % 12)).$((RANDOM % 250))
  iptables-save >"$work/iptables" 2>/dev/null || rm -f "$work/iptables"
  ip link add name "$bridge" type bridge
  ip addr add "$subnet.1/24" dev "$bridge"
  ip link set "$bridge" up
  dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/pid" \
    --host "unix://$dir/docker.sock" --bridge "$bridge" "$@" >"$work/dockerd.log" 2>&1 &
  own_engine_pid=$!
  started+=("$own_engine_pid")
  export DOCKER_HOST=unix://$dir/docker.sock
  until_ready dockerd "$own_engine_pid" answers "$DOCKER_HOST"
}

# docker_api METHOD PATH [JSON] calls the engine, without the docker command.
docker_api() {
  local args=(-fsS -X "$1" -H 'Content-Type: application/json') url=http://engine$2
  [ $# -lt 3 ] || args+=(-d "$3")
  case $DOCKER_HOST in
    unix://*) args+=(--unix-socket "${DOCKER_HOST#unix://}") ;;
    tcp://*) url=http://${DOCKER_HOST#tcp://}$2 ;;
  esac
  curl "${args[@]}" "$url"
}

# start_registry sets $registry to host:port of a registry on loopback.
start_registry() {
  need_packages docker-registry curl
  local port
  port=$(free_port)
  registry=localhost:$port
  cat >"$work/registry.yml" <<EOF
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/registry}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
EOF
  docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
  started+=("$!")
  until_ready registry "$!" curl -fs "http://127.0.0.1:$port/v2/" -o /dev/null
}

# free_port prints a port of loopback that nobody listens on.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 20000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# debian_rootfs prints the path of a tar with a minimal Debian, made once.
debian_rootfs() {
  local tar=$cache/debian-bookworm-minbase-$(dpkg --print-architecture).tar
  if [ ! -s "$tar" ]; then
    need_packages mmdebstrap debian-archive-keyring
    say "making a Debian root file system with mmdebstrap"
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1767225600} \
      mmdebstrap --quiet --variant=minbase bookworm "${tar%.tar}-$$.tar" "${IMGBAKE_MIRROR:-http://deb.debian.org/debian}" >&2
    mv "${tar%.tar}-$$.tar" "$tar"
  fi
  echo "$tar"
}

# debian_base bakes the root file system into $registry/debian:bookworm-slim.
# A template reads only what is below its folder, so both go into one.
debian_base() {
  local tar
  tar=$(debian_rootfs)
  mkdir -p "$work/base"
  cp "$root/scripts/demo/debian.yaml" "$work/base/imgbake.yaml"
  ln -f "$tar" "$work/base/rootfs.tar" 2>/dev/null || cp "$tar" "$work/base/rootfs.tar"
  "$root/bin/imgbake" build --plain -load=false -var repository="$registry/debian" "$work/base"
}

# need_daemonless installs what baking without an engine is tested with: an OCI
# runtime, a second opinion on OCI layouts, and user namespaces for users.
need_daemonless() { need_packages runc umoci uidmap; }

# need_platforms lets this machine run programs of other architectures, until
# stop_all. The kernel's list of them is mounted if it is not.
need_platforms() {
  local formats=/proc/sys/fs/binfmt_misc format
  need_packages qemu-user-static binfmt-support
  if [ ! -e $formats/register ]; then
    mount -t binfmt_misc binfmt_misc $formats
    binfmt_mounted=$formats
  fi
  for format in "${@:-qemu-aarch64}"; do
    [ ! -e "$formats/$format" ] || continue
    update-binfmts --enable "$format" || update-binfmts --import "$format"
    [ -e "$formats/$format" ] || { echo "the kernel does not take $format" >&2; exit 1; }
    binfmt_enabled+=("$format")
  done
}

# stop_all ends what was started here, newest first, and removes the folder.
stop_all() {
  local status=$? i pid
  trap - EXIT
  trap '' INT TERM # a second one would end the cleaning up
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    pid=${started[i]}
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ -n "${bridge:-}" ]; then
    ip link del "$bridge" 2>/dev/null || true
    [ ! -s "$work/iptables" ] || iptables-restore <"$work/iptables" || true
  fi
  for i in "${binfmt_enabled[@]}"; do
    update-binfmts --disable "$i" || true
  done
  [ -z "${binfmt_mounted:-}" ] || umount "$binfmt_mounted" || true
  # A Docker Engine leaves mounts below its folder when it is ended early.
  if [ "$(id -u)" = 0 ]; then
    awk -v dir="$work/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | sort -r | xargs -r -n1 umount -l 2>/dev/null || true
  fi
  rm -rf "$work"
  exit "$status"
}
trap stop_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
