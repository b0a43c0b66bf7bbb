//! What the filter counts about itself, with fixed names.
//!
//! Counters are added up here without a host call and handed to the proxy's statistics once per
//! tick: a request costs no metric call, and a trap loses at most one tick of counts.
//! Per-reason counters come from the one reason enum of `mesh-config`.

use mesh_config::sampling::Reason;
use w3c_traceparent_parser::TraceParentErrorReason;
use w3c_traceparent_parser::tracestate::TraceStateErrorReason;

/// Prefix of every metric name; Envoy shows them as `wasmcustom.tracemeter_*`.
pub const PREFIX: &str = "tracemeter_";

macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A counter of the filter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Counter {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Counter {
            /// Every counter, in the order of definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Metric name without [`PREFIX`].
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What is counted, for the reference page.
            #[must_use]
            pub const fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

counters! {
    /// Requests whose headers the filter has seen.
    Requests = "requests_total",
    /// Requests that ended (every request exactly once, malformed ones included).
    Ended = "requests_ended_total",
    /// Requests that ended as an error by the policy's error classes.
    Errors = "requests_error_total",
    /// Requests that failed before their headers reached the filter (codec errors).
    Malformed = "requests_malformed_total",
    /// Traces started here: no context came in.
    TracesStarted = "traces_started_total",
    /// Traces restarted here because the incoming traceparent was invalid.
    TracesRestarted = "traces_restarted_total",
    /// Traces continued from a valid incoming context.
    TracesContinued = "traces_continued_total",
    /// Requests kept by the decision at the request's headers.
    Kept = "kept_total",
    /// Requests dropped by the decision at the request's headers.
    Dropped = "dropped_total",
    /// Spans kept at the end of the stream although the head said drop.
    Promoted = "promoted_total",
    /// Incoming traceparent values refused: wrong length, characters, version, ids or repeated.
    InvalidTraceparent = "invalid_traceparent_total",
    /// Incoming tracestate lists refused as a whole.
    InvalidTracestate = "invalid_tracestate_total",
    /// Incoming baggage members that were malformed and left out.
    InvalidBaggage = "invalid_baggage_total",
    /// Incoming `ot` tracestate values whose th or rv was malformed.
    InvalidOtState = "invalid_ot_total",
    /// Incoming `cost_usd` values that are not a plain decimal.
    InvalidCost = "invalid_cost_total",
    /// Incoming `data_tag` values outside the known classes (treated as the strictest).
    InvalidDataTag = "invalid_data_tag_total",
    /// Own members that came from outside the trust boundary and were dropped.
    UntrustedDropped = "untrusted_members_dropped_total",
    /// Requests to hosts outside the mesh that left without our members.
    EgressStripped = "egress_stripped_total",
    /// Foreign tracestate members left out to keep the standard's limits.
    TracestateTruncated = "tracestate_members_truncated_total",
    /// Foreign baggage members left out to keep the standard's limits.
    BaggageTruncated = "baggage_members_truncated_total",
    /// Requests whose traceparent another tracer overwrote after this filter.
    ContextOverwritten = "context_overwritten_total",
    /// Responses that told the caller's proxy to keep its span.
    ReturnMarks = "return_marks_total",
    /// Internal return headers from outside the mesh or from an application: removed, not believed.
    ReturnRefused = "return_refused_total",
    /// Internal return headers that could not be read.
    ReturnInvalid = "return_invalid_total",
    /// Requests in flight that were forgotten: more than the policy allows.
    ReturnForgotten = "return_forgotten_total",
    /// News of a call for which no request in flight was found, or which pushed out older news.
    ReturnUndelivered = "return_undelivered_total",
    /// Requests at a gateway whose trace's cost came back with the response.
    EdgeTraces = "edge_traces_total",
    /// Cost of those traces, in nano-USD.
    EdgeTraceCost = "edge_trace_cost_nanousd_total",
    /// Requests for which too little was left of their trace's budget.
    BudgetExceeded = "budget_exceeded_total",
    /// Those of them that were answered with 429 or RESOURCE_EXHAUSTED.
    BudgetDenied = "budget_denied_total",
    /// Calls to language models whose tokens were read and priced.
    LlmMetered = "llm_metered_total",
    /// Calls to language models whose tokens were read, but whose model has no price.
    LlmUnpriced = "llm_unpriced_total",
    /// Calls to language models without a usage object that could be read.
    LlmUnread = "llm_unread_total",
    /// Spans that entered an export batch.
    SpansBuffered = "spans_buffered_total",
    /// Spans that the collector acknowledged.
    SpansExported = "spans_exported_total",
    /// Spans dropped: the export queue was full, the oldest batch went first.
    SpansDroppedQueueFull = "spans_dropped_queue_full_total",
    /// Spans dropped: the collector refused the batch for good.
    SpansDroppedRejected = "spans_dropped_rejected_total",
    /// Spans not built because the policy names no collector.
    SpansDroppedNoExport = "spans_dropped_export_off_total",
    /// Export requests sent.
    ExportRequests = "export_requests_total",
    /// Export requests that failed and are tried again.
    ExportRetries = "export_retries_total",
    /// Export requests that the proxy would not send: the cluster is not known to it.
    ExportNoCluster = "export_no_cluster_total",
    /// Bodies that a VM before this one has left and this one has taken over.
    ParcelsTaken = "parcels_taken_over_total",
    /// Bytes of all export bodies as they were sent, ledger deltas and repetitions included.
    ExportBytes = "export_bytes_total",
    /// Bytes of the same bodies before compression.
    ExportPlainBytes = "export_uncompressed_bytes_total",
    /// Requests counted under the ledger's overflow key: more keys than the policy allows.
    LedgerOverflow = "ledger_overflow_total",
    /// Ledger deltas sent, repetitions included.
    LedgerRequests = "ledger_requests_total",
    /// Ledger deltas that failed and are sent again, unchanged.
    LedgerRetries = "ledger_retries_total",
    /// Ledger deltas that the collector refused for good: their counts are lost.
    LedgerRefused = "ledger_refused_total",
    /// Traces that began here and were decided by the collector's rates.
    RatesTable = "rates_decided_table_total",
    /// Traces that began here and were decided by this worker's own rates, for want of a table.
    RatesLocal = "rates_decided_local_total",
    /// Traces that began here and were decided by the static rates although adaptive ones are on.
    RatesStatic = "rates_decided_static_total",
    /// Requests for the collector's rates.
    RatesRequests = "rates_requests_total",
    /// Answers with a new table of rates.
    RatesFetched = "rates_fetched_total",
    /// Answers that the table at hand still holds.
    RatesUnchanged = "rates_unchanged_total",
    /// Answers that there is no table.
    RatesAbsent = "rates_absent_total",
    /// Tables that were refused because something in them is wrong; the last good one holds.
    RatesRefused = "rates_refused_total",
    /// Requests for rates that failed.
    RatesFailed = "rates_failed_total",
    /// Blocks of random bytes that the host refused; ids came from the fallback generator.
    EntropyFallback = "entropy_fallback_total",
    /// Configurations refused; the last good one or the defaults went on.
    ConfigErrors = "config_errors_total",
    /// Time that the filter itself took in the timed parts of requests, nanoseconds of the host's
    /// clock.
    SelfTimeNanos = "self_time_nanoseconds_total",
    /// Parts of requests that were timed: of 255 parts one. A request has two, its beginning and
    /// its end.
    SelfTimeParts = "self_time_parts_total",
    /// Ticks of the filter's clock; one that stands still means a dead filter.
    Heartbeat = "heartbeat_total",
}

/// Counts since the last drain. Saturating; one array, no allocation.
#[derive(Debug, Clone)]
pub struct Counters {
    own: [u64; Counter::ALL.len()],
    reasons: [u64; Reason::ALL.len()],
    traceparents: [u64; TraceParentErrorReason::ALL.len()],
    tracestates: [u64; TraceStateErrorReason::ALL.len()],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            own: [0; Counter::ALL.len()],
            reasons: [0; Reason::ALL.len()],
            traceparents: [0; TraceParentErrorReason::ALL.len()],
            tracestates: [0; TraceStateErrorReason::ALL.len()],
        }
    }
}

