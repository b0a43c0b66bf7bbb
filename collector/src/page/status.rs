//! Alerts, sampling and storage: what the collector itself does.

use serde_json::Value;
use w3c_traceparent_parser::otel::Threshold;

use super::html::{Column, Html};
use super::overview::{LISTED, Today};
use super::rows;
use crate::control;
use crate::engine::now_ns;
use crate::metrics::RequestRefusal;
use crate::otlp::limits::Refusal;
use crate::query::QueryError;
use crate::server::App;
use crate::store::Kinds;

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    let list = value.get(field).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

/// The policy's alerts, as `/api/alerts` tells them.
pub(super) fn alerts(app: &App, body: &mut Html) {
    body.section("alerts", "Alerts", "");
    let state = app.alerts.json();
    let alerts = list(&state, "alerts");
    if alerts.is_empty() {
        body.nothing("The policy names no alerts.");
        return body.section_end();
    }
    body.table_head(
        "Alerts",
        &[
            Column::Text("Alert"),
            Column::Text("State"),
            Column::Number("Value"),
            Column::Number("Threshold"),
            Column::Text("Examples"),
        ],
    );
    for alert in alerts {
        let open = list(alert, "traces");
        let is_firing = text(alert, "state") == "firing" || !open.is_empty();
        body.raw("<tr><th scope=\"row\">");
        body.text(text(alert, "name"));
        body.raw("<span class=\"operation\">");
        body.text(text(alert, "query"));
        body.raw(" · ");
        body.text(text(alert, "severity"));
        body.raw("</span></th><td>");
        if is_firing {
            body.raw("<span class=\"badge firing\">firing</span>");
        } else {
            body.raw("<span class=\"badge fine\">");
            body.text(text(alert, "state"));
            body.raw("</span>");
        }
        body.raw("</td>");
        for field in ["value", "threshold"] {
            let number = alert.get(field).and_then(Value::as_f64);
            body.number(&number.map_or_else(String::new, |number| number.to_string()));
        }
        body.raw("<td>");
        let ids = open.iter().map(|open| text(open, "trace_id"));
        let examples = list(alert, "examples").iter().filter_map(Value::as_str);
        for id in ids.chain(examples).take(3) {
            body.raw("<a href=\"/traces/");
            body.text(id);
            body.raw("\"><code>");
            body.text(id.get(..12).unwrap_or(id));
            body.raw("…</code></a> ");
        }
        body.raw("</td></tr>");
    }
    body.table_end();
    body.section_end();
}

/// Rates by route, and what was kept and refused, by reason.
pub(super) fn sampling(app: &App, today: &Today, body: &mut Html) {
    body.raw("<div id=\"sampling\" class=\"pair\">");
    rates(app, body);
    reasons(app, today, body);
    body.raw("</div>");
}

fn rates(app: &App, body: &mut Html) {
    let status = app.control.status();
    let table = app.control.table(control::now_ms());
    let hint = if app.control.is_enabled() {
        format!(
            "Adaptive: {:.1} traces/s observed, {:.1}/s expected to be kept, target {:.1}/s. Table version {}.",
            status.summary.observed_per_second,
            status.summary.expected_per_second,
            status.target_per_second,
            status.version,
        )
    } else {
        "Static: the policy's rates hold (`sampling.adaptive` is off).".to_owned()
    };
    body.section("rates", "Rates now", &hint);
    let table = table.and_then(|table| serde_json::to_value(&*table).ok());
    let services = table
        .as_ref()
        .and_then(|table| table.get("services")?.as_object());
    let Some(services) = services.filter(|services| !services.is_empty()) else {
        body.nothing("No table of rates: filters decide by themselves.");
        return body.section_end();
    };
    let columns = [
        Column::Text("Service and route"),
        Column::Number("Kept (%)"),
    ];
    body.table_head("Rates now", &columns);
    let routes = services.iter().flat_map(|(service, slice)| {
        let routes = list(slice, "routes").iter();
        routes.map(move |route| (service, route))
    });
    for (service, route) in routes.take(LISTED) {
        body.raw("<tr><th scope=\"row\">");
        body.text(service);
        body.raw("<span class=\"operation\">");
        body.text(route.get(0).and_then(Value::as_str).unwrap_or_default());
        body.raw("</span></th>");
        let threshold = route.get(1).and_then(Value::as_str).unwrap_or_default();
        body.number(&percent(threshold));
        body.raw("</tr>");
    }
    body.table_end();
    body.section_end();
}

