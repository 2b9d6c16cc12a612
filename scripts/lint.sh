#!/usr/bin/env bash
# go vet for every platform's files, gofmt, and golangci-lint, which is fetched
# through the module proxy at a fixed version.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l cmd internal templates)
if [ -n "$unformatted" ]; then
  echo "not formatted: $unformatted" >&2
  exit 1
fi
go vet -tags engine ./...
GOOS=darwin go vet ./...
linter=${IMGBAKE_DEV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/imgbake-dev}/golangci-lint-v2.5.0
[ -x "$linter" ] || {
  GOBIN=$(dirname "$linter") CGO_ENABLED=0 go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.5.0
  mv "$(dirname "$linter")/golangci-lint" "$linter"
}
"$linter" run --build-tags engine ./...
