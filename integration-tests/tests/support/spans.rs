//! Spans as the collector's SQL gives them, and the price of one by the specification's formula.

use std::time::Duration;

use integration_tests::collector::{Collector, Row, number};
use integration_tests::wait;
use serde_json::Value;

/// How long spans may take from the end of a request to SQL: linger, tick, commit, all on a busy
/// machine.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(60);

/// A span of one hop.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    pub(crate) id: String,
    pub(crate) parent: Option<String>,
    pub(crate) service: String,
    pub(crate) kind: String,
    pub(crate) operation_type: String,
    pub(crate) duration_nanos: u128,
    pub(crate) body_bytes: u128,
    pub(crate) cost_nanos: u128,
    pub(crate) data_tag: String,
}

/// The spans of a trace, as soon as there are `count` of them.
pub(crate) async fn of_trace(collector: &Collector, trace: &str, count: usize) -> Vec<Span> {
    let query = format!(
        "SELECT span_id, parent_id, service_name, kind, operation_type, duration_ms, cost_usd, \
         data_tag, attributes FROM spans WHERE trace_id = '{trace}' ORDER BY timestamp"
    );
    let what = format!("{count} spans of the trace {trace}");
    let rows = wait::until(&what, ARRIVAL, async || {
        let rows = collector.sql(&query).await?;
        Ok((rows.len() >= count).then_some(rows))
    })
    .await
    .unwrap();
    assert_eq!(rows.len(), count, "{rows:#?}");
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Span {
    let text = |name: &str| {
        row.get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let float = |name: &str| row.get(name).and_then(number).unwrap_or(0.0);
    let attributes = attributes(row);
    let size = |name: &str| attributes.get(name).and_then(number).unwrap_or(0.0) as u128;
    Span {
        id: text("span_id"),
        parent: Some(text("parent_id")).filter(|parent| !parent.is_empty()),
        service: text("service_name"),
        kind: text("kind"),
        operation_type: text("operation_type"),
        duration_nanos: (float("duration_ms") * 1e6).round() as u128,
        body_bytes: size("http.request.body.size") + size("http.response.body.size"),
        cost_nanos: (float("cost_usd") * 1e9).round() as u128,
        data_tag: text("data_tag"),
    }
}

/// The attributes: an object, or JSON written as text.
fn attributes(row: &Row) -> Value {
    match row.get("attributes") {
        Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
        Some(other) => other.clone(),
        None => Value::Null,
    }
}

/// base x (1 + ms / 100 x 0.1 + bytes / 2^20 x 0.01) in nano-USD, rounded half up; exact in
/// integers: ms / 100 x 0.1 is ns / 10^9.
pub(crate) fn price(operation_type: &str, duration_nanos: u128, bytes: u128) -> u128 {
    let base = match operation_type {
        "database_query" => 20_000,
        "ml_inference" => 100_000,
        "robot_actuation" => 1_000_000,
        "storage_read" => 1_000,
        "storage_write" => 5_000,
        _ => 10_000,
    };
    let size_unit = 100 << 20;
    let one = 1_000_000_000 * size_unit;
    let scaled = base * (one + duration_nanos * size_unit + bytes * 1_000_000_000);
    (2 * scaled + one) / (2 * one)
}
