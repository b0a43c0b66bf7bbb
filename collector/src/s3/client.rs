//! Signed requests, tried again while it makes sense.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{HeaderMap, RANGE};
use hyper::{Method, Request, StatusCode};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use thiserror::Error;

use super::address::{Address, Credentials};
use super::sign::{self, encode_path, sha256};

/// Tries per request.
pub(super) const ATTEMPTS: u32 = 3;
/// Time to connect.
pub(super) const CONNECT: Duration = Duration::from_secs(3);
/// Time of one try.
pub(super) const REQUEST: Duration = Duration::from_secs(20);
/// Pause before the second try; doubled for each further one.
const BACKOFF: Duration = Duration::from_millis(200);
/// Most bytes of an answer: a partition's file is far smaller.
const MAX_ANSWER: usize = 1 << 30;
/// Bytes of an error's text that are shown.
const MAX_MESSAGE: usize = 300;

/// Why a request failed for good.
#[derive(Debug, Error)]
pub(super) enum Failure {
    /// No answer.
    #[error("tier `{place}` cannot be reached: {message}")]
    Unreachable {
        /// The address.
        place: String,
        /// The last cause.
        message: String,
    },
    /// An answer that is not a success.
    #[error("tier `{place}` answered `{status}`: {message}")]
    Status {
        /// The address.
        place: String,
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        message: String,
    },
}

/// A successful answer.
#[derive(Debug)]
pub(super) struct Answer {
    /// Headers.
    pub(super) headers: HeaderMap,
    /// Body.
    pub(super) body: Bytes,
}

/// One request.
#[derive(Debug, Clone, Default)]
pub(super) struct Call {
    /// Method.
    pub(super) method: Method,
    /// Key below the address' prefix.
    pub(super) key: String,
    /// Query, sorted by name and encoded.
    pub(super) query: String,
    /// `bytes=a-b`.
    pub(super) range: Option<String>,
    /// Body.
    pub(super) body: Bytes,
}

/// Requests to one address.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: Address,
    credentials: Credentials,
    host: String,
    pool: Pool<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

impl Client {
    pub(super) fn new(address: Address, credentials: Credentials) -> std::io::Result<Self> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.enforce_http(false);
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let connector = if address.endpoint.starts_with("https://") {
            builder.with_native_roots()?
        } else {
            // No certificates are needed, and none may be there.
            let roots = rustls::RootCertStore::empty();
            let config = rustls::ClientConfig::builder()
                .with_root_certificates(roots)
                .with_no_client_auth();
            builder.with_tls_config(config)
        };
        let connector = connector.https_or_http().enable_http1().wrap_connector(tcp);
        let host = address.endpoint.split("://").nth(1).unwrap_or_default();
        Ok(Self {
            host: host.to_owned(),
            pool: Pool::builder(TokioExecutor::new()).build(connector),
            address,
            credentials,
        })
    }

    /// The path of a key on the server, encoded.
    fn path(&self, key: &str) -> String {
        let Address { bucket, prefix, .. } = &self.address;
        let slash = if prefix.is_empty() { "" } else { "/" };
        encode_path(&format!("/{bucket}/{prefix}{slash}{key}"))
    }

    /// Sends a request until it gets an answer that counts.
    pub(super) async fn send(&self, call: &Call) -> Result<Answer, Failure> {
        let mut attempt = 1;
        loop {
            let result = match tokio::time::timeout(REQUEST, self.attempt(call)).await {
                Ok(result) => result,
                Err(_) => Err(self.unreachable(&format!("no answer in {} s", REQUEST.as_secs()))),
            };
            let again = match &result {
                Ok(_) => false,
                Err(Failure::Unreachable { .. }) => true,
                Err(Failure::Status { status, .. }) => {
                    status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
                }
            };
            if !again || attempt == ATTEMPTS {
                return result;
            }
            tokio::time::sleep(BACKOFF * 2u32.pow(attempt - 1)).await;
            attempt += 1;
        }
    }

    fn unreachable(&self, message: &str) -> Failure {
        Failure::Unreachable {
            place: self.address.to_string(),
            message: message.to_owned(),
        }
    }

    async fn attempt(&self, call: &Call) -> Result<Answer, Failure> {
        let path = self.path(&call.key);
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let signed = sign::headers(
            &sign::Request {
                method: call.method.as_str(),
                host: &self.host,
                path: &path,
                query: &call.query,
                body_hash: &sha256(&call.body),
            },
            &self.address.region,
            &self.credentials,
            now.map_or(0, |time| time.as_secs()),
        );
        let mark = if call.query.is_empty() { "" } else { "?" };
        let mut request = Request::builder().method(&call.method).uri(format!(
            "{}{path}{mark}{}",
            self.address.endpoint, call.query
        ));
        for (name, value) in signed {
            request = request.header(name, value);
        }
        if let Some(range) = &call.range {
            request = request.header(RANGE, range);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let response = self
            .pool
            .request(request)
            .await
            .map_err(|error| self.unreachable(&root_cause(&error)))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.unreachable(&error.to_string()))?
            .to_bytes();
        if head.status.is_success() {
            return Ok(Answer {
                headers: head.headers,
                body,
            });
        }
        let text = String::from_utf8_lossy(&body);
        Err(Failure::Status {
            place: self.address.to_string(),
            status: head.status,
            message: text.chars().take(MAX_MESSAGE).collect(),
        })
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}
