//! Spans for unit tests.

#[path = "../tests/common/s3_server.rs"]
pub(crate) mod s3_server;

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use crate::otlp::batch::SpanBatch;
use crate::otlp::decode::{Context, traces};
use crate::otlp::limits::Limits;
use crate::policy::Rules;

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

/// An attribute with text.
pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// An attribute with a number.
pub(crate) fn double(key: &str, value: f64) -> KeyValue {
    attribute(key, Value::DoubleValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A span that starts `age_ns` ago.
pub(crate) fn span(
    trace: u128,
    id: u64,
    parent: u64,
    age_ns: u64,
    attributes: Vec<KeyValue>,
) -> Span {
    let start = now_ns() - age_ns;
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 {
            Vec::new()
        } else {
            parent.to_be_bytes().to_vec()
        },
        name: format!("operation {id}"),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 5_000_000,
        attributes,
        ..Span::default()
    }
}

/// A request with the spans of one service.
pub(crate) fn request(service: &str, spans: Vec<Span>) -> Vec<u8> {
    let resource = Resource {
        attributes: vec![text("service.name", service)],
        ..Default::default()
    };
    let scope_spans = vec![ScopeSpans {
        spans,
        ..ScopeSpans::default()
    }];
    let resource_spans = vec![ResourceSpans {
        resource: Some(resource),
        scope_spans,
        schema_url: String::new(),
    }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Decodes a request that has no bad spans.
pub(crate) fn decode(request: &[u8]) -> SpanBatch {
    let (limits, rules) = (Limits::default(), Rules::load(None).unwrap());
    let context = Context {
        limits: &limits,
        rules: &rules,
        received_ns: now_ns(),
    };
    let batch = traces(request, &context).unwrap();
    assert_eq!(batch.refused.total(), 0, "{}", batch.refused.message());
    batch
}
