//! 100,000 hostile header sets against a real Envoy with the filter on its inbound listener.
//!
//! Whatever a client sends, the answer is the application's (or Envoy's own refusal of what it
//! refuses before any filter), the module never traps, memory stays flat, what the application
//! receives is valid, and what was invalid is counted. The collector is down all the time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use integration_tests::app::{ANSWERED_BY, App, Plan, Recorded};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::raw::{self, RawConnection};
use integration_tests::wait::{self, PATIENCE};
use w3c_traceparent_parser::TraceParent;
use w3c_traceparent_parser::baggage::Baggage;
use w3c_traceparent_parser::tracestate::TraceState;

mod hostile_headers;
mod support;

/// Header sets over HTTP/1.1, in pipelined batches.
const HTTP1_SETS: usize = 70_000;

/// Header sets over HTTP/2, many streams at once.
const HTTP2_SETS: usize = 35_000;

/// Requests sent before the first look at the memory: buffers grow to their bounds once.
const WARM_UP_SETS: usize = 12_000;

/// With this policy the warm-up fills the queue of spans, which nobody fetches.
const SMALL_QUEUE: &str = "export: { queue_bytes: 512KiB }\n";

/// What Envoy's resident memory may grow by after the warm-up. The filter's own bounded buffers
/// are full by then; what is left is the allocator's noise.
const GROWTH_LIMIT_KIB: u64 = 8 * 1024;

/// Pipelined requests per write.
const BATCH: usize = 25;

/// Connections and streams at once.
const CONCURRENCY: usize = 8;

/// What the filter must have counted, by the oracle.
#[derive(Default, Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    requests: u64,
    traceparent: u64,
    tracestate: u64,
    baggage: u64,
}

impl Expected {
    fn add(&mut self, headers: &HeaderLines) {
        self.requests += 1;
        let parents: Vec<&[u8]> = headers.lines("traceparent").collect();
        let valid = match parents.as_slice() {
            [] => return self.add_baggage(headers),
            [one] => TraceParent::parse(one).is_ok(),
            _ => false,
        };
        self.traceparent += u64::from(!valid);
        let state = TraceState::parse_lines(headers.lines("tracestate"));
        self.tracestate += u64::from(valid && state.is_err());
        self.add_baggage(headers);
    }

    fn add_baggage(&mut self, headers: &HeaderLines) {
        self.baggage += Baggage::parse_lines(headers.lines("baggage")).malformed() as u64;
    }

    fn join(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            traceparent: self.traceparent + other.traceparent,
            tracestate: self.tracestate + other.tracestate,
            baggage: self.baggage + other.baggage,
        }
    }
}

/// An application that checks what it receives, behind one proxy.
struct Target {
    app: App,
    envoy: Envoy,
    address: SocketAddr,
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Target {
    async fn start() -> Self {
        let complaints = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&complaints);
        let app = App::start(move |seen| {
            if let Some(complaint) = complaint(seen) {
                sink.lock()
                    .unwrap()
                    .push(format!("{complaint}: {:?}", seen.headers));
            }
            Plan {
                unrecorded: true,
                body_bytes: 3,
                ..Plan::default()
            }
        })
        .await
        .unwrap();
        // Nothing listens there: exports fail for the whole run.
        let nowhere: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let mesh = Mesh::new(&format!("{}{SMALL_QUEUE}", support::KEEP_A_TENTH), nowhere).unwrap();
        let proxy = Proxy {
            service: "target".to_owned(),
            upstream: Some(app.address()),
            workers: 2,
            ..Proxy::default()
        };
        let envoy = mesh.proxy(&proxy).await.unwrap();
        let address = envoy.listener("inbound").unwrap();
        Self {
            app,
            envoy,
            address,
            complaints,
        }
    }

    /// What must hold at any time.
    async fn check(&mut self) {
        let complaints = self.complaints.lock().unwrap().clone();
        let few = &complaints[..complaints.len().min(5)];
        assert!(
            complaints.is_empty(),
            "{} complaints, e.g. {few:#?}",
            complaints.len()
        );
        self.envoy.process().check_alive().unwrap();
        assert_eq!(
            self.envoy.stat_sum("vm_reload").await.unwrap(),
            0,
            "the module trapped"
        );
    }
}

/// What is wrong with the headers an application received behind the filter.
fn complaint(seen: &Recorded) -> Option<&'static str> {
    let headers = &seen.headers;
    let one = |name: &str| -> Option<Vec<u8>> {
        let mut lines = headers.lines(name);
        let first = lines.next()?.to_vec();
        lines.next().is_none().then_some(first)
    };
    let Some(parent) = one("traceparent") else {
        return Some("not one traceparent line");
    };
    if parent.len() != 55 || TraceParent::parse(&parent).is_err() {
        return Some("an invalid traceparent");
    }
    let Some(state) = one("tracestate") else {
        return Some("not one tracestate line");
    };
    match TraceState::parse(&state) {
        Err(_) => return Some("an invalid tracestate"),
        Ok(members) => {
            let own = |key: &[u8]| members.iter().filter(|member| member.key == key).count();
            if state.len() > 512 || own(b"cost_usd") != 1 || own(b"data_tag") != 1 {
                return Some("a tracestate with the wrong size or own members");
            }
        }
    }
    let Some(baggage) = one("baggage") else {
        return Some("not one baggage line");
    };
    if baggage.len() > 8192 || Baggage::parse_lines([baggage.as_slice()]).malformed() > 0 {
        return Some("an invalid baggage");
    }
    headers
        .lines("x-injected")
        .next()
        .map(|_| "an injected header")
}

