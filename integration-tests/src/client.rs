//! A client for HTTP/1.1, HTTP/2 over plain text and gRPC that talks to one address, whatever the
//! authority of the request says: that is how an application reaches its sidecar.
//!
//! Header lines go out as given. Not for malformed requests: see [`crate::raw`].
//! Limits: one deadline per call ([`CALL_LIMIT`]), replies are held in memory.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use crate::grpc;
use crate::headers::HeaderLines;

/// After this long a call has failed.
pub const CALL_LIMIT: Duration = Duration::from_secs(30);

/// How a call is put on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 with keep-alive.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// A unary gRPC call of [`grpc::METHOD_PATH`] or the path given.
    Grpc,
}

impl Protocol {
    /// All of them, for tests that hold for each.
    pub const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];
}

/// One request.
#[derive(Debug, Clone)]
pub struct Call {
    /// How it is sent.
    pub protocol: Protocol,
    /// The method; gRPC always uses POST.
    pub method: Method,
    /// Host or `:authority`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// Header lines besides those the protocol needs.
    pub headers: HeaderLines,
    /// The body; for gRPC the payload of the message.
    pub body: Bytes,
}

impl Call {
    /// A request without headers and body: GET, or the echo method for gRPC.
    #[must_use]
    pub fn new(protocol: Protocol, authority: &str, path: &str) -> Self {
        let path = if protocol == Protocol::Grpc && !path.starts_with("/tracemeter.") {
            grpc::METHOD_PATH
        } else {
            path
        };
        Self {
            protocol,
            method: if protocol == Protocol::Grpc {
                Method::POST
            } else {
                Method::GET
            },
            authority: authority.to_owned(),
            path: path.to_owned(),
            headers: HeaderLines::new(),
            body: Bytes::new(),
        }
    }

    /// The same call with these header lines.
    #[must_use]
    pub fn headers(mut self, headers: HeaderLines) -> Self {
        self.headers = headers;
        self
    }

    /// The same call as POST with a body of this many bytes.
    #[must_use]
    pub fn body_of(mut self, bytes: usize) -> Self {
        self.method = Method::POST;
        self.body = Bytes::from(vec![b'x'; bytes]);
        self
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The gRPC status, for gRPC calls.
    pub grpc_status: Option<i32>,
    /// Header lines of the response.
    pub headers: HeaderLines,
    /// The body, or the payload of the gRPC answer.
    pub body: Bytes,
}

impl Reply {
    /// HTTP 200, and status 0 where gRPC has one.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.status == 200 && self.grpc_status.unwrap_or(0) == 0
    }
}

type HttpClient = legacy::Client<ToAddress, Full<Bytes>>;
type GrpcClient = legacy::Client<ToAddress, tonic::body::Body>;

/// A pooled client of one address.
#[derive(Debug, Clone)]
pub struct Client {
    http1: HttpClient,
    http2: HttpClient,
    grpc: GrpcClient,
}

impl Client {
    /// A client whose connections all go to `address`. Connects on first use.
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        let to = ToAddress(address);
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        builder
            .http1_max_buf_size(1 << 20)
            .pool_max_idle_per_host(64);
        let http1 = builder.build(to);
        builder.http2_only(true).http2_max_header_list_size(1 << 20);
        Self {
            http1,
            http2: builder.build(to),
            grpc: builder.build(to),
        }
    }

    /// Sends one call and reads the whole reply.
    ///
    /// # Errors
    /// No connection, a broken reply, or nothing within [`CALL_LIMIT`]. A reply with an error
    /// status is a reply.
    pub async fn send(&self, call: Call) -> Result<Reply> {
        let what = format!("{:?} {}{}", call.protocol, call.authority, call.path);
        let reply = async {
            match call.protocol {
                Protocol::Http1 => exchange(&self.http1, call).await,
                Protocol::Http2 => exchange(&self.http2, call).await,
                Protocol::Grpc => grpc::call(self.grpc.clone(), call).await,
            }
        };
        tokio::time::timeout(CALL_LIMIT, reply)
            .await
            .with_context(|| format!("no reply in time to {what}"))?
            .with_context(|| format!("call failed: {what}"))
    }
}

async fn exchange(client: &HttpClient, call: Call) -> Result<Reply> {
    let uri = Uri::builder()
        .scheme("http")
        .authority(call.authority.as_str())
        .path_and_query(call.path.as_str())
        .build()?;
    let mut request = Request::builder()
        .method(call.method)
        .uri(uri)
        .body(Full::new(call.body))?;
    *request.headers_mut() = call.headers.to_map()?;
    let (parts, body) = client.request(request).await?.into_parts();
    Ok(Reply {
        status: parts.status.as_u16(),
        grpc_status: None,
        headers: HeaderLines::from_map(&parts.headers),
        body: body.collect().await?.to_bytes(),
    })
}

/// Connects to the same address for every authority.
#[derive(Debug, Clone, Copy)]
pub struct ToAddress(pub SocketAddr);

impl tower_service::Service<Uri> for ToAddress {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<TokioIo<TcpStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> task::Poll<std::io::Result<()>> {
        task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
