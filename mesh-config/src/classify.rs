//! Data classes, detectors and redaction.

mod tag;

pub use tag::DataTag;
