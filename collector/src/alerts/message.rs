//! Notices as Alertmanager takes them: elements of `POST /api/v2/alerts`.
//!
//! Labels tell alerts apart and never change while one is firing: name, severity, and the trace
//! for alerts about single traces. Everything else is an annotation.

use mesh_config::policy::Alert;
use serde_json::{Value, json};

use super::board::{Memory, NS_PER_S, Notice, is_money};
use crate::store::compact::day_name;

/// Seconds of a day.
const DAY_S: u64 = 86_400;

/// A time as RFC 3339 wants it, to the millisecond.
pub(super) fn rfc3339(ns: u64) -> String {
    let seconds = ns / NS_PER_S;
    let day = i64::try_from(seconds / DAY_S).unwrap_or(0);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    let milliseconds = ns % NS_PER_S / 1_000_000;
    format!(
        "{}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z",
        day_name(day)
    )
}

/// One sentence for people.
pub(super) fn summary(alert: &Alert, notice: &Notice) -> String {
    let window = alert.window.as_secs();
    match notice.trace {
        Some(trace) if is_money(&alert.query) => {
            format!(
                "trace {trace:032x} costs {} USD ({})",
                notice.value, alert.query
            )
        }
        Some(trace) => format!("trace {trace:032x} has {} ({})", notice.value, alert.query),
        None => format!(
            "{} within {window} s, threshold {} ({})",
            notice.value, alert.threshold, alert.query
        ),
    }
}

/// One element of the body.
pub(super) fn element(alert: &Alert, memory: &Memory, notice: &Notice) -> Value {
    let mut labels = json!({
        "alertname": alert.name,
        "severity": alert.severity.as_str(),
        "source": "tracemeter",
    });
    let mut traces: Vec<String> = memory
        .examples
        .iter()
        .rev()
        .map(|example| format!("{:032x}", example.trace))
        .collect();
    if let Some(trace) = notice.trace {
        traces = vec![format!("{trace:032x}")];
        if let Some(labels) = labels.as_object_mut() {
            labels.insert("trace_id".to_owned(), json!(traces.first()));
        }
    }
    json!({
        "labels": labels,
        "annotations": {
            "summary": summary(alert, notice),
            "query": alert.query.to_string(),
            "value": notice.value.to_string(),
            "threshold": alert.threshold.to_string(),
            "window_seconds": alert.window.as_secs().to_string(),
            "trace_ids": traces.join(" "),
        },
        "startsAt": rfc3339(notice.starts_ns),
        "endsAt": rfc3339(notice.ends_ns),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(1_795_143_909_987_654_321),
            "2026-11-20T03:05:09.987Z"
        );
    }
}
