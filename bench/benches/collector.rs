//! What the collector does with real-looking spans: taken, stored, found again.
//!
//! `cargo bench -p bench --bench collector` (`-- --spans N` for another number than two million,
//! `-- --load ADDRESS --spans N [--day]` only sends to a collector that runs already).
//!
//! For queries over more than can be sent in reasonable time: `TRACEMETER_BENCH_SPANS=100000000
//! scripts/bench.sh collector` sends a few, stops the collector, lets its own writer multiply the
//! partitions to a day of that many (`collector/src/engine/multiply.rs`: 65 bytes of disk each),
//! starts it again, and sends the ledger of the day and some spans that stay in memory.
//! `TRACEMETER_BENCH_FOLDER` names the folder and keeps it: what is there is not made again.
//!
//! The collector is the one in `dist/`, a process of its own; spans are spread over the last 24 hours, with the
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
#[path = "collector/queries.rs"]
mod queries;
#[path = "collector/shape.rs"]
mod shape;

use load::{Load, Sent};
use process::Collector;

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
    if let Some(spans) = number("TRACEMETER_BENCH_SPANS") {
        return large(spans);
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
    queries::run(&collector, &[("a trace by id", &sent.traces)]);
    memory(&collector);
    collector.stop();
}

/// Sent before the rest is made of it: more than a large partition holds.
const SENT: u64 = 600_000;
/// Spans that stay in memory, not enough for a partition.
const HOT: u64 = 40_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn load_now(collector: &Collector, spans: u64) -> Sent {
    load::run(&Load {
        address: collector.http,
        spans,
        connections: 8,
        day: false,
    })
}

/// Queries over a day of many spans.
fn large(spans: u64) {
    let mut collector = Collector::start();
    if !collector.is_filled() {
        speed(&load_now(&collector, SENT));
        collector.wait_until_written();
        let start = std::time::Instant::now();
        collector.pause();
        collector.multiply(spans);
        collector.resume();
        println!("multiplied in {:.0} s", start.elapsed().as_secs_f64());
        ledger::send(
            &mut load::Client::connect(collector.http),
            load::now_ns() - 86_400_000_000_000,
        );
        // A partition by itself, as hours later.
        load_now(&collector, 3 * HOT);
        collector.wait_until_written();
    }
    let hot = load_now(&collector, HOT);
    let stored = queries::stored_traces(&collector);
    queries::run(
        &collector,
        &[
            ("a trace by id, in memory", &hot.traces),
            ("a trace by id, in partitions", &stored),
        ],
    );
    memory(&collector);
    collector.stop();
}

fn memory(collector: &Collector) {
    println!(
        "memory: {} MiB at the peak, {} MiB now",
        collector.resident_mib("VmHWM"),
        collector.resident_mib("VmRSS")
    );
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
