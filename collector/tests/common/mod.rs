//! A collector process and small clients for it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

pub(crate) mod back_end;
pub(crate) mod deltas;
pub(crate) mod s3_server;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

/// How long anything may take before a test gives up. Generous: machines may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Polls a condition.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < PATIENCE, "gave up waiting for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A port that nobody listens on and nobody is given by chance: for servers whose port has to be
/// known before they start, or stays the same when they are started again. It is below the range
/// that the system takes ports from when somebody asks for port 0 or connects, so other tests do not
/// get it in between; within this process none is given twice.
pub(crate) fn spare_port() -> u16 {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    // Test binaries that run at the same time begin at different places.
    let start = std::process::id().wrapping_mul(61);
    loop {
        let number = start.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
        let port = 12_000 + (number % 20_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A running collector; killed when dropped.
pub(crate) struct Collector {
    child: Child,
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    log: PathBuf,
}

impl Collector {
    /// Starts a collector over `dir` and waits until it is ready.
    pub(crate) fn start(dir: &Path, extra: &[&str]) -> Self {
        Self::start_as(dir, "127.0.0.1:0", extra, &[])
    }

    /// The same with the address of its HTTP port.
    pub(crate) fn start_at(dir: &Path, http: &str, extra: &[&str]) -> Self {
        Self::start_as(dir, http, extra, &[])
    }

    /// The same with environment variables.
    pub(crate) fn start_with(dir: &Path, extra: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::start_as(dir, "127.0.0.1:0", extra, environment)
    }

    fn start_as(dir: &Path, http: &str, extra: &[&str], environment: &[(&str, &str)]) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let addresses = dir.join("addresses.json");
        let log = dir.join("collector.log");
        drop(std::fs::remove_file(&addresses));
        let output = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_collector"))
            .args(["serve", "--grpc", "127.0.0.1:0", "--http", http])
            .arg("--data")
            .arg(dir.join("data"))
            .arg("--addresses-file")
            .arg(&addresses)
            .args(extra)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .unwrap();
        let text = wait_for("the collector to be ready", || {
            if let Some(status) = child.try_wait().unwrap() {
                panic!(
                    "collector ended with {status}: {}",
                    std::fs::read_to_string(&log).unwrap()
                );
            }
            std::fs::read_to_string(&addresses).ok()
        });
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let address = |key: &str| json[key].as_str().unwrap().parse().unwrap();
        Self {
            child,
            http: address("http"),
            grpc: address("grpc"),
            log,
        }
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for the process to end.
    pub(crate) fn wait(mut self) -> ExitStatus {
        wait_for("the collector to end", || self.child.try_wait().unwrap())
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Sends a protobuf trace request over HTTP.
    pub(crate) fn send(&self, body: &[u8]) -> std::io::Result<Reply> {
        post(
            self.http,
            "/v1/traces",
            &[("content-type", "application/x-protobuf")],
            body,
        )
    }

    /// The rows of a query.
    pub(crate) fn sql(&self, query: &str) -> Vec<serde_json::Value> {
        let reply = post(self.http, "/api/sql", &[], query.as_bytes()).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        assert_eq!(reply.status, 200, "{json}");
        json["rows"].as_array().unwrap().clone()
    }

    /// The rows of a query with any number of rows, as text.
    pub(crate) fn sql_csv(&self, query: &str) -> Vec<Vec<String>> {
        let data = self.log.parent().unwrap().join("data");
        let output = Command::new(env!("CARGO_BIN_EXE_collector"))
            .args(["sql", "--format", "csv", "--data"])
            .arg(data)
            .arg(query)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines()
            .skip(1)
            .map(|line| line.split(',').map(str::to_owned).collect())
            .collect()
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A counter from /metrics.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let page = get(self.http, "/metrics").unwrap().text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name}"))
            .parse()
            .unwrap()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn get(address: SocketAddr, path: &str) -> std::io::Result<Reply> {
    exchange(address, "GET", path, &[], &[])
}

pub(crate) fn post(
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    exchange(address, "POST", path, headers, body)
}

/// A request without a body.
pub(crate) fn request_with(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> std::io::Result<Reply> {
    exchange(address, method, path, headers, &[])
}

fn exchange(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Reply> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    // A server that refuses early may close before it has read everything.
    let written = stream.write_all(body);
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    let end = all.windows(4).position(|window| window == b"\r\n\r\n");
    let Some(end) = end else {
        written?;
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    };
    let head = String::from_utf8_lossy(&all[..end]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok(Reply {
        status,
        head,
        body: all[end + 4..].to_vec(),
    })
}

pub(crate) fn now_ns() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_nanos() as u64
}

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// A span of 1 ms that costs one nano-dollar times its id.
pub(crate) fn span(trace: u128, id: u64) -> Span {
    let start = now_ns() - 1_000_000;
    Span {
        trace_id: trace.to_be_bytes().to_vec(),
        span_id: id.to_be_bytes().to_vec(),
        name: "GET /orders".into(),
        kind: 2,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 1_000_000,
        attributes: vec![
            attribute("cost_usd", Value::DoubleValue(id as f64 / 1e9)),
            attribute("http.response.status_code", Value::IntValue(200)),
        ],
        ..Span::default()
    }
}

pub(crate) fn request(service: &str, spans: Vec<Span>) -> ExportTraceServiceRequest {
    let name = attribute("service.name", Value::StringValue(service.into()));
    let resource = Resource {
        attributes: vec![name],
        ..Resource::default()
    };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans {
                spans,
                ..ScopeSpans::default()
            }],
            schema_url: String::new(),
        }],
    }
}

pub(crate) fn encoded(service: &str, spans: Vec<Span>) -> Vec<u8> {
    request(service, spans).encode_to_vec()
}
