//! The servers: OTLP/gRPC on one port; OTLP/HTTP, SQL, the page and the probes on the other.
//!
//! gRPC is served by the same HTTP/2 stack as everything else: an export call is one frame in,
//! one frame and a trailer out, and doing that by hand means that both transports share one set
//! of caps (body, decompression, bytes in flight).
//!
//! # Limits
//!
//! [`net::MAX_CONNECTIONS`] per port (further ones wait in the listen queue), header and body
//! timeouts, [`ingest::Caps`] for bodies. At shutdown, requests under way get
//! [`net::DRAIN`] to finish.

pub(crate) mod api;
pub(crate) mod body;
pub(crate) mod budget;
pub(crate) mod gate;
pub(crate) mod grpc;
pub(crate) mod http;
pub(crate) mod ingest;
pub(crate) mod net;
pub(crate) mod newest;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use datafusion::arrow::error::ArrowError;

use crate::alerts::Alerts;
use crate::control::Control;
use crate::engine::Engine;
use crate::forward::Queue;
use crate::memory::{Part, Status};
use crate::metrics::{GaugeLimits, Gauges, Metrics};
use crate::otlp::limits::Limits;
use crate::policy::Rules;
use crate::query::{QueryEngine, QueryError};
use crate::store::{Kinds, Snapshot, Store};

/// What all handlers share.
pub(crate) struct App {
    /// Log and store.
    pub(crate) engine: Engine,
    /// Prices and classes.
    pub(crate) rules: Arc<Rules>,
    /// Caps of the decoder.
    pub(crate) limits: Limits,
    /// Counters.
    pub(crate) metrics: Arc<Metrics>,
    /// Bytes in flight.
    pub(crate) budget: budget::Budget,
    /// Rates for filters and SDKs.
    pub(crate) control: Arc<Control>,
    /// Spans for another back end.
    pub(crate) forward: Arc<Queue>,
    /// Conditions on stored traces.
    pub(crate) alerts: Alerts,
    /// SQL.
    pub(crate) queries: QueryEngine,
    /// Set once shutdown has begun.
    pub(crate) draining: AtomicBool,
}

impl App {
    /// The current view of some kinds of rows.
    pub(crate) fn snapshot(&self, kinds: Kinds) -> Result<Snapshot, QueryError> {
        self.view(|store| store.snapshot_of(kinds))
    }

    /// The current view for who looks for one trace.
    pub(crate) fn snapshot_of_trace(&self, id: &[u8; 16]) -> Result<Snapshot, QueryError> {
        self.view(|store| store.snapshot_of_trace(id))
    }

    fn view(
        &self,
        of: impl FnOnce(&Store) -> Result<Snapshot, ArrowError>,
    ) -> Result<Snapshot, QueryError> {
        if self.engine.store().memory().is_over() {
            let message = "the collector is short of memory; ask again in a moment";
            return Err(QueryError::Limit(message.to_owned()));
        }
        of(self.engine.store()).map_err(|error| QueryError::Failed(error.to_string()))
    }

    fn memory(&self) -> Status {
        let store = self.engine.store();
        let assembly = store.with_assembly(|assembly| assembly.stats().bytes);
        let in_flight = (self.budget.used(), self.budget.limit());
        let part = |name, (bytes, limit)| Part { name, bytes, limit };
        store.memory().look();
        Status {
            resident: store.memory().resident(),
            limit: store.memory().limit(),
            parts: [
                part("rows", (store.hot_bytes(), store.max_hot_bytes())),
                part("known_spans", store.dedup_bytes()),
                part("traces", (assembly, store.assembly_bytes())),
                part("requests", in_flight),
                part("queries", self.queries.memory()),
                part("footers", self.queries.footers()),
            ],
        }
    }

    /// Values of the moment.
    pub(crate) fn gauges(&self) -> Gauges {
        let (hot_spans, waiting, partitions) = self.engine.store().sizes();
        Gauges {
            memory: self.memory(),
            hot_bytes: self.engine.store().hot_bytes(),
            hot_spans,
            waiting,
            partitions,
            in_flight_bytes: self.budget.used(),
            log_queue: self.engine.queue().0,
            storage_failing: self.engine.is_failing(),
            limits: GaugeLimits {
                hot_bytes: self.engine.store().max_hot_bytes(),
                in_flight_bytes: self.budget.limit(),
                log_queue: self.engine.queue().1,
            },
            poisoned: self.engine.is_poisoned(),
            forward: self.forward.status(),
            control: self.control.is_enabled().then(|| self.control.status()),
            assembly: self
                .engine
                .store()
                .with_assembly(|assembly| assembly.stats()),
        }
    }
}
