//! What the collector does with real-looking spans: taken, stored, found again.
//!
//! `cargo bench -p bench --bench collector` (`-- --spans N` for another number than two million,
//! `-- --load ADDRESS --spans N [--day]` only sends to a collector that runs already). The collector
//! is the one in `dist/`, a process of its own; spans are spread over the last 24 hours, with the
//! ledger of that day beside them. Processor time is read by thread: workers receive, decode and
//! compress, the committer logs and syncs, the compactor writes Parquet. Ratios are to the workers'
//! time. Nothing fails by timing.
//!
//! For ingest alone: `TRACEMETER_BENCH_INGEST=10000000 scripts/bench.sh collector` sends that many
//! spans as they would come in, without ledger and queries, for at most
//! `TRACEMETER_BENCH_SECONDS` (default 900), and says what a span costs by stage, memory idle, at
//! the peak, and afterwards, and bytes on disk with and without raw attributes.
//!
//! What it is not: a comparison with other stores, or a measure of several machines.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing
)]

#[path = "collector/ingest.rs"]
mod ingest;
#[path = "collector/ledger.rs"]
mod ledger;
#[path = "collector/load.rs"]
mod load;
#[path = "collector/process.rs"]
mod process;
#[path = "collector/shape.rs"]
mod shape;

use std::time::Duration;

use load::{Client, Load, Sent};
use process::Collector;

/// How often each look-up is repeated.
const LOOK_UPS: usize = 3;

const QUERIES: [(&str, &str); 7] = [
    (
        "cost by service, ledger, a day",
        "SELECT service_name, SUM(cost_usd) AS cost FROM cost_by_service \
         WHERE minute > NOW() - INTERVAL '1 day' GROUP BY service_name ORDER BY cost DESC",
    ),
    (
        "cost by service, spans, a day",
        "SELECT service_name, SUM(cost_usd) AS cost FROM spans \
         WHERE timestamp > NOW() - INTERVAL '1 day' GROUP BY service_name ORDER BY cost DESC",
    ),
    (
        "cost by service (specification)",
        include_str!("../../collector/tests/sql/cost_by_service.sql"),
    ),
    (
        "data classes (specification)",
        include_str!("../../collector/tests/sql/class_distribution.sql"),
    ),
    (
        "top traces (specification)",
        include_str!("../../collector/tests/sql/top_traces.sql"),
    ),
    (
        "drift audit (specification)",
        include_str!("../../collector/tests/sql/drift_audit.sql"),
    ),
    ("all spans counted", "SELECT COUNT(*) FROM spans"),
];

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let spans = after("--spans").map_or(2_000_000, |text| text.parse().unwrap());
    if let Ok(spans) = std::env::var("TRACEMETER_BENCH_INGEST") {
        return ingest::run(spans.parse().unwrap());
    }
    if let Some(address) = after("--load") {
        let sent = load::run(&Load {
            address: address.parse().unwrap(),
            spans,
            connections: 8,
            day: arguments.iter().any(|argument| argument == "--day"),
        });
        return speed(&sent);
    }
    let mut collector = Collector::start();
    println!("idle: {} MiB resident", collector.resident_mib("VmRSS"));
    let sent = load::run(&Load {
        address: collector.http,
        spans,
        connections: 8,
        day: true,
    });
    speed(&sent);
    collector.wait_until_written();
    costs(&collector, &sent);
    queries(&collector, &sent);
    println!(
        "memory: {} MiB at the peak, {} MiB now",
        collector.resident_mib("VmHWM"),
        collector.resident_mib("VmRSS")
    );
    collector.stop();
}

fn speed(sent: &Sent) {
    println!(
        "{} spans of {} B in {:.1} s: {:.0} spans/s acknowledged, {} refusals",
        sent.spans,
        sent.bytes / sent.spans.max(1),
        sent.seconds,
        sent.spans as f64 / sent.seconds,
        sent.refusals
    );
}

fn costs(collector: &Collector, sent: &Sent) {
    let threads = collector.cpu_seconds();
    let of = |name: &str| threads.get(name).copied().unwrap_or(0.0);
    let per_span = |seconds: f64| seconds * 1e6 / sent.spans as f64;
    let (workers, log, parquet) = (
        per_span(of("tokio-rt-worker")),
        per_span(of("committer")),
        per_span(of("compactor")),
    );
    println!("processor time per span, us (ratio to receiving):");
    for (name, time) in [
        ("received, decoded, compressed", workers),
        ("logged, synced, visible", log),
        ("sorted, written to Parquet", parquet),
    ] {
        println!("  {name:32} {time:.2} ({:.2})", time / workers);
    }
    println!(
        "spans/s per core: {:.0} durable, {:.0} with Parquet",
        1e6 / (workers + log),
        1e6 / (workers + log + parquet)
    );
    let bytes = |name: &str| collector.metric(name) as f64 / sent.spans as f64;
    println!(
        "bytes per span: {:.1} in the log, {:.1} in Parquet, {:.1} of them without raw attributes",
        bytes("log_bytes_total"),
        bytes("partition_bytes_total"),
        bytes("partition_bytes_total") - bytes("partition_raw_bytes_total")
    );
}

fn queries(collector: &Collector, sent: &Sent) {
    println!("queries, ms (first, then best):");
    for (name, query) in QUERIES {
        let times: Vec<Duration> = (0..LOOK_UPS)
            .map(|_| Client::sql(collector.http, query).0)
            .collect();
        row(name, &times);
    }
    let times: Vec<Duration> = sent
        .traces
        .iter()
        .map(|id| {
            let (time, body) = Client::get(collector.http, &format!("/api/traces/{id}"));
            assert!(body.contains(id), "{body}");
            time
        })
        .collect();
    row("a trace by id (16 traces)", &times);
    row("the page", &[Client::get(collector.http, "/").0]);
}

fn row(name: &str, times: &[Duration]) {
    let ms = |time: &Duration| time.as_secs_f64() * 1e3;
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    println!(
        "  {name:34} {:9.1} {:9.1}, median {:.1}",
        ms(&times[0]),
        ms(&sorted[0]),
        ms(&sorted[sorted.len() / 2])
    );
}
