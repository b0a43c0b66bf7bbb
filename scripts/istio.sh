#!/usr/bin/env bash
# Prints one generated file of istio/ by its path there, or with `list` the paths of all; `make docs`
# writes them and integration-tests/tests/istio.rs compares them.
#
#   scripts/istio.sh MESH_CONFIG list
#   scripts/istio.sh MESH_CONFIG filter/mesh/wasmplugin/filter.yaml
set -euo pipefail
mesh_config=$1
name=$2
root=$(cd "$(dirname "$0")/.." && pwd)
policy=$root/mesh-config/samples/tracemeter.yaml
file=/etc/tracemeter/tracemeter.wasm

istio() { "$mesh_config" render istio --policy "$policy" "$@"; }

# Scope and interface of a filter; the scopes are described in istio/README.md.
filter() {
  local options=()
  case "$1" in
  mesh) options=(--role mesh) ;;
  opt-in) options=(--selector tracemeter.io/enabled=true) ;;
  gateway) options=(--role gateway --namespace istio-ingress --selector istio=ingressgateway) ;;
  waypoint) options=(--role waypoint --name tracemeter-waypoint --target GatewayClass/istio-waypoint) ;;
  esac
  case "$2" in
  trafficextension) options+=(--kind TrafficExtension) ;;
  wasmplugin) options+=(--kind WasmPlugin) ;;
  envoyfilter)
    options+=(--kind EnvoyFilter)
    case "$1" in gateway | mesh) options+=(--reference-collector) ;; esac
    ;;
  envoyfilter-inline)
    options+=(--kind EnvoyFilter --inline --url "file://$file")
    case "$1" in gateway | mesh) options+=(--reference-collector) ;; opt-in) options+=(--per-direction) ;; esac
    ;;
  esac
  istio "${options[@]}"
}

# A sidecar for one service of a machine without Kubernetes.
sidecar=(--policy "$policy" --wasm "$file" --service payment --namespace shop
  --collector collector.internal:4318)
proxy=("${sidecar[@]}" --inbound 0.0.0.0:8080=127.0.0.1:9000 --outbound 127.0.0.1:15001
  --route "orders=orders.internal:8080" --admin 127.0.0.1:9901)

list() {
  local scope kind
  for scope in mesh opt-in gateway; do
    for kind in trafficextension wasmplugin envoyfilter envoyfilter-inline; do
      echo "filter/$scope/$kind/filter.yaml"
    done
  done
  for kind in trafficextension wasmplugin; do echo "filter/waypoint/$kind/filter.yaml"; done
  echo filter/envoy-gateway/filter.yaml
  for kind in owner beside companion; do echo "telemetry/$kind/telemetry.yaml"; done
  for kind in sidecar per-direction ingress watching; do echo "envoy/$kind.yaml"; done
  echo envoy/watched-filter.yaml
  echo collector/tracemeter.yaml
  echo helm/tracemeter/values.schema.json
  echo helm/tracemeter/ci/sample-values.yaml
}

case "$name" in
list) list ;;
filter/envoy-gateway/filter.yaml)
  istio --kind EnvoyExtensionPolicy --namespace default --target Gateway/eg \
    --collector-cluster tracing-0
  ;;
filter/*/*/filter.yaml)
  path=${name#filter/}
  filter "${path%%/*}" "$(basename "$(dirname "$path")")"
  ;;
telemetry/owner/telemetry.yaml) "$mesh_config" render istio --kind Telemetry --telemetry owner ;;
telemetry/*/telemetry.yaml)
  "$mesh_config" render istio --kind Telemetry --telemetry "$(basename "$(dirname "$name")")" --provider otel
  ;;
envoy/sidecar.yaml) "$mesh_config" render envoy "${proxy[@]}" ;;
envoy/per-direction.yaml) "$mesh_config" render envoy "${proxy[@]}" --per-direction ;;
envoy/watching.yaml) "$mesh_config" render envoy "${proxy[@]}" --filter-file /etc/tracemeter/watched-filter.yaml ;;
envoy/watched-filter.yaml) "$mesh_config" render filter "${sidecar[@]}" ;;
envoy/ingress.yaml)
  "$mesh_config" render envoy --policy "$policy" --wasm "$file" --service ingress --namespace shop \
    --role ingress --collector collector.internal:4318 --inbound 0.0.0.0:8080 \
    --route "*=payment.internal:8080" --admin 127.0.0.1:9901
  ;;
collector/tracemeter.yaml)
  echo "# Generated: mesh-config/samples/tracemeter.yaml. Put your own policy here."
  # The schema's path is another one from here.
  sed 1d "$policy"
  ;;
helm/tracemeter/values.schema.json)
  # The chart's own values, with the schema of the policy in them: Helm refuses what the filter would.
  python3 - "$root/istio/helm/values.base.schema.json" "$root/docs/tracemeter.schema.json" <<'PYTHON'
import json
import sys

base, policy = (json.load(open(path, encoding="utf-8")) for path in sys.argv[1:])
del policy["$schema"], policy["title"]
base["properties"]["policy"] = policy
json.dump(base, sys.stdout, indent=1, ensure_ascii=False)
print()
PYTHON
  ;;
helm/tracemeter/ci/sample-values.yaml)
  echo "# Generated: the policy of mesh-config/samples/tracemeter.yaml as values of the chart."
  echo "policy:"
  sed '/^#/d; s/^\(.\)/  \1/' "$policy"
  ;;
*)
  echo "error: unknown manifest \`$name\`" >&2
  exit 1
  ;;
esac
