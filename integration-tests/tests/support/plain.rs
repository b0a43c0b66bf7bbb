//! A small Envoy configuration written by hand: one listener called `inbound` that forwards
//! everything to one address, in the protocol it was called with.
//!
//! For what `mesh-config render` will not produce on purpose: a proxy without the filter, or one
//! whose plugin configuration is broken.

use std::net::SocketAddr;

/// The configuration without any filter of ours.
pub(crate) fn without_filter(upstream: SocketAddr) -> String {
    with_filters(upstream, "")
}

/// The configuration with the module and exactly this text as its plugin configuration.
pub(crate) fn with_plugin_configuration(upstream: SocketAddr, module: &str, text: &str) -> String {
    let escaped = serde_json::Value::from(text).to_string();
    let filter = format!(
        r#"          - name: envoy.filters.http.wasm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: tracemeter
                vm_config:
                  vm_id: by-hand
                  runtime: envoy.wasm.runtime.v8
                  code: {{ local: {{ filename: "{module}" }} }}
                configuration:
                  "@type": type.googleapis.com/google.protobuf.StringValue
                  value: {escaped}
"#
    );
    with_filters(upstream, &filter)
}

fn with_filters(upstream: SocketAddr, filters: &str) -> String {
    let (host, port) = (upstream.ip(), upstream.port());
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: inbound
    traffic_direction: INBOUND
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: inbound
          codec_type: AUTO
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, route: {{ cluster: app }} }}]
          http_filters:
{filters}          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
  - name: app
    type: STATIC
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        use_downstream_protocol_config: {{ http_protocol_options: {{}}, http2_protocol_options: {{}} }}
    load_assignment:
      cluster_name: app
      endpoints:
      - lb_endpoints:
        - endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }}
"#
    )
}
