//! The collector's own counters, as Prometheus text.
//!
//! Every refusal and every loss is counted once, at the place that refuses or loses, with its
//! reason. Label values are fixed at compile time, but for those of the ledger's totals, which are
//! bounded and escaped ([`totals`]).

mod memory;
mod openmetrics;
mod outlets;
pub(crate) mod spans;
pub(crate) mod totals;

pub(crate) use openmetrics::{convert, openmetrics};

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::control::Status;
use crate::forward;
use crate::otlp::limits::Refusal;

/// A number that only rises.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds to the counter.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// The value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Time spent and how often.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    nanos: Counter,
    count: Counter,
}

impl Timer {
    /// Counts one event that took `time`.
    pub(crate) fn add(&self, time: Duration) {
        self.nanos
            .add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.count.add(1);
    }
}

/// Lets one line a second into the log; the counters have the rest.
#[derive(Debug, Default)]
pub(crate) struct Throttle(AtomicU64);

impl Throttle {
    /// Whether a line may be written now.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        let second = now_ns / 1_000_000_000;
        self.0.swap(second, Ordering::Relaxed) != second
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident => $label:literal,)+) => {
        /// Why a whole request was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum RequestRefusal { $($(#[doc = $doc])+ $variant,)+ }

        impl RequestRefusal {
            /// Every reason, in the order of the counters.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable label.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $label,)+ }
            }
        }
    };
}

reasons! {
    /// The body is larger than allowed, before or after decompression.
    TooLarge => "too_large",
    /// Neither protobuf nor JSON.
    MediaType => "media_type",
    /// An unknown content encoding, or a body that does not decompress.
    Encoding => "encoding",
    /// Not an OTLP request.
    Malformed => "malformed",
    /// The client did not send its body in time, or gave up.
    Body => "body",
    /// Too many bytes in flight.
    InFlight => "in_flight",
    /// The queue to the log is full.
    Queue => "queue",
    /// Rows in memory wait for compaction.
    HotFull => "hot_full",
    /// The log could not be written.
    Storage => "storage",
    /// The collector is shutting down.
    Draining => "draining",
}