/// A threshold as the share it keeps.
fn percent(threshold: &str) -> String {
    match Threshold::parse(threshold.as_bytes()) {
        Ok(parsed) => rows::money(&format!("{:.3}", 100.0 / parsed.adjusted_count())),
        Err(_) => threshold.to_owned(),
    }
}

fn reasons(app: &App, today: &Today, body: &mut Html) {
    let kept: u64 = today.reasons.iter().map(|(_, spans)| spans).sum();
    body.section(
        "reasons",
        "Kept and dropped today",
        "Requests as SERVER spans show them; what proxies dropped has no span.",
    );
    let mut lines: Vec<(&str, &str, u64)> = Vec::new();
    for (reason, spans) in &today.reasons {
        let reason = if reason.is_empty() {
            "not told"
        } else {
            reason
        };
        lines.push(("kept", reason, *spans));
    }
    if let Some(requests) = today.requests {
        lines.push(("dropped", "not sampled", requests.saturating_sub(kept)));
    }
    for why in Refusal::ALL {
        let count = app.metrics.spans_refused_as(*why);
        lines.push(("span refused since start", why.as_str(), count));
    }
    for why in RequestRefusal::ALL {
        let count = app.metrics.requests_refused_as(*why);
        lines.push(("batch refused since start", why.as_str(), count));
    }
    lines.retain(|(_, _, count)| *count > 0);
    if lines.is_empty() {
        body.nothing("Nothing today yet.");
        return body.section_end();
    }
    let columns = [
        Column::Text("Outcome"),
        Column::Text("Reason"),
        Column::Number("Count"),
    ];
    body.table_head("Kept and dropped today", &columns);
    for (outcome, reason, count) in lines {
        body.row_head(outcome);
        body.cell(reason);
        body.number(&rows::count(&count.to_string()));
        body.raw("</tr>");
    }
    body.table_end();
    body.section_end();
}

/// Partitions by tier, what is in memory, and how far behind it all is.
pub(super) fn storage(app: &App, today: &Today, body: &mut Html) -> Result<(), QueryError> {
    let (now, gauges) = (now_ns(), app.gauges());
    let seen = if today.newest.is_empty() {
        "No span today.".to_owned()
    } else {
        format!(
            "The newest span started at {} UTC.",
            rows::time(&today.newest)
        )
    };
    let waiting = match gauges.waiting {
        0 => " Nothing waits to be written.".to_owned(),
        waiting => format!(" {waiting} generations wait to be written."),
    };
    body.section("storage", "Storage", &(seen + &waiting));
    let columns = [
        Column::Text("Tier"),
        Column::Text("Age"),
        Column::Number("Spans"),
        Column::Number("Bytes"),
        Column::Number("Partitions"),
    ];
    body.table_head("Storage", &columns);
    let mut line = |tier: &str, age: &str, spans: u64, bytes: u64, partitions: usize| {
        body.row_head(tier);
        body.cell(age);
        body.number(&rows::count(&spans.to_string()));
        body.number(&rows::bytes(bytes));
        body.number(&rows::count(&partitions.to_string()));
        body.raw("</tr>");
    };
    line(
        "memory",
        "not yet in a partition",
        gauges.hot_spans,
        gauges.hot_bytes as u64,
        0,
    );
    let storage = app.rules.storage();
    let snapshot = app.snapshot(Kinds::default())?;
    let mut from_s = 0;
    for (name, tier) in [
        ("hot", &storage.hot),
        ("warm", &storage.warm),
        ("cold", &storage.cold),
    ] {
        let until_s = tier.duration.as_secs();
        let (mut spans, mut bytes, mut partitions) = (0, 0, 0);
        for partition in &snapshot.partitions {
            let meta = &partition.meta;
            let age_ns = now.saturating_sub(meta.max_ns).max(0).unsigned_abs();
            let age_s = age_ns / 1_000_000_000;
            let is_last = name == "cold";
            if age_s >= from_s && (age_s < until_s || is_last) {
                spans += meta.rows;
                bytes += meta.bytes;
                partitions += 1;
            }
        }
        let age = match until_s.div_ceil(3_600) {
            hours if hours <= 48 => format!("up to {hours} h"),
            hours => format!("up to {} days", hours.div_ceil(24)),
        };
        line(name, &age, spans, bytes, partitions);
        from_s = until_s;
    }
    body.table_end();
    body.section_end();
    Ok(())
}
