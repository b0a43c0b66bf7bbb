//! The single place where a mesh operator says what should happen, and the pure code that both
//! the filter and the collector evaluate it with.
//!
//! * [`Policy`]: every option as a type, with its default and its reference text in one definition.
//! * [`rule`]: the condition language of the policy: three-valued, compiled, allocation-free.
//! * [`sampling`]: which probability holds for a request and why, as an OpenTelemetry threshold.
//! * [`money`], [`price`], [`classify`], [`adaptive`]: nano-USD, price tables, data classes and
//!   the adaptive rate controller.
//!
//! # What this crate is not
//!
//! It reads no files, clock, environment or randomness and keeps no state: bytes and numbers come
//! in, values go out. Without the feature `yaml` it has no dependency outside this workspace and
//! is what the WebAssembly filter links.
//!
//! # Limits
//!
//! A policy document has at most [`node::MAX_BYTES`] bytes, [`node::MAX_NODES`] values and
//! [`node::MAX_DEPTH`] levels; a condition has at most [`rule::MAX_LENGTH`] bytes,
//! [`rule::MAX_DEPTH`] levels and [`rule::MAX_TESTS`] comparisons. What exceeds a limit is an
//! error with its position.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod adaptive;
mod check;
mod choice;
pub mod classify;
mod data_tag;
mod decode;
mod diagnostic;
#[cfg(feature = "docs")]
pub mod docs;
mod json;
mod load;
pub mod money;
pub mod node;
pub mod policy;
pub mod price;
mod protobuf_struct;
pub mod rule;
pub mod sampling;
mod secret;
mod section;
mod setting;
pub mod units;
#[cfg(feature = "yaml")]
mod yaml;

pub use data_tag::DataTag;
pub use diagnostic::{Diagnostic, Diagnostics, Severity};
pub use load::Loaded;
pub use policy::Policy;
pub use secret::Secret;
