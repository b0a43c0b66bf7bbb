//! Clusters: where the proxy sends requests, counts and spans.

use super::{Address, TRACER};
use crate::render::quoted;

/// A cluster that speaks to the other side what the caller speaks.
pub(super) fn cluster(name: &str, address: &Address) -> String {
    upstream(
        name,
        address,
        "use_downstream_protocol_config:\n          http_protocol_options: {enable_trailers: true}\n          \
         http2_protocol_options: {}\n",
    )
}

pub(super) fn collector_cluster(name: &str, address: &Address) -> String {
    upstream(
        name,
        address,
        "explicit_http_config:\n          http_protocol_options: {}\n",
    )
}

fn upstream(name: &str, address: &Address, protocol: &str) -> String {
    let kind = if address.is_ip() {
        "STATIC"
    } else {
        "STRICT_DNS\n    dns_lookup_family: V4_PREFERRED"
    };
    format!(
        r#"  - name: {name}
    type: {kind}
    connect_timeout: 5s
    load_assignment:
      cluster_name: {name}
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {address}}}}}]}}]
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        {protocol}"#,
        name = quoted(name),
        address = address.yaml(),
    )
}

/// The receiver of Envoy's own spans, OTLP over gRPC.
pub(super) fn tracer_cluster(address: &Address) -> String {
    upstream(
        TRACER,
        address,
        "explicit_http_config:\n          http2_protocol_options: {}\n",
    )
}