async fn pipelined(address: SocketAddr, seed: u64, sets: usize) -> Expected {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = Expected::default();
    let mut connection = RawConnection::open(address).await.unwrap();
    let mut sent = 0;
    while sent < sets {
        let batch: Vec<HeaderLines> = (0..BATCH.min(sets - sent))
            .map(|_| hostile_headers::accepted(&mut random))
            .collect();
        let bytes: Vec<u8> = batch
            .iter()
            .flat_map(|headers| raw::get("target", "/", headers))
            .collect();
        connection.send(&bytes).await.unwrap();
        for headers in &batch {
            let reply = connection
                .reply()
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{headers:?}"));
            let ours = reply.headers.text(ANSWERED_BY) == "yes";
            assert!(
                ours && reply.status == 200,
                "{} for {headers:?}, seed {seed}",
                reply.status
            );
            expected.add(headers);
        }
        sent += batch.len();
    }
    expected
}

async fn streamed(address: SocketAddr, seed: u64, sets: usize) -> Expected {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut expected = Expected::default();
    let client = Client::new(address);
    for _ in 0..sets {
        let headers = hostile_headers::accepted(&mut random);
        let call = Call::new(Protocol::Http2, "target", "/").headers(headers.clone());
        let reply = client
            .send(call)
            .await
            .unwrap_or_else(|e| panic!("{e:#} for {headers:?}"));
        let ours = reply.headers.text(ANSWERED_BY) == "yes";
        assert!(
            ours && reply.status == 200,
            "{} for {headers:?}, seed {seed}",
            reply.status
        );
        expected.add(&headers);
    }
    expected
}

/// Sends both kinds over several connections at once.
async fn storm(address: SocketAddr, seed: u64, http1: usize, http2: usize) -> Expected {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..CONCURRENCY {
        let seed = seed + number as u64;
        tasks.spawn(pipelined(address, seed, http1 / CONCURRENCY));
        tasks.spawn(streamed(address, seed + 1_000, http2 / CONCURRENCY));
    }
    tasks
        .join_all()
        .await
        .into_iter()
        .fold(Expected::default(), Expected::join)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_hostile_header_sets_change_no_answer() {
    let mut target = Target::start().await;
    let seed = fastrand::u64(..1 << 40);
    println!("seed {seed}");
    let warm_up = storm(target.address, seed, WARM_UP_SETS, WARM_UP_SETS).await;
    target.check().await;
    let before = target.envoy.process().resident_kib().unwrap();
    let started = std::time::Instant::now();
    let main = storm(target.address, seed + 10_000, HTTP1_SETS, HTTP2_SETS).await;
    let took = started.elapsed();
    target.check().await;
    let after = target.envoy.process().resident_kib().unwrap();
    println!("{main:?} in {took:?}; resident {before} KiB -> {after} KiB");
    assert!(main.requests >= 100_000);
    assert!(
        after.saturating_sub(before) < GROWTH_LIMIT_KIB,
        "{before} KiB grew to {after} KiB"
    );

    let expected = warm_up.join(main);
    assert_eq!(target.app.served(), expected.requests);
    let stat = |name: &str| format!("wasmcustom.tracemeter_{name}");
    let stats = wait::until("all requests to be counted", PATIENCE, async || {
        let stats = target.envoy.stats().await?;
        let counted = stats.get(&stat("requests_total")).copied().unwrap_or(0);
        Ok((counted >= expected.requests).then_some(stats))
    })
    .await
    .unwrap();
    let count = |name: &str| stats.get(&stat(name)).copied().unwrap_or(0);
    let counted = Expected {
        requests: count("requests_total"),
        traceparent: count("invalid_traceparent_total"),
        tracestate: count("invalid_tracestate_total"),
        baggage: count("invalid_baggage_total"),
    };
    assert_eq!(counted, expected);
    for header in ["invalid_traceparent", "invalid_tracestate"] {
        let prefix = stat(header) + "_";
        let total = stat(header) + "_total";
        let reasons = stats
            .keys()
            .filter(|name| name.starts_with(&prefix) && **name != total);
        let (kinds, sum) = reasons.fold((0, 0), |(kinds, sum), name| {
            (kinds + usize::from(stats[name] > 0), sum + stats[name])
        });
        assert_eq!(sum, count(&format!("{header}_total")), "{header}");
        assert!(
            kinds >= 4,
            "{header} was refused for {kinds} kinds of reasons"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_envoy_refuses_itself_leaves_the_next_request_alone() {
    let mut target = Target::start().await;
    let mut random = fastrand::Rng::with_seed(fastrand::u64(..));
    let (mut refused, mut passed) = (0, 0);
    for _ in 0..600 {
        let mut connection = RawConnection::open(target.address).await.unwrap();
        let request = hostile_headers::refused(&mut random);
        // Envoy may answer and close before everything is written.
        let _ = connection.send(&request).await;
        match connection.reply().await {
            Ok(Some(reply)) if reply.headers.text(ANSWERED_BY) == "yes" => passed += 1,
            Ok(Some(reply)) => {
                assert!((400..500).contains(&reply.status), "{}", reply.status);
                refused += 1;
            }
            // Closed or reset without an answer.
            Ok(None) | Err(_) => refused += 1,
        }
    }
    assert!(refused > 300, "{refused} refused, {passed} passed");
    let mut connection = RawConnection::open(target.address).await.unwrap();
    let good = raw::get("target", "/", &HeaderLines::new());
    assert_eq!(connection.exchange(&good).await.unwrap().status, 200);
    target.check().await;
}