/// Declares the plain counters and timers once: field, metric name, help text.
macro_rules! metrics {
    (
        counters { $($counter:ident => $counter_name:literal, $counter_help:literal;)+ }
        timers { $($timer:ident => $timer_name:literal, $timer_help:literal;)+ }
    ) => {
        /// All counters.
        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(#[doc = $counter_help] pub(crate) $counter: Counter,)+
            $(#[doc = $timer_help] pub(crate) $timer: Timer,)+
            /// What the ledger has counted, by key.
            pub(crate) totals: totals::Totals,
            /// Cost and duration of received spans.
            pub(crate) received: spans::Received,
            /// Keeps clients from flooding the log.
            pub(crate) told: Throttle,
            spans_refused: [Counter; Refusal::ALL.len()],
            requests_refused: [Counter; RequestRefusal::ALL.len()],
        }

        impl Metrics {
            fn plain(&self, page: &mut Page) {
                $(
                    page.family($counter_name, "counter", $counter_help);
                    page.sample($counter_name, "", self.$counter.get());
                )+
                $(page.summary($timer_name, $timer_help, &self.$timer);)+
            }
        }
    };
}

metrics! {
    counters {
        grpc_requests => "grpc_requests_total", "Export requests over gRPC.";
        http_requests => "http_requests_total", "Export requests over HTTP.";
        body_bytes => "body_bytes_total", "Bytes of request bodies as received.";
        spans => "spans_stored_total", "Spans stored.";
        duplicates => "spans_duplicate_total", "Spans received again.";
        redacted => "values_redacted_total", "Classified values treated before they were stored.";
        ledger_deltas => "ledger_deltas_total", "Ledger deltas counted.";
        ledger_duplicates => "ledger_duplicate_total", "Ledger deltas received again.";
        points_refused => "points_refused_total", "Metric points that are not stored.";
        recovered => "spans_recovered_total", "Spans read back from the log at start.";
        log_records => "log_records_total", "Records written to the log.";
        log_bytes => "log_bytes_total", "Payload bytes written to the log.";
        log_damaged => "log_damaged_total", "Damaged places found in the log at start.";
        log_torn_bytes => "log_torn_bytes_total", "Bytes cut off torn tails at start.";
        compaction_failures => "compaction_failures_total", "Failed compactions, tried again.";
        partition_bytes => "partition_bytes_total", "Bytes of partitions written.";
        partition_raw_bytes => "partition_raw_bytes_total", "Of them, bytes of attributes as they were sent.";
        tier_moves => "tier_moves_total", "Partitions whose spans were moved to a tier's back end.";
        tier_deletes => "tier_deletes_total", "Objects deleted from tiers' back ends.";
        tier_failures => "tier_failures_total", "Failed transfers from and to tiers, tried again.";
        query_failures => "query_failures_total", "Queries refused or failed.";
    }
    timers {
        log_groups => "log_group_seconds", "Write and sync of a group of requests.";
        compactions => "compaction_seconds", "Compaction of a generation.";
        merges => "merge_seconds", "Merges of partitions.";
        sweeps => "retention_seconds", "Retention that removed rows.";
        queries => "query_seconds", "SQL queries.";
    }
}

/// What is measured at the moment of asking.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gauges {
    /// Memory of the process and of its parts.
    pub(crate) memory: crate::memory::Status,
    /// Estimated bytes of rows in memory.
    pub(crate) hot_bytes: usize,
    /// Spans in memory.
    pub(crate) hot_spans: u64,
    /// Generations waiting for compaction.
    pub(crate) waiting: usize,
    /// Partitions.
    pub(crate) partitions: usize,
    /// Bytes of requests being worked on.
    pub(crate) in_flight_bytes: usize,
    /// Requests that wait for the log.
    pub(crate) log_queue: usize,
    /// True while the log cannot be written.
    pub(crate) storage_failing: bool,
    /// What the collector may use at most.
    pub(crate) limits: GaugeLimits,
    /// True when the log takes no more records.
    pub(crate) poisoned: bool,
    /// Forwarding; `None` when it is off.
    pub(crate) forward: Option<forward::Status>,
    /// Adaptive rates; `None` when they are off.
    pub(crate) control: Option<Status>,
    /// Traces under way.
    pub(crate) assembly: crate::assembly::Stats,
}

/// What the collector may use at most.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GaugeLimits {
    /// See [`Gauges::hot_bytes`].
    pub(crate) hot_bytes: usize,
    /// See [`Gauges::in_flight_bytes`].
    pub(crate) in_flight_bytes: usize,
    /// See [`Gauges::log_queue`].
    pub(crate) log_queue: usize,
}

impl Metrics {
    /// Counts refused spans.
    pub(crate) fn refuse_spans(&self, reason: Refusal, count: u64) {
        if let Some(counter) = self.spans_refused.get(reason as usize) {
            counter.add(count);
        }
    }

    /// Counts a refused request.
    pub(crate) fn refuse_request(&self, reason: RequestRefusal) {
        if let Some(counter) = self.requests_refused.get(reason as usize) {
            counter.add(1);
        }
    }

    /// Spans refused for a reason.
    pub(crate) fn spans_refused_as(&self, reason: Refusal) -> u64 {
        self.spans_refused
            .get(reason as usize)
            .map_or(0, Counter::get)
    }

    /// Requests refused for a reason.
    pub(crate) fn requests_refused_as(&self, reason: RequestRefusal) -> u64 {
        self.requests_refused
            .get(reason as usize)
            .map_or(0, Counter::get)
    }

