//! One trace as a waterfall: spans below their parents, bars by time, cost per span.

use std::collections::{HashMap, HashSet};

use super::html::{Column, Html};
use super::rows::{self, Row, Rows};

/// Deepest indentation shown; deeper spans stay at this column.
const MAX_INDENT: usize = 12;

/// A span's place in the picture.
struct Placed<'a> {
    row: Row<'a>,
    depth: usize,
}

/// Renders the spans of a trace, which must be in order of time.
pub(super) fn render(id: &str, rows: &Rows) -> Html {
    let spans = placed(rows);
    let times: Vec<(f64, f64)> = spans.iter().map(|span| extent(span.row)).collect();
    let first = times
        .iter()
        .map(|time| time.0)
        .fold(f64::INFINITY, f64::min);
    let last = times
        .iter()
        .map(|time| time.0 + time.1)
        .fold(f64::NEG_INFINITY, f64::max);
    let total_ms = (last - first).max(0.001);
    let mut body = Html::default();
    head(&mut body, id, rows, total_ms);
    body.section("spans", "Spans", "");
    let columns = [
        Column::Text("Service and operation"),
        Column::Number("Cost (USD)"),
        Column::Number("ms"),
        Column::Text("Time"),
        Column::Text("Cost from"),
        Column::Text("Class"),
    ];
    body.table_head("Spans", &columns);
    for (span, (start, duration)) in spans.iter().zip(&times) {
        line(
            &mut body,
            span,
            (start - first) / total_ms * 100.0,
            duration / total_ms * 100.0,
        );
    }
    body.table_end();
    body.section_end();
    details(&mut body, &spans);
    body
}

/// Start (ms since the epoch) and duration (ms).
fn extent(row: Row<'_>) -> (f64, f64) {
    let duration = row.get("duration_ms").parse().unwrap_or(0.0);
    (epoch_ms(row.get("timestamp")), duration)
}

/// Milliseconds of the day and day number from RFC 3339 text; good enough for a picture.
fn epoch_ms(timestamp: &str) -> f64 {
    let number = |range: std::ops::Range<usize>| -> f64 {
        timestamp
            .get(range)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0)
    };
    let seconds: f64 = timestamp
        .get(17..)
        .and_then(|text| text.trim_end_matches('Z').parse().ok())
        .unwrap_or(0.0);
    let day = number(0..4) * 372.0 + number(5..7) * 31.0 + number(8..10);
    ((day * 24.0 + number(11..13)) * 60.0 + number(14..16)) * 60_000.0 + seconds * 1_000.0
}

/// Depth first below each parent; spans without a known parent are roots. Cycles are cut: a
/// span is placed once.
fn placed(rows: &Rows) -> Vec<Placed<'_>> {
    let all: Vec<Row<'_>> = rows.iter().collect();
    let known: HashSet<&str> = all.iter().map(|row| row.get("span_id")).collect();
    let mut children: HashMap<&str, Vec<Row<'_>>> = HashMap::new();
    let mut stack = Vec::new();
    for row in &all {
        let parent = row.get("parent_id");
        if !parent.is_empty() && parent != row.get("span_id") && known.contains(parent) {
            children.entry(parent).or_default().push(*row);
        } else {
            stack.push(Placed {
                row: *row,
                depth: 0,
            });
        }
    }
    stack.reverse();
    let mut seen = HashSet::new();
    let mut order = Vec::with_capacity(all.len());
    // Spans of a pure cycle are reached from no root; the second list catches them.
    let mut rest = all.into_iter();
    loop {
        while let Some(span) = stack.pop() {
            let id = span.row.get("span_id");
            if !seen.insert(id) {
                continue;
            }
            let depth = span.depth + 1;
            let below = children.get(id).into_iter().flatten().rev();
            stack.extend(below.map(|row| Placed { row: *row, depth }));
            order.push(span);
        }
        match rest.find(|row| !seen.contains(row.get("span_id"))) {
            Some(row) => stack.push(Placed { row, depth: 0 }),
            None => return order,
        }
    }
}

