//! Requests to others: the leader of the rates, back ends.
//!
//! One kept-alive pool per [`Client`], HTTP/1.1 or HTTP/2, plain or TLS (the system's root
//! certificates; without any, only plain addresses can be reached).
//!
//! Limits: a request takes at most the time given to it, an answer has at most [`MAX_ANSWER`] bytes.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::header::HeaderMap;
use hyper::{Request, StatusCode};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;

/// Bytes of an answer that are read; the largest is a table of rates.
const MAX_ANSWER: usize = 16 << 20;
/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(60);

/// Why there is no answer.
#[derive(Debug, Error)]
pub(crate) enum ClientError {
    /// No connection, or it broke.
    #[error("{0}")]
    Failed(String),
    /// It took too long.
    #[error("no answer in time")]
    Timeout,
    /// The answer is too large.
    #[error("the answer is too large")]
    TooLarge,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: StatusCode,
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Trailers, where gRPC has its status.
    pub(crate) trailers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
}

/// See the module's documentation.
#[derive(Debug, Clone)]
pub(crate) struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client that speaks HTTP/1.1.
    pub(crate) fn http1() -> Result<Self, rustls::Error> {
        Ok(Self(builder().build(connector(Protocol::Http1)?)))
    }
    /// A client that speaks HTTP/2 at once, without upgrade.
    pub(crate) fn http2() -> Result<Self, rustls::Error> {
        let connector = connector(Protocol::Http2)?;
        Ok(Self(builder().http2_only(true).build(connector)))
    }

    /// Sends a request with an absolute address and reads the whole answer.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        timeout: Duration,
    ) -> Result<Answer, ClientError> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(failed)?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER).collect().await;
            let body = body.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    ClientError::TooLarge
                } else {
                    ClientError::Failed(error.to_string())
                }
            })?;
            Ok(Answer {
                status: head.status,
                headers: head.headers,
                trailers: body.trailers().cloned().unwrap_or_default(),
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or(Err(ClientError::Timeout))
    }
}

/// The whole chain of causes: the outermost one only says that connecting failed.
fn failed(error: legacy::Error) -> ClientError {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    ClientError::Failed(text)
}

fn builder() -> legacy::Builder {
    let mut builder = legacy::Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(IDLE);
    builder
}

#[derive(Clone, Copy)]
enum Protocol {
    Http1,
    Http2,
}

fn connector(protocol: Protocol) -> Result<HttpsConnector<HttpConnector>, rustls::Error> {
    let provider = rustls::crypto::ring::default_provider();
    let roots = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone());
    let builder = match roots {
        Ok(builder) => builder,
        Err(error) => {
            tracing::debug!(%error, "no root certificates: only plain addresses can be reached");
            let config = rustls::ClientConfig::builder_with_provider(provider.into())
                .with_safe_default_protocol_versions()?
                .with_root_certificates(rustls::RootCertStore::empty())
                .with_no_client_auth();
            HttpsConnectorBuilder::new().with_tls_config(config)
        }
    };
    let builder = builder.https_or_http();
    match protocol {
        Protocol::Http1 => Ok(builder.enable_http1().build()),
        Protocol::Http2 => Ok(builder.enable_http2().build()),
    }
}
