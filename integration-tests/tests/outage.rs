//! The collector dies and comes back while requests go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration_tests::app::{ANSWERED_BY, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::Collector;
use integration_tests::mesh::{Chain, Mesh, SERVICE_A};
use integration_tests::wait;

mod support;

/// Everything is kept, and so little may wait that an outage of seconds has to drop.
const SMALL_QUEUE: &str = "\
sampling:
  default_rate: 1.0
  priority_rules: []
  adaptive: { enabled: false }
export:
  queue_bytes: 512KiB
";

/// Spans of a whole trace: the ingress, A inbound, A outbound, B inbound.
const HOPS: u64 = 4;

/// Requests that go on until told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    tasks: tokio::task::JoinSet<Vec<String>>,
}

impl Traffic {
    fn start(chain: &Chain) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let mut tasks = tokio::task::JoinSet::new();
        for protocol in Protocol::ALL {
            let (client, stop, sent) = (chain.client.clone(), Arc::clone(&stop), Arc::clone(&sent));
            tasks.spawn(async move {
                let mut wrong = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let call = Call::new(protocol, SERVICE_A, "/a/path/that/fills/the/queue");
                    sent.fetch_add(1, Ordering::Relaxed);
                    match client.send(call).await {
                        Ok(reply) if reply.is_ok() && reply.headers.text(ANSWERED_BY) == "yes" => {}
                        other => wrong.push(format!("{other:?}")),
                    }
                    tokio::time::sleep(Duration::from_millis(4)).await;
                }
                wrong
            });
        }
        Self { stop, sent, tasks }
    }

    fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until this many requests more were sent.
    async fn more(&self, count: u64) {
        let enough = self.sent() + count;
        wait::until("more requests", Duration::from_secs(60), async || {
            Ok((self.sent() >= enough).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Stops; the answers that were not the application's.
    async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await.concat()
    }
}

/// The sum of one of the filters' counters over all proxies.
async fn sums(chain: &Chain) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for proxy in chain.proxies() {
        for (name, value) in proxy.stats().await.unwrap() {
            if let Some(name) = name.strip_prefix("wasmcustom.tracemeter_") {
                *sums.entry(name.to_owned()).or_default() += value;
            }
        }
    }
    sums
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_collector_changes_no_answer_and_every_lost_span_is_counted() {
    let mut chain = Chain::start(SMALL_QUEUE).await.unwrap();
    let traffic = Traffic::start(&chain);
    let count = "SELECT COUNT(*) FROM spans";
    let arrived = chain
        .collector
        .wait_for_number(count, support::spans::ARRIVAL, |n| n > 100.0);
    let before = match arrived.await {
        Ok(before) => before,
        Err(error) => panic!("{error}: {:#?}", sums(&chain).await),
    };

    chain.collector.kill().unwrap();
    traffic.more(3_000).await;
    chain.collector.restart().await.unwrap();
    let kept = chain.collector.sql_number(count).await.unwrap();
    assert!(
        kept >= before,
        "acknowledged spans were lost: {before} before, {kept} after"
    );
    let resumed = chain
        .collector
        .wait_for_number(count, support::spans::ARRIVAL, |n| n > kept);
    resumed.await.unwrap();
    traffic.more(300).await;

    let sent = traffic.sent();
    let wrong = traffic.end().await;
    assert!(
        wrong.is_empty(),
        "{} of {sent} answers changed: {:?}",
        wrong.len(),
        wrong.first()
    );

    let of = |sums: &BTreeMap<String, u64>, name: &str| sums.get(name).copied().unwrap_or(0);
    let lost = [
        "spans_dropped_queue_full_total",
        "spans_dropped_rejected_total",
    ];
    let settled = wait::until(
        "every span exported or counted as lost",
        support::spans::ARRIVAL,
        async || {
            let sums = sums(&chain).await;
            let gone: u64 = lost.iter().map(|name| of(&sums, name)).sum();
            let (buffered, exported) = (
                of(&sums, "spans_buffered_total"),
                of(&sums, "spans_exported_total"),
            );
            let all = of(&sums, "requests_ended_total") >= sent * HOPS;
            Ok((all && buffered == exported + gone).then_some((buffered, exported, gone, sums)))
        },
    );
    let (buffered, exported, gone, sums) = settled.await.unwrap();
    println!("{sent} requests, {buffered} spans, {exported} exported, {gone} lost");
    assert_eq!(
        buffered,
        of(&sums, "kept_total") + of(&sums, "promoted_total")
    );
    assert!(
        gone > 0,
        "the outage was long enough to lose spans: {sums:#?}"
    );
    assert!(of(&sums, "export_retries_total") > 0, "{sums:#?}");

    // A batch that was stored but not acknowledged before the kill may have been dropped later.
    let stored = chain
        .collector
        .sql_number("SELECT COUNT(DISTINCT span_id) FROM spans")
        .await;
    let stored = stored.unwrap() as u64;
    assert!(
        (exported..=exported + gone).contains(&stored),
        "{stored} stored, {exported} exported"
    );
}

/// More than a few batches per second: exports must follow each other, not the filter's clock (four
/// batches of 512 spans a second). No faster than the collector gets processor time for beside
/// proxy, service and client on two cores: what is more is dropped and counted, as it should.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_answers_gets_every_span_of_a_busy_proxy() {
    const CONNECTIONS: usize = 8;
    const REQUESTS: usize = 24_000;
    const PER_SECOND: u32 = 5_000;
    let pause = Duration::from_secs(CONNECTIONS as u64) / PER_SECOND;
    let collector = Collector::start(None).await.unwrap();
    let mesh = Mesh::new(support::KEEP_ALL, collector.http()).unwrap();
    let answer = |_: &_| Plan {
        unrecorded: true,
        ..Plan::default()
    };
    let service = mesh.service("busy", &[], answer).await.unwrap();
    let started = std::time::Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let client = Client::new(service.inbound);
        tasks.spawn(async move {
            let mut turn = tokio::time::interval(pause);
            for _ in 0..REQUESTS / CONNECTIONS {
                turn.tick().await;
                let call = Call::new(Protocol::Http1, "busy", "/");
                assert!(client.send(call).await.unwrap().is_ok());
            }
        });
    }
    tasks.join_all().await;
    println!("{REQUESTS} requests in {:?}", started.elapsed());
    let count = "SELECT COUNT(DISTINCT span_id) FROM spans";
    let all = |number: f64| number >= REQUESTS as f64;
    if let Err(error) = collector
        .wait_for_number(count, support::spans::ARRIVAL, all)
        .await
    {
        let lost = service.sidecar.stat_sum("spans_dropped").await.unwrap();
        let stored = collector.sql_number(count).await.unwrap();
        panic!("{stored} spans stored, {lost} counted as lost: {error}");
    }
}
