//! Adaptive rates on real Envoys: a table that changes in the middle of the traffic moves the share
//! that is kept and splits no trace; without a collector the rates go on; and the real collector
//! makes tables from what the filters count.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use integration_tests::app::{Plan, Recorded};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::Collector;
use integration_tests::envoy::Envoy;
use integration_tests::mesh::{Mesh, Proxy, SERVICE_A, SERVICE_B, Service};
use integration_tests::wait;
use tokio::task::JoinSet;

mod receiver;
use receiver::Receiver;

/// How long anything may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

const WORKERS: u32 = 2;

/// Requests at once.
const CONCURRENCY: usize = 6;

/// Spans of a whole trace: the ingress, A inbound, A outbound, B inbound.
const HOPS: usize = 4;

/// Nothing but the adaptive rates, and until then the static one, keeps a trace.
fn policy(target: u32, default_rate: f64) -> String {
    format!(
        "sampling:\n  default_rate: {default_rate}\n  priority_rules: []\n  low_volume: {{ traces_per_minute: 0 }}\n  \
         error_classes: {{ rate: 0 }}\n  adaptive:\n    enabled: true\n    \
         adjustment_interval: 4s\n    target_traces_per_second: {target}\n\
         export: {{ ledger_interval: 1s, timeout: 1s }}\n"
    )
}

/// client -> ingress -> A -> B, and clients that do not stop.
struct Setup {
    ingress: Envoy,
    a: Service,
    b: Service,
    sent: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

/// A statistic of the filter.
fn of(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    let name = format!("wasmcustom.tracemeter_{name}");
    stats.get(&name).copied().unwrap_or(0)
}

impl Setup {
    async fn start(policy: &str, collector: SocketAddr) -> Self {
        let mesh = Mesh::new(policy, collector).unwrap();
        let b = mesh
            .service(SERVICE_B, &[], |_: &Recorded| Plan::default())
            .await
            .unwrap();
        let calls_b = |seen: &Recorded| Plan {
            calls: vec![Call::new(seen.protocol, SERVICE_B, &seen.path)],
            ..Plan::default()
        };
        let routes = [(SERVICE_B, b.inbound)];
        let a = mesh.service(SERVICE_A, &routes, calls_b).await.unwrap();
        let ingress = mesh
            .proxy(&Proxy {
                service: "ingress".to_owned(),
                ingress: true,
                routes: vec![(SERVICE_A.to_owned(), a.inbound)],
                workers: WORKERS,
                ..Proxy::default()
            })
            .await
            .unwrap();
        let mut setup = Self {
            sent: Arc::default(),
            stop: Arc::default(),
            clients: JoinSet::new(),
            ingress,
            a,
            b,
        };
        setup.send();
        setup
    }

