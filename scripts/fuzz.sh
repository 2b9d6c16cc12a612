#!/usr/bin/env bash
# Runs every fuzz target for a bounded time: FUZZTIME, 60s unless told.
# With -list it only names them. One that Go does not find, for it is behind a
# build tag, is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
targets=()
for package in $(go list ./...); do
  found=$(go test -list '^Fuzz' "$package")
  for target in $(grep '^Fuzz' <<<"$found" || true); do
    targets+=("$package $target")
  done
done
declared=$(grep -rhE --include='*_test.go' '^func Fuzz' cmd internal scripts templates | wc -l)
if [ "$declared" != ${#targets[@]} ]; then
  echo "$declared fuzz targets are declared, Go finds ${#targets[@]}: ${targets[*]}" >&2
  exit 1
fi
for target in "${targets[@]}"; do
  echo "==> $target"
  [ "${1:-}" != -list ] || continue
  read -r package name <<<"$target"
  go test -run '^$' -fuzz "^$name\$" -fuzztime "${FUZZTIME:-60s}" -fuzzminimizetime 10x "$package"
done
