//! A zero-code application: it knows nothing of tracing except that it copies three headers.
//!
//! It serves HTTP/1.1, HTTP/2 and the gRPC method on one port, records the header lines of every
//! request, does what its plan says (wait, call others through the outbound listener of its
//! sidecar, answer with a status) and copies `traceparent`, `tracestate` and `baggage` line by line
//! to each outgoing call, as the application rules of the product ask.
//! Limits: [`RECORD_LIMIT`] recorded requests; beyond that they are only counted.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::{Call, Client, Protocol, Reply};
use crate::grpc;
use crate::headers::HeaderLines;

/// How many requests an application remembers: one run of the largest test.
pub const RECORD_LIMIT: usize = 50_000;

/// A request as the application saw it.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// What it came as.
    pub protocol: Protocol,
    /// The HTTP version on the wire.
    pub version: Version,
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The header lines.
    pub headers: HeaderLines,
    /// Bytes of the body, or of the gRPC payload.
    pub body_bytes: usize,
}

/// What an application does with a request.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Waits this long before everything else.
    pub delay: Duration,
    /// Calls made one after the other; headers are copied into each.
    pub calls: Vec<Call>,
    /// The status; 0 stands for 200. For gRPC, 4xx and 5xx become status codes other than OK.
    pub status: u16,
    /// Whether the answer is the same when a call of its own failed.
    pub swallows: bool,
    /// Size of the answer's body.
    pub body_bytes: usize,
    /// Leaves the request out of the recording, for tests whose planner looks at it itself.
    pub unrecorded: bool,
}

/// Every answer of an application carries this header: what lacks it came from a proxy.
pub const ANSWERED_BY: &str = "x-answered-by-application";

type Planner = dyn Fn(&Recorded) -> Plan + Send + Sync;

/// A running application; it stops when dropped.
pub struct App {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    planner: Box<Planner>,
    outbound: OnceLock<Client>,
    recorded: Mutex<Vec<Recorded>>,
    served: AtomicU64,
    failed_calls: AtomicU64,
    internal_headers: AtomicU64,
}

