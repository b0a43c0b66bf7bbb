//! The return channel on real Envoys: an ingress and three services deep, with a fan-out; one request
//! in a hundred fails at the very end, and its caller answers as if nothing had happened.
//!
//! Every ancestor of an error has its spans, no application and no client ever sees the internal
//! header, and what the ingress knows of the traces' cost is what all ledgers together say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use integration_tests::app::{App, Plan, Recorded, has_internal_header};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::{Collector, number};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::wait;

mod support;
use support::traceparent;

/// Requests at once.
const CONCURRENCY: usize = 12;

/// One request in this many fails.
const ONE_FAILS_IN: usize = 100;

/// How long the last spans and counts may take on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(90);

/// What a client says to have the last service fail; the context carries it there.
const FAIL: &str = "fail=1";

/// The spans of an error's path: service and kind.
const PATH: [(&str, &str); 6] = [
    ("ingress", "SERVER"),
    ("front", "SERVER"),
    ("front", "CLIENT"),
    ("middle", "SERVER"),
    ("middle", "CLIENT"),
    ("back", "SERVER"),
];

/// The spans of a whole trace: the path, and the other branch of the fan-out.
const WHOLE: usize = PATH.len() + 2;

fn policy(rate: f64) -> String {
    format!(
        "sampling:\n  default_rate: {rate}\n  priority_rules: []\n  \
         adaptive: {{ enabled: false }}\n  low_volume: {{ traces_per_minute: 0 }}\n\
         cost: {{ settle: response }}\n\
         propagation: {{ return_channel: {{ carries: costs }} }}\n"
    )
}

/// ingress -> front -> (middle -> back, side).
struct Tree {
    client: Client,
    ingress: Envoy,
    services: Vec<(App, Envoy)>,
    collector: Collector,
}

impl Tree {
    async fn start(policy: &str, workers: u32) -> Self {
        let collector = Collector::start(Some(policy)).await.unwrap();
        let mesh = Mesh::new(policy, collector.http()).unwrap();
        let answer = |_: &Recorded| Plan::default();
        let fails = |seen: &Recorded| Plan {
            status: if seen.headers.text("baggage").contains(FAIL) {
                500
            } else {
                0
            },
            ..Plan::default()
        };
        let (back, back_at) = service(&mesh, "back", &[], workers, fails).await;
        let (side, side_at) = service(&mesh, "side", &[], workers, answer).await;
        let routes = [("back", back_at)];
        let calls = |seen: &Recorded| calls(seen, &["back"]);
        let (middle, middle_at) = service(&mesh, "middle", &routes, workers, calls).await;
        let routes = [("middle", middle_at), ("side", side_at)];
        let calls = |seen: &Recorded| self::calls(seen, &["middle", "side"]);
        let (front, front_at) = service(&mesh, "front", &routes, workers, calls).await;
        let proxy = Proxy {
            service: "ingress".to_owned(),
            ingress: true,
            routes: vec![("front".to_owned(), front_at)],
            workers,
            ..Proxy::default()
        };
        let ingress = mesh.proxy(&proxy).await.unwrap();
        Self {
            client: Client::new(ingress.listener("ingress").unwrap()),
            ingress,
            services: vec![front, middle, side, back],
            collector,
        }
    }

    fn proxies(&self) -> impl Iterator<Item = &Envoy> {
        let sidecars = self.services.iter().map(|(_, sidecar)| sidecar);
        sidecars.chain([&self.ingress])
    }

    /// A statistic summed over all proxies.
    async fn stat(&self, name: &str) -> u64 {
        let mut sum = 0;
        for proxy in self.proxies() {
            sum += proxy.stat_sum(name).await.unwrap();
        }
        sum
    }

    /// Bytes of the bodies that all proxies have sent to the collector, spans and counts: before
    /// compression, and as sent.
    async fn exported_bytes(&self) -> [u64; 2] {
        [
            self.stat("tracemeter_export_uncompressed_bytes_total")
                .await,
            self.stat("tracemeter_export_bytes_total").await,
        ]
    }

