//! Envoy configurations built by hand: several listeners with a policy each, Envoy's own tracer on
//! or off, the module in the listener's chain, in the upstream chain, or nowhere.
//!
//! For what `mesh-config render` does not produce on purpose. JSON, which Envoy reads as YAML.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::SocketAddr;

use integration_tests::artefacts;
use serde_json::{Value, json};

/// The cluster of the OTLP receiver.
const RECEIVER: &str = "receiver";

/// Where Envoy's own tracer posts its spans; the filter's go to `/v1/traces`.
pub(crate) const ENVOY_PATH: &str = "/envoy/v1/traces";

/// Envoy's own tracer on a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tracer {
    Off,
    /// It writes traceparent and tracestate to the upstream request.
    Propagating,
    /// `no_context_propagation`: it exports its spans and leaves the headers alone.
    Silent,
}

/// Where the module runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Listener,
    /// `router.upstream_http_filters`: after Envoy's tracer, once per try.
    Upstream,
}

/// One listener.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    pub(crate) name: &'static str,
    /// `INBOUND`, `OUTBOUND` or `UNSPECIFIED`.
    pub(crate) direction: &'static str,
    pub(crate) policy: Value,
    pub(crate) place: Place,
    pub(crate) tracer: Tracer,
    /// Retries on 5xx and reset.
    pub(crate) retries: u32,
}

impl Listener {
    /// A listener with the module and this policy, without Envoy's tracer.
    pub(crate) fn new(name: &'static str, direction: &'static str, policy: Value) -> Self {
        Self {
            name,
            direction,
            policy,
            place: Place::Listener,
            tracer: Tracer::Off,
            retries: 0,
        }
    }

    pub(crate) fn tracer(mut self, tracer: Tracer) -> Self {
        self.tracer = tracer;
        self
    }

    pub(crate) fn place(mut self, place: Place) -> Self {
        self.place = place;
        self
    }
}

/// Everything is kept, nothing else decides, and spans go to the receiver.
pub(crate) fn keep_all() -> Value {
    at_rate(1.0)
}

/// A share is kept by randomness, nothing else decides, and spans go to the receiver.
pub(crate) fn at_rate(rate: f64) -> Value {
    json!({
        "sampling": {
            "default_rate": rate,
            "priority_rules": [],
            "low_volume": {"traces_per_minute": 0},
        },
        "export": {"cluster": RECEIVER, "gzip": false},
    })
}

/// Writes the members of `other` into `policy`, section by section.
pub(crate) fn with(mut policy: Value, other: Value) -> Value {
    for (section, options) in other.as_object().unwrap() {
        match (policy.get_mut(section), options) {
            (Some(Value::Object(old)), Value::Object(new)) => old.extend(new.clone()),
            _ => policy[section] = options.clone(),
        }
    }
    policy
}

/// A proxy of the service `proxied` whose listeners all forward to `upstream`.
pub(crate) fn config(listeners: &[Listener], upstream: SocketAddr, receiver: SocketAddr) -> String {
    let listeners: Vec<Value> = listeners.iter().map(listener).collect();
    let config = json!({
        "node": {"id": "proxied.default", "cluster": "proxied"},
        "admin": {"address": address(SocketAddr::from(([127, 0, 0, 1], 0)))},
        // Envoy's tracer holds its spans back for five seconds otherwise.
        "layered_runtime": {"layers": [{
            "name": "tests",
            "static_layer": {"tracing.opentelemetry.min_flush_spans": 1},
        }]},
        "static_resources": {
            "listeners": listeners,
            "clusters": [
                cluster("app", upstream, json!({
                    "use_downstream_protocol_config":
                        {"http_protocol_options": {}, "http2_protocol_options": {}},
                })),
                cluster(RECEIVER, receiver, json!({
                    "explicit_http_config": {"http_protocol_options": {}},
                })),
            ],
        },
    });
    config.to_string()
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

fn cluster(name: &str, to: SocketAddr, protocol: Value) -> Value {
    let mut options = protocol;
    options["@type"] =
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions".into();
    json!({
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}],
        },
        "typed_extension_protocol_options":
            {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
    })
}

fn listener(listener: &Listener) -> Value {
    let module = module(&listener.policy);
    let mut router = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
    });
    let mut filters = Vec::new();
    match listener.place {
        Place::Listener => filters.push(module),
        Place::Upstream => {
            let codec =
                "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";
            router["upstream_http_filters"] = json!([
                module,
                {"name": "envoy.filters.http.upstream_codec", "typed_config": {"@type": codec}},
            ]);
        }
    }
    filters.push(json!({"name": "envoy.filters.http.router", "typed_config": router}));
    let mut route = json!({"cluster": "app", "timeout": "0s"});
    if listener.retries > 0 {
        route["retry_policy"] = json!({"retry_on": "5xx,reset", "num_retries": listener.retries});
    }
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": listener.name,
        "codec_type": "AUTO",
        "http_filters": filters,
        "route_config": {
            "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": route}],
            }],
        },
    });
    if listener.tracer != Tracer::Off {
        manager["tracing"] = tracing(listener.tracer);
    }
    json!({
        "name": listener.name,
        "traffic_direction": listener.direction,
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{
            "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }],
        }],
    })
}

fn module(policy: &Value) -> Value {
    let file = artefacts::module().unwrap().canonicalize().unwrap();
    json!({
        "name": "tracemeter",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": "tracemeter",
                "failure_policy": "FAIL_RELOAD",
                "reload_config": {"backoff": {"base_interval": "0.05s"}},
                "vm_config": {
                    "vm_id": "tracemeter.proxied",
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": file.to_string_lossy()}},
                },
                "configuration": {
                    "@type": "type.googleapis.com/google.protobuf.StringValue",
                    "value": policy.to_string(),
                },
            },
        },
    })
}

/// The custom tags are those that docs/debugging.md recommends.
fn tracing(tracer: Tracer) -> Value {
    let mut tracing = json!({
        "random_sampling": {"value": 100},
        "custom_tags": [
            {"tag": "cost_usd", "value": "%FILTER_STATE(wasm.tracemeter.cost_usd:PLAIN)%"},
            {"tag": "data_tag", "value": "%FILTER_STATE(wasm.tracemeter.data_tag:PLAIN)%"},
        ],
        "provider": {
            "name": "envoy.tracers.opentelemetry",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
                "service_name": "envoy-itself",
                "http_service": {
                    "http_uri": {
                        "uri": format!("http://receiver{ENVOY_PATH}"),
                        "cluster": RECEIVER,
                        "timeout": "5s",
                    },
                },
            },
        },
    });
    if tracer == Tracer::Silent {
        tracing["no_context_propagation"] = true.into();
    }
    tracing
}
