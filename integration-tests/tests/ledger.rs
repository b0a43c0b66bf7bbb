//! The ledger against what the client and the applications counted, at 1 % sampling: not one
//! request, error, byte or nano-dollar more or less, per route, host and status class.
//!
//! One Envoy with two workers, an inbound and an outbound listener; a receiver that refuses some
//! deltas and leaves others without an answer; policies that change meanwhile. 100,000 requests;
//! `TRACEMETER_LEDGER_REQUESTS=1000000` sets another number. Batches and deltas are also read by
//! Python's `opentelemetry-proto`, which nobody here has written.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use integration_tests::artefacts;
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::grpc::{EchoMessage, METHOD_PATH};
use integration_tests::raw::RawConnection;
use integration_tests::wait;
use prost::Message as _;
use tempfile::TempDir;

mod deltas;
mod metering;
mod stock;
use deltas::Receiver;
use metering::{Book, Counted, Counting, Key, METERED, SLOW, Sums, UNMETERED, add, price, total};

const WORKERS: u32 = 2;

/// Requests of the pipelining client, unless the variable says otherwise.
const REQUESTS: u64 = 100_000;
const REQUESTS_VARIABLE: &str = "TRACEMETER_LEDGER_REQUESTS";

/// How long the last delta may take: refused, repeated and backed off on a busy machine.
const ARRIVAL: Duration = Duration::from_secs(60);

/// One per cent, by randomness alone: errors and low traffic get no more.
fn policy(rate: f64) -> String {
    format!(
        "sampling:\n  default_rate: {rate}\n  priority_rules: []\n  \
         adaptive: {{ enabled: false }}\n  low_volume: {{ traces_per_minute: 0 }}\n  \
         error_classes: {{ rate: {rate} }}\n\
         export: {{ ledger_interval: 1s }}\n{}",
        metering::POLICY
    )
}

/// The proxy, the three applications behind it, and the receiver.
struct Setup {
    receiver: Receiver,
    app: Counting,
    metered: Counting,
    unmetered: Counting,
    envoy: Envoy,
    folder: TempDir,
}

impl Setup {
    async fn start(rate: f64, faulty: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let receiver = Receiver::start(faulty).await;
        let app = Counting::start().await;
        let (metered, unmetered) = (Counting::start().await, Counting::start().await);
        let file = folder.path().join("filter.yaml");
        let collector = receiver.address();
        fs::write(&file, render(&folder, "filter", rate, collector, &[])).unwrap();
        let further = [
            "--inbound",
            &format!("127.0.0.1:0={}", app.app.address()),
            "--outbound",
            "127.0.0.1:0",
            "--route",
            &format!("{METERED}={}", metered.app.address()),
            "--route",
            &format!("{UNMETERED}={}", unmetered.app.address()),
            "--filter-file",
            &file.to_string_lossy(),
        ];
        let config = render(&folder, "envoy", rate, collector, &further);
        let envoy = Envoy::start("counted", &config, WORKERS).await.unwrap();
        Self {
            receiver,
            app,
            metered,
            unmetered,
            envoy,
            folder,
        }
    }

    fn listener(&self, name: &str) -> SocketAddr {
        self.envoy.listener(name).unwrap()
    }

    async fn send(&self, count: u64, seed: u64) -> Counted {
        let (inbound, outbound) = (self.listener("inbound"), self.listener("outbound"));
        metering::send(inbound, outbound, count, seed).await
    }

    /// Puts a policy with another rate into force, or one that is refused.
    fn install(&self, rate: f64, broken: bool) {
        let mut content = render(&self.folder, "filter", rate, self.receiver.address(), &[]);
        if broken {
            assert!(content.contains("\"sampling\":"), "{content}");
            content = content.replace("\"sampling\":", "\"sampling_\":");
        }
        let new = self.folder.path().join("filter.yaml.new");
        fs::write(&new, content).unwrap();
        fs::rename(&new, self.folder.path().join("filter.yaml")).unwrap();
    }

    /// A statistic of the filter.
    async fn stat(&self, name: &str) -> u64 {
        let name = format!("wasmcustom.tracemeter_{name}");
        let stats = self.envoy.stats().await.unwrap();
        stats.get(&name).copied().unwrap_or(0)
    }

    /// The receiver's books once they hold so many requests and every delta has its answer.
    async fn settled(&self, requests: u64) -> Book {
        let settled = wait::until("every delta to be accepted", ARRIVAL, async || {
            let (_, open) = self.receiver.progress();
            let book = self.receiver.book();
            let enough = total(&book).requests >= requests;
            Ok((enough && open == 0).then_some(book))
        });
        let settled = settled.await;
        let (so_far, progress) = (total(&self.receiver.book()), self.receiver.progress());
        settled.unwrap_or_else(|error| panic!("{error}: {so_far:?} of {requests}, {progress:?}"))
    }
}

