//! Which probability holds for a request, and why, as an OpenTelemetry rejection threshold.
//!
//! Keep iff R >= T. Several matching rules combine as the largest probability, so the answer does
//! not depend on their order, and asking again has no side effect. Nothing here depends on R: the
//! same threshold can be written as `ot=th` and recomputed by anybody.
//!
//! What needs memory (floors for routes with little traffic, caps for floods of errors) is the
//! filter's; this module gives it the numbers and the [`Reason`]s.

mod reason;
mod sampler;

pub use reason::Reason;
pub use sampler::{BaseRate, Sampler, Verdict};
pub use w3c_traceparent_parser::otel::{Randomness, Threshold};