    fn send(&mut self) {
        for number in 0..CONCURRENCY {
            let client = Client::new(self.ingress.listener("ingress").unwrap());
            let (sent, stop) = (Arc::clone(&self.sent), Arc::clone(&self.stop));
            let protocol = Protocol::ALL[number % 3];
            self.clients.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let call = Call::new(protocol, SERVICE_A, "/cart");
                    let reply = client.send(call).await.unwrap();
                    assert!(reply.is_ok(), "{reply:?}");
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }

    async fn stat(&self, name: &str) -> u64 {
        of(&self.ingress.stats().await.unwrap(), name)
    }

    /// Waits for some requests that this source decides; gives the kept and all of them.
    async fn share(&self, source: &str, requests: u64) -> (u64, u64) {
        let before = self.ingress.stats().await.unwrap();
        let what = format!("{requests} requests by {source}");
        let now = wait::until(&what, LIMIT, async || {
            let now = self.ingress.stats().await?;
            Ok((of(&now, source) >= of(&before, source) + requests).then_some(now))
        });
        let now = now.await.unwrap();
        let since = |name: &str| of(&now, name) - of(&before, name);
        (since("kept_total"), since("requests_total"))
    }

    async fn wait_for(&self, name: &str, at_least: u64) {
        let what = format!("{name} to be {at_least}");
        wait::until(&what, LIMIT, async || {
            Ok((self.stat(name).await >= at_least).then_some(()))
        })
        .await
        .unwrap();
    }

    async fn end(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.sent.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_changes_under_load_moves_the_share_and_splits_no_trace() {
    let receiver = Receiver::start().await;
    let mut setup = Setup::start(&policy(100, 0.0), receiver.address()).await;
    let (kept, _) = setup.share("rates_decided_static_total", 50).await;
    assert_eq!(kept, 0, "static: nothing");

    let mut shares = Vec::new();
    for (version, threshold) in [(1, "0"), (2, "c"), (3, "8"), (4, "0"), (5, "f")] {
        receiver.set_rates(Some((version, threshold)));
        setup.wait_for("rates_version", version).await;
        // Its neighbour takes the table over with its next look.
        let answered = receiver.rates_answered(304) as u64;
        let again = wait::until("both workers to have asked", LIMIT, async || {
            Ok((receiver.rates_answered(304) as u64 >= answered + 3).then_some(()))
        });
        again.await.unwrap();
        let (kept, all) = setup.share("rates_decided_table_total", 200).await;
        shares.push(kept as f64 / all as f64);
    }
    eprintln!("shares {shares:?}");
    for (share, wanted) in shares.iter().zip([1.0, 0.25, 0.5, 1.0, 0.0625]) {
        assert!((share - wanted).abs() < 0.15, "{shares:?}");
    }

    let sent = setup.end().await;
    setup.wait_for("requests_ended_total", sent).await;
    let ledger = wait::until("the counts of all decisions", LIMIT, async || {
        let ledger = receiver.ledger();
        Ok((ledger.decided >= sent).then_some(ledger))
    });
    let ledger = ledger.await.unwrap();
    assert_eq!(ledger.decided, sent, "each trace once, at its root alone");
    let kept = setup.stat("kept_total").await as usize;
    // Counted once each: a batch that was answered late comes twice.
    let whole = wait::until("every span", LIMIT, async || {
        Ok((receiver.distinct() >= kept * HOPS).then_some(()))
    });
    whole.await.unwrap();
    let mut traces = BTreeMap::<String, Vec<String>>::new();
    for span in receiver.spans() {
        traces.entry(span.trace_id).or_default().push(span.id);
    }
    eprintln!("{sent} requests, {kept} traces kept");
    assert_eq!(traces.len(), kept);
    for (trace, mut spans) in traces {
        spans.sort();
        spans.dedup();
        assert_eq!(spans.len(), HOPS, "{trace} is not whole");
    }
    for service in [&setup.a, &setup.b] {
        let asked = service.sidecar.stat_sum("rates_requests_total").await;
        assert_eq!(asked.unwrap(), 0, "no trace begins at {}", service.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_the_last_table_holds_and_then_the_own_rates() {
    let receiver = Receiver::start().await;
    receiver.set_rates(Some((7, "0")));
    // A target that even a slow machine's traffic is above, so that own rates have to drop some.
    let mut setup = Setup::start(&policy(20, 0.05), receiver.address()).await;
    setup.wait_for("rates_version", 7).await;
    receiver.be_away(true);
    let (kept, all) = setup.share("rates_decided_table_total", 100).await;
    assert!(kept * 10 > all * 8, "the last table: {kept} of {all}");
    setup.wait_for("rates_failed_total", 1).await;
    let (_, all) = setup.share("rates_decided_local_total", 500).await;
    assert!(all >= 500);
    let (kept, all) = setup.share("rates_decided_local_total", 2_000).await;
    eprintln!("own rates: {kept} of {all}");
    assert!(kept > 0 && kept < all, "{kept} of {all}");
    receiver.be_away(false);
    setup.wait_for("rates_version", 7).await;
    setup.share("rates_decided_table_total", 100).await;
    setup.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_collector_makes_tables_from_what_the_filters_count() {
    let policy = policy(10, 0.1);
    let collector = Collector::start(Some(&policy)).await.unwrap();
    let mut setup = Setup::start(&policy, collector.http()).await;
    setup.wait_for("rates_fetched_total", 1).await;
    // Some tables later: what is kept per second is near the target.
    setup.wait_for("rates_fetched_total", 4).await;
    let started = std::time::Instant::now();
    let (mut kept, mut all) = (0, 0);
    // Long enough that a right rate does not keep none by chance.
    while all < 1_500 || started.elapsed() < Duration::from_secs(4) {
        let (more_kept, more) = setup.share("rates_decided_table_total", 500).await;
        kept += more_kept;
        all += more;
    }
    let seconds = started.elapsed().as_secs_f64();
    let per_second = kept as f64 / seconds;
    eprintln!("{kept} of {all} kept in {seconds} s: {per_second} per second");
    assert!(kept > 0 && kept < all / 2, "{kept} of {all}");
    assert!(
        (1.0..100.0).contains(&per_second),
        "{per_second} per second"
    );
    setup.end().await;
}