fn render(
    folder: &TempDir,
    target: &str,
    rate: f64,
    collector: SocketAddr,
    further: &[&str],
) -> String {
    let file = folder.path().join("policy.yaml");
    fs::write(&file, policy(rate)).unwrap();
    let output = Command::new(artefacts::mesh_config().unwrap())
        .args(["render", target, "--service", "counted", "--collector"])
        .arg(collector.to_string())
        .arg("--policy")
        .arg(&file)
        .arg("--wasm")
        .arg(artefacts::module().unwrap().canonicalize().unwrap())
        .args(further)
        .output()
        .unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    String::from_utf8(output.stdout).unwrap()
}

fn inbound_key(route: &str, status_class: &str) -> Key {
    Key {
        direction: "inbound".to_owned(),
        route: route.to_owned(),
        status_class: status_class.to_owned(),
        data_tag: "EXPORT_OK".to_owned(),
        charge_side: "this_side".to_owned(),
        ..Key::default()
    }
}

/// gRPC calls, every second of which fails.
async fn send_grpc(to: SocketAddr, calls: usize) -> Counted {
    let client = Client::new(to);
    let mut counted = Counted::default();
    for size in 0..calls {
        let call = Call::new(Protocol::Grpc, "app", METHOD_PATH).body_of(size);
        // Five bytes stand before each message.
        let sent = EchoMessage {
            sender: "app".to_owned(),
            payload: call.body.clone(),
        };
        let request_bytes = 5 + sent.encoded_len() as u64;
        let reply = client.send(call).await.unwrap();
        let failed = reply.grpc_status != Some(0);
        assert_eq!(failed, size % 2 == 1, "{reply:?}");
        // A failure carries a message instead of a payload.
        let payload = if failed { 0 } else { reply.body.len() as u64 };
        let answer = EchoMessage {
            sender: String::new(),
            payload: reply.body,
        };
        let response_bytes = if failed {
            0
        } else {
            5 + answer.encoded_len() as u64
        };
        let class = if failed { "grpc_error" } else { "2xx" };
        let sums = Sums {
            requests: 1,
            errors: u64::from(failed),
            cost_nanos: price(10_000, request_bytes + response_bytes),
            request_bytes,
            response_bytes,
        };
        add(&mut counted.ledger, &inbound_key(METHOD_PATH, class), &sums);
        let status = if failed { 500 } else { 200 };
        let book = counted.apps.entry("app".to_owned()).or_default();
        let counts = book.entry((METHOD_PATH.to_owned(), status)).or_default();
        counts[0] += 1;
        counts[1] += size as u64;
        counts[2] += payload;
    }
    counted
}

/// Requests that the proxy refuses before the filter sees a header.
async fn send_malformed(to: SocketAddr, count: u64) -> Counted {
    let mut counted = Counted::default();
    for _ in 0..count {
        let mut connection = RawConnection::open(to).await.unwrap();
        let reply = connection.exchange(b"GET / HTTP/1.0\r\n\r\n").await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 426);
        let key = Key {
            charge_side: "other_side".to_owned(),
            ..inbound_key("", "4xx")
        };
        let sums = Sums {
            requests: 1,
            errors: 1,
            response_bytes: reply.body.len() as u64,
            ..Sums::default()
        };
        add(&mut counted.ledger, &key, &sums);
    }
    counted
}

/// Clients that go away before the answer.
async fn leave(setup: &Setup, count: u64) -> Counted {
    let mut counted = Counted::default();
    let request = format!("GET {SLOW} HTTP/1.1\r\nhost: app\r\n\r\n");
    for done in 0..count {
        let mut connection = RawConnection::open(setup.listener("inbound"))
            .await
            .unwrap();
        connection.send(request.as_bytes()).await.unwrap();
        wait::until("the application to have it", ARRIVAL, async || {
            Ok((setup.app.served(SLOW) > done).then_some(()))
        })
        .await
        .unwrap();
    }
    let sums = Sums {
        requests: count,
        cost_nanos: count * price(10_000, 0),
        ..Sums::default()
    };
    add(
        &mut counted.ledger,
        &inbound_key(SLOW, "client_left"),
        &sums,
    );
    let book = counted.apps.entry("app".to_owned()).or_default();
    book.insert((SLOW.to_owned(), 302), [count, 0, 0]);
    counted
}

