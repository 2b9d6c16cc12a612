#!/usr/bin/env bash
# go vet for every platform's files, gofmt, golangci-lint, and actionlint for the
# workflows: those of this repository, in its documents, and written by init.
set -euo pipefail
cd "$(dirname "$0")/.."
unformatted=$(gofmt -l cmd internal templates scripts)
if [ -n "$unformatted" ]; then
  echo "not formatted: $unformatted" >&2
  exit 1
fi
go vet -tags engine ./...
GOOS=darwin go vet ./...
"$(scripts/tool.sh golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint v2.5.0)" run --build-tags engine ./...
workflows=$(mktemp -d)
trap 'rm -rf "$workflows"' EXIT
go run ./scripts/workflows "$workflows"
"$(scripts/tool.sh actionlint github.com/rhysd/actionlint/cmd/actionlint v1.7.12)" -no-color "$workflows"/*.yml
