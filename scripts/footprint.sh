#!/usr/bin/env bash
# Prints what code a request runs through, function by function: distinct bytes, size, calls and
# operators executed. The case is one of `integration-tests/tests/budgets/limits.rs`.
#
# usage: scripts/footprint.sh [CASE]
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
# The shipped module but for names, and for what `trim-module` takes out.
CARGO_BUILD_BUILD_DIR=$CACHE/build-wasm CARGO_PROFILE_WASM_STRIP=none cargo build --quiet --locked \
  -p filter --lib --profile wasm --target "$WASM_TARGET" --target-dir "$ROOT/target/footprint"
FOOTPRINT_CASE=${1:-unsampled} FOOTPRINT_MODULE=$ROOT/target/footprint/$WASM_TARGET/wasm/filter.wasm \
  cargo test --quiet --locked --release -p integration-tests --test budgets -- \
  --ignored --nocapture the_code_of_a_request_by_function | { c++filt -s gnu-v3 2>/dev/null || cat; }
