//! A budget: what a span weighs on disk, ids random, times and costs as a mesh has them.
//!
//! The shape is that of `bench/benches/collector/shape.rs`, whose number is in
//! `docs/performance.md`; without what a sender said in attributes, the goal is 40 bytes.

use std::time::Instant;

use opentelemetry_proto::tonic::trace::v1::Span;

use super::{Settings, Store, compact};
use crate::testing::{decode, double, now_ns, request, span, text};

const SPANS: usize = 40_000;
const LIMIT: f64 = 40.0;
const DAY_NS: u64 = 86_400_000_000_000;

/// Spans of one trace, by service.
fn trace(random: &mut fastrand::Rng, base_ns: u64, into: &mut [Vec<Span>]) {
    let id = random.u128(1..);
    let ids: Vec<u64> = (0..random.usize(1..=14)).map(|_| random.u64(1..)).collect();
    let start_us = random.u64(1_000_000..60_000_000);
    let randomness = random.u64(0..1 << 56);
    let mut path_cost = 0.0;
    for (index, own) in ids.iter().enumerate() {
        let parent = ids[..index].get(random.usize(0..=index.max(1) - 1));
        let cost = (random.f64() * 400.0).round() * 1e-7;
        path_cost += cost;
        let operations = ["api_call", "database_query", "cache_lookup", "storage"];
        let attributes = vec![
            double("cost_usd", cost),
            text("operation_type", operations[random.usize(0..4)]),
            text(
                "data_tag",
                ["EXPORT_OK", "SENSITIVE"][usize::from(random.u32(0..4) == 0)],
            ),
            text("url.path", &format!("/items/{}", random.u32(..))),
        ];
        let mut one = span(id, *own, parent.copied().unwrap_or(0), 0, attributes);
        let duration_us = (120.0 * (random.f64() * 6.0).exp()) as u64 % start_us;
        let after_us = random.u64(0..=(start_us - duration_us) / 50);
        one.start_time_unix_nano = base_ns - (start_us - after_us) * 1_000 + random.u64(0..1_000);
        one.end_time_unix_nano =
            one.start_time_unix_nano + duration_us * 1_000 + random.u64(0..1_000);
        one.name = format!("GET /route/{}", random.u32(0..6));
        one.kind = 2 + (index % 2) as i32;
        one.trace_state =
            format!("cost_usd={path_cost:.7},data_tag=EXPORT_OK,ot=th:e66;rv:{randomness:014x}");
        let service = if index == 0 {
            0
        } else {
            random.usize(1..into.len())
        };
        into[service].push(one);
    }
}

#[test]
fn a_span_weighs_at_most_forty_bytes_without_raw_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(Settings::default(), 0, Vec::new());
    let mut random = fastrand::Rng::with_seed(6);
    // No midnight within it.
    let noon = now_ns() / DAY_NS * DAY_NS - DAY_NS / 2;
    let mut sent = 0;
    while sent < SPANS {
        let mut services: Vec<Vec<Span>> = vec![Vec::new(); 12];
        while services.iter().map(Vec::len).sum::<usize>() < 500 {
            trace(&mut random, noon + sent as u64 * 20_000, &mut services);
        }
        for (number, spans) in services.into_iter().enumerate() {
            sent += spans.len();
            let batch = decode(&request(&format!("service-{number}"), spans));
            store.insert(&batch, Instant::now()).unwrap();
        }
    }
    let metas = compact::write(&store.seal(1).unwrap(), folder.path()).unwrap();
    let bytes: u64 = metas.iter().map(|meta| meta.bytes - meta.raw_bytes).sum();
    let weight = bytes as f64 / sent as f64;
    println!("{weight:.2} bytes per span without raw attributes, the limit is {LIMIT}");
    assert!(weight <= LIMIT, "{weight}");
}
