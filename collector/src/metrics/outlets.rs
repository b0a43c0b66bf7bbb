//! What forwarding and control show.

use mesh_config::adaptive::Held;

use super::Page;
use crate::control::{Role, Status};
use crate::forward;

impl Page {
    /// Forwarding.
    pub(super) fn forward(&mut self, status: &forward::Status) {
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

    /// Adaptive rates.
    pub(super) fn control(&mut self, status: &Status) {
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
