//! An OTLP/HTTP receiver that misbehaves and keeps books: some ledger deltas are refused before they
//! count, some are counted but never answered, so that they come again.
//!
//! Books: what each delta says per key, a delta being named by its instance and number; the second
//! coming of a number must be the same bytes and adds nothing. The messages are read by the field
//! numbers of `opentelemetry-proto`, independent of the filter's writing.
//! Limits: bodies of [`CAPTURED`] span batches and as many deltas are kept.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

mod read;
use crate::metering::{Book, add};

/// Bodies kept of each signal, for other decoders.
pub(crate) const CAPTURED: usize = 40;

/// Instance and number of a delta.
type Name = (String, i64);

/// A delta that was counted.
struct Delta {
    body: Bytes,
    book: Book,
}

/// An export request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    pub(crate) gzip: bool,
    pub(crate) bytes: Bytes,
}

/// What the receiver has seen and done.
#[derive(Default)]
struct Kept {
    deltas: BTreeMap<Name, Delta>,
    /// Seen, but not yet answered with 200.
    open: BTreeSet<Name>,
    seen: BTreeSet<Name>,
    faults: Faults,
    spans: Vec<Body>,
    metrics: Vec<Body>,
    unreadable: Vec<String>,
}

/// How often the receiver misbehaved, and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Answered 503, not counted.
    pub(crate) refused: u64,
    /// Counted, connection closed without an answer.
    pub(crate) unanswered: u64,
    /// Came again after it had been counted.
    pub(crate) duplicates: u64,
    /// Came again with other bytes.
    pub(crate) changed: u64,
}

/// A running receiver; it stops when dropped.
pub(crate) struct Receiver {
    address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    server: JoinHandle<()>,
}

impl Receiver {
    /// `faulty`: of four new deltas one is refused and one is counted without an answer.
    pub(crate) async fn start(faulty: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let server = tokio::spawn(accept(listener, Arc::clone(&kept), faulty));
        Self {
            address,
            kept,
            server,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The sums of all deltas, each counted once.
    pub(crate) fn book(&self) -> Book {
        let kept = self.kept.lock().unwrap();
        assert_eq!(kept.unreadable, Vec::<String>::new());
        let mut all = Book::new();
        for delta in kept.deltas.values() {
            for (key, sums) in &delta.book {
                add(&mut all, key, sums);
            }
        }
        all
    }

    /// Deltas that were counted, and those without a good answer so far.
    pub(crate) fn progress(&self) -> (usize, usize) {
        let kept = self.kept.lock().unwrap();
        (kept.deltas.len(), kept.open.len())
    }

    /// Every instance has numbered its deltas from 1 without a gap; gives how many instances.
    pub(crate) fn assert_no_gaps(&self) -> usize {
        let kept = self.kept.lock().unwrap();
        let mut last = BTreeMap::<&str, i64>::new();
        for (instance, number) in kept.deltas.keys() {
            let before = last.insert(instance, *number).unwrap_or(0);
            assert_eq!(*number, before + 1, "a delta of {instance} is missing");
        }
        last.len()
    }

    pub(crate) fn faults(&self) -> Faults {
        self.kept.lock().unwrap().faults
    }

    /// Some bodies of span batches and of deltas.
    pub(crate) fn captured(&self) -> (Vec<Body>, Vec<Body>) {
        let kept = self.kept.lock().unwrap();
        (kept.spans.clone(), kept.metrics.clone())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Kept {
    /// The answer to a delta; `None` stands for closing the connection instead.
    fn take(&mut self, body: &Bytes, faulty: bool) -> Option<StatusCode> {
        let (name, book) = match read::delta(body) {
            Ok(delta) => delta,
            Err(error) => {
                self.unreadable.push(error);
                return Some(StatusCode::BAD_REQUEST);
            }
        };
        if let Some(known) = self.deltas.get(&name) {
            self.faults.duplicates += 1;
            self.faults.changed += u64::from(known.body != *body);
            self.open.remove(&name);
            return Some(StatusCode::OK);
        }
        let is_new = self.seen.insert(name.clone());
        self.open.insert(name.clone());
        let turn = self.seen.len() % 4;
        if faulty && is_new && turn == 1 {
            self.faults.refused += 1;
            return Some(StatusCode::SERVICE_UNAVAILABLE);
        }
        let body = body.clone();
        self.deltas.insert(name.clone(), Delta { body, book });
        if faulty && is_new && turn == 3 {
            self.faults.unanswered += 1;
            return None;
        }
        self.open.remove(&name);
        Some(StatusCode::OK)
    }
}

async fn accept(listener: TcpListener, kept: Arc<Mutex<Kept>>, faulty: bool) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&kept), faulty));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, kept: Arc<Mutex<Kept>>, faulty: bool) {
    let service = service_fn(move |request: Request<Incoming>| {
        let kept = Arc::clone(&kept);
        async move {
            let status = answer(request, &kept, faulty).await;
            // An error makes hyper close the connection without a word.
            let status = status.ok_or("closed on purpose")?;
            let mut response = Response::new(Full::new(Bytes::new()));
            *response.status_mut() = status;
            Ok::<_, &'static str>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new();
    let served = connection.serve_connection(TokioIo::new(stream), service);
    let _: Result<(), Infallible> = served.await.or(Ok(()));
}

/// The content of a gzip body.
fn gunzip(bytes: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    std::io::Read::read_to_end(&mut decoder, &mut plain).expect("a gzip body");
    plain.into()
}

async fn answer(
    request: Request<Incoming>,
    kept: &Mutex<Kept>,
    faulty: bool,
) -> Option<StatusCode> {
    let path = request.uri().path().to_owned();
    let encoding = request.headers().get("content-encoding");
    let gzip = encoding.is_some_and(|value| value == "gzip");
    let bytes = match request.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Some(StatusCode::BAD_REQUEST),
    };
    let mut kept = kept.lock().unwrap();
    let body = Body {
        gzip,
        bytes: bytes.clone(),
    };
    if path.ends_with("/metrics") {
        if kept.metrics.len() < CAPTURED {
            kept.metrics.push(body);
        }
        let plain = if gzip { gunzip(&bytes) } else { bytes };
        return kept.take(&plain, faulty);
    }
    if path.ends_with("/traces") && kept.spans.len() < CAPTURED {
        kept.spans.push(body);
    }
    Some(StatusCode::OK)
}
