//! Ids of new traces as they are on the wire: no repetition, uniform low bytes, the random flag.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeSet;

use integration_tests::envoy::Envoy;
use serde_json::{Value, json};

mod proxies;
mod wire;
use proxies::{Listener, at_rate, with};
use wire::{Echo, Seen};

/// New traces that are looked at.
const TRACES: usize = 20_000;

/// Proxy workers: each has its own state, and two with equal ids would be seen.
const WORKERS: u32 = 2;

/// Bounds of chi-square with 255 degrees of freedom at five standard deviations on either side
/// (Wilson-Hilferty): too uneven is not random, and too even is a counter. A right program fails
/// once in 250,000 runs of seven bytes.
const CHI_SQUARE: std::ops::Range<f64> = 157.4..384.5;

async fn new_traces(policy: Value) -> Vec<Seen> {
    let echo = Echo::start().await;
    let policy = with(policy, json!({"export": {"cluster": ""}}));
    let listener = Listener::new("inbound", "INBOUND", policy);
    let config = proxies::config(&[listener], echo.address(), echo.address());
    let envoy = Envoy::start("ids", &config, WORKERS).await.unwrap();
    let requests = vec![wire::get("/new", &[]); TRACES];
    wire::send_all(envoy.listener("inbound").unwrap(), 8, requests).await
}

fn bytes(trace_id: &str) -> [u8; 16] {
    u128::from_str_radix(trace_id, 16).unwrap().to_be_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_of_new_traces_do_not_repeat_and_their_low_bytes_are_uniform() {
    let seen = new_traces(at_rate(0.5)).await;
    assert_eq!(seen.len(), TRACES);
    assert!(seen.iter().all(|seen| seen.status == 200));

    let traces: BTreeSet<&str> = seen.iter().map(Seen::trace_id).collect();
    assert_eq!(traces.len(), TRACES, "trace ids repeat");
    let spans: BTreeSet<&str> = seen.iter().map(|seen| &seen.traceparent[36..52]).collect();
    assert_eq!(spans.len(), TRACES, "span ids repeat");

    let expected = TRACES as f64 / 256.0;
    let mut statistics = Vec::new();
    for position in 9..16 {
        let mut counts = [0_u32; 256];
        for trace in &traces {
            counts[usize::from(bytes(trace)[position])] += 1;
        }
        let statistic: f64 = counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum();
        statistics.push(statistic.round());
        assert!(
            CHI_SQUARE.contains(&statistic),
            "byte {position}: chi-square {statistic}"
        );
    }
    println!("chi-square of the seven low bytes: {statistics:?}");

    // Default: the id is random and says so, whether the trace is sampled or not.
    for seen in &seen {
        assert!(matches!(seen.flags(), "02" | "03"), "{}", seen.traceparent);
    }
    let sampled = seen.iter().filter(|seen| seen.is_sampled()).count();
    assert!(
        (9_600..=10_400).contains(&sampled),
        "{sampled} of {TRACES} at rate 0.5"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_random_flag_of_new_traces_is_absent_when_the_policy_says_so() {
    let policy = with(at_rate(0.5), json!({"propagation": {"random_flag": false}}));
    for seen in new_traces(policy).await {
        assert!(matches!(seen.flags(), "00" | "01"), "{}", seen.traceparent);
    }
}
