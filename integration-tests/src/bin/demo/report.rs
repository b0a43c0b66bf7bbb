//! What the demo prints: where to look, the table every few seconds, the summary and its verdict.
//!
//! Requests and decisions come from the filters' own statistics in each Envoy; cost and traces
//! from the collector's SQL.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use integration_tests::collector::{Row, number};

use crate::services::{DemoMesh, PAYMENT, ROBOT};
use crate::traffic::Traffic;

/// Whether everything that must hold did hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Holds,
    Broken,
}

/// Standard output; a closed pipe is no reason to leave processes behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Say;

impl Say {
    pub(crate) fn line(self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    }
}

/// Costs that were stored, by service. Stored spans are a sample: see the page for exact totals.
const COST_BY_SERVICE: &str = "SELECT service_name, SUM(cost_usd) AS total_cost, \
     COUNT(*) AS operation_count FROM spans GROUP BY service_name";

/// The specification's query for expensive traces, for the last hour.
const TOP_TRACES: &str = "SELECT trace_id, SUM(cost_usd) AS total_cost, COUNT(*) AS span_count, \
     MAX(duration_ms) AS max_duration FROM spans WHERE timestamp > NOW() - INTERVAL '1 hour' \
     GROUP BY trace_id ORDER BY total_cost DESC LIMIT 5";

/// The addresses and something to try.
pub(crate) fn welcome(say: Say, mesh: &DemoMesh) -> Result<()> {
    let (ingress, page) = (mesh.ingress_address()?, mesh.collector.http());
    let trace = format!("{:016x}{:016x}", fastrand::u64(1..), fastrand::u64(1..));
    let span = format!("{:016x}", fastrand::u64(1..));
    say.line(&format!(
        "\npage       http://{page}/\n\
         ingress    http://{ingress}/   (/checkout, /recommend, /users/1/profile, /robot/move)\n\
         try        curl -i -H 'traceparent: 00-{trace}-{span}-01' -H 'tracestate: cost_usd=0.001' \
         -H 'x-tracemeter-debug: 1' http://{ingress}/users/1/profile\n\
         \x20          (`x-tracemeter-explain` says what the ingress parsed, decided and why)\n\
         then       curl http://{page}/api/traces/{trace}\n\
         or         curl http://{page}/api/sql --data \
         \"SELECT service_name, operation, cost_usd, data_tag FROM spans WHERE trace_id = '{trace}'\"\n\
         `kept` holds what a parent, an error, a slow answer or a class kept beyond the service's own \
         rate;\n`exported` lags by a second or two; `lost` is what a full queue dropped.\n\
         every proxy's statistics:"
    ));
    for (name, envoy) in mesh.proxies() {
        let admin = envoy.admin_address();
        say.line(&format!(
            "  {name:<18} http://{admin}/stats?filter=tracemeter"
        ));
    }
    Ok(())
}

/// Counters of one proxy's filter by short name.
async fn filter_stats(envoy: &integration_tests::envoy::Envoy) -> BTreeMap<String, u64> {
    let stats = envoy.stats().await.unwrap_or_default();
    let own = stats.into_iter().filter_map(|(name, value)| {
        Some((
            name.strip_prefix("wasmcustom.tracemeter_")?.to_owned(),
            value,
        ))
    });
    own.collect()
}

/// The table.
pub(crate) async fn table(say: Say, mesh: &DemoMesh, traffic: &Traffic, elapsed: Duration) {
    let tally = traffic.tally();
    let costs = match mesh.collector.sql(COST_BY_SERVICE).await {
        Ok(rows) => rows,
        Err(error) => {
            say.line(&format!("(the collector does not answer: {error:#})"));
            Vec::new()
        }
    };
    let mut text = format!(
        "\n{} s: {} requests at the ingress, {} answered as planned, {} not\n",
        elapsed.as_secs(),
        tally.as_planned + tally.otherwise,
        tally.as_planned,
        tally.otherwise
    );
    text.push_str(
        "service              requests     kept     rate  exported  lost  spans stored    cost USD\n",
    );
    for (name, envoy) in mesh.proxies() {
        let stats = filter_stats(envoy).await;
        text.push_str(&service_line(name, &stats, &costs));
    }
    if let Ok(traces) = mesh.collector.sql(TOP_TRACES).await {
        text.push_str("most expensive traces               spans   longest ms    cost USD\n");
        for row in &traces {
            let _ = writeln!(
                text,
                "{:<35} {:>5} {:>12.1} {:>11.7}",
                row.get("trace_id")
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or("?"),
                column(row, "span_count"),
                column(row, "max_duration"),
                column(row, "total_cost"),
            );
        }
    }
    say.line(text.trim_end());
}

