//! The envelope of an export: `ExportTraceServiceRequest` around already encoded spans.
//!
//! Spans are kept as one run of `ScopeSpans.spans` fields; the envelope in front of them is
//! written when a batch is sent, because only then its lengths are known.

use super::wire::{self, AnyValue};

/// Name of the instrumentation scope of every span of the filter.
pub const SCOPE_NAME: &str = "tracemeter";

/// Schema of the attribute names used (OpenTelemetry semantic conventions).
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.37.0";

/// The constant parts of an export request: the encoded `Resource` and `InstrumentationScope`.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// `ResourceSpans.resource`, field and length included.
    resource: Vec<u8>,
    /// `ScopeSpans.scope`, field and length included.
    scope: Vec<u8>,
}

impl Envelope {
    /// Encodes the resource attributes once for all later batches.
    #[must_use]
    pub fn new(resource_attributes: &[(&str, &str)]) -> Self {
        let mut resource = Vec::new();
        let open = wire::begin(&mut resource, 1);
        for (key, value) in resource_attributes {
            wire::attribute(&mut resource, 1, key, AnyValue::String(value.as_bytes()));
        }
        wire::end(&mut resource, open);

        let mut scope = Vec::new();
        let open = wire::begin(&mut scope, 1);
        wire::bytes(&mut scope, 1, SCOPE_NAME.as_bytes());
        wire::bytes(&mut scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
        wire::end(&mut scope, open);
        Self { resource, scope }
    }

    /// Bytes that the envelope adds to a batch, at most.
    #[must_use]
    pub fn overhead_bytes(&self) -> usize {
        self.resource.len() + self.scope.len() + SCHEMA_URL.len() + 32
    }

    /// Builds a whole `ExportTraceServiceRequest` from a run of encoded spans.
    #[must_use]
    pub fn wrap(&self, spans: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.overhead_bytes() + spans.len());
        let resource_spans = wire::begin(&mut out, 1);
        out.extend_from_slice(&self.resource);
        let scope_spans = wire::begin(&mut out, 2);
        out.extend_from_slice(&self.scope);
        out.extend_from_slice(spans);
        wire::bytes(&mut out, 3, SCHEMA_URL.as_bytes());
        wire::end(&mut out, scope_spans);
        wire::end(&mut out, resource_spans);
        out
    }
}
