//! The `ot` member of `tracestate`: OpenTelemetry's consistent probability sampling.
//!
//! A trace has 56 bits of randomness R, a sampler a rejection threshold T; the trace is kept if and
//! only if R >= T. As R is the same everywhere, samplers of different rates agree: what the lower
//! rate keeps, the higher one keeps too.
//!
//! It holds no policy: when a threshold has to be written, kept or erased is said in the
//! documentation of the functions, and decided by the caller.
//!
//! Limits: 256 bytes per value, 14 digits per threshold.

mod error;
mod state;
mod threshold;

pub use self::error::{OtelError, OtelErrorReason};
pub use self::state::{MAX_LEN, OtState, SubMember};
pub use self::threshold::{Randomness, Threshold};
pub use crate::write::WriteError;

/// Key of the member.
pub const KEY: &[u8] = b"ot";