fn head(body: &mut Html, id: &str, rows: &Rows, total_ms: f64) {
    let nanos: u128 = rows.iter().map(|row| nanos(row.get("cost_usd"))).sum();
    let cost = format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000);
    body.raw("<p class=\"hint\"><code class=\"id\">");
    body.text(id);
    body.raw("</code></p><dl class=\"totals\"><div><dt>Cost</dt><dd>");
    body.text(&rows::money(&cost));
    body.raw("<span class=\"unit\"> USD</span></dd></div><div><dt>Begins at</dt><dd>");
    let is_root = |row: &Row<'_>| row.get("parent_id").is_empty();
    // In order of time: without a root, the earliest span stands in.
    if let Some(row) = rows.iter().find(is_root).or_else(|| rows.iter().next()) {
        body.text(row.get("service_name"));
        body.raw("</dd><dd class=\"estimate\">");
        body.text(row.get("operation"));
        if !is_root(&row) {
            body.raw(" (the root has not come)");
        }
    }
    body.raw("</dd></div><div><dt>Spans</dt><dd>");
    body.text(&rows::count(&rows.iter().count().to_string()));
    body.raw("</dd></div><div><dt>Duration</dt><dd>");
    body.text(&rows::milliseconds(&total_ms.to_string()));
    body.raw("<span class=\"unit\"> ms</span></dd></div></dl>");
}

fn nanos(decimal: &str) -> u128 {
    decimal.replace('.', "").parse().unwrap_or(0)
}

fn line(body: &mut Html, span: &Placed<'_>, left: f64, width: f64) {
    let row = span.row;
    body.raw("<tr><th scope=\"row\"><span class=\"depth\">");
    for _ in 0..span.depth.min(MAX_INDENT) {
        body.raw("│ ");
    }
    body.raw("</span>");
    body.text(row.get("service_name"));
    body.raw("<span class=\"operation\">");
    body.text(row.get("operation"));
    body.raw(" · ");
    body.text(row.get("kind"));
    body.raw("</span></th>");
    body.number(&rows::money(row.get("cost_usd")));
    body.number(&rows::milliseconds(row.get("duration_ms")));
    body.raw("<td class=\"bar\"><svg width=\"100%\" height=\"12\" aria-hidden=\"true\">");
    if row.get("error") == "true" {
        body.raw("<rect class=\"failed\" rx=\"1\" height=\"12\" x=\"");
    } else {
        body.raw("<rect rx=\"1\" height=\"12\" x=\"");
    }
    // A sliver at the right end stays visible.
    body.text(&format!("{:.3}%", left.clamp(0.0, 99.4)));
    body.raw("\" width=\"");
    body.text(&format!("{:.3}%", width.clamp(0.6, 100.0)));
    body.raw("\"/></svg></td>");
    body.cell(row.get("cost_source"));
    body.class(row.get("data_tag"));
    body.raw("</tr>");
}

fn details(body: &mut Html, spans: &[Placed<'_>]) {
    body.section("details", "Details", "");
    for span in spans {
        body.raw("<details><summary>");
        body.text(span.row.get("service_name"));
        body.raw(" · ");
        body.text(span.row.get("operation"));
        body.raw("</summary><dl>");
        for column in [
            "span_id",
            "parent_id",
            "timestamp",
            "status_code",
            "status_message",
            "http_status_code",
            "operation_type",
            "cost_path_usd",
            "price_version",
            "retention_days",
            "sampling_reason",
            "adjusted_count",
            "trace_state",
            "scope_name",
            "attributes",
            "events",
            "links",
            "resource_attributes",
        ] {
            let value = span.row.get(column);
            if !value.is_empty() {
                body.raw("<dt>");
                body.text(column);
                body.raw("</dt><dd>");
                body.text(value);
                body.raw("</dd>");
            }
        }
        body.raw("</dl></details>");
    }
    body.section_end();
}
