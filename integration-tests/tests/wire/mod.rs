//! For many requests: a server that answers with the trace headers it was sent, and a client that
//! pipelines. HTTP/1.1, bytes in and out, no library between, so that the proxy is what takes time.
//!
//! Limits: request and response heads without bodies; a deadline of [`DEADLINE`] per batch.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Longest wait for the answers to one batch.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Requests that are written before the first answer is read.
pub(crate) const PIPELINED: usize = 64;

/// The headers that are echoed, as `x-seen-<name>`.
const ECHOED: [&str; 3] = ["traceparent", "tracestate", "baggage"];

/// A server that answers 200 with what it saw; it stops when dropped.
pub(crate) struct Echo {
    address: SocketAddr,
    server: JoinHandle<()>,
}

impl Echo {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(echo(stream));
            }
        });
        Self { address, server }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn echo(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = Vec::new();
    let mut answers = Vec::new();
    loop {
        while let Some(end) = head_end(&buffer) {
            answers.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n");
            for line in lines(&buffer[..end]) {
                let Some((name, value)) = split(line) else {
                    continue;
                };
                let echoed = ECHOED
                    .iter()
                    .find(|echoed| name.eq_ignore_ascii_case(echoed.as_bytes()));
                if let Some(echoed) = echoed {
                    answers.extend_from_slice(format!("x-seen-{echoed}: ").as_bytes());
                    answers.extend_from_slice(value);
                    answers.extend_from_slice(b"\r\n");
                }
            }
            answers.extend_from_slice(b"\r\n");
            buffer.drain(..end);
        }
        if stream.write_all(&answers).await.is_err() {
            return;
        }
        answers.clear();
        if !matches!(stream.read_buf(&mut buffer).await, Ok(count) if count > 0) {
            return;
        }
    }
}

/// What the application saw of one request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) status: u16,
    pub(crate) traceparent: String,
    pub(crate) tracestate: String,
    pub(crate) baggage: String,
    /// What the filter says about its decision, where it was asked.
    pub(crate) explanation: String,
    /// The proxy will close the connection.
    pub(crate) closes: bool,
}

impl Seen {
    pub(crate) fn trace_id(&self) -> &str {
        self.traceparent.get(3..35).unwrap_or_default()
    }

    pub(crate) fn flags(&self) -> &str {
        self.traceparent.get(53..).unwrap_or_default()
    }

    pub(crate) fn is_sampled(&self) -> bool {
        let flags = u8::from_str_radix(self.flags(), 16).unwrap();
        flags & 1 == 1
    }
}

/// A connection that pipelines.
pub(crate) struct Pipeline {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Pipeline {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends `requests` back to back and reads the answers in order.
    pub(crate) async fn exchange(&mut self, requests: &[Vec<u8>]) -> Vec<Seen> {
        self.stream.write_all(&requests.concat()).await.unwrap();
        let read = async {
            let mut answers = Vec::with_capacity(requests.len());
            while answers.len() < requests.len() {
                answers.push(self.answer().await);
            }
            answers
        };
        tokio::time::timeout(DEADLINE, read)
            .await
            .expect("no answers in time")
    }

    async fn answer(&mut self) -> Seen {
        loop {
            if let Some(end) = head_end(&self.buffer) {
                let seen = parse(&self.buffer[..end]);
                self.buffer.drain(..end);
                return seen;
            }
            let count = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(count > 0, "the proxy closed instead of answering");
        }
    }
}

/// A GET request with these header lines.
pub(crate) fn get(path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("GET {path} HTTP/1.1\r\nhost: app\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// Sends every request over `connections` connections; the answers in the order of the requests.
pub(crate) async fn send_all(
    address: SocketAddr,
    connections: usize,
    requests: Vec<Vec<u8>>,
) -> Vec<Seen> {
    let mut tasks = JoinSet::new();
    let share = requests.len().div_ceil(connections).max(1);
    for (index, part) in requests.chunks(share).enumerate() {
        let part = part.to_vec();
        tasks.spawn(async move {
            let mut connection = Pipeline::open(address).await;
            let mut answers = Vec::with_capacity(part.len());
            for batch in part.chunks(PIPELINED) {
                answers.extend(connection.exchange(batch).await);
            }
            (index, answers)
        });
    }
    let mut parts = tasks.join_all().await;
    parts.sort_by_key(|(index, _)| *index);
    parts.into_iter().flat_map(|(_, answers)| answers).collect()
}

fn head_end(buffer: &[u8]) -> Option<usize> {
    let found = buffer.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some(found + 4)
}

fn lines(head: &[u8]) -> impl Iterator<Item = &[u8]> {
    head.split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty())
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = line.iter().position(|byte| *byte == b':')?;
    Some((&line[..colon], line[colon + 1..].trim_ascii()))
}

fn parse(head: &[u8]) -> Seen {
    let mut seen = Seen::default();
    let mut found = lines(head);
    let status = found
        .next()
        .and_then(|line| line.get(9..12))
        .unwrap_or_default();
    seen.status = std::str::from_utf8(status).unwrap().parse().unwrap();
    for (name, value) in found.filter_map(split) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"x-seen-traceparent" => seen.traceparent = text(),
            b"x-seen-tracestate" => seen.tracestate = text(),
            b"x-seen-baggage" => seen.baggage = text(),
            b"x-tracemeter-explain" => seen.explanation = text(),
            b"connection" => seen.closes = value.eq_ignore_ascii_case(b"close"),
            _ => {}
        }
    }
    seen
}
