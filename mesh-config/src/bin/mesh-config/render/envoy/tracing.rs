//! Envoy's own tracer beside the filter.
//!
//! In mode `owner` it may report its spans, but must not touch the headers
//! (`no_context_propagation`): it would overwrite what the filter wrote. In mode `companion` it
//! owns the headers, traces everything that it is asked about, and takes cost and class from the
//! filter's state.

use mesh_config::policy::Mode;

use super::TRACER;
use crate::render::quoted;

/// Tags on Envoy's span, and the filter state that the filter writes them to.
const TAGS: [&str; 4] = ["cost_usd", "cost_usd.path", "data_tag", "retention_days"];

/// The `tracing` block of a connection manager.
pub(super) fn block(mode: Mode, service: &str) -> String {
    let own = match mode {
        Mode::Owner => "            no_context_propagation: true\n".to_owned(),
        Mode::Companion => {
            let tag = |name: &&str| {
                format!(
                    "            - {{tag: {name}, value: \"%FILTER_STATE(wasm.tracemeter.{name}:PLAIN)%\"}}\n"
                )
            };
            let tags: String = TAGS.iter().map(tag).collect();
            format!("            custom_tags:\n{tags}")
        }
    };
    format!(
        r#"          tracing:
            random_sampling: {{value: 100}}
{own}            provider:
              name: envoy.tracers.opentelemetry
              typed_config:
                "@type": type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig
                grpc_service: {{envoy_grpc: {{cluster_name: {TRACER}}}}}
                service_name: {service}
"#,
        service = quoted(service),
    )
}
