//! OTLP/protobuf, written directly into byte buffers.
//!
//! What it is: a writer for the few messages that the filter sends
//! (`ExportTraceServiceRequest` of opentelemetry-proto 1.x), without intermediate objects:
//! a span is encoded once, straight into its batch.
//! What it is not: a reader, or a general protobuf library.
//! Limits: string values longer than [`wire::MAX_STRING_BYTES`] are cut at a character boundary.

pub mod request;
pub mod span;
pub mod wire;
