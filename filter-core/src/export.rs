//! Batches of encoded spans on their way to the collector: a state machine without I/O.
//!
//! Spans are appended to the open batch; a full or old batch is sealed and queued; the caller asks
//! [`Exporter::poll`] on its tick what to send and reports the outcome with
//! [`Exporter::on_outcome`]. A failed batch goes back to the front of the queue and is sent again
//! after a backoff with jitter, or after the server's `Retry-After`.
//!
//! Limits: all buffered bytes (open, queued, in flight) stay below `queue_bytes`; above it the
//! oldest queued batch is dropped first, then the open one, and every span of it is counted.
//! Batches in flight are never dropped. While the collector fails, one request at a time probes it.
//! What it is not: a place that waits. Nothing here blocks, sleeps or reads a clock.

use std::collections::VecDeque;

use crate::backoff::Backoff;
use crate::counters::{Counter, Counters};
use crate::otlp::request::Envelope;

/// A batch is sealed above this size even if it holds few spans: Envoy buffers it whole.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// A queue holds this many batches at least: one that is larger than its queue could never leave.
const QUEUE_BATCHES: usize = 4;

/// An answer later than the timeout by this much never comes: the host has lost the call.
const LOST_CALL_GRACE_NANOS: u64 = 10_000_000_000;

/// The exporter's part of the compiled policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportSettings {
    /// False when the policy names no collector: spans are counted, not built.
    pub enabled: bool,
    /// Spans per batch, 100 to 1000.
    pub batch_spans: usize,
    /// An open batch is sent when its first span is this old.
    pub linger_nanos: u64,
    /// Bound of all buffered bytes.
    pub queue_bytes: usize,
    /// Requests under way at the same time.
    pub max_in_flight: usize,
    /// After this time the host answers with a timeout.
    pub timeout_nanos: u64,
}

/// What an export request carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Counts: an `ExportMetricsServiceRequest`.
    Metrics,
    /// Spans: an `ExportTraceServiceRequest`.
    Traces,
}

/// One export request that the caller has to send.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a dispatch that is not sent has to be reported as failed"]
pub struct Dispatch {
    /// What it carries, and so where it goes.
    pub signal: Signal,
    /// Names the request in [`Exporter::on_outcome`].
    pub id: u64,
    /// The whole message.
    pub body: Vec<u8>,
}

/// How an export request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The collector acknowledged the batch.
    Accepted,
    /// Try again: timeout, reset, 429, 502, 503, 504. With the server's `Retry-After`, if it sent one.
    Retry {
        /// Delay that the server asks for, nanoseconds.
        after_nanos: Option<u64>,
    },
    /// The collector will never take this batch (other 4xx, 5xx).
    Refused,
    /// The proxy would not send: it does not know the cluster (yet).
    NoCluster,
}

impl Outcome {
    /// The outcome by HTTP status (OTLP/HTTP, "Failures": retryable are 429, 502, 503 and 504;
    /// 0 stands for no response at all).
    #[must_use]
    pub fn from_status(status: u16, retry_after_seconds: Option<u64>) -> Self {
        let after_nanos = retry_after_seconds.map(|seconds| seconds.saturating_mul(1_000_000_000));
        match status {
            200..=299 => Self::Accepted,
            0 | 408 | 429 | 502 | 503 | 504 => Self::Retry { after_nanos },
            _ => Self::Refused,
        }
    }
}

#[derive(Debug, Default)]
struct Batch {
    spans: Vec<u8>,
    count: u64,
    first_at_nanos: u64,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    sent_at_nanos: u64,
    batch: Batch,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Exporter {
    settings: ExportSettings,
    envelope: Envelope,
    open: Batch,
    sealed: VecDeque<Batch>,
    in_flight: Vec<InFlight>,
    buffered_bytes: usize,
    next_id: u64,
    backoff: Backoff,
}

impl Exporter {
    /// An empty exporter.
    #[must_use]
    pub fn new(settings: ExportSettings, envelope: Envelope) -> Self {
        Self {
            settings,
            envelope,
            open: Batch::default(),
            sealed: VecDeque::new(),
            in_flight: Vec::new(),
            buffered_bytes: 0,
            next_id: 1,
            backoff: Backoff::default(),
        }
    }

    /// No further span comes and no answer to what is under way: all of it goes out again, without
    /// waiting for a full batch. A batch may arrive twice so; its spans have the same ids.
    pub(crate) fn close(&mut self) {
        self.settings.linger_nanos = 0;
        for call in self.in_flight.drain(..).rev() {
            self.sealed.push_front(call.batch);
        }
    }

    /// All that is buffered or under way as finished bodies, with their spans.
    pub(crate) fn into_bodies(mut self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        self.close();
        let open = Some(self.open).filter(|batch| batch.count > 0);
        let batches = self.sealed.into_iter().chain(open);
        let envelope = self.envelope;
        batches.map(move |batch| (batch.count, envelope.wrap(&batch.spans)))
    }

