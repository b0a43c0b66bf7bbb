//! Ingest alone: many spans, and what they cost in processor time, memory and disk.

use std::time::{Duration, Instant};

use crate::load::{self, Load, Sent};
use crate::process::Collector;

/// Spans between two looks at the clock.
const ROUND: u64 = 500_000;
/// Seconds to send for, unless told otherwise.
const SECONDS: u64 = 900;
/// After it, what is resident is what stays.
const QUIET: Duration = Duration::from_secs(20);

/// Sends `spans`, or as many as there is time for.
pub(crate) fn run(spans: u64) {
    let seconds = std::env::var("TRACEMETER_BENCH_SECONDS");
    let seconds = seconds.map_or(SECONDS, |text| text.parse().unwrap());
    let mut collector = Collector::start();
    let idle = collector.resident_mib("VmRSS");
    let mut sent = Sent::default();
    let start = Instant::now();
    while sent.spans < spans && start.elapsed() < Duration::from_secs(seconds) {
        let round = load::run(&Load {
            address: collector.http,
            spans: ROUND.min(spans - sent.spans),
            connections: 8,
            day: false,
        });
        sent.spans += round.spans;
        sent.bytes += round.bytes;
        sent.refusals += round.refusals;
        sent.seconds += round.seconds;
    }
    crate::speed(&sent);
    collector.wait_until_written();
    crate::costs(&collector, &sent);
    let stored = collector.metric("spans_stored_total");
    assert_eq!(stored, sent.spans, "every acknowledged span is stored once");
    let after = collector.resident_mib("VmRSS");
    std::thread::sleep(QUIET);
    println!(
        "memory, MiB: {idle} idle, {} at the peak, {after} afterwards, {} after {} quiet seconds",
        collector.resident_mib("VmHWM"),
        collector.resident_mib("VmRSS"),
        QUIET.as_secs()
    );
    println!(
        "assembly: {} traces in {} KiB, {} evicted",
        collector.metric("assembly_traces"),
        collector.metric("assembly_bytes") >> 10,
        collector.metric("assembly_evicted_total")
    );
    collector.stop();
}
