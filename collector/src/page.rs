//! The page: what traces cost, at a glance. Server-rendered, no scripts, no foreign assets.
//!
//! Everything that comes from a span is escaped by [`html`]; the content security policy allows
//! our own style sheet and nothing else, so that even a mistake could not run anything.
//! It is not the full user interface: it shows samples (spans), and says so.

mod html;
mod rows;
mod waterfall;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::query::QueryError;
use crate::server::{App, api};
use html::Html;
use rows::Rows;

/// Traces in a list.
const LISTED: usize = 50;

const STYLE: &str = include_str!("page/style.css");
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /style.css`.
pub(crate) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, STYLE).into_response()
}

/// `GET /`.
pub(crate) async fn index(State(app): State<Arc<App>>) -> Response {
    match overview(&app).await {
        Ok(body) => page(StatusCode::OK, "Traces", &body),
        Err(error) => problem(&error),
    }
}

/// `GET /traces/{id}`.
pub(crate) async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let Some(id) = api::trace_id(&id) else {
        return page(
            StatusCode::BAD_REQUEST,
            "Trace",
            &message("A trace id has 32 hex digits."),
        );
    };
    match api::run(&app, &api::trace_query(&id)).await {
        Ok(answer) => match Rows::of(&answer) {
            Ok(rows) if rows.is_empty() => {
                page(StatusCode::NOT_FOUND, "Trace", &message("No such trace."))
            }
            Ok(rows) => page(StatusCode::OK, "Trace", &waterfall::render(&id, &rows)),
            Err(error) => problem(&QueryError::Failed(error.to_string())),
        },
        Err(error) => problem(&error),
    }
}

async fn rows(app: &App, query: &str) -> Result<Rows, QueryError> {
    let answer = api::run(app, query).await?;
    Rows::of(&answer).map_err(|error| QueryError::Failed(error.to_string()))
}

const SERVICES: &str = "SELECT service_name, SUM(cost_usd) AS cost, COUNT(*) AS spans, \
     SUM(CASE WHEN error THEN 1 ELSE 0 END) AS errors, AVG(duration_ms) AS mean_ms \
     FROM spans WHERE timestamp > NOW() - INTERVAL '1 day' \
     GROUP BY service_name ORDER BY cost DESC NULLS LAST LIMIT 50";
const CLASSES: &str = "SELECT data_tag, COUNT(*) AS spans, SUM(cost_usd) AS cost FROM spans \
     WHERE timestamp > NOW() - INTERVAL '1 day' GROUP BY data_tag ORDER BY data_tag";
const EXACT: &str = "SELECT service_name, SUM(cost_usd) AS cost, SUM(requests) AS requests \
     FROM cost_by_service \
     WHERE minute > NOW() - INTERVAL '1 day' AND basis = 'ledger' \
     GROUP BY service_name ORDER BY cost DESC LIMIT 50";

async fn overview(app: &App) -> Result<Html, QueryError> {
    let columns = "trace_id, root_service, root_operation, recorded_cost, span_count, \
                   duration_ms, error, data_tag, last_seen";
    let newest =
        format!("SELECT {columns} FROM trace_metadata ORDER BY last_seen DESC LIMIT {LISTED}");
    let top = format!(
        "SELECT {columns} FROM trace_metadata WHERE last_seen > NOW() - INTERVAL '1 hour' \
         ORDER BY recorded_cost DESC LIMIT 10"
    );
    let (newest, top, services, classes, exact) = futures::try_join!(
        rows(app, &newest),
        rows(app, &top),
        rows(app, SERVICES),
        rows(app, CLASSES),
        rows(app, EXACT),
    )?;
    let mut body = Html::default();
    body.raw(
        "<p class=\"note\">The ledger counts every request. Sums over spans are over those \
              received, which are a sample unless every trace is kept.</p>",
    );
    if !exact.is_empty() {
        exact_table(&mut body, &exact);
    }
    services_table(&mut body, &services);
    classes_table(&mut body, &classes);
    traces_table(&mut body, "Most expensive traces of the last hour", &top);
    traces_table(&mut body, "Newest traces", &newest);
    Ok(body)
}

fn exact_table(body: &mut Html, services: &Rows) {
    body.raw("<section><h2>Exact cost by service, last day (ledger)</h2>");
    body.table_head(&["Service", "Cost (USD)", "Requests"]);
    for row in services.iter() {
        body.raw("<tr><th scope=\"row\">");
        body.text(row.get("service_name"));
        body.raw("</th>");
        body.number(&rows::money(row.get("cost")));
        body.number(row.get("requests"));
        body.raw("</tr>");
    }
    body.table_end(false);
}

fn services_table(body: &mut Html, services: &Rows) {
    body.raw("<section><h2>Cost by service, last day (spans)</h2>");
    body.table_head(&["Service", "Cost (USD)", "Spans", "Errors", "Mean ms"]);
    for row in services.iter() {
        body.raw("<tr><th scope=\"row\">");
        body.text(row.get("service_name"));
        body.raw("</th>");
        body.number(&rows::money(row.get("cost")));
        body.number(row.get("spans"));
        body.number(row.get("errors"));
        body.number(&rows::milliseconds(row.get("mean_ms")));
        body.raw("</tr>");
    }
    body.table_end(services.is_empty());
}

fn classes_table(body: &mut Html, classes: &Rows) {
    body.raw("<section><h2>Data classes, last day (spans)</h2>");
    body.table_head(&["Class", "Cost (USD)", "Spans"]);
    for row in classes.iter() {
        body.raw("<tr><th scope=\"row\">");
        body.text(row.get("data_tag"));
        body.raw("</th>");
        body.number(&rows::money(row.get("cost")));
        body.number(row.get("spans"));
        body.raw("</tr>");
    }
    body.table_end(classes.is_empty());
}

fn traces_table(body: &mut Html, title: &str, traces: &Rows) {
    body.raw("<section><h2>");
    body.text(title);
    body.raw("</h2>");
    body.table_head(&[
        "Trace",
        "Root",
        "Cost (USD)",
        "Spans",
        "ms",
        "Class",
        "Last seen (UTC)",
    ]);
    for row in traces.iter() {
        body.raw("<tr><td><a href=\"/traces/");
        body.text(row.get("trace_id"));
        body.raw("\"><code>");
        body.text(row.get("trace_id").get(..16).unwrap_or_default());
        body.raw("…</code></a></td><td>");
        body.text(row.get("root_service"));
        body.raw(" <span class=\"dim\">");
        body.text(row.get("root_operation"));
        body.raw("</span>");
        if row.get("error") == "true" {
            body.raw(" <strong class=\"error\">error</strong>");
        }
        body.raw("</td>");
        body.number(&rows::money(row.get("recorded_cost")));
        body.number(row.get("span_count"));
        body.number(&rows::milliseconds(row.get("duration_ms")));
        body.raw("<td>");
        body.text(row.get("data_tag"));
        body.raw("</td><td>");
        body.text(&rows::time(row.get("last_seen")));
        body.raw("</td></tr>");
    }
    body.table_end(traces.is_empty());
}

fn message(text: &str) -> Html {
    let mut body = Html::default();
    body.raw("<p>");
    body.text(text);
    body.raw("</p>");
    body
}

fn problem(error: &QueryError) -> Response {
    page(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Problem",
        &message(&error.to_string()),
    )
}

fn page(status: StatusCode, title: &str, body: &Html) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html::document(title, body)).into_response()
}
