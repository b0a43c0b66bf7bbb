//! Traffic that is counted three times: by the client from what it sent and received, by the
//! applications from what they got and answered, and by the filter's ledger.
//!
//! The prices have no share for time, so the cost of each request follows exactly from its kind
//! and from the bodies the client saw. Limits: HTTP/1.1, pipelined; gRPC calls are counted by the
//! test itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use integration_tests::app::{App, Plan, Recorded};
use integration_tests::client::Protocol;
use integration_tests::raw::RawConnection;
use tokio::task::JoinSet;

/// Requests written before the first answer is read.
const PIPELINED: usize = 64;

/// Keep-alive connections per listener; new ones are opened for each part of the traffic.
const CONNECTIONS: usize = 4;

/// The dimensions of a count, as the ledger names them.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) direction: String,
    pub(crate) peer: String,
    pub(crate) route: String,
    pub(crate) status_class: String,
    pub(crate) data_tag: String,
    pub(crate) charge_side: String,
}

/// Counts of one key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) cost_nanos: u64,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

/// Counts by key.
pub(crate) type Book = BTreeMap<Key, Sums>;

/// Adds counts to a key.
pub(crate) fn add(book: &mut Book, key: &Key, more: &Sums) {
    let sums = book.entry(key.clone()).or_default();
    sums.requests += more.requests;
    sums.errors += more.errors;
    sums.cost_nanos += more.cost_nanos;
    sums.request_bytes += more.request_bytes;
    sums.response_bytes += more.response_bytes;
}

/// Sums over all keys.
pub(crate) fn total(book: &Book) -> Sums {
    let mut all = Book::new();
    for sums in book.values() {
        add(&mut all, &Key::default(), sums);
    }
    all.remove(&Key::default()).unwrap_or_default()
}

/// What an application counts: (path, status) to (requests, request bytes, response bytes).
pub(crate) type AppBook = BTreeMap<(String, u16), [u64; 3]>;

/// Host that the filter charges at the caller, because nobody meters it.
pub(crate) const UNMETERED: &str = "store.internal";
/// Host with a proxy of its own.
pub(crate) const METERED: &str = "pay.internal";
/// Host that the proxy has no route for.
pub(crate) const UNKNOWN: &str = "nowhere.internal";

/// A kind of request, and what the ledger is to make of it.
pub(crate) struct Kind {
    pub(crate) path: &'static str,
    pub(crate) body_bytes: usize,
    pub(crate) route: &'static str,
    pub(crate) base_nanos: u64,
    pub(crate) data_tag: &'static str,
}

const fn kind(path: &'static str, route: &'static str) -> Kind {
    Kind {
        path,
        body_bytes: 0,
        route,
        base_nanos: 10_000,
        data_tag: "EXPORT_OK",
    }
}

/// Every kind; each is sent to every host.
pub(crate) const KINDS: [Kind; 8] = [
    kind("/pay", "/pay"),
    kind("/users/42?full=1", "/users/{id}"),
    kind("/users/77", "/users/{id}"),
    kind("/missing", "/missing"),
    kind("/broken", "/broken"),
    kind("/moved", "/moved"),
    Kind {
        body_bytes: 3_000,
        base_nanos: 5_000,
        ..kind("/upload", "/upload")
    },
    Kind {
        base_nanos: 100_000,
        data_tag: "PII",
        ..kind("/patients/7/infer", "/patients/{id}/infer")
    },
];

/// The policy's part that the kinds rely on.
pub(crate) const POLICY: &str = "\
cost:
  duration_factor_per_100ms: 0
  unmetered_destinations: [store.internal]
attributes:
  operation_type:
    - { when: 'url.path = \"/patients/*\"', value: ml_inference }
    - { when: 'url.path = \"/upload\"', value: storage_write }
  data_tag:
    - { when: 'url.path = \"/patients/*\"', value: PII }
";

/// base x (1 + bytes / 2^20 x 0.01) in nano-USD, rounded half up.
pub(crate) fn price(base_nanos: u64, bytes: u64) -> u64 {
    let one = 100_u128 << 20;
    let exact = u128::from(base_nanos) * (one + u128::from(bytes));
    u64::try_from((2 * exact + one) / (2 * one)).unwrap()
}

/// The ledger's name for a status.
pub(crate) fn class(status: u16) -> String {
    format!("{}xx", status / 100)
}

/// An application that counts, and answers bodies of ever changing size.
pub(crate) struct Counting {
    pub(crate) app: App,
    book: Arc<Mutex<AppBook>>,
}

impl Counting {
    pub(crate) async fn start() -> Self {
        let book = Arc::<Mutex<AppBook>>::default();
        let (own, turn) = (Arc::clone(&book), AtomicU64::new(0));
        let planner = move |request: &Recorded| {
            let plan = plan(request, turn.fetch_add(1, Ordering::Relaxed));
            let key = (request.path.clone(), plan.status);
            let mut book = own.lock().unwrap();
            let counts = book.entry(key).or_default();
            counts[0] += 1;
            counts[1] += request.body_bytes as u64;
            counts[2] += plan.body_bytes as u64;
            plan
        };
        let app = App::start(planner).await.unwrap();
        Self { app, book }
    }

    pub(crate) fn book(&self) -> AppBook {
        self.book.lock().unwrap().clone()
    }

    /// Requests for a path so far.
    pub(crate) fn served(&self, path: &str) -> u64 {
        let book = self.book();
        let of_path = book.iter().filter(|((known, _), _)| known == path);
        of_path.map(|(_, counts)| counts[0]).sum()
    }
}

/// The path that keeps its client waiting.
pub(crate) const SLOW: &str = "/slow";

