#!/usr/bin/env bash
# Runs the benchmarks of bench/ (all, or those named); each prints ratios against a named baseline
# of the same run. Without names, the table of the module's budgets comes first.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
if [ $# -eq 0 ]; then
  # The deterministic budgets first: measured values beside their limits.
  cargo test --locked --release -p integration-tests --test budgets -- --nocapture --test-threads 1
  exec cargo bench --locked -p bench
fi
for name in "$@"; do cargo bench --locked -p bench --bench "$name"; done
