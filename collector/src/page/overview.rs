//! Today's totals, exact beside estimated, and where the money goes.
//!
//! Today begins at midnight UTC. Exact numbers are sums of the ledger, which counts every request;
//! estimates are sums over the spans received, each weighted by how many it stands for.

use super::html::{Column, Html};
use super::query;
use super::rows::{self, Row, Rows};
use crate::query::QueryError;
use crate::server::App;

/// Rows of a list; lists by cost show the first fifteen.
pub(super) const LISTED: usize = 25;

/// The ledger of today. Days are whole days, and so are the partitions that they are made of.
const EXACT: &str = "SELECT CAST(SUM(cost_usd) AS DECIMAL(38,9)) AS cost, \
     SUM(CASE WHEN direction <> 'outbound' THEN requests ELSE 0 END) AS requests, \
     SUM(CASE WHEN direction <> 'outbound' THEN errors ELSE 0 END) AS errors \
     FROM ledger_days WHERE minute >= date_trunc('day', NOW()) \
     AND (basis IS NULL OR basis = 'ledger')";
/// What the spans of today stand for.
const ESTIMATE: &str = "SELECT SUM(cost_usd) AS cost, \
     SUM(CASE WHEN kind = 'SERVER' THEN weight ELSE 0 END) AS requests, \
     SUM(CASE WHEN kind = 'SERVER' AND error THEN weight ELSE 0 END) AS errors, \
     COALESCE(SUM(spans), 0) AS spans, MAX(newest) AS newest \
     FROM span_sums WHERE day >= date_trunc('day', NOW())";
/// Cost and requests from the ledger, by one more column each.
const BY_SERVICE: &str = "SELECT service_name AS name, \
     CASE WHEN basis = 'estimate' THEN 'estimated from spans' ELSE '' END AS detail, \
     SUM(cost_usd) AS cost, SUM(requests) AS requests FROM cost_by_service_day \
     WHERE day >= date_trunc('day', NOW()) GROUP BY service_name, basis ORDER BY cost DESC, name LIMIT 15";
const BY_ROUTE: &str = "SELECT service_name AS name, \
     CASE WHEN basis = 'estimate' THEN route || ' (estimated from spans)' ELSE route END AS detail, \
     SUM(cost_usd) AS cost, SUM(requests) AS requests FROM cost_by_route_day \
     WHERE day >= date_trunc('day', NOW()) GROUP BY service_name, route, basis ORDER BY cost DESC, name, detail LIMIT 15";
const BY_CLASS: &str = "SELECT data_tag AS name, \
     CASE WHEN basis = 'estimate' THEN 'estimated from spans' ELSE '' END AS detail, \
     SUM(cost_usd) AS cost, SUM(requests) AS requests FROM cost_by_data_tag_day \
     WHERE day >= date_trunc('day', NOW()) GROUP BY data_tag, basis ORDER BY cost DESC, name LIMIT 15";
/// The same from spans.
const SPANS_BY_SERVICE: &str = "SELECT service_name AS name, '' AS detail, \
     CAST(SUM(cost_usd) AS DECIMAL(38,9)) AS cost, CAST(SUM(weight) AS BIGINT) AS requests \
     FROM span_sums WHERE day >= date_trunc('day', NOW()) \
     GROUP BY service_name ORDER BY cost DESC NULLS LAST, name LIMIT 15";
const SPANS_BY_CLASS: &str = "SELECT data_tag AS name, '' AS detail, \
     CAST(SUM(cost_usd) AS DECIMAL(38,9)) AS cost, CAST(SUM(weight) AS BIGINT) AS requests \
     FROM span_sums WHERE day >= date_trunc('day', NOW()) \
     GROUP BY data_tag ORDER BY cost DESC NULLS LAST, name LIMIT 15";
/// Which server spans came, by the reason of their keeping.
const KEPT: &str = "SELECT COALESCE(sampling_reason, '') AS reason, SUM(spans) AS spans \
     FROM span_sums WHERE day >= date_trunc('day', NOW()) AND kind = 'SERVER' \
     GROUP BY sampling_reason ORDER BY spans DESC, reason LIMIT 15";

/// What later sections show of today, too.
pub(super) struct Today {
    /// Requests by the ledger; `None` without a ledger.
    pub(super) requests: Option<u64>,
    /// SERVER spans received, by the reason why they were kept.
    pub(super) reasons: Vec<(String, u64)>,
    /// Start of the newest span.
    pub(super) newest: String,
}

