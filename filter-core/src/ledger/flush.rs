//! Sends deltas: one at a time, numbered, unchanged until it is acknowledged.

use crate::backoff::Backoff;
use crate::counters::{Counter, Counters};
use crate::export::Outcome;
use crate::otlp::wire::{self, AnyValue};

use super::Ledger;
use super::encode::{Window, encode};

/// The ledger's part of the compiled policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerSettings {
    /// False when the policy names no collector: counts then only feed the proxy's statistics.
    pub enabled: bool,
    /// Keys of one delta at most.
    pub max_keys: usize,
    /// Time between two deltas.
    pub interval_nanos: u64,
    /// After this time without an answer a delta is sent again.
    pub timeout_nanos: u64,
}

#[derive(Debug)]
struct Sealed {
    sequence: u64,
    body: Vec<u8>,
    sent_at_nanos: Option<u64>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Flush {
    settings: LedgerSettings,
    resource: Vec<u8>,
    next_sequence: u64,
    sealed: Option<Sealed>,
    window_start_nanos: Option<u64>,
    backoff: Backoff,
}

impl Flush {
    /// Nothing sent yet. `resource` are the attributes of the workload; they must name the instance.
    #[must_use]
    pub fn new(settings: LedgerSettings, resource: &[(&str, &str)]) -> Self {
        let mut encoded = Vec::new();
        let open = wire::begin(&mut encoded, 1);
        for (key, value) in resource {
            wire::attribute(&mut encoded, 1, key, AnyValue::String(value.as_bytes()));
        }
        wire::end(&mut encoded, open);
        Self {
            settings,
            resource: encoded,
            next_sequence: 1,
            sealed: None,
            window_start_nanos: None,
            backoff: Backoff::default(),
        }
    }

    /// Whether counts are sent at all.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Nothing more will be counted, and no answer comes to what is under way: it is sent again
    /// under its number, and what is there goes out without waiting for its time.
    pub(crate) fn close(&mut self) {
        self.settings.interval_nanos = 0;
        if let Some(sealed) = &mut self.sealed {
            sealed.sent_at_nanos = None;
        }
    }

    /// All that is not acknowledged as finished bodies: the delta under way, and the next one.
    pub(crate) fn into_bodies(mut self, ledger: &mut Ledger, now_nanos: u64) -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        bodies.extend(self.sealed.take().map(|sealed| sealed.body));
        if self.settings.enabled && !ledger.is_empty() {
            let window = Window {
                from_unix_nanos: self.window_start_nanos.unwrap_or(now_nanos),
                until_unix_nanos: now_nanos,
            };
            let counted = ledger.take();
            bodies.push(encode(&self.resource, self.next_sequence, window, &counted));
        }
        bodies
    }

    /// Whether a delta waits for its acknowledgement.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.sealed.is_some()
    }

    /// The number and the bytes of the delta to send now, if any.
    pub fn poll(
        &mut self,
        now_nanos: u64,
        ledger: &mut Ledger,
        counters: &mut Counters,
    ) -> Option<(u64, Vec<u8>)> {
        counters.add(Counter::LedgerOverflow, ledger.take_overflowed());
        if !self.settings.enabled {
            let _ = ledger.take();
            return None;
        }
        let start = *self.window_start_nanos.get_or_insert(now_nanos);
        let due = now_nanos.saturating_sub(start) >= self.settings.interval_nanos;
        if self.sealed.is_none() && due && !ledger.is_empty() {
            let window = Window {
                from_unix_nanos: start,
                until_unix_nanos: now_nanos,
            };
            let body = encode(&self.resource, self.next_sequence, window, &ledger.take());
            self.sealed = Some(Sealed {
                sequence: self.next_sequence,
                body,
                sent_at_nanos: None,
            });
            self.next_sequence += 1;
            self.window_start_nanos = Some(now_nanos);
        }
        let sealed = self.sealed.as_mut()?;
        let waiting = sealed.sent_at_nanos.is_some_and(|sent| {
            now_nanos.saturating_sub(sent) <= self.settings.timeout_nanos.saturating_mul(2)
        });
        if waiting || !self.backoff.is_over(now_nanos) {
            return None;
        }
        sealed.sent_at_nanos = Some(now_nanos);
        counters.bump(Counter::LedgerRequests);
        Some((sealed.sequence, sealed.body.clone()))
    }

    /// Takes the outcome of a delta; an unknown number is ignored.
    pub fn on_outcome(
        &mut self,
        sequence: u64,
        outcome: Outcome,
        now_nanos: u64,
        entropy: u64,
        counters: &mut Counters,
    ) {
        let Some(sealed) = self
            .sealed
            .as_mut()
            .filter(|sealed| sealed.sequence == sequence)
        else {
            return;
        };
        match outcome {
            Outcome::Accepted => {
                self.sealed = None;
                self.backoff.reset();
            }
            Outcome::Refused => {
                // Sent again it would be refused again; the loss is counted, not hidden.
                counters.bump(Counter::LedgerRefused);
                self.sealed = None;
                self.backoff.reset();
            }
            Outcome::Retry { after_nanos } => {
                sealed.sent_at_nanos = None;
                counters.bump(Counter::LedgerRetries);
                self.backoff.fail(after_nanos, now_nanos, entropy);
            }
            Outcome::NoCluster => {
                sealed.sent_at_nanos = None;
                counters.bump(Counter::LedgerRetries);
                self.backoff.fail(None, now_nanos, entropy);
            }
        }
    }
}
