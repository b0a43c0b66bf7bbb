#!/usr/bin/env bash
# Builds the three artefacts into dist/: tracemeter.wasm, collector, mesh-config.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
mkdir -p "$DIST"

build_native() {
  cargo build --locked --release -p collector -p mesh-config --target-dir "$ROOT/target"
  for name in collector mesh-config; do
    # A new file, not a rewritten one: an old one may be running.
    strip -o "$DIST/.$name.new" "$ROOT/target/release/$name" 2>/dev/null ||
      install -m 755 "$ROOT/target/release/$name" "$DIST/.$name.new"
    mv "$DIST/.$name.new" "$DIST/$name"
  done
}

build_filter() {
  local target_dir=$ROOT/target/wasm
  local -a build=(build --locked -p filter --lib --profile wasm --target "$WASM_TARGET" --target-dir "$target_dir")
  export CARGO_BUILD_BUILD_DIR=$CACHE/build-wasm
  case "$(cat "$WASM_TOOLCHAIN_FILE")" in
  rustup) cargo "${build[@]}" ;;
  debian)
    RUSTC_BOOTSTRAP=1 RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc \
      RUSTFLAGS="-C link-self-contained=no -C linker=wasm-ld-19 -L/usr/lib/wasm32-wasi -C link-arg=-L/usr/lib/wasm32-wasi" \
      /usr/bin/cargo "${build[@]}" -Zbuild-std=std,panic_abort
    ;;
  *) fail "no toolchain chosen: run make setup" ;;
  esac
  # Callbacks that the filter does not implement cost time with every request: not exported. A new
  # file, not a rewritten one: a running Envoy may have the old one open.
  cargo run --quiet --locked -p filter --bin trim-module --target-dir "$ROOT/target" -- \
    "$target_dir/$WASM_TARGET/wasm/filter.wasm" "$DIST/.tracemeter.wasm.new"
  mv "$DIST/.tracemeter.wasm.new" "$DIST/tracemeter.wasm"
}

case "${1:-all}" in
filter) build_filter ;;
native) build_native ;;
all)
  build_native
  build_filter
  ;;
*) fail "unknown part \`$1\`: filter, native or all" ;;
esac
