#!/usr/bin/env bash
# Runs the benchmarks of bench/ (all, or those named); each prints ratios against a named baseline
# of the same run.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
if [ $# -eq 0 ]; then exec cargo bench --locked -p bench; fi
for name in "$@"; do cargo bench --locked -p bench --bench "$name"; done
