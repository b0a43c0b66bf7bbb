# One verb per job; `make` lists them. The scripts install what is missing themselves.
SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE ?= $(or $(TRACEMETER_CACHE),$(HOME)/.cache/tracemeter)
export TRACEMETER_CACHE := $(CACHE)
export TRACEMETER_DIST ?= $(CURDIR)/dist
export TRACEMETER_ENVOY ?= $(CACHE)/envoy-venv/bin/envoy
export CARGO_BUILD_BUILD_DIR ?= $(CACHE)/build
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export DURATION

PURE := -p w3c-traceparent-parser -p mesh-config -p filter-core -p filter

.PHONY: help setup build build-filter build-native image demo test test-pure test-wasm test-collector \
	test-data test-packaging test-end-to-end lint fmt docs bench matrix clean

help: ## list the verbs
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## install toolchain parts and Envoy (once; called by the others)
	@scripts/setup.sh

build: setup ## dist/tracemeter.wasm, dist/collector, dist/mesh-config
	@scripts/build.sh all

build-filter: setup ## only dist/tracemeter.wasm
	@scripts/build.sh filter

build-native: setup ## only dist/collector and dist/mesh-config
	@scripts/build.sh native

image: build ## dist/images: OCI layouts of filter and collector, digests, bills of materials
	@cargo run --locked --quiet --release -p packaging -- "$(TRACEMETER_DIST)"

demo: build ## a small mesh with real traffic; DURATION=30 ends by itself, Ctrl-C ends it cleanly
	@cargo build --locked --release -p integration-tests --bin demo
	@exec target/release/demo

test: export TRACEMETER_BUILD_AHEAD := 1
test: setup lint test-data test-pure build test-wasm test-collector test-packaging test-end-to-end ## everything that must hold

test-pure: setup ## pure crates: tables, properties, fuzz corpora, doc tests
	cargo test --locked $(PURE)

test-data: ## committed test data is what its generators make
	python3 mesh-config/tests/data/price_golden.py --check
	python3 mesh-config/tests/data/classify_corpus.py --check

test-wasm: setup ## the parser's tests inside real WebAssembly (Node)
	w3c-traceparent-parser/wasm-tests.sh

test-collector: setup ## collector: log, storage, SQL, crash tests
	cargo test --locked --release -p collector

test-packaging: setup ## images: reproducible, readable by others
	cargo test --locked --release -p packaging

test-end-to-end: image ## filter, collector and real Envoy together
	cargo test --locked --release -p integration-tests

lint: setup ## rustfmt, clippy, shell syntax, documentation warnings
	cargo fmt --all -- --check
	for script in scripts/*.sh w3c-traceparent-parser/*.sh .ci/run; do bash -n "$$script" || exit 1; done
	cargo clippy --locked $(PURE) --all-targets -- -D warnings
	for package in collector packaging integration-tests; do \
	  PATH="$(CURDIR)/scripts:$$PATH" RUSTC_WORKSPACE_WRAPPER=clippy-only.sh CARGO_INCREMENTAL=0 \
	    cargo build --locked --release -p $$package --all-targets || exit 1; done
	cargo clippy --locked --release -p bench --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --quiet $(PURE)

fmt: ## format the code
	cargo fmt --all

docs: setup ## write the generated reference pages and samples
	scripts/docs.sh

matrix: build ## the end-to-end suite on every line of Envoy; writes docs/compatibility.md
	@scripts/matrix.sh

bench: build ## benchmarks: ratios against named baselines in one run
	scripts/bench.sh

clean: ## remove what was built in this clone (the cache of tools and dependencies stays)
	rm -rf target dist demo-data
