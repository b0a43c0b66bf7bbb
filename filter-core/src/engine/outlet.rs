//! What one policy sends to the collector: its spans and its counts.
//!
//! A change of the policy makes a new outlet; the one before it is closed and drained, because its
//! batches and deltas name its own instance and numbers.

use crate::counters::Counters;
use crate::export::{Dispatch, Exporter, Outcome, Signal};
use crate::identity::Identity;
use crate::ledger::{Amounts, Flush, Key, Ledger};
use crate::otlp::request::Envelope;
use crate::parcels::Parcel;
use crate::settings::Settings;

/// The upper bits of a dispatch id name the outlet, one bit the signal, the rest the request.
const OUTLET_SHIFT: u32 = 48;
const METRICS_BIT: u64 = 1 << 47;

/// See the module documentation.
#[derive(Debug)]
pub(super) struct Outlet {
    number: u64,
    pub(super) exporter: Exporter,
    ledger: Ledger,
    flush: Flush,
}

impl Outlet {
    /// An empty outlet for a policy.
    pub(super) fn new(settings: &Settings, identity: &Identity) -> Self {
        let resource: Vec<(&str, &str)> = identity.attributes().collect();
        let ledger = settings.ledger();
        Self {
            number: 0,
            exporter: Exporter::new(settings.export(), Envelope::new(&resource)),
            ledger: Ledger::new(ledger.max_keys),
            flush: Flush::new(ledger, &resource),
        }
    }

    /// Counts a request that has ended, if the ledger knows its packed key; else
    /// [`Outlet::count`] has to.
    pub(super) fn count_packed(&mut self, packed: u64, amounts: &Amounts) -> bool {
        !self.flush.is_enabled() || self.ledger.add_packed(packed, amounts)
    }

    /// Counts a request that has ended.
    pub(super) fn count(&mut self, key: &Key<'_>, packed: u64, amounts: &Amounts) {
        if self.flush.is_enabled() {
            self.ledger.add(key, packed, amounts);
        }
    }

    /// Counts traces that the adaptive rates decided.
    pub(super) fn count_decided(&mut self, route: &[u8], traces: u64) {
        if self.flush.is_enabled() {
            self.ledger.add_decided(route, traces);
        }
    }

    /// Another outlet takes its place: what is there goes out at once, what is under way again,
    /// both as that of number `number`.
    pub(super) fn close(&mut self, number: u64) {
        self.number = number;
        self.exporter.close();
        self.flush.close();
    }

    /// All of it as finished bodies.
    pub(super) fn into_parcels(mut self, now_unix_nanos: u64) -> Vec<Parcel> {
        let spans = self.exporter.into_bodies().map(|(spans, body)| Parcel {
            signal: Signal::Traces,
            spans,
            body,
        });
        let counts = self.flush.into_bodies(&mut self.ledger, now_unix_nanos);
        let counts = counts.into_iter().map(|body| Parcel {
            signal: Signal::Metrics,
            spans: 0,
            body,
        });
        spans.chain(counts).collect()
    }

    /// Whether nothing waits for the collector.
    pub(super) fn is_drained(&self) -> bool {
        let counted = self.flush.is_enabled() && !self.ledger.is_empty();
        self.exporter.buffered_bytes() == 0 && !self.flush.is_pending() && !counted
    }

    /// The next request to send, if any.
    pub(super) fn poll(
        &mut self,
        now_unix_nanos: u64,
        counters: &mut Counters,
    ) -> Option<Dispatch> {
        let mark = self.number << OUTLET_SHIFT;
        if let Some(dispatch) = self.exporter.poll(now_unix_nanos, counters) {
            let id = mark | dispatch.id;
            return Some(Dispatch { id, ..dispatch });
        }
        let (sequence, body) = self
            .flush
            .poll(now_unix_nanos, &mut self.ledger, counters)?;
        Some(Dispatch {
            signal: Signal::Metrics,
            id: mark | METRICS_BIT | sequence,
            body,
        })
    }

    /// Takes an outcome if it is one of this outlet's requests.
    pub(super) fn on_outcome(
        &mut self,
        id: u64,
        outcome: Outcome,
        now_unix_nanos: u64,
        entropy: u64,
        counters: &mut Counters,
    ) {
        if id >> OUTLET_SHIFT != self.number {
            return;
        }
        let request = id & (METRICS_BIT - 1);
        if id & METRICS_BIT == 0 {
            self.exporter
                .on_outcome(request, outcome, now_unix_nanos, entropy, counters);
        } else {
            self.flush
                .on_outcome(request, outcome, now_unix_nanos, entropy, counters);
        }
    }
}
