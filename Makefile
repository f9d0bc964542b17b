# Needs Go, make and a POSIX shell. Everything else is pinned in tools/go.mod and built on first use.

GO       ?= go
TOOL     := $(GO) tool -modfile=tools/go.mod
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
# The race detector needs cgo, which needs a C compiler; without one the tests run all the same, without it.
RACE     := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)
TIMEOUT  ?= 20m
# How long make soak runs, and what make up and make bench pass on: make up ARGS="--base-port 0".
SOAK     ?= 10m
ARGS     ?=

.DEFAULT_GOAL := help
.PHONY: help build up test check check-proto check-generated check-go check-modules generate bench soak clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/rolecall
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...

up: build ## build, then bring up the mesh in the foreground; Ctrl-C stops all of it
	bin/rolecall up $(ARGS)

test: ## run all tests, with the race detector where there is a C compiler
	$(GO) test $(RACE) -timeout $(TIMEOUT) ./...
	cd bench && $(GO) test -timeout $(TIMEOUT) ./...

check: check-proto check-generated check-go check-modules ## lint, formats, generated code, every platform
	@echo "check: all good"

check-proto:
	@echo "check: proto files: format, lint, breaking changes"
	@$(TOOL) buf format -d --exit-code
	@$(TOOL) buf lint
	@GO="$(GO)" sh scripts/check-breaking

check-generated:
	@echo "check: generated code is what the proto files say"
	@GO="$(GO)" sh scripts/generate check

check-go:
	@echo "check: gofmt"
	@out=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(find . -name '*.go' -not -path '*/node_modules/*')); \
	  if [ -n "$$out" ]; then echo "not formatted, run gofmt -w on: $$out" >&2; exit 1; fi
	@for os in linux darwin windows; do \
	  echo "check: go vet for $$os"; \
	  CGO_ENABLED=0 GOOS=$$os $(GO) vet ./... || exit 1; \
	  (cd bench && CGO_ENABLED=0 GOOS=$$os $(GO) vet ./...) || exit 1; done
	@echo "check: staticcheck"
	@CGO_ENABLED=0 $(TOOL) staticcheck $$($(GO) list ./... | grep -v '/gen/')

check-modules:
	@echo "check: modules: checksums, go.mod is tidy"
	@$(GO) mod verify
	@$(GO) mod tidy -diff
	@cd bench && $(GO) mod tidy -diff

generate: ## generate gen/ and examples/*/gen from the proto files
	GO="$(GO)" sh scripts/generate write

bench: ## measure what the guard costs beside bare mutual TLS, in two to three minutes
	cd bench && GO="$(GO)" $(GO) run . $(ARGS)

soak: ## run a mesh under load with leaves of 20 s, issuers of 2 m and a new root, for SOAK (10m; 7m at least), and kill 400 processes
	ROLECALL_SOAK=$(SOAK) $(GO) test $(RACE) -count=1 -v -run 'Soak' -timeout 24h ./internal/e2e

clean: ## remove what building left behind; leaves .rolecall/, which holds keys, alone
	rm -rf bin internal/e2e/clients/node/node_modules
