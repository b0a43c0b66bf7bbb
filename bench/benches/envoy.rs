//! What a request costs a real Envoy with our filter, with others, and with none.
//!
//! `cargo bench -p bench --bench envoy` (`-- --quick` for a short look, `-- --direct` for one
//! table, `-- --memory` for memory alone, `-- --module=<path>`, as often as wanted, to compare
//! modules with each other instead). The figure is processor time of the whole Envoy process per request, exporting included.
//! Each variant is a process of its own with one worker; all of a generation run at the same time
//! and are visited in random order in short slices of exactly as many requests, so that the
//! machine's moods hit all alike. The time of a visit runs to the variant's next visit, less what
//! the idle process takes: batches that leave later belong to the requests that caused them.
//! Ratios of one run hold, absolute times are the machine's. Nothing fails by timing.
//!
//! Memory is measured with two workers (`envoy/memory.rs`).
//!
//! What it is not: a measure of throughput.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing
)]

#[path = "envoy/empty_module.rs"]
mod empty_module;
#[path = "envoy/load.rs"]
mod load;
#[path = "envoy/memory.rs"]
mod memory;
#[path = "envoy/proxy.rs"]
mod proxy;
#[path = "envoy/variants.rs"]
mod variants;

use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use load::{Load, Received, Requests};
use proxy::Proxy;
use variants::{Place, Variant};

/// How much is measured.
struct Extent {
    generations: usize,
    rounds: usize,
    slice: usize,
    /// Requests per round of the latency measurement.
    paced: usize,
}

const FULL: Extent = Extent {
    generations: 2,
    rounds: 14,
    slice: 1600,
    paced: 150,
};
const QUICK: Extent = Extent {
    generations: 1,
    rounds: 6,
    slice: 800,
    paced: 40,
};

/// Requests before anything is measured. V8 compiles hot functions of a module a second time, for
/// speed; the processor time of that would be taken for the requests'.
const WARM_UP: usize = 12_000;

/// What the filter may add to the slowest hundredth of requests, microseconds.
const P99_MICROS: f64 = 100.0;

/// How long the idle processes are watched.
const IDLE: Duration = Duration::from_secs(3);

/// What was found about a variant.
#[derive(Default)]
struct Found {
    /// Microseconds of processor time per request, one per visit.
    visits: Vec<f64>,
    /// Microseconds per request at the fixed rate.
    latencies: Vec<f64>,
    resident_mib: f64,
    requests: u64,
}

