//! Queries over HTTP, as a client waits for them.

use std::time::{Duration, Instant};

use crate::load::Client;
use crate::process::Collector;

/// A query is repeated for this long, and at least and at most so often.
const REPEAT: Duration = Duration::from_secs(4);
const LEAST: usize = 3;
const MOST: usize = 25;

const QUERIES: [(&str, &str); 9] = [
    (
        "cost by service, ledger, a day",
        "SELECT service_name, SUM(cost_usd) AS cost FROM cost_by_service \
         WHERE minute > NOW() - INTERVAL '1 day' GROUP BY service_name ORDER BY cost DESC",
    ),
    (
        "cost by service, ledger, by hour",
        "SELECT service_name, SUM(cost_usd) AS cost FROM cost_by_service_hour \
         WHERE hour > NOW() - INTERVAL '1 day' GROUP BY service_name ORDER BY cost DESC",
    ),
    (
        "cost by data class, ledger, a day",
        "SELECT data_tag, SUM(cost_usd) AS cost FROM cost_by_data_tag \
         WHERE minute > NOW() - INTERVAL '1 day' GROUP BY data_tag ORDER BY cost DESC",
    ),
    (
        "cost by service, spans, a day",
        "SELECT service_name, SUM(cost_usd) AS cost FROM spans \
         WHERE timestamp > NOW() - INTERVAL '1 day' GROUP BY service_name ORDER BY cost DESC",
    ),
    (
        "cost by service (specification)",
        include_str!("../../../collector/tests/sql/cost_by_service.sql"),
    ),
    (
        "data classes (specification)",
        include_str!("../../../collector/tests/sql/class_distribution.sql"),
    ),
    (
        "top traces (specification)",
        include_str!("../../../collector/tests/sql/top_traces.sql"),
    ),
    (
        "drift audit (specification)",
        include_str!("../../../collector/tests/sql/drift_audit.sql"),
    ),
    ("all spans counted", "SELECT COUNT(*) FROM spans"),
];

/// Runs all of them, and looks up traces.
pub(crate) fn run(collector: &Collector, traces: &[(&str, &Vec<String>)]) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("queries, ms (first; then median and 95th percentile of all); load average {load}");
    for (name, ids) in traces {
        let mut ids = ids.iter().cycle();
        repeat(name, || {
            let id = ids.next().unwrap();
            let (time, body) = Client::get(collector.http, &format!("/api/traces/{id}"));
            body.contains(id).then_some(time).ok_or(body)
        });
    }
    for (name, query) in QUERIES {
        repeat(name, || Client::try_sql(collector.http, query));
    }
    repeat("the page", || Ok(Client::get(collector.http, "/").0));
    repeat("newest traces", || {
        Ok(Client::get(collector.http, "/api/traces?limit=25").0)
    });
}

/// Trace ids that are only in partitions.
pub(crate) fn stored_traces(collector: &Collector) -> Vec<String> {
    // Every few hours one, whatever the day begins with.
    let mut ids = Vec::new();
    for hours in (1..23).step_by(2) {
        let query = format!(
            "SELECT trace_id FROM spans WHERE timestamp > NOW() - INTERVAL '{hours} hours' \
             AND timestamp < NOW() - INTERVAL '{hours} hours' + INTERVAL '20 minutes' LIMIT 1"
        );
        let (_, answer) = Client::sql(collector.http, &query);
        let Some((_, id)) = answer.split_once("\"trace_id\":\"") else {
            continue;
        };
        ids.push(id[..32].to_owned());
    }
    ids
}

fn repeat(name: &str, mut once: impl FnMut() -> Result<Duration, String>) {
    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < LEAST || (start.elapsed() < REPEAT && times.len() < MOST) {
        match once() {
            Ok(time) => times.push(time.as_secs_f64() * 1e3),
            Err(problem) => {
                let problem: String = problem.chars().take(120).collect();
                return println!("  {name:34} {problem}");
            }
        }
    }
    let first = times[0];
    times.sort_unstable_by(f64::total_cmp);
    println!(
        "  {name:34} {first:9.1} {:9.1} {:9.1} ({} times)",
        times[times.len() / 2],
        times[times.len() * 95 / 100],
        times.len()
    );
}
