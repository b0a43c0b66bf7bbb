#!/usr/bin/env bash
# Runs the tests of this crate inside real WebAssembly (wasm32-unknown-unknown on Node).
#
# Two toolchains work: rustup's, if the target is installed, else Debian's cargo and rustc, which
# build the standard library from the packaged source. Everything built is kept in the cache
# folder; an empty cache costs about four minutes once.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname "$here")
cache=${TRACEMETER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tracemeter}
target=wasm32-unknown-unknown

fail() {
    echo "wasm-tests: $*" >&2
    exit 1
}

command -v node >/dev/null || fail "node is needed to run WebAssembly"

version=$(awk '/^name = "wasm-bindgen"$/ { getline; gsub(/[^0-9.]/, ""); print; exit }' \
    "$root/Cargo.lock")
[[ -n $version ]] || fail "no wasm-bindgen in Cargo.lock"

# Whatever folders the caller builds in: other compilers build here.
unset CARGO_BUILD_BUILD_DIR CARGO_BUILD_TARGET_DIR RUSTFLAGS

install_runner() {
    # A registry mirror may lag behind the tool's own lock file: then newer patch levels do.
    local install=(cargo install --quiet --force wasm-bindgen-cli --version "=$version"
        --root "$cache/tools" --target-dir "$cache/build-tools")
    echo "wasm-tests: installing wasm-bindgen-cli $version (about 3 minutes, once)"
    "${install[@]}" --locked 2>/dev/null || "${install[@]}"
    rm -rf "$cache/build-tools"
}

# The runner must have exactly the version that the tests are linked with.
runner=$cache/tools/bin/wasm-bindgen-test-runner
[[ $("$runner" --version 2>/dev/null || true) == *" $version"* ]] || install_runner

cd "$root"
export CARGO_TARGET_DIR=$cache/build-wasm
export CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER=$runner
arguments=(test --locked --package w3c-traceparent-parser --target "$target"
    --test traceparent --test tracestate --test baggage --test ot --test properties)

if [[ -d $(rustc --print target-libdir --target "$target" 2>/dev/null) ]]; then
    cargo "${arguments[@]}" "$@"
elif [[ -x /usr/bin/cargo && -e /usr/lib/rustlib/src ]]; then
    linker=$(compgen -G '/usr/bin/wasm-ld-*' | sort -V | tail -n 1) || true
    [[ -n $linker ]] || fail "no wasm-ld: install lld-19"
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
        RUSTFLAGS="-C linker=$linker -C link-self-contained=no" \
        /usr/bin/cargo "${arguments[@]}" -Zbuild-std=std,panic_abort,test "$@"
else
    fail "no toolchain for $target: run \`rustup target add $target\`," \
        "or install rustc-web, cargo-web, rust-web-src and lld-19 from Debian"
fi
