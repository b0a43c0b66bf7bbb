//! What alerts look like from outside: JSON and metrics.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::Alerts;
use super::board::{Board, State};
use super::outbox::Outbox;

/// Name, help text and value by alert.
type OfAlert<'a> = (&'a str, &'a str, &'a str, &'a dyn Fn(usize) -> u64);

impl Alerts {
    /// The state of all alerts as JSON.
    pub(crate) fn json(&self) -> Value {
        let inner = self.lock();
        let board = &inner.board;
        let alerts = board.alerts.iter().zip(&board.memory).zip(&board.values);
        let alerts: Vec<Value> = alerts
            .map(|((alert, memory), value)| {
                let hex = |trace: u128| format!("{trace:032x}");
                let examples = memory.examples.iter().rev();
                json!({
                    "name": alert.name,
                    "query": alert.query.to_string(),
                    "severity": alert.severity.as_str(),
                    "state": memory.state,
                    "since_unix_nanos": memory.since_ns,
                    "value": value,
                    "threshold": alert.threshold,
                    "window_seconds": alert.window.as_secs(),
                    "examples": examples.map(|example| hex(example.trace)).collect::<Vec<_>>(),
                    "traces": memory.open.iter().rev().map(|open| json!({
                        "trace_id": hex(open.trace),
                        "since_unix_nanos": open.starts_ns,
                        "value": open.value,
                    })).collect::<Vec<_>>(),
                })
            })
            .collect();
        json!({ "alerts": alerts })
    }

    /// Metrics in Prometheus' text form. The names are the policy's.
    pub(crate) fn metrics(&self) -> String {
        let inner = self.lock();
        let mut page = String::new();
        of_alerts(&inner.board, &mut page);
        of_outbox(&inner.outbox, inner.board.unnamed, &mut page);
        page
    }
}

fn family(name: &str, kind: &str, help: &str, page: &mut String) {
    // Writing to a string cannot fail.
    let _ = writeln!(
        page,
        "# HELP tracemeter_collector_{name} {help}\n# TYPE tracemeter_collector_{name} {kind}"
    );
}

fn of_alerts(board: &Board, page: &mut String) {
    let at = |list: &[u64], at: usize| list.get(at).copied().unwrap_or(0);
    let firing = |number: usize| {
        board.memory.get(number).map_or(0, |memory| {
            let is_firing = u64::from(memory.state == State::Firing);
            is_firing.max(memory.open.len() as u64)
        })
    };
    let families: [OfAlert<'_>; 3] = [
        (
            "alerts_firing",
            "gauge",
            "Alerts that are firing, one per trace for alerts about traces.",
            &firing,
        ),
        (
            "alerts_fired_total",
            "counter",
            "Alerts that began to fire.",
            &|number| at(&board.fired_total, number),
        ),
        (
            "alert_value",
            "gauge",
            "Count within the alert's window.",
            &|number| at(&board.values, number),
        ),
    ];
    for (name, kind, help, of) in families {
        family(name, kind, help, page);
        for (number, alert) in board.alerts.iter().enumerate() {
            let (label, value) = (escaped(&alert.name), of(number));
            let severity = alert.severity.as_str();
            let _ = writeln!(
                page,
                "tracemeter_collector_{name}{{alert=\"{label}\",severity=\"{severity}\"}} {value}"
            );
        }
    }
}

fn of_outbox(outbox: &Outbox, unnamed: u64, page: &mut String) {
    for (name, kind, help, value) in [
        (
            "alert_notices_sent_total",
            "counter",
            "Notices that a receiver has taken.",
            outbox.sent,
        ),
        (
            "alert_notices_refused_total",
            "counter",
            "Notices that a receiver refused for good.",
            outbox.refused,
        ),
        (
            "alert_notices_dropped_total",
            "counter",
            "Notices dropped, the oldest first: too many waited.",
            outbox.dropped,
        ),
        (
            "alert_send_failures_total",
            "counter",
            "Requests to receivers that failed and are tried again.",
            outbox.failures,
        ),
        (
            "alert_notices_waiting",
            "gauge",
            "Notices that wait for their receiver.",
            outbox.waiting().len() as u64,
        ),
        (
            "alert_traces_unnamed_total",
            "counter",
            "Traces counted by an alert without a notice of their own: too many at a time.",
            unnamed,
        ),
    ] {
        family(name, kind, help, page);
        let _ = writeln!(page, "tracemeter_collector_{name} {value}");
    }
}

/// A label's value in Prometheus' text form.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
