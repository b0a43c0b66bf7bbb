//! An OTLP/HTTP receiver that keeps every span and every ledger delta it was sent, for tests that look at what leaves a
//! proxy rather than at what a collector makes of it.
//!
//! It answers 200 to everything it can read. The messages are the few fields of OTLP that the tests
//! ask for, by their numbers in `opentelemetry-proto`: an own reading, independent of the filter's
//! writing. Not for gRPC. Limits: [`SPAN_LIMIT`] spans, then it answers 503.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use integration_tests::wait;
use prost::Message as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

mod ledger;
mod messages;
use ledger::{Deltas, Totals};
use messages::ExportRequest;

/// Spans kept at most: several runs of the largest test.
pub(crate) const SPAN_LIMIT: usize = 1_000_000;

/// How long a span may take from the end of its request to here: linger, tick, a busy machine.
pub(crate) const ARRIVAL: Duration = Duration::from_secs(60);

/// A span with what names its sender.
#[derive(Debug, Clone)]
pub(crate) struct Span {
    /// The path that it was posted to: tells the filter's spans from Envoy's.
    pub(crate) path: String,
    pub(crate) service: String,
    pub(crate) scope: String,
    pub(crate) trace_id: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: i32,
    pub(crate) flags: u32,
    pub(crate) trace_state: String,
    pub(crate) attributes: Vec<(String, String)>,
    /// Trace id and span id of each link.
    pub(crate) links: Vec<(String, String)>,
}

/// SERVER and CLIENT of OTLP's span kinds.
pub(crate) const SERVER: i32 = 2;
pub(crate) const CLIENT: i32 = 3;

impl Span {
    /// An attribute's value as text; empty when it is not there.
    pub(crate) fn attribute(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value)
    }
}

/// A running receiver; it stops when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    /// Everything is answered with 503 and forgotten.
    away: bool,
    refused: usize,
    deltas: Deltas,
    /// Version and threshold of the rate table, the same for every service and route.
    rates: Option<(u64, String)>,
    /// Answers to requests for rates by their status.
    rates_answers: BTreeMap<u16, usize>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let server = tokio::spawn(accept(listener, Arc::clone(&kept)));
        Self {
            address,
            kept,
            server,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().spans.clone()
    }

    /// Spans so far, those of a batch that came twice counted twice.
    pub(crate) fn len(&self) -> usize {
        self.kept.lock().unwrap().spans.len()
    }

    /// Different spans so far.
    pub(crate) fn distinct(&self) -> usize {
        let kept = self.kept.lock().unwrap();
        let ids: BTreeSet<_> = kept
            .spans
            .iter()
            .map(|span| (&span.trace_id, &span.id))
            .collect();
        ids.len()
    }

    /// Answers 503 to everything from now on, or no longer; gives how often it did so far.
    pub(crate) fn be_away(&self, away: bool) -> usize {
        let mut kept = self.kept.lock().unwrap();
        kept.away = away;
        kept.refused
    }

    /// Answers requests for rates with this table from now on; with none it says that there is none.
    pub(crate) fn set_rates(&self, table: Option<(u64, &str)>) {
        let table = table.map(|(version, threshold)| (version, threshold.to_owned()));
        self.kept.lock().unwrap().rates = table;
    }

    /// How often a request for rates was answered with this status.
    pub(crate) fn rates_answered(&self, status: u16) -> usize {
        let kept = self.kept.lock().unwrap();
        kept.rates_answers.get(&status).copied().unwrap_or(0)
    }

    /// What the ledger has counted so far.
    pub(crate) fn ledger(&self) -> Totals {
        self.kept.lock().unwrap().deltas.totals()
    }

    /// Waits for `count` spans that satisfy `wanted`, and gives all that do.
    pub(crate) async fn wait_for(
        &self,
        what: &str,
        count: usize,
        wanted: impl Fn(&Span) -> bool,
    ) -> Vec<Span> {
        wait::until(what, ARRIVAL, async || {
            let mut found = self.spans();
            found.retain(|span| wanted(span));
            Ok((found.len() >= count).then_some(found))
        })
        .await
        .unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn accept(listener: TcpListener, kept: Arc<Mutex<Kept>>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&kept)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Kept>>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let kept = Arc::clone(&kept);
        async move { Ok::<_, Infallible>(take(request, &kept).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    let _ = connection
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The answer to a request for rates, as the collector gives it.
fn rates(request: &Request<Incoming>, kept: &Mutex<Kept>) -> Response<Full<Bytes>> {
    let mut kept = kept.lock().unwrap();
    let query = request.uri().query().unwrap_or_default();
    let service = query.strip_prefix("service=").unwrap();
    let mut response = Response::new(Full::default());
    if kept.away {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    } else if let Some((version, threshold)) = &kept.rates {
        let etag = format!("\"{version}\"");
        let known = request.headers().get("if-none-match");
        if known.is_some_and(|known| *known == etag) {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
        } else {
            let table = format!(
                r#"{{"version":{version},"service":"{service}","unlisted":"{threshold}","routes":{{}}}}"#
            );
            *response.body_mut() = Full::from(table);
        }
        response.headers_mut().insert("etag", etag.parse().unwrap());
    } else {
        *response.status_mut() = http::StatusCode::NO_CONTENT;
    }
    let status = response.status().as_u16();
    *kept.rates_answers.entry(status).or_default() += 1;
    response
}

/// The content of a gzip body.
fn gunzip(bytes: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut plain).expect("a gzip body");
    plain.into()
}

async fn take(request: Request<Incoming>, kept: &Mutex<Kept>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    if path.ends_with("/rates") {
        return rates(&request, kept);
    }
    let gzip = request.headers().contains_key("content-encoding");
    let body = request.into_body().collect().await;
    let bytes = body.map(|body| body.to_bytes()).unwrap_or_default();
    let bytes = if gzip { gunzip(&bytes) } else { bytes };
    let mut response = Response::new(Full::new(Bytes::new()));
    let mut kept = kept.lock().unwrap();
    if kept.away {
        kept.refused += 1;
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
        return response;
    }
    let readable = if path.ends_with("/metrics") {
        kept.deltas.take(&bytes)
    } else if path.ends_with("/traces") {
        let message = ExportRequest::decode(bytes);
        let spans = message
            .as_ref()
            .map(|message| messages::read(&path, message.clone()));
        kept.spans.extend(spans.unwrap_or_default());
        message.is_ok()
    } else {
        // Other requests are none of this receiver's business.
        true
    };
    if kept.spans.len() > SPAN_LIMIT {
        *response.status_mut() = http::StatusCode::SERVICE_UNAVAILABLE;
    } else if !readable {
        *response.status_mut() = http::StatusCode::BAD_REQUEST;
    }
    response
}
