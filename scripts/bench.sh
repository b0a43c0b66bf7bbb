#!/usr/bin/env bash
# Runs the benchmarks of bench/ (all, or those named); each prints ratios against a named baseline
# of the same run. Without names, the table of the module's budgets comes first.
#
# TRACEMETER_BENCH_SPANS=100000000 lets `collector` answer queries over a day of that many spans;
# TRACEMETER_BENCH_FOLDER names the folder for them, and keeps it.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
if [ $# -eq 0 ]; then
  # The deterministic budgets first: measured values beside their limits.
  cargo test --locked --release -p integration-tests --test budgets -- --nocapture --test-threads 1
  exec cargo bench --locked -p bench
fi
if [ -n "${TRACEMETER_BENCH_SPANS:-}" ]; then
  # What writes them is among the collector's own tests, since it uses the collector's own writer.
  TRACEMETER_MULTIPLY=$(cargo test --locked --release -p collector --lib --no-run \
    --message-format json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1)
  [ -x "$TRACEMETER_MULTIPLY" ] || fail "the collector's tests were not built"
  export TRACEMETER_MULTIPLY
fi
for name in "$@"; do cargo bench --locked -p bench --bench "$name"; done
