# Allowance: build, try and test it. `make` alone lists the targets; their longer recipes are in .make/.

CARGO         ?= cargo
RUSTUP        ?= rustup
PYTHON        ?= python3
ENVOY_VERSION ?= 1.40.0
# Your own Envoy instead of the packaged one: make run ENVOY=/usr/local/bin/envoy
ENVOY         ?=

MODULE := target/allowance.wasm

export RUSTUP PYTHON ENVOY ENVOY_VERSION
# cargo would look for make's jobserver, which recipes cannot reach.
unexport MAKEFLAGS MFLAGS
.NOTPARALLEL:
.PHONY: help build envoy run check test e2e clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' Makefile

build: ## Build the filter: target/allowance.wasm
	@.make/build.sh $(MODULE) $(CARGO)

envoy: ## Fetch Envoy if need be and print its path
	@.make/envoy.sh

run: build ## Try it: Envoy with envoy/envoy.yaml on 127.0.0.1:10000
	@.make/run.sh

check: ## Check formatting, lints and documentation
	@CARGO="$(CARGO)" .make/need.sh cargo linker rustfmt clippy
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

test: build ## Run all tests, those in a real Envoy included
	@ENVOY=$$(.make/envoy.sh) && export ENVOY ALLOWANCE_WASM="$(CURDIR)/$(MODULE)" && $(CARGO) test --locked --no-fail-fast

e2e: build ## Run only the tests in a real Envoy
	@ENVOY=$$(.make/envoy.sh) && export ENVOY ALLOWANCE_WASM="$(CURDIR)/$(MODULE)" && $(CARGO) test --locked --test e2e

clean: ## Remove everything built and downloaded
	rm -rf target
