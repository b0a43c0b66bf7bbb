//! OTLP/JSON requests, turned into the protobuf form so that one decoder checks everything.
//!
//! This is a cold path (SDKs in browsers, hand-written clients), so it goes through
//! `opentelemetry-proto`, which knows the JSON mapping (hex ids, numbers as text).

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

/// Re-encodes a JSON trace request as protobuf.
pub(crate) fn traces_to_protobuf(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let request: ExportTraceServiceRequest = serde_json::from_slice(json)?;
    Ok(request.encode_to_vec())
}

/// Re-encodes a JSON metrics request as protobuf.
pub(crate) fn metrics_to_protobuf(json: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    let request: ExportMetricsServiceRequest = serde_json::from_slice(json)?;
    Ok(request.encode_to_vec())
}