    /// Lowers the bound of the buffered bytes.
    pub(crate) fn shrink(&mut self, queue_bytes: usize, counters: &mut Counters) {
        self.settings.queue_bytes = self.settings.queue_bytes.min(queue_bytes);
        self.enforce_limit(counters);
    }

    /// Bytes of all spans that are buffered, in flight included.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Appends one span that `encode` writes.
    pub fn record(
        &mut self,
        now_nanos: u64,
        counters: &mut Counters,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        if !self.settings.enabled {
            counters.bump(Counter::SpansDroppedNoExport);
            return;
        }
        if self.open.count == 0 {
            self.open.first_at_nanos = now_nanos;
        }
        let before = self.open.spans.len();
        encode(&mut self.open.spans);
        self.open.count += 1;
        self.buffered_bytes += self.open.spans.len().saturating_sub(before);
        counters.bump(Counter::SpansBuffered);
        let full = self.open.count >= self.settings.batch_spans as u64;
        let limit = MAX_BATCH_BYTES.min(self.settings.queue_bytes / QUEUE_BATCHES);
        if full || self.open.spans.len() >= limit {
            self.seal();
        }
        self.enforce_limit(counters);
    }

    fn seal(&mut self) {
        // The next batch will be about as large: reserving that at once avoids regrowing.
        let next = Batch {
            spans: Vec::with_capacity(self.open.spans.len()),
            ..Batch::default()
        };
        self.sealed
            .push_back(std::mem::replace(&mut self.open, next));
    }

    fn enforce_limit(&mut self, counters: &mut Counters) {
        while self.buffered_bytes > self.settings.queue_bytes {
            let oldest = match self.sealed.pop_front() {
                Some(batch) => batch,
                None if self.open.count > 0 => std::mem::take(&mut self.open),
                None => return,
            };
            self.buffered_bytes = self.buffered_bytes.saturating_sub(oldest.spans.len());
            counters.add(Counter::SpansDroppedQueueFull, oldest.count);
        }
    }

    /// The next request to send now, if any. Call it until it returns `None`: the number of
    /// requests in flight bounds the loop.
    pub fn poll(&mut self, now_nanos: u64, counters: &mut Counters) -> Option<Dispatch> {
        self.recover_lost(now_nanos, counters);
        let window = if self.backoff.is_failing() {
            1
        } else {
            self.settings.max_in_flight
        };
        if !self.backoff.is_over(now_nanos) || self.in_flight.len() >= window {
            return None;
        }
        let lingered =
            now_nanos.saturating_sub(self.open.first_at_nanos) >= self.settings.linger_nanos;
        if self.sealed.is_empty() && self.open.count > 0 && lingered {
            self.seal();
        }
        let batch = self.sealed.pop_front()?;
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1);
        let body = self.envelope.wrap(&batch.spans);
        self.in_flight.push(InFlight {
            id,
            sent_at_nanos: now_nanos,
            batch,
        });
        counters.bump(Counter::ExportRequests);
        Some(Dispatch {
            signal: Signal::Traces,
            id,
            body,
        })
    }

    fn recover_lost(&mut self, now_nanos: u64, counters: &mut Counters) {
        let patience = self
            .settings
            .timeout_nanos
            .saturating_add(LOST_CALL_GRACE_NANOS);
        let lost = |call: &InFlight| now_nanos.saturating_sub(call.sent_at_nanos) > patience;
        while let Some(id) = self
            .in_flight
            .iter()
            .find(|call| lost(call))
            .map(|call| call.id)
        {
            self.on_outcome(
                id,
                Outcome::Retry { after_nanos: None },
                now_nanos,
                0,
                counters,
            );
        }
    }

    /// Takes the outcome of the request `id`; an unknown id is ignored. `entropy` is any random
    /// number, for the jitter of the backoff.
    pub fn on_outcome(
        &mut self,
        id: u64,
        outcome: Outcome,
        now_nanos: u64,
        entropy: u64,
        counters: &mut Counters,
    ) {
        let Some(index) = self.in_flight.iter().position(|call| call.id == id) else {
            return;
        };
        let batch = self.in_flight.swap_remove(index).batch;
        match outcome {
            Outcome::Accepted => {
                self.backoff.reset();
                counters.add(Counter::SpansExported, batch.count);
                self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.spans.len());
            }
            Outcome::Refused => {
                self.backoff.reset();
                counters.add(Counter::SpansDroppedRejected, batch.count);
                self.buffered_bytes = self.buffered_bytes.saturating_sub(batch.spans.len());
            }
            Outcome::Retry { after_nanos } => {
                counters.bump(Counter::ExportRetries);
                self.backoff.fail(after_nanos, now_nanos, entropy);
                self.sealed.push_front(batch);
            }
            Outcome::NoCluster => {
                counters.bump(Counter::ExportNoCluster);
                self.backoff.fail(None, now_nanos, entropy);
                self.sealed.push_front(batch);
            }
        }
        self.enforce_limit(counters);
    }
}

#[cfg(test)]
mod tests;
