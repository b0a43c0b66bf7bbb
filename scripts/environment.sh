# Names every script shares; sourced, never run.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${TRACEMETER_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tracemeter}
DIST=${TRACEMETER_DIST:-$ROOT/dist}

ENVOY_VERSION=1.40.0
ENVOY_VENV=$CACHE/envoy-venv
ENVOY=$ENVOY_VENV/bin/envoy
S3_SERVER_VERSION=0.14.1
# The Python packages of OpenTelemetry are released together.
OPENTELEMETRY_VERSION=1.38.0
CYCLONEDX_VERSION=11.12.0
NPM_TOOLS=$CACHE/tools/npm
PROMETHEUS_OPERATOR_MODELS_VERSION=6.0.0
NPM_YAML_VERSION=2.8.1
PLAYWRIGHT_VERSION=1.64.1
# What the manifests of istio/ are checked with.
MANIFEST_TOOLS=$CACHE/tools/manifests
KUBERNETES_VALIDATE_VERSION=1.37.0
HELM_SDKPY_VERSION=0.1.32
HELM_SDKPY_SHA256=bcf5bf73cacc373bebedfb9c988969aa12a9eda86a140deba658fbf28eb789c5
# Programs of Debian packages that were unpacked, not installed.
DEBIAN_TOOLS=$CACHE/tools/debian

# `rustup` or `debian`: which toolchain compiles the filter (found out once by setup.sh).
WASM_TOOLCHAIN_FILE=$CACHE/wasm-toolchain
WASM_TARGET=wasm32-wasip1
# What the parser's own tests run on.
WASM_TEST_TARGET=wasm32-unknown-unknown

# Compiled dependencies outlive the clone: cargo tells them apart by version, features and profile.
export CARGO_BUILD_BUILD_DIR=${CARGO_BUILD_BUILD_DIR:-$CACHE/build}
export TRACEMETER_CACHE=$CACHE TRACEMETER_DIST=$DIST
export TRACEMETER_S3_SERVER=${TRACEMETER_S3_SERVER:-$CACHE/tools/bin/s3s-fs}
export TRACEMETER_ENVOY=${TRACEMETER_ENVOY:-$ENVOY}

say() { printf '== %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}