fn plan(request: &Recorded, turn: u64) -> Plan {
    let varying = usize::try_from(turn % 1_777).unwrap();
    let (status, body_bytes) = match request.path.as_str() {
        _ if request.protocol == Protocol::Grpc && request.body_bytes % 2 == 1 => (500, 0),
        "/missing" => (404, 9),
        // Now and then it works.
        "/broken" if turn.is_multiple_of(5) => (200, 1),
        "/broken" => (503, varying),
        "/moved" | SLOW => (302, 0),
        _ => (200, varying),
    };
    let delay = if request.path == SLOW { 20 } else { 0 };
    Plan {
        status,
        body_bytes,
        delay: std::time::Duration::from_secs(delay),
        unrecorded: true,
        ..Plan::default()
    }
}

/// What the client knows: what the ledger has to say, and what the applications have to say.
#[derive(Default)]
pub(crate) struct Counted {
    pub(crate) ledger: Book,
    /// By host; the inbound application is the host `app`.
    pub(crate) apps: BTreeMap<String, AppBook>,
}

impl Counted {
    pub(crate) fn merge(&mut self, other: Self) {
        for (key, sums) in &other.ledger {
            add(&mut self.ledger, key, sums);
        }
        for (host, book) in other.apps {
            let own = self.apps.entry(host).or_default();
            for (key, counts) in book {
                let sum = own.entry(key).or_default();
                for (sum, count) in sum.iter_mut().zip(counts) {
                    *sum += count;
                }
            }
        }
    }

    /// Counts an answered request.
    fn count(&mut self, host: &str, kind: &Kind, status: u16, response_bytes: u64) {
        let request_bytes = kind.body_bytes as u64;
        let inbound = host == "app";
        let charged = inbound || host == UNMETERED;
        let side = if charged { "this_side" } else { "other_side" };
        let key = Key {
            direction: (if inbound { "inbound" } else { "outbound" }).to_owned(),
            peer: (if inbound { "" } else { host }).to_owned(),
            route: kind.route.to_owned(),
            status_class: class(status),
            data_tag: kind.data_tag.to_owned(),
            charge_side: side.to_owned(),
        };
        let cost = price(kind.base_nanos, request_bytes + response_bytes);
        let sums = Sums {
            requests: 1,
            errors: u64::from(status >= 400),
            cost_nanos: if charged { cost } else { 0 },
            request_bytes,
            response_bytes,
        };
        add(&mut self.ledger, &key, &sums);
        if host != UNKNOWN {
            let book = self.apps.entry(host.to_owned()).or_default();
            let counts = book.entry((kind.path.to_owned(), status)).or_default();
            counts[0] += 1;
            counts[1] += request_bytes;
            counts[2] += response_bytes;
        }
    }
}

/// The bytes of a request.
pub(crate) fn request(host: &str, kind: &Kind) -> Vec<u8> {
    let (path, length) = (kind.path, kind.body_bytes);
    if length == 0 {
        return format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n").into_bytes();
    }
    let head = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n");
    let mut bytes = head.into_bytes();
    bytes.resize(bytes.len() + length, b'x');
    bytes
}

/// Sends `count` requests of random kinds to random hosts, over both listeners at once.
pub(crate) async fn send(
    inbound: SocketAddr,
    outbound: SocketAddr,
    count: u64,
    seed: u64,
) -> Counted {
    let mut tasks = JoinSet::new();
    let connections = 2 * CONNECTIONS as u64;
    for index in 0..connections {
        let share = count / connections + u64::from(index < count % connections);
        let hosts: &'static [&'static str] = if index % 2 == 0 {
            &["app"]
        } else {
            // Half of the calls of a service go to where this side is charged.
            &[UNMETERED, METERED]
        };
        let to = if index % 2 == 0 { inbound } else { outbound };
        tasks.spawn(send_over_one(to, hosts, share, seed * connections + index));
    }
    let mut all = Counted::default();
    for counted in tasks.join_all().await {
        all.merge(counted);
    }
    all
}

/// Requests that the proxy answers itself; it may close a pipelining connection after that.
pub(crate) async fn send_unknown(outbound: SocketAddr, count: u64) -> Counted {
    let mut counted = Counted::default();
    for _ in 0..count {
        let mut connection = RawConnection::open(outbound).await.unwrap();
        let reply = connection.exchange(&request(UNKNOWN, &KINDS[0])).await;
        let reply = reply.unwrap();
        assert_eq!(reply.status, 404, "{reply:?}");
        counted.count(UNKNOWN, &KINDS[0], reply.status, reply.body.len() as u64);
    }
    counted
}

async fn send_over_one(
    to: SocketAddr,
    hosts: &'static [&'static str],
    count: u64,
    seed: u64,
) -> Counted {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut connection = RawConnection::open(to).await.unwrap();
    let mut counted = Counted::default();
    let mut left = usize::try_from(count).unwrap();
    while left > 0 {
        let batch: Vec<(&str, &Kind)> = (0..left.min(PIPELINED))
            .map(|_| {
                let (host, kind) = (rng.usize(..hosts.len()), rng.usize(..KINDS.len()));
                (hosts[host], &KINDS[kind])
            })
            .collect();
        let bytes: Vec<Vec<u8>> = batch
            .iter()
            .map(|(host, kind)| request(host, kind))
            .collect();
        connection.send(&bytes.concat()).await.unwrap();
        for (host, kind) in &batch {
            let reply = connection.reply().await.unwrap();
            let reply = reply.expect("the proxy closed instead of answering");
            counted.count(host, kind, reply.status, reply.body.len() as u64);
        }
        left -= batch.len();
    }
    counted
}