fn main() {
    let has = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    let extent = if has("--quick") { QUICK } else { FULL };
    let folder = std::env::temp_dir().join(format!("tracemeter-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let empty_module = folder.join("empty.wasm");
    std::fs::write(&empty_module, empty_module::bytes()).unwrap();
    let module = proxy::module();
    let (upstream, _) = load::serve();
    let modules: Vec<PathBuf> = std::env::args()
        .filter_map(|argument| argument.strip_prefix("--module=").map(PathBuf::from))
        .collect();
    let all = variants::all(&modules);
    if modules.is_empty() {
        memory::report(&module, &folder, has("--quick"));
    }
    for proxied in [false, true] {
        if has("--memory") || proxied && has("--direct") {
            break;
        }
        let (receiver, received) = load::serve();
        let place = Place {
            module: &module,
            empty_module: &empty_module,
            modules: &modules,
            upstream: proxied.then_some(upstream),
            receiver,
        };
        let mut found: Vec<Found> = all.iter().map(|_| Found::default()).collect();
        for generation in 0..extent.generations {
            let folder = folder.join(format!("{proxied}-{generation}"));
            run_generation(
                &extent,
                &place,
                &all,
                &folder,
                generation as u64,
                &mut found,
            );
        }
        report(proxied, &extent, &all, &found, &received);
    }
    let _ = std::fs::remove_dir_all(&folder);
}

/// One process per variant, idle at first, then visited in turn.
fn run_generation(
    extent: &Extent,
    place: &Place<'_>,
    all: &[Variant],
    folder: &std::path::Path,
    seed: u64,
    found: &mut [Found],
) {
    let start = |(index, variant): (usize, &Variant)| {
        let folder: PathBuf = folder.join(index.to_string());
        Proxy::start(&variants::configuration(*variant, place), folder, 1)
    };
    let mut proxies: Vec<Proxy> = all.iter().enumerate().map(start).collect();
    let mut loads = Vec::new();
    for (index, proxy) in proxies.iter_mut().enumerate() {
        proxy.wait();
        let requests = Requests::new(all[index].parent_flag(), seed * 100 + index as u64);
        let mut load = Load::new(proxy.address(), requests);
        load.slice(WARM_UP);
        found[index].requests += WARM_UP as u64;
        loads.push(load);
    }
    // What is still to be exported of the warm-up.
    thread::sleep(IDLE);
    let before: Vec<u64> = proxies.iter().map(Proxy::cpu_nanos).collect();
    thread::sleep(IDLE);
    let idle = proxies.iter().zip(before);
    let idle: Vec<f64> = idle
        .map(|(proxy, before)| (proxy.cpu_nanos() - before) as f64 / IDLE.as_secs_f64())
        .collect();

    let mut rng = fastrand::Rng::with_seed(seed);
    let mut order: Vec<usize> = (0..all.len()).collect();
    // When each was last visited, and its processor time then.
    let mut last: Vec<Option<(Instant, u64)>> = vec![None; all.len()];
    let mut close = |index: usize, proxy: &Proxy, last: Option<(Instant, u64)>| {
        let now = proxy.cpu_nanos();
        if let Some((since, before)) = last {
            let idle = idle[index] * since.elapsed().as_secs_f64();
            let nanos = (now - before) as f64 - idle;
            found[index].visits.push(nanos / 1e3 / extent.slice as f64);
            found[index].requests += extent.slice as u64;
        }
        now
    };
    for _ in 0..extent.rounds {
        rng.shuffle(&mut order);
        for &index in &order {
            let now = close(index, &proxies[index], last[index]);
            last[index] = Some((Instant::now(), now));
            loads[index].slice(extent.slice);
        }
    }
    thread::sleep(IDLE);
    for (index, proxy) in proxies.iter().enumerate() {
        close(index, proxy, last[index]);
    }
    for _ in 0..extent.rounds {
        rng.shuffle(&mut order);
        for &index in &order {
            let times = loads[index].paced(extent.paced);
            found[index].latencies.extend(times);
            found[index].requests += extent.paced as u64;
        }
    }
    thread::sleep(IDLE / 2);
    for (index, proxy) in proxies.iter().enumerate() {
        found[index].resident_mib = found[index].resident_mib.max(proxy.resident_mib());
    }
}

/// The mean without the tenth on either side.
fn trimmed_mean(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 10;
    let kept = &values[cut..values.len() - cut];
    kept.iter().sum::<f64>() / kept.len() as f64
}

fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

fn report(proxied: bool, extent: &Extent, all: &[Variant], found: &[Found], received: &Received) {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let what = if proxied {
        "through an upstream"
    } else {
        "answered by the proxy itself"
    };
    println!(
        "\nprocessor time per request, {what}; {} generations of {} slices of {} requests; load {}",
        extent.generations,
        extent.rounds,
        extent.slice,
        load.trim()
    );
    println!(
        "{:<30} {:>7} {:>7} {:>6}  {:>7} {:>7} {:>9} {:>9}",
        "", "us", "added", "ratio", "p99 us", "added", "sent B/rq", "RSS MiB"
    );
    let base = trimmed_mean(&found[0].visits);
    let base_p99 = quantile(&found[0].latencies, 0.99);
    let received = received.lock().unwrap();
    for (variant, found) in all.iter().zip(found) {
        let mean = trimmed_mean(&found.visits);
        let p99 = quantile(&found.latencies, 0.99);
        let sent = received.get(&variant.path()).copied().unwrap_or_default();
        assert!(sent.0 > 0 || !variant.exports(), "{variant:?} sent nothing");
        println!(
            "{:<30} {mean:>7.2} {:>7.2} {:>6.3}  {p99:>7.0} {:>7.0} {:>9.1} {:>9.1}",
            variant.name(),
            mean - base,
            mean / base,
            p99 - base_p99,
            sent.1 as f64 / found.requests as f64,
            found.resident_mib,
        );
    }
    goals(proxied, all, found);
}

/// Prints which goals of docs/performance.md are reached.
fn goals(proxied: bool, all: &[Variant], found: &[Found]) {
    if !all.contains(&Variant::Ours(0.0)) {
        return;
    }
    let of = |wanted: Variant| {
        let index = all.iter().position(|variant| *variant == wanted).unwrap();
        trimmed_mean(&found[index].visits)
    };
    let base = of(Variant::Nothing);
    let control = of(Variant::Control) / base;
    if !(0.96..=1.04).contains(&control) {
        println!(
            "no verdict: the machine was too busy, no filter differs from itself by {control:.2}"
        );
        return;
    }
    let (ours, ours_all) = (of(Variant::Ours(0.0)), of(Variant::Ours(1.0)));
    let (native, native_all) = (of(Variant::Native(1)), of(Variant::Native(100)));
    let limit = if proxied { 1.10 } else { 1.20 };
    let goals = [
        ("unsampled, to no filter", ours / base, limit),
        (
            "unsampled, added, to Envoy's tracer at 1 %",
            (ours - base) / (native - base),
            1.0,
        ),
        (
            "all sampled, added, to Envoy's tracer at 100 %",
            (ours_all - base) / (native_all - base),
            0.45,
        ),
    ];
    for (what, ratio, limit) in goals {
        let verdict = if ratio <= limit { "reached" } else { "missed" };
        println!("goal: {what}: {ratio:.2}, at most {limit:.2}: {verdict}");
    }
    let p99 = |wanted: Variant| {
        let index = all.iter().position(|variant| *variant == wanted).unwrap();
        quantile(&found[index].latencies, 0.99)
    };
    let added = p99(Variant::Ours(0.0)) - p99(Variant::Nothing);
    let verdict = if added < P99_MICROS {
        "reached"
    } else {
        "missed"
    };
    println!(
        "goal: p99 added at about 1000 requests/s, us: {added:.0}, below {P99_MICROS}: {verdict}"
    );
}
