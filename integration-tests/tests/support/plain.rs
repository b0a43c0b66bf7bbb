//! A small Envoy configuration written by hand: listeners called `inbound-0`, `inbound-1`, .. that
//! forward everything to one address, in the protocol they were called with.
//!
//! For what `mesh-config render` will not produce on purpose: a proxy without the filter, or one
//! whose plugin configuration is broken.

use std::net::SocketAddr;

/// One listener without any filter of ours.
pub(crate) fn without_filter(upstream: SocketAddr) -> String {
    configuration(upstream, &listener(0, ""))
}

/// A listener for each text, with the module and exactly this text as its plugin configuration.
/// All of them share one VM, as the listeners of a sidecar do.
pub(crate) fn with_plugin_configurations(
    upstream: SocketAddr,
    module: &str,
    texts: &[&str],
) -> String {
    let listeners = texts.iter().enumerate().map(|(number, text)| {
        let escaped = serde_json::Value::from(*text).to_string();
        listener(number, &wasm(module, &escaped))
    });
    configuration(upstream, &listeners.collect::<String>())
}

fn wasm(module: &str, escaped: &str) -> String {
    format!(
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
    )
}

fn listener(number: usize, filters: &str) -> String {
    format!(
        r#"  - name: inbound-{number}
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
"#
    )
}

fn configuration(upstream: SocketAddr, listeners: &str) -> String {
    let (host, port) = (upstream.ip(), upstream.port());
    format!(
        r#"
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
{listeners}  clusters:
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
