//! OTLP/gRPC: an `Export` call is one frame in, one frame out.
//!
//! Unary calls only, which is all that OTLP has. Errors are trailers-only answers; back-pressure
//! carries `RetryInfo`, without which OTLP clients must not retry RESOURCE_EXHAUSTED.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Buf, Bytes};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::App;
use super::body::{self, Encoding, MAX_BODY};
use super::ingest::{self, Accepted, Export, Form, IngestError, RETRY_AFTER_S, Signal};
use crate::metrics::RequestRefusal as Why;
use crate::otlp::reply;

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT: HeaderName = HeaderName::from_static("grpc-accept-encoding");
/// Bytes of a frame's header: compressed flag and length.
const FRAME: usize = 5;

/// The routes of the gRPC port.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route(TRACES, post(traces))
        .route(METRICS, post(metrics))
        .fallback(|| async { failure(12, "unknown service or method", None) })
        .with_state(app)
}

async fn traces(State(app): State<Arc<App>>, request: Request) -> Response {
    export(&app, Signal::Traces, request).await
}

async fn metrics(State(app): State<Arc<App>>, request: Request) -> Response {
    export(&app, Signal::Metrics, request).await
}

async fn export(app: &Arc<App>, signal: Signal, request: Request) -> Response {
    app.metrics.grpc_requests.add(1);
    if app.draining.load(Ordering::Acquire) {
        return failure(14, "shutting down", Some(RETRY_AFTER_S));
    }
    match call(app, signal, request).await {
        Ok(accepted) => success(&reply::partial_success(
            accepted.rejected,
            &accepted.message,
        )),
        Err(error) => {
            let retry = error.is_retryable().then_some(RETRY_AFTER_S);
            failure(error.grpc_code(), &error.message, retry)
        }
    }
}

async fn call(app: &Arc<App>, signal: Signal, request: Request) -> Result<Accepted, IngestError> {
    let (parts, body) = request.into_parts();
    let frame = read_frame(app, &parts.headers, body).await;
    if let Err(error) = &frame {
        app.metrics.refuse_request(error.why);
    }
    let (body, encoding, share) = frame?;
    ingest::export(
        app,
        Export {
            signal,
            body,
            encoding,
            form: Form::Protobuf,
            share,
        },
    )
    .await
}

async fn read_frame(
    app: &App,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Bytes, Encoding, super::budget::Share), IngestError> {
    let media_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    if !media_type
        .unwrap_or_default()
        .starts_with(b"application/grpc")
    {
        return Err(IngestError::refused(Why::MediaType, "not a gRPC request"));
    }
    let mut share = app.budget.share();
    let mut frame = body::read(body, &mut share, MAX_BODY + FRAME).await?;
    let malformed = || IngestError::refused(Why::Malformed, "not one whole gRPC frame");
    if frame.len() < FRAME {
        return Err(malformed());
    }
    let compressed = frame.get_u8();
    let len = frame.get_u32();
    if usize::try_from(len).ok() != Some(frame.len()) || compressed > 1 {
        return Err(malformed());
    }
    let named = headers.get(GRPC_ENCODING).map(HeaderValue::as_bytes);
    let encoding = Encoding::parse(named).ok_or_else(|| {
        IngestError::refused(Why::Encoding, "encodings are identity, gzip and zstd")
    })?;
    Ok((
        frame,
        if compressed == 1 {
            encoding
        } else {
            Encoding::Identity
        },
        share,
    ))
}

fn success(message: &[u8]) -> Response {
    let mut frame = Vec::with_capacity(FRAME + message.len());
    frame.push(0);
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    frame.extend_from_slice(message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from(frame))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = Body::new(StreamBody::new(futures::stream::iter(frames)));
    let headers = [
        (header::CONTENT_TYPE, MEDIA_TYPE),
        (GRPC_ACCEPT, HeaderValue::from_static("identity,gzip,zstd")),
    ];
    (headers, body).into_response()
}

fn failure(code: u8, message: &str, retry_after_s: Option<u32>) -> Response {
    let mut response = (StatusCode::OK, Body::empty()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
    headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(code)));
    if let Ok(value) = HeaderValue::from_str(&percent(message)) {
        headers.insert(GRPC_MESSAGE, value);
    }
    headers.insert(GRPC_ACCEPT, HeaderValue::from_static("identity,gzip,zstd"));
    if retry_after_s.is_some() {
        let details = reply::status(code, message, retry_after_s);
        if let Ok(value) = HeaderValue::from_str(&crate::otlp::any::base64(&details)) {
            headers.insert(GRPC_DETAILS, value);
        }
    }
    response
}

/// Percent-encodes what `grpc-message` may not hold.
fn percent(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        if (0x20..0x7f).contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
