//! What the filter sends to the collector, spans and counts together, against what the proxy
//! carries: below one part in a thousand at the reference mix.
//!
//! **The reference mix:** a shop's edge. Bodies by route as in [`MIX`], 13 kB per exchange on
//! average, one request in a hundred an error (half of them 404, half 500), which are all kept. The
//! mesh begins 10,000 traces per second and the adaptive target is the default of 100, so the
//! collector's table keeps one trace in a hundred. Everything else is the default policy. Bodies
//! are counted on both sides; headers are not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeMap;
use std::time::Duration;

use integration_tests::app::{App, Plan, Recorded};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::mesh::{Mesh, Proxy, SERVICE_A};
use integration_tests::wait;
use tokio::task::JoinSet;

mod receiver;
use receiver::Receiver;

const LIMIT: Duration = Duration::from_secs(60);

/// A route, how many of a hundred requests it has, bytes of its requests and of its answers.
const MIX: [(&str, u32, usize, usize); 8] = [
    ("/api/users/{}", 25, 0, 1_200),
    ("/api/orders?page={}", 20, 0, 4_000),
    ("/catalogue/{}", 15, 0, 18_000),
    ("/", 10, 0, 28_000),
    ("/assets/{}.js", 10, 0, 45_000),
    ("/api/cart", 12, 600, 800),
    ("/api/checkout", 5, 2_000, 1_500),
    ("/api/uploads/{}", 3, 60_000, 200),
];

/// One in a hundred of 10,000 per second.
const ONE_PER_CENT: &str = "fd70a";

const CONCURRENCY: usize = 8;
const REQUESTS: usize = 12_000;

fn call(rng: &mut fastrand::Rng) -> Call {
    let mut turn = rng.u32(..100);
    let found = MIX.iter().find(|(_, share, ..)| {
        let hit = turn < *share;
        turn = turn.wrapping_sub(*share);
        hit
    });
    let (path, _, request_bytes, response_bytes) = found.unwrap();
    let status = match rng.u32(..200) {
        0 => 404,
        1 => 500,
        _ => 200,
    };
    let path = path.replace("{}", &rng.u32(1..100_000).to_string());
    let mark = if path.contains('?') { '&' } else { '?' };
    let path = format!("{path}{mark}bytes={response_bytes}&status={status}");
    let call = Call::new(Protocol::Http1, SERVICE_A, &path);
    if *request_bytes > 0 {
        call.body_of(*request_bytes)
    } else {
        call
    }
}

fn answer(seen: &Recorded) -> Plan {
    let number = |key: &str| {
        let (_, rest) = seen.path.split_once(key)?;
        rest.split('&').next()?.parse::<usize>().ok()
    };
    let status = number("status=").unwrap_or(200);
    Plan {
        status: status as u16,
        body_bytes: number("bytes=").unwrap_or(0),
        unrecorded: true,
        ..Plan::default()
    }
}

fn of(stats: &BTreeMap<String, u64>, name: &str) -> u64 {
    let name = format!("wasmcustom.tracemeter_{name}");
    stats.get(&name).copied().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exported_bytes_are_below_a_thousandth_of_what_is_proxied() {
    let receiver = Receiver::start().await;
    receiver.set_rates(Some((1, ONE_PER_CENT)));
    let policy = "sampling:\n  adaptive: { enabled: true }\n";
    let mesh = Mesh::new(policy, receiver.address()).unwrap();
    let app = App::start(answer).await.unwrap();
    let ingress = mesh
        .proxy(&Proxy {
            service: "ingress".to_owned(),
            ingress: true,
            routes: vec![(SERVICE_A.to_owned(), app.address())],
            workers: 4,
            ..Proxy::default()
        })
        .await
        .unwrap();
    let client = Client::new(ingress.listener("ingress").unwrap());
    let table = wait::until("both workers to have the table", LIMIT, async || {
        for _ in 0..8 {
            let client = Client::new(ingress.listener("ingress").unwrap());
            client
                .send(Call::new(Protocol::Http1, SERVICE_A, "/"))
                .await?;
        }
        let stats = ingress.stats().await?;
        let known = of(&stats, "rates_version") == 1;
        Ok((known && of(&stats, "rates_decided_table_total") > 30).then_some(()))
    });
    table.await.unwrap();
    let before = ingress.stats().await.unwrap();

    let mut tasks = JoinSet::new();
    for seed in 0..CONCURRENCY {
        let client = client.clone();
        tasks.spawn(async move {
            let mut rng = fastrand::Rng::with_seed(seed as u64);
            let mut bytes = 0;
            for _ in 0..REQUESTS / CONCURRENCY {
                let call = call(&mut rng);
                let sent = call.body.len();
                let reply = client.send(call).await.unwrap();
                bytes += sent + reply.body.len();
            }
            bytes
        });
    }
    let proxied: usize = tasks.join_all().await.into_iter().sum();
    let settled = wait::until("everything to be sent", LIMIT, async || {
        let stats = ingress.stats().await?;
        let ended = of(&stats, "requests_ended_total")
            >= of(&before, "requests_ended_total") + REQUESTS as u64;
        let exported = of(&stats, "spans_exported_total") == of(&stats, "spans_buffered_total");
        let counted = receiver.ledger().requests >= of(&stats, "requests_ended_total");
        Ok((ended && exported && counted).then_some(stats))
    });
    let stats = settled.await.unwrap();
    let since = |name: &str| of(&stats, name) - of(&before, name);
    let (exported, plain) = (
        since("export_bytes_total"),
        since("export_uncompressed_bytes_total"),
    );
    let share = exported as f64 / proxied as f64;
    eprintln!(
        "{REQUESTS} requests, {proxied} bytes proxied, {} spans, {} batches, {} deltas, {exported} \
         bytes exported ({plain} before compression): {:.4} %",
        since("spans_exported_total"),
        since("export_requests_total"),
        since("ledger_requests_total"),
        share * 100.0
    );
    assert!(since("spans_exported_total") > REQUESTS as u64 / 100);
    assert!(share < 0.001, "{share}");
}
