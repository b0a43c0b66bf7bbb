//! The load, and the two servers behind the proxies: an upstream and a receiver of spans.
//!
//! HTTP/1.1 by hand, blocking, so that the measuring process takes little of the two processors.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Keep-alive connections with one request under way on each.
const CONNECTIONS: usize = 8;

/// Between two requests of the latency measurement: about 1000 per second.
const PACE: Duration = Duration::from_millis(1);

/// What a browser and two hops add: fifteen headers, then the three of the trace.
const HEADERS: &str = "\
accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8\r\n\
accept-encoding: gzip, deflate, br\r\n\
accept-language: en-US,en;q=0.5\r\n\
cache-control: no-cache\r\n\
cookie: session=3f1c9b7a2e5d4c6f8a0b1c2d3e4f5a6b; theme=dark; consent=1\r\n\
dnt: 1\r\n\
origin: https://shop.example\r\n\
pragma: no-cache\r\n\
referer: https://shop.example/catalogue/page/7?sort=price\r\n\
sec-fetch-dest: document\r\n\
sec-fetch-mode: navigate\r\n\
sec-fetch-site: same-origin\r\n\
user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
x-api-version: 2026-10-01\r\n\
x-tenant: acme-industries\r\n";

/// Writes requests, each with a trace of its own.
pub(crate) struct Requests {
    text: Vec<u8>,
    /// Where the trace id stands.
    trace: usize,
    rng: fastrand::Rng,
}

impl Requests {
    pub(crate) fn new(parent_flag: &str, seed: u64) -> Self {
        let head = format!(
            "GET /users/4711/orders?page=2 HTTP/1.1\r\nhost: shop.internal\r\n{HEADERS}traceparent: 00-"
        );
        let trace = head.len();
        let rest = format!(
            "{:032}-00f067aa0ba902b7-{parent_flag}\r\n\
             tracestate: rojo=00f067aa0ba902b7,congo=t61rcWkgMzE\r\n\
             baggage: user=alice,region=eu-central-1,cost_usd=0.00002\r\n\r\n",
            0
        );
        Self {
            text: [head, rest].concat().into_bytes(),
            trace,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    fn next(&mut self) -> &[u8] {
        let id = format!("{:032x}", self.rng.u128(1..));
        self.text[self.trace..self.trace + 32].copy_from_slice(id.as_bytes());
        &self.text
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Reads a message with a `content-length`; gives its first line. `None`: the peer has closed.
    fn message(&mut self) -> Option<(String, usize)> {
        loop {
            if let Some((first, length, total)) = parse(&self.buffer) {
                self.buffer.drain(..total);
                return Some((first, length));
            }
            let mut chunk = [0; 16 << 10];
            let count = self
                .stream
                .read(&mut chunk)
                .ok()
                .filter(|count| *count > 0)?;
            self.buffer.extend_from_slice(&chunk[..count]);
        }
    }

    fn answer(&mut self) {
        let (first, _) = self
            .message()
            .expect("the proxy closed instead of answering");
        assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    }
}

/// First line, body length, total length; `None` as long as the message is not complete.
fn parse(buffer: &[u8]) -> Option<(String, usize, usize)> {
    let end = find(buffer, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let first = head.lines().next().unwrap_or_default().to_owned();
    let mut length = 0;
    for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().unwrap(),
            "transfer-encoding" => length = chunked(&buffer[end..])?,
            _ => {}
        }
    }
    (buffer.len() >= end + length).then_some((first, length, end + length))
}

/// Bytes that a chunked body takes; `None` as long as it is not complete.
fn chunked(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(body.get(at..)?, b"\r\n")?;
        let size = std::str::from_utf8(&body[at..at + line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        at += line + 2 + size + 2;
        if size == 0 {
            return (body.len() >= at).then_some(at);
        }
    }
}

fn find(buffer: &[u8], wanted: &[u8]) -> Option<usize> {
    buffer
        .windows(wanted.len())
        .position(|window| window == wanted)
}

/// The connections to one proxy.
pub(crate) struct Load {
    connections: Vec<Connection>,
    requests: Requests,
}

impl Load {
    pub(crate) fn new(address: SocketAddr, requests: Requests) -> Self {
        let connections = (0..CONNECTIONS)
            .map(|_| Connection::open(address))
            .collect();
        Self {
            connections,
            requests,
        }
    }

    /// Exactly `count` requests (a multiple of the connections), as fast as they are answered.
    pub(crate) fn slice(&mut self, count: usize) {
        for _ in 0..count / CONNECTIONS {
            for connection in &mut self.connections {
                connection.stream.write_all(self.requests.next()).unwrap();
            }
            for connection in &mut self.connections {
                connection.answer();
            }
        }
    }

    /// `count` requests at a modest fixed rate; microseconds of each, from when it was due.
    pub(crate) fn paced(&mut self, count: usize) -> Vec<f64> {
        let connection = &mut self.connections[0];
        let mut due = Instant::now();
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            due += PACE;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let sent = Instant::now();
            connection.stream.write_all(self.requests.next()).unwrap();
            connection.answer();
            times.push(sent.elapsed().as_nanos() as f64 / 1e3);
        }
        times
    }
}

/// Requests and bytes by path.
pub(crate) type Received = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

/// A server that answers 200 to everything; it lives as long as the process.
pub(crate) fn serve() -> (SocketAddr, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let received = Received::default();
    let kept = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let received = Arc::clone(&kept);
            thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut connection = Connection {
                    stream,
                    buffer: Vec::new(),
                };
                while let Some((first, length)) = connection.message() {
                    if first.starts_with("POST") {
                        let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
                        let mut received = received.lock().unwrap();
                        let sums = received.entry(path).or_default();
                        sums.0 += 1;
                        sums.1 += length as u64;
                    }
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\nok";
                    if connection.stream.write_all(answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, received)
}