/// A metric that a [`Counters`] drain reports: one of the fixed ones, a decision's reason, or the
/// reason why an incoming header was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// A counter of the list above.
    Counter(Counter),
    /// Decisions by reason.
    Reason(Reason),
    /// Refused traceparent headers by reason.
    InvalidTraceparent(TraceParentErrorReason),
    /// Refused tracestate lists by reason.
    InvalidTracestate(TraceStateErrorReason),
}

impl Metric {
    /// Every metric of the filter, in a fixed order.
    pub fn all() -> impl Iterator<Item = Self> {
        let counters = Counter::ALL.iter().map(|counter| Self::Counter(*counter));
        let reasons = Reason::ALL.iter().map(|reason| Self::Reason(*reason));
        let traceparents = TraceParentErrorReason::ALL
            .into_iter()
            .map(Self::InvalidTraceparent);
        let tracestates = TraceStateErrorReason::ALL
            .into_iter()
            .map(Self::InvalidTracestate);
        counters
            .chain(reasons)
            .chain(traceparents)
            .chain(tracestates)
    }

    /// The full metric name.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Counter(counter) => format!("{PREFIX}{}", counter.name()),
            Self::Reason(reason) => format!("{PREFIX}reason_{}_total", reason.as_str()),
            Self::InvalidTraceparent(reason) => {
                format!("{PREFIX}invalid_traceparent_{}_total", reason.as_str())
            }
            Self::InvalidTracestate(reason) => {
                format!("{PREFIX}invalid_tracestate_{}_total", reason.as_str())
            }
        }
    }
}

