//! What is compared, and the Envoy configuration of each.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The specification's rules, on every variant of ours; the rate is the variant's.
const RULES: &str = r#"[
    {"name": "errors", "condition": "error = true", "sample_rate": 1.0},
    {"name": "high cost", "condition": "cost_usd > 0.01", "sample_rate": 1.0},
    {"name": "human review", "condition": "hitl_required = true", "sample_rate": 1.0},
    {"name": "personal data", "condition": "data_tag = PII", "sample_rate": 1.0},
    {"name": "slow", "condition": "duration_ms > 1000", "sample_rate": 0.5}]"#;

/// The same three headers that our filter rewrites.
const LUA: &str = r#"
local n = 0
function envoy_on_request(handle)
  local headers = handle:headers()
  local parent = headers:get("traceparent")
  n = n + 1
  headers:replace("traceparent", string.sub(parent, 1, 36) .. string.format("%016x", n) .. string.sub(parent, 53))
  headers:replace("tracestate", "cost_usd=0.00001,data_tag=EXPORT_OK," .. headers:get("tracestate"))
  headers:replace("baggage", headers:get("baggage") .. ",cost_usd=0.00001,data_tag=EXPORT_OK")
end
"#;

/// What a proxy does beside passing on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Variant {
    /// Nothing; the second one is the control of the measurement.
    Nothing,
    Control,
    /// A module whose callbacks are empty.
    EmptyModule,
    /// Ours at a rate.
    Ours(f64),
    /// Envoy's OpenTelemetry tracer at a rate in per cent.
    Native(u32),
    Lua,
    /// One of the modules named on the command line, at 0 %.
    Named(usize),
}

/// All of them, in the order of the table.
const ALL: [Variant; 9] = [
    Variant::Nothing,
    Variant::Control,
    Variant::EmptyModule,
    Variant::Ours(0.0),
    Variant::Ours(0.01),
    Variant::Ours(1.0),
    Variant::Native(1),
    Variant::Native(100),
    Variant::Lua,
];

/// What a run compares: everything, or the named modules with no filter.
pub(crate) fn all(modules: &[PathBuf]) -> Vec<Variant> {
    if modules.is_empty() {
        return ALL.to_vec();
    }
    let named = (0..modules.len()).map(Variant::Named);
    [Variant::Nothing, Variant::Control]
        .into_iter()
        .chain(named)
        .collect()
}

impl Variant {
    pub(crate) fn name(self) -> String {
        match self {
            Self::Nothing => "no filter".to_owned(),
            Self::Control => "no filter again (control)".to_owned(),
            Self::EmptyModule => "module with empty callbacks".to_owned(),
            Self::Ours(0.0) => "tracemeter, unsampled".to_owned(),
            Self::Ours(rate) => format!("tracemeter, {} %", rate * 100.0),
            Self::Native(percent) => format!("Envoy's OTel tracer, {percent} %"),
            Self::Lua => "Lua, same three headers".to_owned(),
            Self::Named(index) => format!("module {}", index + 1),
        }
    }

    /// Where it posts its spans.
    pub(crate) fn path(self) -> String {
        let name = self.name();
        let letters = name.chars().filter(char::is_ascii_alphanumeric);
        format!("/{}/v1/traces", letters.collect::<String>())
    }

    /// Envoy's tracer obeys a parent's flag: only a sampled parent lets its own rate decide. Ours
    /// keeps what a trusted parent has sampled: only an unsampled one lets the rate decide.
    pub(crate) fn parent_flag(self) -> &'static str {
        match self {
            Self::Native(_) => "01",
            _ => "00",
        }
    }

    /// Whether spans have to arrive.
    pub(crate) fn exports(self) -> bool {
        !matches!(
            self,
            Self::Nothing
                | Self::Control
                | Self::EmptyModule
                | Self::Lua
                | Self::Ours(0.0)
                | Self::Named(_)
        )
    }
}

/// Everything around a variant.
pub(crate) struct Place<'a> {
    pub(crate) module: &'a Path,
    pub(crate) empty_module: &'a Path,
    pub(crate) modules: &'a [PathBuf],
    /// `None`: the proxy answers itself.
    pub(crate) upstream: Option<SocketAddr>,
    pub(crate) receiver: SocketAddr,
}

/// The configuration, YAML.
pub(crate) fn configuration(variant: Variant, place: &Place<'_>) -> String {
    let route = if place.upstream.is_some() {
        "route: { cluster: upstream }"
    } else {
        r#"direct_response: { status: 200, body: { inline_string: "ok" } }"#
    };
    let mut text = format!(
        r#"
node: {{ id: bench, cluster: bench }}
admin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }} }}
static_resources:
  listeners:
  - name: measured
    traffic_direction: INBOUND
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: 0 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: measured
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{{ match: {{ prefix: "/" }}, {route} }}]
{tracing}          http_filters:
{filter}          - name: envoy.filters.http.router
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
  clusters:
"#,
        tracing = tracing(variant),
        filter = filter(variant, place),
    );
    cluster(&mut text, "receiver", place.receiver);
    if let Some(upstream) = place.upstream {
        cluster(&mut text, "upstream", upstream);
    }
    text
}

fn cluster(text: &mut String, name: &str, to: SocketAddr) {
    let (host, port) = (to.ip(), to.port());
    let _ = write!(
        text,
        r#"  - name: {name}
    type: STATIC
    load_assignment:
      cluster_name: {name}
      endpoints: [{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: {host}, port_value: {port} }} }} }} }}] }}]
"#
    );
}

fn tracing(variant: Variant) -> String {
    let Variant::Native(percent) = variant else {
        return String::new();
    };
    let path = variant.path();
    format!(
        r#"          tracing:
            random_sampling: {{ value: {percent} }}
            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                service_name: bench
                http_service: {{ http_uri: {{ uri: "http://receiver{path}", cluster: receiver, timeout: 5s }} }}
"#
    )
}

fn filter(variant: Variant, place: &Place<'_>) -> String {
    match variant {
        Variant::Nothing | Variant::Control | Variant::Native(_) => String::new(),
        Variant::EmptyModule => wasm(place.empty_module, ""),
        Variant::Ours(rate) => wasm(place.module, &policy(variant, rate)),
        Variant::Named(index) => wasm(&place.modules[index], &policy(variant, 0.0)),
        Variant::Lua => format!(
            r#"          - name: envoy.filters.http.lua
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua
              default_source_code: {{ inline_string: {LUA:?} }}
"#
        ),
    }
}

fn policy(variant: Variant, rate: f64) -> String {
    let path = variant.path();
    format!(
        r#"{{"sampling": {{"default_rate": {rate}, "priority_rules": {RULES},
            "adaptive": {{"enabled": false}}, "low_volume": {{"traces_per_minute": 0}}}},
          "export": {{"cluster": "receiver", "path": "{path}"}}}}"#
    )
}

fn wasm(module: &Path, policy: &str) -> String {
    format!(
        r#"          - name: envoy.filters.http.wasm
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: tracemeter
                vm_config:
                  vm_id: bench
                  runtime: envoy.wasm.runtime.v8
                  code: {{ local: {{ filename: "{}" }} }}
                configuration:
                  "@type": type.googleapis.com/google.protobuf.StringValue
                  value: {policy:?}
"#,
        module.display()
    )
}
