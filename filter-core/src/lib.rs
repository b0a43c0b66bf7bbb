//! Every decision of one request, span building, batching and export state: pure.
//!
//! What it is: the whole filter without the proxy. Time, entropy and header bytes come in; header
//! edits, export requests and counts come out.
//! What it is not: it knows no SDK, clock, randomness, environment, I/O, thread or global.
//!
//! **The call contract:** [`Engine::request`] once per stream when its headers are there, then
//! [`Engine::edits`] at once; then exactly once [`Engine::end`], [`Engine::end_excluded`] (where
//! `request` gave no state) or [`Engine::end_malformed`] (where the headers never came);
//! [`Engine::tick`] and [`Engine::poll_export`] until `None` on every tick.
//! Nothing here panics whatever the bytes are, and every buffer has a limit: see the modules.

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

mod backoff;
pub mod context;
pub mod counters;
pub mod decision;
mod engine;
pub mod explain;
pub mod export;
pub mod facts;
pub mod gzip;
pub mod headers;
pub mod identity;
pub mod ledger;
pub mod otlp;
pub mod parcels;
pub mod per_minute;
pub mod rates;
mod redact;
pub mod reply;
pub mod route;
mod settings;
mod span;
mod state;
pub mod usage;
mod view;

pub use engine::budget::Denial;
pub use engine::companion::{self, Progress};
pub use engine::reply::{Letter, ResponseEffects, ResponseInput, ResponseNeeds, TRACE_COST_STATE};
pub use engine::{Edit, Engine, HeaderEdits, RequestInput};
pub use facts::Protocol;
pub use settings::{Settings, USER_AGENT};
pub use state::{Details, Peer, RequestState, StreamEnd, Wanted};

/// Where a filter stands (`service.direction` of the policy; `Auto` until the listener is known).
pub use mesh_config::policy::Direction;

/// A source of uniformly random numbers. Ids need a cryptographic one: a guessable trace id lets
/// others forge spans, and a skewed one breaks consistent sampling.
pub trait Entropy {
    /// The next 64 random bits.
    fn next_u64(&mut self) -> u64;
}
