# Few targets, short names. `make demo` and `make test` are all a fresh machine needs.

GO ?= go
VERSION ?= $(shell git -c safe.directory='$(CURDIR)' describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD = CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)'
HELPERS = bin/imgbake-helper-linux-amd64 bin/imgbake-helper-linux-arm64

.PHONY: all build test unit lint demo bench fuzz golden docs clean

all: build unit lint

build: ## the program, and the small helper that runs inside containers
	$(BUILD) -o bin/imgbake ./cmd/imgbake
	GOOS=linux GOARCH=amd64 $(BUILD) -o bin/imgbake-helper-linux-amd64 ./cmd/imgbake-helper
	GOOS=linux GOARCH=arm64 $(BUILD) -o bin/imgbake-helper-linux-arm64 ./cmd/imgbake-helper

demo: build ## a staged bake on a real engine, pushed to a real registry, and run
	scripts/demo.sh

test: build ## everything, with a real Docker Engine and a real registry
	scripts/test.sh

unit: ## the fast tests: no engine, no root, no network
	$(GO) test ./...

lint: ## vet, formatting and the linter
	scripts/lint.sh

bench: build ## ratios against public peers, five runs or more
	scripts/bench.sh

fuzz: ## every fuzz target for 60 seconds
	scripts/fuzz.sh

golden: ## rewrite every golden file from what the program does now
	$(GO) test $$(grep -rl --include=*_test.go 'flag.Bool("update"' internal | xargs -n1 dirname | sort -u | sed 's|^|./|') -update

docs: build ## rewrite the generated reference and schema
	bin/imgbake docs --dir docs

clean:
	rm -rf bin out