impl Counters {
    /// Adds `count` to a counter.
    pub fn add(&mut self, counter: Counter, count: u64) {
        if let Some(slot) = self.own.get_mut(counter as usize) {
            *slot = slot.saturating_add(count);
        }
    }

    /// Adds one to a counter. A call, because there are many of them in what every request runs.
    #[inline(never)]
    pub fn bump(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts a decision by its reason.
    #[inline(never)]
    pub fn reason(&mut self, reason: Reason) {
        if let Some(slot) = self.reasons.get_mut(reason.index()) {
            *slot = slot.saturating_add(1);
        }
    }

    /// Counts a refused traceparent by its reason.
    pub fn invalid_traceparent(&mut self, reason: TraceParentErrorReason) {
        self.bump(Counter::InvalidTraceparent);
        let known = TraceParentErrorReason::ALL.iter();
        for (slot, _) in self
            .traceparents
            .iter_mut()
            .zip(known)
            .filter(|(_, known)| **known == reason)
        {
            *slot = slot.saturating_add(1);
        }
    }

    /// Counts a refused tracestate by its reason.
    pub fn invalid_tracestate(&mut self, reason: TraceStateErrorReason) {
        self.bump(Counter::InvalidTracestate);
        let known = TraceStateErrorReason::ALL.iter();
        for (slot, _) in self
            .tracestates
            .iter_mut()
            .zip(known)
            .filter(|(_, known)| **known == reason)
        {
            *slot = slot.saturating_add(1);
        }
    }

    fn values(&self) -> impl Iterator<Item = &u64> {
        let decisions = self.own.iter().chain(&self.reasons);
        decisions.chain(&self.traceparents).chain(&self.tracestates)
    }

    /// Takes over the counts of another one, which is left empty.
    pub fn absorb(&mut self, other: &mut Self) {
        let mine = self.own.iter_mut().chain(&mut self.reasons);
        let mine = mine
            .chain(&mut self.traceparents)
            .chain(&mut self.tracestates);
        for (mine, theirs) in mine.zip(other.values()) {
            *mine = mine.saturating_add(*theirs);
        }
        *other = Self::default();
    }

    /// Reports every metric that changed since the last call, in the order of [`Metric::all`]
    /// (the position is given too), and starts again from zero.
    pub fn drain(&mut self, mut report: impl FnMut(usize, Metric, u64)) {
        for (index, (metric, value)) in Metric::all().zip(self.values()).enumerate() {
            if *value > 0 {
                report(index, metric, *value);
            }
        }
        *self = Self::default();
    }
}