/// Totals and costs.
pub(super) async fn render(app: &App, body: &mut Html) -> Result<Today, QueryError> {
    let (exact, estimate, kept) =
        futures::try_join!(query(app, EXACT), query(app, ESTIMATE), query(app, KEPT))?;
    let requests = cell(&exact, "requests").parse().ok();
    totals(body, &exact, &estimate);
    body.raw("<div id=\"cost\">");
    if requests.is_some() {
        let (services, routes, classes) = futures::try_join!(
            query(app, BY_SERVICE),
            query(app, BY_ROUTE),
            query(app, BY_CLASS),
        )?;
        let hint =
            "Exact: every request counts, kept or not. Services without a ledger are marked.";
        table(body, ("services", "Cost by service", hint), &services);
        body.raw("<div class=\"pair\">");
        table(body, ("routes", "Cost by route", hint), &routes);
        table(body, ("classes", "Cost by data class", hint), &classes);
        body.raw("</div>");
    } else {
        let (services, classes) =
            futures::try_join!(query(app, SPANS_BY_SERVICE), query(app, SPANS_BY_CLASS))?;
        let hint = "Estimated from spans: no ledger was received today.";
        body.raw("<div class=\"pair\">");
        table(body, ("services", "Cost by service", hint), &services);
        table(body, ("classes", "Cost by data class", hint), &classes);
        body.raw("</div>");
    }
    body.raw("</div>");
    let reasons = kept.iter().map(|row| {
        let spans = row.get("spans").parse().unwrap_or(0);
        (row.get("reason").to_owned(), spans)
    });
    Ok(Today {
        requests,
        reasons: reasons.collect(),
        newest: cell(&estimate, "newest").to_owned(),
    })
}

/// A cell of an answer that has one row.
fn cell<'a>(answer: &'a Rows, column: &str) -> &'a str {
    answer.iter().next().map_or("", |row| row.get(column))
}

fn totals(body: &mut Html, exact: &Rows, estimate: &Rows) {
    body.raw("<p class=\"hint\">Since midnight UTC. Large numbers are exact (the ledger counts every request); below them stands what the sampled spans alone would say.</p><dl class=\"totals\">");
    for (name, column, unit) in [
        ("Cost", "cost", " USD"),
        ("Requests", "requests", ""),
        ("Errors", "errors", ""),
    ] {
        let shown = |number: &str| match column {
            "cost" => rows::money(number),
            _ => rows::count(number),
        };
        let number = cell(exact, column);
        body.raw("<div><dt>");
        body.raw(name);
        body.raw("</dt><dd>");
        if number.is_empty() {
            body.raw("<span class=\"unit\">no ledger yet</span>");
        } else {
            body.text(&shown(number));
            body.raw("<span class=\"unit\">");
            body.raw(unit);
            body.raw("</span>");
        }
        body.raw("</dd><dd class=\"estimate\">");
        body.text(&estimated(cell(estimate, column), number, column));
        body.raw("</dd></div>");
    }
    body.raw("<div><dt>Spans received</dt><dd>");
    body.text(&rows::count(cell(estimate, "spans")));
    body.raw("</dd><dd class=\"estimate\">the sample that estimates come from</dd></div></dl>");
}

/// The estimate, and how far it is from the exact number.
fn estimated(estimate: &str, exact: &str, column: &str) -> String {
    let Ok(number) = estimate.parse::<f64>() else {
        return "no spans to estimate from".to_owned();
    };
    let shown = if column == "cost" {
        format!("{} USD", rows::money(&format!("{number:.6}")))
    } else {
        rows::count(&format!("{number:.0}"))
    };
    match exact.parse::<f64>() {
        Ok(exact) if exact > 0.0 => {
            format!(
                "estimate {shown} ({:+.1} %)",
                (number / exact - 1.0) * 100.0
            )
        }
        _ => format!("estimate {shown}"),
    }
}

fn cost(row: Row<'_>) -> f64 {
    row.get("cost").parse().unwrap_or(0.0)
}

/// A table of costs with their shares of its sum.
fn table(body: &mut Html, (id, title, hint): (&'static str, &'static str, &str), costs: &Rows) {
    body.section(id, title, hint);
    if costs.is_empty() {
        body.nothing("Nothing today yet.");
        return body.section_end();
    }
    let sum: f64 = costs.iter().map(cost).sum();
    body.table_head(
        title,
        &[
            Column::Text(if id == "classes" { "Class" } else { "Service" }),
            Column::Text("Share"),
            Column::Number("Cost (USD)"),
            Column::Number("Requests"),
        ],
    );
    for row in costs.iter() {
        body.raw("<tr><th scope=\"row\">");
        body.text(row.get("name"));
        if !row.get("detail").is_empty() {
            body.raw("<span class=\"operation\">");
            body.text(row.get("detail"));
            body.raw("</span>");
        }
        body.raw("</th>");
        body.share(if sum > 0.0 { cost(row) / sum } else { 0.0 });
        body.number(&rows::money(row.get("cost")));
        body.number(&rows::count(row.get("requests")));
        body.raw("</tr>");
    }
    body.table_end();
    body.section_end();
}
