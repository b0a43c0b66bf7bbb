//! The collector's own counters, as Prometheus text.
//!
//! Every refusal and every loss is counted once, at the place that refuses or loses, with its
//! reason. Label values are fixed at compile time, but for those of the ledger's totals, which are
//! bounded and escaped ([`totals`]).

pub(crate) mod totals;

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mesh_config::adaptive::Held;

use crate::control::{Role, Status};
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
    /// True when the log takes no more records.
    pub(crate) poisoned: bool,
    /// Forwarding; `None` when it is off.
    pub(crate) forward: Option<forward::Status>,
    /// Adaptive rates; `None` when they are off.
    pub(crate) control: Option<Status>,
    /// Traces under way.
    pub(crate) assembly: crate::assembly::Stats,
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

    /// Everything in Prometheus' text format.
    pub(crate) fn render(&self, gauges: &Gauges) -> String {
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

    fn forward(&mut self, status: &forward::Status) {
        for (name, help, value) in [
            (
                "forward_spans_total",
                "Spans delivered to the back end.",
                status.delivered,
            ),
            (
                "forward_batches_total",
                "Batches delivered.",
                status.batches,
            ),
            (
                "forward_retries_total",
                "Tries after a batch's first.",
                status.retries,
            ),
        ] {
            self.family(name, "counter", help);
            self.sample(name, "", value);
        }
        self.family(
            "forward_dropped_total",
            "counter",
            "Spans not delivered, by reason.",
        );
        for (reason, count) in forward::Dropped::ALL.iter().zip(status.dropped) {
            let label = format!("reason=\"{}\"", reason.as_str());
            self.sample("forward_dropped_total", &label, count);
        }
        for (name, help, value) in [
            (
                "forward_queue_bytes",
                "Bytes that wait for the back end, as they are in the log.",
                status.queue_bytes as f64,
            ),
            (
                "forward_queue_spans",
                "Spans that wait for the back end.",
                status.queue_spans as f64,
            ),
            (
                "forward_lag_seconds",
                "How long the oldest of them has waited.",
                status.lag.as_secs_f64(),
            ),
        ] {
            self.number(name, "gauge", help, value);
        }
    }

    fn control(&mut self, status: &Status) {
        for (name, help, value) in rates_gauges(status) {
            self.number(name, "gauge", help, value);
        }
        for (name, help, value) in rates_counters(status) {
            self.family(name, "counter", help);
            self.sample(name, "", value);
        }
        self.family("rates_role", "gauge", "1 for the part among collectors.");
        for role in Role::ALL {
            let label = format!("role=\"{}\"", role.as_str());
            self.sample("rates_role", &label, u64::from(role == status.role));
        }
        self.family(
            "rates_held_total",
            "counter",
            "Windows that changed nothing, by reason.",
        );
        for (reason, count) in Held::ALL.iter().zip(status.held) {
            let label = format!("reason=\"{}\"", reason.as_str());
            self.sample("rates_held_total", &label, count);
        }
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
                "log_poisoned",
                "1 after a failed sync.",
                u64::from(gauges.poisoned),
            ),
        ] {
            self.family(name, "gauge", help);
            self.sample(name, "", value);
        }
        self.assembly(&gauges.assembly);
    }
}

fn rates_gauges(status: &Status) -> [(&'static str, &'static str, f64); 11] {
    let summary = &status.summary;
    let (reported, expected) = status.proxies;
    [
        (
            "rates_version",
            "Version of the table of rates.",
            status.version as f64,
        ),
        (
            "rates_keys",
            "Services and routes with an estimate.",
            status.keys as f64,
        ),
        (
            "rates_target_traces_per_second",
            "Traces to keep per second, by the policy.",
            status.target_per_second,
        ),
        (
            "rates_expected_traces_per_second",
            "Traces that the table is expected to keep per second.",
            summary.expected_per_second,
        ),
        (
            "rates_observed_traces_per_second",
            "Traces decided per second in the last window.",
            summary.observed_per_second,
        ),
        (
            "rates_exempt_traces_per_second",
            "Those of exempt services.",
            summary.exempt_per_second,
        ),
        (
            "rates_level_traces_per_second",
            "What a busy route keeps per second.",
            summary.level_per_second,
        ),
        (
            "rates_overshoot",
            "1 when floors keep more than the target.",
            f64::from(u8::from(summary.overshoot)),
        ),
        (
            "rates_held_windows",
            "Windows in a row that changed nothing.",
            f64::from(summary.held_in_a_row),
        ),
        (
            "rates_proxies_reported",
            "Proxies that reported in the last window.",
            f64::from(reported),
        ),
        (
            "rates_proxies_expected",
            "Proxies that should have reported.",
            f64::from(expected),
        ),
    ]
}

fn rates_counters(status: &Status) -> [(&'static str, &'static str, u64); 7] {
    [
        (
            "rates_windows_total",
            "Windows that made a table.",
            status.updates,
        ),
        (
            "rates_state_damaged_total",
            "States of control that could not be read at start.",
            status.damaged,
        ),
        (
            "rates_state_unsaved_total",
            "States of control that could not be written.",
            status.unsaved,
        ),
        (
            "rates_late_traces_total",
            "Decisions that came too late for their window.",
            status.late,
        ),
        (
            "rates_leader_failures_total",
            "Times that the leader could not be reached.",
            status.leader_failures,
        ),
        (
            "rates_reports_refused_total",
            "Reports of other collectors that were refused.",
            status.reports_refused,
        ),
        (
            "rates_windows_unreported_total",
            "Windows that the leader did not get.",
            status.unreported,
        ),
    ]
}
