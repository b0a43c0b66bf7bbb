//! OTLP on the ingest path: bytes in, checked rows out.
//!
//! This is a field reader of our own, because decoding by `prost` costs as much as log,
//! sort and Parquet together. It walks the protobuf encoding once and copies what the
//! columns need into one arena per request. It does no I/O, knows no clock and cannot
//! panic; whatever a client sends is held to [`limits::Limits`].
//!
//! A damaged *frame* (request, resource or scope level) refuses the request. A bad *span*
//! is refused alone and reported by OTLP's partial success.
//!
//! It is not a general protobuf library: groups are refused, and of a singular message
//! that occurs twice the last one wins (protobuf would merge them; no encoder does that).

pub(crate) mod any;
mod attributes;
pub(crate) mod batch;
mod counted;
pub(crate) mod decode;
mod inspect;
pub(crate) mod json;
pub(crate) mod keys;
mod known;
pub(crate) mod limits;
pub(crate) mod lists;
pub(crate) mod metrics;
pub(crate) mod redact;
pub(crate) mod reply;
pub(crate) mod span;
pub(crate) mod wire;

#[cfg(test)]
mod oracle_tests;