    /// Everything in Prometheus' text format, `with_exemplars` only for OpenMetrics.
    pub(crate) fn render(&self, gauges: &Gauges, with_exemplars: bool) -> String {
        let mut page = Page(String::with_capacity(8 * 1024));
        page.family(
            "requests_refused_total",
            "counter",
            "Refused requests by reason.",
        );
        for (reason, counter) in RequestRefusal::ALL.iter().zip(&self.requests_refused) {
            let label = format!("reason=\"{}\"", reason.as_str());
            page.sample("requests_refused_total", &label, counter.get());
        }
        page.family("spans_refused_total", "counter", "Refused spans by reason.");
        for (reason, counter) in Refusal::ALL.iter().zip(&self.spans_refused) {
            let label = format!("reason=\"{}\"", reason.as_str());
            page.sample("spans_refused_total", &label, counter.get());
        }
        self.plain(&mut page);
        page.gauges(gauges);
        self.totals.render(&mut page.0);
        self.received.render(&mut page.0, with_exemplars);
        if let Some(status) = &gauges.forward {
            page.forward(status);
        }
        if let Some(status) = &gauges.control {
            page.control(status);
        }
        page.0
    }
}

struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP tracemeter_collector_{name} {help}\n# TYPE tracemeter_collector_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = if labels.is_empty() {
            writeln!(self.0, "tracemeter_collector_{name} {value}")
        } else {
            writeln!(self.0, "tracemeter_collector_{name}{{{labels}}} {value}")
        };
    }

    fn summary(&mut self, name: &str, help: &str, timer: &Timer) {
        self.family(name, "summary", help);
        let seconds = timer.nanos.get() as f64 / 1e9;
        let _ = writeln!(self.0, "tracemeter_collector_{name}_sum {seconds}");
        let _ = writeln!(
            self.0,
            "tracemeter_collector_{name}_count {}",
            timer.count.get()
        );
    }

    fn number(&mut self, name: &str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        let _ = writeln!(self.0, "tracemeter_collector_{name} {value}");
    }

    fn assembly(&mut self, stats: &crate::assembly::Stats) {
        for (name, kind, help, value) in [
            (
                "assembly_traces",
                "gauge",
                "Traces under way in memory.",
                stats.traces as u64,
            ),
            (
                "assembly_bytes",
                "gauge",
                "Estimated bytes of traces under way.",
                stats.bytes as u64,
            ),
            (
                "assembly_evicted_total",
                "counter",
                "Traces under way dropped for lack of memory, the one that was quiet longest first.",
                stats.evicted,
            ),
            (
                "assembly_unplaced_total",
                "counter",
                "Spans left out of depth and orphans: their trace has too many spans.",
                stats.unplaced,
            ),
            (
                "assembly_circles_total",
                "counter",
                "Spans whose parent is their own descendant.",
                stats.circles,
            ),
            (
                "assembly_unjudged_total",
                "counter",
                "Waiting spans never judged as orphans: dropped for lack of memory.",
                stats.unjudged,
            ),
        ] {
            self.family(name, kind, help);
            self.sample(name, "", value);
        }
    }

    fn gauges(&mut self, gauges: &Gauges) {
        for (name, help, value) in [
            (
                "hot_bytes",
                "Estimated bytes of spans in memory.",
                gauges.hot_bytes as u64,
            ),
            ("hot_spans", "Spans in memory.", gauges.hot_spans),
            (
                "compaction_waiting",
                "Generations waiting for compaction.",
                gauges.waiting as u64,
            ),
            ("partitions", "Partitions.", gauges.partitions as u64),
            (
                "in_flight_bytes",
                "Bytes of requests in work.",
                gauges.in_flight_bytes as u64,
            ),
            (
                "log_queue_requests",
                "Requests that wait for the log.",
                gauges.log_queue as u64,
            ),
            (
                "limit_hot_bytes",
                "Most bytes of spans in memory.",
                gauges.limits.hot_bytes as u64,
            ),
            (
                "limit_in_flight_bytes",
                "Most bytes of requests in work.",
                gauges.limits.in_flight_bytes as u64,
            ),
            (
                "limit_log_queue_requests",
                "Most requests that wait for the log.",
                gauges.limits.log_queue as u64,
            ),
            (
                "log_failing",
                "1 while the log cannot be written.",
                u64::from(gauges.storage_failing),
            ),
            (
                "log_poisoned",
                "1 after a failed sync.",
                u64::from(gauges.poisoned),
            ),
        ] {
            self.family(name, "gauge", help);
            self.sample(name, "", value);
        }
        self.assembly(&gauges.assembly);
        self.memory(&gauges.memory);
    }
}
