#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod baggage;
mod bytes;
mod flags;
mod hex;
mod id;
pub mod otel;
mod traceparent;
pub mod tracestate;
mod write;

pub use crate::flags::TraceFlags;
pub use crate::id::{IdError, IdErrorReason, SpanId, TraceId};
pub use crate::traceparent::{
    TRACEPARENT_LEN, TraceParent, TraceParentError, TraceParentErrorReason,
};
pub use crate::write::{WriteError, Written};
