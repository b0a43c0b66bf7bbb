#!/usr/bin/env bash
# Prints one of the sample manifests of istio/, by its file name; `make docs` writes them and
# integration-tests/tests/istio.rs compares them.
set -euo pipefail
mesh_config=$1
name=$2
policy=$(dirname "$0")/../mesh-config/samples/tracemeter.yaml
render() { "$mesh_config" render istio --policy "$policy" "$@"; }
case "$name" in
sidecar.wasmplugin.yaml) render --kind WasmPlugin --with-telemetry ;;
sidecar.trafficextension.yaml) render --kind TrafficExtension --with-telemetry ;;
sidecar.envoyfilter.yaml) render --kind EnvoyFilter ;;
gateway.wasmplugin.yaml) render --kind WasmPlugin --gateway --namespace istio-ingress --selector istio=ingressgateway ;;
*)
  echo "error: unknown manifest \`$name\`" >&2
  exit 1
  ;;
esac