/// All requests of the test, policies changing meanwhile.
async fn traffic(setup: &Setup, requests: u64) -> Counted {
    let mut counted = Counted::default();
    let part = requests / 4;
    let began = Instant::now();
    let change = async |rate: f64, broken: bool| {
        // In the middle of the part that has just begun.
        let before = setup.stat("requests_total").await;
        wait::until("a third of the part", ARRIVAL, async || {
            let now = setup.stat("requests_total").await;
            Ok((now > before + part / 3).then_some(()))
        })
        .await
        .unwrap();
        setup.install(rate, broken);
    };
    counted.merge(setup.send(part, 1).await);
    let (sent, ()) = tokio::join!(setup.send(part, 2), change(0.011, false));
    counted.merge(sent);
    let (sent, ()) = tokio::join!(setup.send(part, 3), change(0.012, true));
    counted.merge(sent);
    let rest = requests - 3 * part;
    let (sent, ()) = tokio::join!(setup.send(rest, 4), change(0.01, false));
    counted.merge(sent);
    eprintln!("{requests} requests in {:?}", began.elapsed());
    let inbound = setup.listener("inbound");
    counted.merge(send_grpc(inbound, 200).await);
    counted.merge(metering::send_unknown(setup.listener("outbound"), 50).await);
    counted.merge(send_malformed(inbound, 20).await);
    counted.merge(leave(setup, 10).await);
    counted
}

/// Shows only the keys that differ.
fn assert_same(ledger: &Book, counted: &Book) {
    let keys = ledger.keys().chain(counted.keys());
    let differing: Vec<_> = keys
        .filter(|key| ledger.get(key) != counted.get(key))
        .map(|key| (key, ledger.get(key), counted.get(key)))
        .collect();
    assert!(differing.is_empty(), "ledger, then client: {differing:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ledger_equals_what_client_and_applications_counted_to_the_nano_dollar() {
    let requests = std::env::var(REQUESTS_VARIABLE).map_or(REQUESTS, |text| text.parse().unwrap());
    let setup = Setup::start(0.01, true).await;
    let counted = traffic(&setup, requests).await;
    // The applications agree with the client, so the yardstick itself is right.
    for (host, app) in [
        ("app", &setup.app),
        (METERED, &setup.metered),
        (UNMETERED, &setup.unmetered),
    ] {
        assert_eq!(app.book(), counted.apps[host], "{host}");
    }

    let wanted = total(&counted.ledger);
    let book = setup.settled(wanted.requests).await;
    assert_same(&book, &counted.ledger);
    let (deltas, _) = setup.receiver.progress();
    let (faults, instances) = (setup.receiver.faults(), setup.receiver.assert_no_gaps());
    eprintln!(
        "{wanted:?}\n{} keys, {deltas} deltas of {instances} instances, {faults:?}",
        book.len()
    );
    assert!(faults.refused > 0 && faults.unanswered > 0, "{faults:?}");
    assert_eq!(faults.duplicates, faults.unanswered, "{faults:?}");
    assert_eq!(faults.changed, 0, "a delta came again with other bytes");
    assert_eq!(setup.stat("requests_ended_total").await, wanted.requests);
    assert_eq!(setup.stat("requests_error_total").await, wanted.errors);
    assert!(
        setup.stat("config_errors_total").await > 0,
        "the broken policy was seen"
    );
    let kept = setup.stat("kept_total").await;
    let share = kept as f64 / wanted.requests as f64;
    assert!((0.005..0.02).contains(&share), "{kept} kept of {wanted:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decoder_written_by_others_reads_every_batch_and_every_delta() {
    let setup = Setup::start(0.5, false).await;
    let counted = setup.send(3_000, 9).await;
    let wanted = total(&counted.ledger);
    setup.settled(wanted.requests).await;
    let spans = wait::until("every kept span", ARRIVAL, async || {
        let kept = setup.stat("kept_total").await;
        let exported = setup.stat("spans_exported_total").await;
        Ok((exported == kept && kept > 1_000).then_some(kept))
    });
    let spans = spans.await.unwrap();
    let (batches, metrics) = setup.receiver.captured();
    let compressed = batches.iter().chain(&metrics).filter(|body| body.gzip);
    assert!(compressed.count() > 0, "what is sent is compressed");
    let read = tokio::task::spawn_blocking(move || stock::read(&batches, &metrics));
    let read = read.await.unwrap();
    eprintln!("{read}");
    assert_eq!(read["spans"], spans, "{read}");
    assert_eq!(read["requests"], wanted.requests, "{read}");
    assert_eq!(read["cost_nanos"], wanted.cost_nanos, "{read}");
    assert_eq!(read["services"], serde_json::json!(["counted"]));
    assert_eq!(read["unknown_bytes"], 0, "fields that OTLP does not know");
}
