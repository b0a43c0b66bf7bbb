#!/usr/bin/env bash
# Runs every benchmark of bench/; each prints ratios against a named baseline of the same run.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
cargo build --locked --release -p bench
for source in bench/src/bin/*.rs; do
  name=$(basename "$source" .rs)
  say "$name"
  "target/release/$name"
done
