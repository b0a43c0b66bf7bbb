#!/usr/bin/env bash
# Runs the tests of this crate inside real WebAssembly (wasm32-unknown-unknown on Node).
#
# Two toolchains work: rustup's, if the target is installed, else Debian's cargo and rustc, which
# build the standard library from the packaged source. Everything built is kept in
# ${TRACEMETER_CACHE:-$HOME/.cache/tracemeter}; an empty cache costs about four minutes once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${TRACEMETER_CACHE:-$HOME/.cache/tracemeter}
target=wasm32-unknown-unknown
package=w3c-traceparent-parser

fail() {
    echo "wasm-tests: $*" >&2
    exit 1
}

command -v node >/dev/null || fail "node is needed to run WebAssembly"

version=$(awk '/^name = "wasm-bindgen"$/ { getline; gsub(/[^0-9.]/, ""); print; exit }' \
    "$root/Cargo.lock")
[[ -n $version ]] || fail "no wasm-bindgen in Cargo.lock"

# The runner must have exactly the version that the tests are linked with.
runner=$cache/tools/bin/wasm-bindgen-test-runner
if [[ $("$runner" --version 2>/dev/null || true) != *" $version"* ]]; then
    echo "wasm-tests: installing wasm-bindgen-cli $version (about 3 minutes, once)"
    # A registry mirror may lag behind the tool's own lock file: then newer patch levels do.
    install=(cargo install --quiet --force wasm-bindgen-cli --version "=$version"
        --root "$cache/tools")
    CARGO_TARGET_DIR=$cache/build-tools "${install[@]}" --locked 2>/dev/null \
        || CARGO_TARGET_DIR=$cache/build-tools "${install[@]}"
    rm -rf "$cache/build-tools"
fi

cd "$root"
export CARGO_TARGET_DIR=$cache/build-wasm
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$runner
arguments=(test --quiet --locked --package "$package" --target "$target"
    --test traceparent --test tracestate --test baggage --test ot --test properties)

if [[ -d $(rustc --print target-libdir --target "$target" 2>/dev/null) ]]; then
    cargo "${arguments[@]}" "$@"
elif [[ -x /usr/bin/cargo && -e /usr/lib/rustlib/src ]]; then
    linker=$(compgen -G '/usr/bin/wasm-ld-*' | sort -V | tail -n 1) || true
    [[ -n $linker ]] || fail "no wasm-ld: install lld-19"
    env RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
        RUSTFLAGS="-C linker=$linker -C link-self-contained=no" \
        /usr/bin/cargo "${arguments[@]}" -Zbuild-std=std,panic_abort,test "$@"
else
    fail "no toolchain for $target: run \`rustup target add $target\`," \
        "or install rustc-web, cargo-web, rust-web-src and lld-19 from Debian"
fi
