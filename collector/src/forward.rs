//! Forwarding: received spans go on to another back end, by OTLP/gRPC or OTLP/HTTP.
//!
//! What was stored is queued as it stands in the log: the request as its sender wrote it, without
//! requests that brought nothing new. The edge has kept these traces; no rule drops any of them
//! here. Requests are joined to batches (protobuf messages of this kind are joined by writing one
//! after the other), compressed and sent by [`Forward::max_in_flight`] workers.
//!
//! # What is promised
//!
//! **At least once**, also over `kill -9`: the log is the queue's backing. A position in the log is
//! kept in the data folder; what was not delivered before it is queued again at start, and a log
//! segment is kept for as long as one of its requests waits. After a kill, requests of about the
//! last second may be sent twice. A request is lost for the back end only if
//!
//! * more than `queue_bytes` wait: then the oldest go (`queue_full`),
//! * the back end refuses it for good (`refused`), or a part of it (`rejected`),
//! * `give_up_after` is over (`gave_up`),
//! * its record in the log is damaged (`damaged`),
//!
//! and each of these is counted in spans. Nothing here slows ingest down.
//!
//! # Failure behaviour
//!
//! What may succeed later (no connection, time-out, 429, 502, 503, 504; gRPC `UNAVAILABLE`,
//! `DEADLINE_EXCEEDED`, `CANCELLED`, `ABORTED`, `OUT_OF_RANGE`, `DATA_LOSS`, and
//! `RESOURCE_EXHAUSTED` with `RetryInfo`) is tried again: after the time that the back end asks
//! for (`Retry-After` in seconds, `RetryInfo`), else after a pause that grows to [`MAX_PAUSE`],
//! with jitter. At shutdown everything that waits is sent within [`DRAIN`]; the rest stays in the
//! log for the next start.

mod answer;
mod cursor;
mod queue;
mod send;
mod task;

use std::time::Duration;

pub(crate) use queue::{Dropped, Position, Queue};
pub(crate) use send::ForwardError;
pub(crate) use task::Forwarder;

#[cfg(doc)]
use mesh_config::policy::Forward;

/// Longest pause between two tries.
pub(crate) const MAX_PAUSE: Duration = Duration::from_secs(30);
/// Time to send what waits at shutdown.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);

/// What forwarding shows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Spans delivered.
    pub(crate) delivered: u64,
    /// Batches delivered.
    pub(crate) batches: u64,
    /// Tries after the first.
    pub(crate) retries: u64,
    /// Spans dropped, in the order of [`Dropped::ALL`].
    pub(crate) dropped: [u64; Dropped::ALL.len()],
    /// Bytes that wait or are under way.
    pub(crate) queue_bytes: usize,
    /// Spans that wait or are under way.
    pub(crate) queue_spans: u64,
    /// How long the oldest of them has waited.
    pub(crate) lag: Duration,
}