fn service_line(name: &str, stats: &BTreeMap<String, u64>, costs: &[Row]) -> String {
    let stat = |name: &str| stats.get(name).copied().unwrap_or(0);
    let requests = stat("requests_total");
    let kept = stat("kept_total") + stat("promoted_total");
    let rate = 100.0 * kept as f64 / requests.max(1) as f64;
    let lost: u64 = [
        "spans_dropped_queue_full_total",
        "spans_dropped_rejected_total",
    ]
    .map(stat)
    .iter()
    .sum();
    let of_service =
        |row: &&Row| row.get("service_name").and_then(serde_json::Value::as_str) == Some(name);
    let stored = costs.iter().find(of_service);
    let value = |name: &str| stored.map_or(0.0, |row| column(row, name));
    format!(
        "{name:<19} {requests:>9} {kept:>8} {rate:>7.1}% {:>9} {lost:>5} {:>13} {:>11.7}\n",
        stat("spans_exported_total"),
        value("operation_count"),
        value("total_cost"),
    )
}

fn column(row: &Row, name: &str) -> f64 {
    row.get(name).and_then(number).unwrap_or(0.0)
}

/// What must hold, each with its outcome.
pub(crate) async fn summary(say: Say, mesh: &mut DemoMesh, traffic: &Traffic) -> Result<Verdict> {
    let tally = traffic.tally();
    let mut broken = Vec::new();
    let mut check = |holds: bool, text: String| {
        say.line(&format!(
            "{} {text}",
            if holds { "ok      " } else { "BROKEN  " }
        ));
        if !holds {
            broken.push(text);
        }
    };
    say.line("\nsummary");
    let kinds: Vec<String> = tally
        .by_kind
        .iter()
        .map(|(name, count)| format!("{count} {name}"))
        .collect();
    let total = tally.as_planned + tally.otherwise;
    check(
        total > 0 && tally.otherwise == 0,
        format!(
            "{} of {total} requests were answered as planned ({})",
            tally.as_planned,
            kinds.join(", ")
        ),
    );
    for sample in &tally.samples {
        say.line(&format!("           {sample}"));
    }
    let traces = mesh
        .collector
        .sql_number("SELECT COUNT(DISTINCT trace_id) FROM spans")
        .await;
    let traces = traces.unwrap_or(0.0);
    check(
        traces > 0.0,
        format!("{traces} traces arrived in the collector"),
    );
    let mut reloads = 0;
    for (_, envoy) in mesh.proxies() {
        reloads += envoy.stat_sum("vm_reload").await?;
    }
    check(reloads == 0, format!("{reloads} reloads of the module"));
    for name in [PAYMENT, ROBOT] {
        let (served, stored) = always_kept(mesh, name).await;
        // A collector that was down may have lost spans, which the counters then say.
        let holds = served == stored || mesh.collector_restarts > 0;
        check(
            holds,
            format!("{stored} of {served} requests to {name} (rate 1.0) are stored"),
        );
    }
    mesh.collector.stop()?;
    Ok(if broken.is_empty() {
        Verdict::Holds
    } else {
        Verdict::Broken
    })
}

/// Requests an application answered, and the stored spans of its inbound proxy.
async fn always_kept(mesh: &DemoMesh, name: &str) -> (u64, u64) {
    let query = format!("SELECT COUNT(*) FROM spans WHERE service_name = '{name}'");
    let stored = mesh.collector.sql_number(&query).await.unwrap_or(0.0);
    let service = mesh.services.iter().find(|service| service.name == name);
    (
        service.map_or(0, |service| service.app.served()),
        stored as u64,
    )
}