impl App {
    /// Starts an application on a free port of the loopback address.
    pub async fn start(
        planner: impl Fn(&Recorded) -> Plan + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            planner: Box::new(planner),
            outbound: OnceLock::new(),
            recorded: Mutex::default(),
            served: AtomicU64::new(0),
            failed_calls: AtomicU64::new(0),
            internal_headers: AtomicU64::new(0),
        });
        let server = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self {
            address,
            shared,
            server,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sets the address all outgoing calls go to: the outbound listener of its sidecar, which is
    /// started after the application. Only the first call has an effect.
    pub fn calls_through(&self, outbound: SocketAddr) {
        let _ = self.shared.outbound.set(Client::new(outbound));
    }

    /// A copy of what was recorded so far.
    #[must_use]
    pub fn recorded(&self) -> Vec<Recorded> {
        self.shared.lock().clone()
    }

    /// Takes what was recorded so far, leaving nothing.
    #[must_use]
    pub fn take_recorded(&self) -> Vec<Recorded> {
        std::mem::take(&mut *self.shared.lock())
    }

    /// All requests answered, also those beyond the recording limit.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.shared.served.load(Ordering::Relaxed)
    }

    /// Replies to its own calls that carried a header of the filter's: no application may see one.
    #[must_use]
    pub fn internal_headers(&self) -> u64 {
        self.shared.internal_headers.load(Ordering::Relaxed)
    }

    /// Outgoing calls that got no reply at all.
    #[must_use]
    pub fn failed_calls(&self) -> u64 {
        self.shared.failed_calls.load(Ordering::Relaxed)
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Recorded>> {
        self.recorded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the request, then does what the plan says. Answers the plan's status, or 502 when
    /// a call of its own failed.
    async fn perform(&self, recorded: Recorded) -> (u16, Bytes) {
        let plan = (self.planner)(&recorded);
        let copied = recorded.headers.copied();
        if !plan.unrecorded {
            let mut list = self.lock();
            if list.len() < RECORD_LIMIT {
                list.push(recorded);
            }
        }
        if !plan.delay.is_zero() {
            tokio::time::sleep(plan.delay).await;
        }
        let mut status = if plan.status == 0 { 200 } else { plan.status };
        for call in plan.calls {
            if !self.pass_on(call, &copied).await && !plan.swallows {
                status = 502;
            }
        }
        self.served.fetch_add(1, Ordering::Relaxed);
        (status, Bytes::from(vec![b'.'; plan.body_bytes]))
    }

    async fn pass_on(&self, mut call: Call, copied: &HeaderLines) -> bool {
        for (name, value) in copied.iter() {
            call.headers.push(name, value);
        }
        let reply = match self.outbound.get() {
            Some(client) => client.send(call).await,
            None => Err(anyhow::anyhow!("no outbound address was set")),
        };
        match reply {
            Ok(reply) => {
                if has_internal_header(&reply) {
                    self.internal_headers.fetch_add(1, Ordering::Relaxed);
                }
                succeeded(&reply)
            }
            Err(_) => {
                self.failed_calls.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }
}

/// Whether a header (or, for gRPC, a trailer) of the filter's own is in a reply.
#[must_use]
pub fn has_internal_header(reply: &Reply) -> bool {
    let mut lines = reply.headers.iter();
    lines.any(|(name, _)| name.starts_with("x-tracemeter-"))
}

/// An answer below 500 is passed on as success: a 404 of a callee is its caller's to interpret.
fn succeeded(reply: &Reply) -> bool {
    reply.status < 500 && reply.grpc_status.unwrap_or(0) == 0
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // The connections belong to this task, so that dropping the application ends them too.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve(stream, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Nagle's delay would be measured as the application's.
    let _ = stream.set_nodelay(true);
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Envoy passes 100 lines and adds its own; this side must never be the one that refuses.
    builder.http1().max_headers(256).max_buf_size(1 << 20);
    builder.http2().max_header_list_size(1 << 20);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            let mut response = answer(&shared, request).await;
            response
                .headers_mut()
                .insert(ANSWERED_BY, HeaderValue::from_static("yes"));
            Ok::<_, Infallible>(response)
        }
    });
    // A connection that breaks is the peer's affair.
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<tonic::body::Body> {
    let content_type = request.headers().get("content-type");
    let is_grpc =
        content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    let mut recorded = Recorded {
        protocol: match (is_grpc, request.version()) {
            (true, _) => Protocol::Grpc,
            (false, Version::HTTP_2) => Protocol::Http2,
            (false, _) => Protocol::Http1,
        },
        version: request.version(),
        method: request.method().clone(),
        path: request
            .uri()
            .path_and_query()
            .map_or_else(String::new, ToString::to_string),
        headers: HeaderLines::from_map(request.headers()),
        body_bytes: 0,
    };
    if is_grpc {
        let shared = Arc::clone(shared);
        let work = move |message: grpc::EchoMessage| -> grpc::Work {
            recorded.body_bytes = message.payload.len();
            Box::pin(async move { grpc_answer(shared.perform(recorded).await) })
        };
        return grpc::serve(request, Box::new(work)).await;
    }
    let body = request.into_body().collect().await;
    recorded.body_bytes = body.map_or(0, |body| body.to_bytes().len());
    let (status, body) = shared.perform(recorded).await;
    let mut response = Response::new(tonic::body::Body::new(Full::new(body)));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    response
}

fn grpc_answer(
    (status, payload): (u16, Bytes),
) -> Result<tonic::Response<grpc::EchoMessage>, tonic::Status> {
    match status {
        200..300 => Ok(tonic::Response::new(grpc::EchoMessage {
            sender: String::new(),
            payload,
        })),
        404 => Err(tonic::Status::not_found("no such thing")),
        400..500 => Err(tonic::Status::invalid_argument("refused")),
        _ => Err(tonic::Status::internal("failed")),
    }
}
