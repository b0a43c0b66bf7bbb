//! Sending to a collector as fast as it acknowledges, for a client's smallest possible cost.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::ledger;
use crate::shape::{Body, SPANS};

/// Different bodies in all: a body comes again only after as many spans as a Parquet row group has.
const BODIES: u64 = 256;
const DAY_NS: u64 = 86_400_000_000_000;

/// Requests of all loads so far: no id comes twice.
static NUMBERS: AtomicU64 = AtomicU64::new(0);

/// What is sent and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) address: SocketAddr,
    pub(crate) spans: u64,
    pub(crate) connections: u64,
    /// Spread over the last 24 hours, with the ledger of that day, instead of now.
    pub(crate) day: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Sent {
    pub(crate) spans: u64,
    pub(crate) seconds: f64,
    pub(crate) bytes: u64,
    pub(crate) refusals: u64,
    /// Some trace ids that are in the collector now.
    pub(crate) traces: Vec<String>,
}

/// Runs a load to its end.
pub(crate) fn run(load: &Load) -> Sent {
    let next = AtomicU64::new(0);
    let requests = load.spans.div_ceil(SPANS as u64);
    let first = NUMBERS.fetch_add(requests, Ordering::Relaxed);
    let end_ns = now_ns() - 1_000_000_000;
    let total = Mutex::new(Sent::default());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for connection in 0..load.connections {
            let (next, total) = (&next, &total);
            scope.spawn(move || {
                let bodies = BODIES / load.connections;
                let mut bodies: Vec<Body> = (0..bodies)
                    .map(|body| Body::new(connection * bodies + body))
                    .collect();
                let mut client = Client::connect(load.address);
                let mut sent = Sent::default();
                for turn in 0.. {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        break;
                    }
                    let base = if load.day {
                        let share = number as f64 / requests as f64;
                        end_ns - DAY_NS + (DAY_NS as f64 * share) as u64
                    } else {
                        now_ns()
                    };
                    let count = bodies.len();
                    let body = &mut bodies[turn % count];
                    body.patch(first + number, base);
                    sent.refusals += client.post("/v1/traces", &body.bytes);
                    sent.spans += SPANS as u64;
                    sent.bytes += body.bytes.len() as u64;
                    if number.is_multiple_of(requests.div_ceil(16)) {
                        sent.traces.push(body.first_trace());
                    }
                }
                let mut total = total.lock().unwrap();
                total.spans += sent.spans;
                total.bytes += sent.bytes;
                total.refusals += sent.refusals;
                total.traces.extend(sent.traces);
            });
        }
        if load.day {
            ledger::send(&mut Client::connect(load.address), end_ns - DAY_NS);
        }
    });
    let mut sent = total.into_inner().unwrap();
    sent.seconds = start.elapsed().as_secs_f64();
    sent
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos() as u64)
}

/// One connection of HTTP/1.1 with answers that fit a packet.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Sends until it is taken; returns how often it was refused.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> u64 {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut answer = [0u8; 4096];
        for refusals in 0.. {
            self.0.write_all(head.as_bytes()).unwrap();
            self.0.write_all(body).unwrap();
            let len = self.0.read(&mut answer).unwrap();
            assert!(len > 12, "the collector closed the connection");
            match &answer[9..12] {
                b"200" => return refusals,
                b"429" => std::thread::sleep(Duration::from_millis(20)),
                _ => panic!("{}", String::from_utf8_lossy(&answer[..len])),
            }
        }
        unreachable!()
    }

    /// A query over HTTP: how long it took and its answer.
    pub(crate) fn sql(address: SocketAddr, query: &str) -> (Duration, String) {
        let start = Instant::now();
        let answer = Self::exchange(address, &posted(query));
        (start.elapsed(), body(&answer).to_owned())
    }

    /// How long a query took, or why it has no answer.
    pub(crate) fn try_sql(address: SocketAddr, query: &str) -> Result<Duration, String> {
        let start = Instant::now();
        let answer = Self::ask(address, &posted(query));
        let time = start.elapsed();
        if is_fine(&answer) {
            Ok(time)
        } else {
            Err(body(&answer).to_owned())
        }
    }

    /// A page.
    pub(crate) fn get(address: SocketAddr, path: &str) -> (Duration, String) {
        let start = Instant::now();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = Self::exchange(address, &request);
        (start.elapsed(), body(&answer).to_owned())
    }

    fn exchange(address: SocketAddr, request: &str) -> String {
        let answer = Self::ask(address, request);
        assert!(is_fine(&answer), "{request}: {answer}");
        answer
    }

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }
}

fn posted(query: &str) -> String {
    let len = query.len();
    format!(
        "POST /api/sql HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n\r\n{query}"
    )
}

fn is_fine(answer: &str) -> bool {
    answer.split("\r\n").next().unwrap().contains(" 200 ")
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}
