#!/usr/bin/env bash
# Writes the generated pages; the tests compare them with what is committed.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"
export TRACEMETER_WRITE_DOCS=1
cargo test --locked -q -p filter-core --test metrics_page
cargo run --locked -q -p mesh-config -- docs >docs/config-reference.md.new
mv docs/config-reference.md.new docs/config-reference.md
cargo run --locked -q -p mesh-config -- schema >docs/tracemeter.schema.json.new
mv docs/tracemeter.schema.json.new docs/tracemeter.schema.json
scripts/istio.sh target/debug/mesh-config list | while read -r manifest; do
  mkdir -p "istio/$(dirname "$manifest")"
  scripts/istio.sh target/debug/mesh-config "$manifest" >"istio/$manifest.new"
  mv "istio/$manifest.new" "istio/$manifest"
done
python3 scripts/monitoring.py
