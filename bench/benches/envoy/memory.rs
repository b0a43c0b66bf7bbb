//! Memory that the filter adds to an Envoy with two workers, and whether it grows in a long run.

use std::path::Path;

use crate::load::{self, Load, Requests};
use crate::proxy::Proxy;
use crate::variants::{self, Place, Variant};

/// Workers of each Envoy.
const WORKERS: u32 = 2;

/// What the filter may add, MiB.
const ADDED_MIB: f64 = 30.0;

/// Requests after which the memory is taken as settled: V8 has compiled what is hot.
const SETTLED: usize = 100_000;

/// Requests of the long run.
const LONG_RUN: usize = 1_000_000;

/// Growth from the settled state to the end of the long run that is the allocator's mood, MiB.
const MOOD_MIB: f64 = 2.0;

/// Prints both; a quick look runs a twentieth of the requests.
pub(crate) fn report(module: &Path, folder: &Path, quick: bool) {
    let part = if quick { 20 } else { 1 };
    let (receiver, _) = load::serve();
    let place = Place {
        module,
        empty_module: module,
        modules: &[],
        upstream: None,
        receiver,
    };
    let start = |variant: Variant, name: &str| {
        let configuration = variants::configuration(variant, &place);
        let mut proxy = Proxy::start(&configuration, folder.join(name), WORKERS);
        proxy.wait();
        proxy
    };
    let run = |proxy: &Proxy, requests: usize, seed: u64| {
        // Connections anew, so that both workers get some.
        Load::new(proxy.address(), Requests::new("00", seed)).slice(requests / part);
        proxy.resident_mib()
    };
    println!("\nmemory with {WORKERS} workers, MiB resident");
    let bare = start(Variant::Nothing, "memory-none");
    let bare_idle = bare.resident_mib();
    let bare_settled = run(&bare, SETTLED, 1);
    println!("no filter: {bare_idle:.1} at the start, {bare_settled:.1} settled");
    drop(bare);
    let ours = start(Variant::Ours(0.01), "memory-ours");
    let idle = ours.resident_mib();
    let settled = run(&ours, SETTLED, 2);
    println!("tracemeter, 1 %: {idle:.1} at the start, {settled:.1} settled");
    let added = settled - bare_settled;
    let verdict = |reached: bool| if reached { "reached" } else { "missed" };
    println!(
        "goal: memory added: {added:.1} ({:.1} at the start), at most {ADDED_MIB:.0}: {}",
        idle - bare_idle,
        verdict(added <= ADDED_MIB)
    );
    let steps = 4;
    let mut last = settled;
    for step in 1..=steps {
        last = run(&ours, (LONG_RUN - SETTLED) / steps, 2 + step as u64);
        println!("after {} of the long run: {last:.1}", share(step, steps));
    }
    println!(
        "goal: growth over {} requests: {:.1} MiB, at most {MOOD_MIB:.0}: {}",
        LONG_RUN / part,
        last - settled,
        verdict(last - settled <= MOOD_MIB)
    );
}

fn share(step: usize, steps: usize) -> String {
    format!("{step}/{steps}")
}
