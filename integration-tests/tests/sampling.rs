//! Ten thousand requests at a rate of one in ten: how many traces are kept, and that each is kept
//! or dropped as a whole, on every hop, by its own randomness.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use integration_tests::client::{Call, Protocol};
use integration_tests::collector::{Collector, number};
use integration_tests::mesh::{Chain, SERVICE_A};
use w3c_traceparent_parser::otel::{Randomness, Threshold};

mod support;
use support::{KEEP_A_TENTH, traceparent};

const REQUESTS: usize = 10_000;

/// Requests at once.
const CONCURRENCY: usize = 16;

/// Five standard deviations of the binomial distribution: 5 x sqrt(10,000 x 0.1 x 0.9). A right
/// program fails once in 1.7 million runs.
const TOLERANCE: usize = 150;

/// Spans of a whole trace: the ingress, A inbound, A outbound, B inbound.
const HOPS: u64 = 4;

async fn send_all(chain: &Chain) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONCURRENCY {
        let client = chain.client.clone();
        let protocol = Protocol::ALL[number % 3];
        tasks.spawn(async move {
            for _ in 0..REQUESTS / CONCURRENCY {
                let reply = client
                    .send(Call::new(protocol, SERVICE_A, "/sampled"))
                    .await
                    .unwrap();
                assert!(reply.is_ok(), "{reply:?}");
            }
        });
    }
    tasks.join_all().await;
}

/// Spans by trace, read in pages so that no limit of the interface matters.
async fn stored(collector: &Collector) -> BTreeMap<String, u64> {
    const PAGE: usize = 500;
    let mut traces = BTreeMap::new();
    loop {
        let query = format!(
            "SELECT trace_id, COUNT(DISTINCT span_id) AS spans FROM spans GROUP BY trace_id \
             ORDER BY trace_id LIMIT {PAGE} OFFSET {}",
            traces.len()
        );
        let rows = collector.sql(&query).await.unwrap();
        let last = rows.len() < PAGE;
        for row in rows {
            let trace = row["trace_id"].as_str().unwrap().to_owned();
            traces.insert(trace, number(&row["spans"]).unwrap() as u64);
        }
        if last {
            return traces;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_in_ten_is_kept_and_each_as_a_whole() {
    let chain = Chain::start(KEEP_A_TENTH).await.unwrap();
    let started = std::time::Instant::now();
    send_all(&chain).await;
    println!("{REQUESTS} requests in {:?}", started.elapsed());

    let threshold = Threshold::from_probability(0.1).unwrap();
    let mut by_randomness = BTreeSet::new();
    let mut traces = BTreeSet::new();
    for app in [&chain.a.app, &chain.b.app] {
        let recorded = app.take_recorded();
        assert_eq!(recorded.len(), REQUESTS);
        for request in recorded {
            let parent = traceparent(&request.headers);
            let keeps = threshold.keeps(Randomness::from_trace_id(parent.trace_id));
            assert_eq!(parent.flags.is_sampled(), keeps, "{:?}", request.headers);
            let members = request.headers.members("tracestate");
            let written = members.iter().any(|member| member == "ot=th:e666");
            assert_eq!(written, keeps, "{members:?}");
            traces.insert(parent.trace_id.to_string());
            if keeps {
                by_randomness.insert(parent.trace_id.to_string());
            }
        }
    }
    assert_eq!(traces.len(), REQUESTS, "trace ids repeat");
    let kept = by_randomness.len();
    assert!(
        kept.abs_diff(REQUESTS / 10) <= TOLERANCE,
        "{kept} of {REQUESTS} kept at rate 0.1"
    );

    let spans = kept as f64 * HOPS as f64;
    let count = "SELECT COUNT(*) FROM spans";
    let limit = Duration::from_secs(60);
    chain
        .collector
        .wait_for_number(count, limit, |number| number >= spans)
        .await
        .unwrap();
    let stored = stored(&chain.collector).await;
    println!("{kept} kept, {} stored", stored.len());
    let broken: Vec<_> = stored.iter().filter(|(_, spans)| **spans != HOPS).collect();
    assert!(broken.is_empty(), "traces that are not whole: {broken:?}");
    assert_eq!(stored.into_keys().collect::<BTreeSet<_>>(), by_randomness);
}
