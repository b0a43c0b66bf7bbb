//! The lists of traces.

use std::collections::HashMap;

use super::html::{Column, Html};
use super::overview::LISTED;
use super::query;
use super::rows::{self, Rows};
use crate::query::QueryError;
use crate::server::{App, newest};

/// Traces in the list of expensive ones.
const TOP: usize = 10;

/// Service and operation where a trace begins, as far as it was received.
type Entries = HashMap<String, (String, String)>;

/// Most expensive traces of the last hour, and the newest ones.
pub(super) async fn render(app: &App, body: &mut Html) -> Result<(), QueryError> {
    let (newest, top) = futures::try_join!(newest(app), top(app))?;
    let entries = entries(app, [&newest, &top]).await?;
    body.raw("<div id=\"traces\">");
    body.section("top", "Most expensive traces of the last hour", "");
    table(
        body,
        "Most expensive traces of the last hour",
        &top,
        &entries,
    );
    body.section_end();
    body.section("newest", "Newest traces", "");
    table(body, "Newest traces", &newest, &entries);
    body.section_end();
    body.raw("</div>");
    Ok(())
}

const COLUMNS: &str = "trace_id, root_service, root_operation, recorded_cost, span_count, \
     duration_ms, error, data_tag, last_seen";

async fn newest(app: &App) -> Result<Rows, QueryError> {
    query(app, &newest::query(app, COLUMNS, LISTED).await?).await
}

/// First which traces, by what was stored of them lately, then all that is stored of these. Spans
/// that lasted for more than an hour do not put a trace on the list.
async fn top(app: &App) -> Result<Rows, QueryError> {
    let found = query(
        app,
        &format!(
            "SELECT trace_id FROM trace_parts WHERE last_seen > NOW() - INTERVAL '1 hour' \
             AND first_seen > NOW() - INTERVAL '2 hours' GROUP BY trace_id \
             ORDER BY SUM(recorded_cost) DESC, trace_id LIMIT {TOP}"
        ),
    )
    .await?;
    // Ids of our own tables are hex digits, nothing else.
    let ids = found.iter().map(|row| format!("'{}'", row.get("trace_id")));
    let ids = ids.collect::<Vec<_>>().join(",");
    if ids.is_empty() {
        return Ok(found);
    }
    query(
        app,
        &format!(
            "SELECT {COLUMNS} FROM trace_metadata WHERE trace_id IN ({ids}) \
             ORDER BY recorded_cost DESC, trace_id"
        ),
    )
    .await
}

/// The earliest span of traces whose root has not come.
async fn entries(app: &App, lists: [&Rows; 2]) -> Result<Entries, QueryError> {
    let rootless = lists
        .into_iter()
        .flat_map(Rows::iter)
        .filter(|row| row.get("root_service").is_empty());
    // Ids of our own tables are hex digits, nothing else.
    let ids: Vec<String> = rootless
        .map(|row| format!("'{}'", row.get("trace_id")))
        .collect();
    if ids.is_empty() {
        return Ok(Entries::new());
    }
    let found = query(
        app,
        &format!(
            "SELECT trace_id, FIRST_VALUE(service_name ORDER BY timestamp, span_id) AS service, \
             FIRST_VALUE(operation ORDER BY timestamp, span_id) AS operation \
             FROM spans WHERE trace_id IN ({}) GROUP BY trace_id",
            ids.join(",")
        ),
    )
    .await?;
    let cell = |text: &str| text.to_owned();
    let entries = found.iter().map(|row| {
        let entry = (cell(row.get("service")), cell(row.get("operation")));
        (cell(row.get("trace_id")), entry)
    });
    Ok(entries.collect())
}

fn table(body: &mut Html, label: &'static str, traces: &Rows, entries: &Entries) {
    if traces.is_empty() {
        return body.nothing("No trace has been received yet.");
    }
    body.table_head(
        label,
        &[
            Column::Text("Trace"),
            Column::Text("Begins at"),
            Column::Number("Cost (USD)"),
            Column::Number("Spans"),
            Column::Number("ms"),
            Column::Text("Class"),
            Column::Text("Last seen (UTC)"),
        ],
    );
    for row in traces.iter() {
        let id = row.get("trace_id");
        body.raw("<tr><td><a href=\"/traces/");
        body.text(id);
        body.raw("\"><code>");
        body.text(id.get(..12).unwrap_or(id));
        body.raw("…</code></a></td><th scope=\"row\">");
        let (service, operation) = match entries.get(id) {
            Some((service, operation)) => (service.as_str(), operation.as_str()),
            None => (row.get("root_service"), row.get("root_operation")),
        };
        body.text(service);
        if row.get("error") == "true" {
            body.raw(" <span class=\"badge failed\">error</span>");
        }
        body.raw("<span class=\"operation\">");
        body.text(operation);
        if entries.contains_key(id) {
            body.raw(" (the root has not come)");
        }
        body.raw("</span></th>");
        body.number(&rows::money(row.get("recorded_cost")));
        body.number(&rows::count(row.get("span_count")));
        body.number(&rows::milliseconds(row.get("duration_ms")));
        body.class(row.get("data_tag"));
        body.raw("<td class=\"time\">");
        body.text(&rows::time(row.get("last_seen")));
        body.raw("</td></tr>");
    }
    body.table_end();
}