    /// Sends requests in all protocols, one in a hundred of which fails at the end.
    async fn send(&self, requests: usize) {
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..CONCURRENCY {
            let client = self.client.clone();
            tasks.spawn(async move {
                for number in (task..requests).step_by(CONCURRENCY) {
                    // Not in step with the failures.
                    let protocol = Protocol::ALL[(number / CONCURRENCY) % 3];
                    let mut headers = HeaderLines::new();
                    if number % ONE_FAILS_IN == 0 {
                        headers.push("baggage", FAIL.as_bytes());
                    }
                    let call = Call::new(protocol, "front", "/order").headers(headers);
                    let reply = client.send(call).await.unwrap();
                    assert!(reply.is_ok(), "the error was swallowed: {reply:?}");
                    assert!(!has_internal_header(&reply), "it left the mesh: {reply:?}");
                }
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for (app, _) in &self.services {
            assert_eq!(app.internal_headers(), 0, "an application saw it");
        }
    }

    /// Trace ids of the requests that failed at the end.
    fn failed(&self) -> BTreeSet<String> {
        let (back, _) = &self.services[3];
        let recorded = back.take_recorded();
        let failed = recorded
            .iter()
            .filter(|seen| seen.headers.text("baggage").contains(FAIL));
        failed
            .map(|seen| traceparent(&seen.headers).trace_id.to_string())
            .collect()
    }

    /// Waits until all that is buffered has arrived, then reads the spans by trace.
    async fn spans(&self) -> BTreeMap<String, Vec<(String, String)>> {
        let exported = wait::until("all spans exported", ARRIVAL, async || {
            let buffered = self.stat("tracemeter_spans_buffered_total").await;
            let exported = self.stat("tracemeter_spans_exported_total").await;
            let waiting = self.stat("tracemeter_queue_bytes").await;
            Ok((buffered == exported && waiting == 0 && exported > 0).then_some(exported))
        });
        let exported = exported.await.unwrap() as f64;
        let count = "SELECT COUNT(*) FROM spans";
        let all = |count: f64| count >= exported;
        let _ = self.collector.wait_for_number(count, ARRIVAL, all).await;
        let mut spans: BTreeMap<String, Vec<_>> = BTreeMap::new();
        const PAGE: usize = 500;
        for page in 0.. {
            let query = format!(
                "SELECT trace_id, service_name, kind FROM spans \
                 ORDER BY trace_id, span_id LIMIT {PAGE} OFFSET {}",
                page * PAGE
            );
            let rows = self.collector.sql(&query).await.unwrap();
            for row in &rows {
                let text = |name: &str| row[name].as_str().unwrap().to_owned();
                let trace = spans.entry(text("trace_id")).or_default();
                trace.push((text("service_name"), text("kind")));
            }
            if rows.len() < PAGE {
                break;
            }
        }
        spans
    }
}

/// A service of which the proxy has so many workers.
async fn service(
    mesh: &Mesh,
    name: &str,
    routes: &[(&str, SocketAddr)],
    workers: u32,
    planner: impl Fn(&Recorded) -> Plan + Send + Sync + 'static,
) -> ((App, Envoy), SocketAddr) {
    let app = App::start(planner).await.unwrap();
    let routes = routes.iter();
    let proxy = Proxy {
        service: name.to_owned(),
        upstream: Some(app.address()),
        outbound: true,
        routes: routes.map(|(host, at)| ((*host).to_owned(), *at)).collect(),
        workers,
        ..Proxy::default()
    };
    let sidecar = mesh.proxy(&proxy).await.unwrap();
    app.calls_through(sidecar.listener("outbound").unwrap());
    let inbound = sidecar.listener("inbound").unwrap();
    ((app, sidecar), inbound)
}

/// Calls others in the protocol it was called with, and answers 200 whatever they say.
fn calls(seen: &Recorded, callees: &[&str]) -> Plan {
    let callees = callees.iter();
    Plan {
        calls: callees
            .map(|callee| Call::new(seen.protocol, callee, "/call"))
            .collect(),
        swallows: true,
        ..Plan::default()
    }
}

/// Every error has its whole path; every other trace is there as a whole or not at all.
fn assert_complete(spans: &BTreeMap<String, Vec<(String, String)>>, failed: &BTreeSet<String>) {
    let mut incomplete = Vec::new();
    for trace in failed {
        let found = spans.get(trace).map_or(&[][..], Vec::as_slice);
        let has = |(service, kind): &(&str, &str)| {
            found
                .iter()
                .any(|(name, of)| name == service && of.eq_ignore_ascii_case(kind))
        };
        if !PATH.iter().all(has) || (found.len() != PATH.len() && found.len() != WHOLE) {
            incomplete.push((trace, found));
        }
    }
    assert!(
        incomplete.is_empty(),
        "{} of {} error traces lack a span: {:#?}",
        incomplete.len(),
        failed.len(),
        incomplete.first()
    );
    let others = spans.iter().filter(|(trace, _)| !failed.contains(*trace));
    for (trace, found) in others {
        assert_eq!(found.len(), WHOLE, "{trace}: {found:?}");
    }
}

/// The cost of all requests by the ledgers of all proxies, in nano-USD.
async fn ledger_nanos(collector: &Collector) -> u64 {
    let query = "SELECT SUM(cost_usd) * 1000000000 AS nanos FROM cost_by_service";
    let rows = collector.sql(query).await.unwrap();
    rows.first()
        .and_then(|row| number(&row["nanos"]))
        .map_or(0, |nanos| nanos.round() as u64)
}

/// What the ingress has summed up from replies is what the ledgers of all proxies say.
async fn assert_costs_agree(tree: &Tree, requests: u64) {
    let agreed = wait::until("ledger and ingress agree", ARRIVAL, async || {
        let traces = tree.stat("tracemeter_edge_traces_total").await;
        let edge = tree.stat("tracemeter_edge_trace_cost_nanousd_total").await;
        let ledger = ledger_nanos(&tree.collector).await;
        println!("{traces} traces, ingress {edge} nano-USD, ledgers {ledger} nano-USD");
        Ok((traces == requests && edge == ledger).then_some(edge))
    });
    assert!(agreed.await.unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_ancestor_of_an_error_keeps_its_span_and_the_ingress_knows_the_cost() {
    const REQUESTS: usize = 10_000;
    let tree = Tree::start(&policy(0.01), 1).await;
    tree.send(REQUESTS).await;
    let failed = tree.failed();
    assert_eq!(failed.len(), REQUESTS / ONE_FAILS_IN);
    assert_complete(&tree.spans().await, &failed);
    assert_costs_agree(&tree, REQUESTS as u64).await;
    for name in ["refused", "invalid", "forgotten", "undelivered"] {
        let name = format!("tracemeter_return_{name}_total");
        assert_eq!(tree.stat(&name).await, 0, "{name}");
    }
    let spans = tree.stat("tracemeter_spans_exported_total").await;
    let sampled = tree
        .exported_bytes()
        .await
        .map(|bytes| bytes as f64 / REQUESTS as f64);
    drop(tree);

    const ALL: usize = 1_000;
    let everything = Tree::start(&policy(1.0), 1).await;
    everything.send(ALL).await;
    let _ = everything.spans().await;
    let all = everything
        .exported_bytes()
        .await
        .map(|bytes| bytes as f64 / ALL as f64);
    for (index, what) in ["encoded", "sent (small batches compress worse)"]
        .iter()
        .enumerate()
    {
        let share = 100.0 * sampled[index] / all[index];
        println!(
            "bytes per request, {what}: {:.0} of {:.0} ({share:.2} %)",
            sampled[index], all[index]
        );
    }
    println!("{spans} spans of {}", REQUESTS * WHOLE);
    assert!(sampled[0] < 0.05 * all[0], "{sampled:?} of {all:?} bytes");
}

/// The request to a service and its calls on different workers: the news goes through shared data.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_across_the_workers_of_a_proxy() {
    const REQUESTS: usize = 2_000;
    let tree = Tree::start(&policy(0.01), 2).await;
    tree.send(REQUESTS).await;
    let failed = tree.failed();
    assert_eq!(failed.len(), REQUESTS / ONE_FAILS_IN);
    assert_complete(&tree.spans().await, &failed);
    assert_costs_agree(&tree, REQUESTS as u64).await;
    assert_eq!(tree.stat("tracemeter_return_undelivered_total").await, 0);
    let workers = tree.stat("tracemeter_workers").await;
    assert!(workers > 5, "more than one worker per proxy: {workers}");
}
