//! One batch, one request.

use std::io::Write as _;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Request, Uri, header};
use bytes::{BufMut as _, Bytes, BytesMut};
use http_body_util::Full;
use mesh_config::policy::{Forward, ForwardCompression, ForwardProtocol};
use thiserror::Error;

use super::answer::{self, Outcome};
use super::queue::Batch;
use crate::client::{Client, ClientError};

/// The method of OTLP/gRPC.
const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// zstd level: the data was seen compressed once already, speed counts.
const ZSTD_LEVEL: i32 = 1;

/// Why the policy's `forward` section cannot be used.
#[derive(Debug, Error)]
pub(crate) enum ForwardError {
    /// The address is none.
    #[error("`forward.endpoint` with `forward.path` is not an address: `{0}`")]
    Address(String),
    /// A header is none. Its value may be a secret.
    #[error("`forward.headers` has a name or value that is not allowed: `{0}`")]
    Header(String),
    /// TLS cannot be set up.
    #[error("cannot set up tls: {0}")]
    Tls(#[from] rustls::Error),
}

/// How batches get to the back end.
#[derive(Debug)]
pub(super) struct Sender {
    client: Client,
    protocol: ForwardProtocol,
    compression: ForwardCompression,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    timeout: Duration,
}

/// A batch as bytes, and the spans of records that could not be read.
pub(super) struct Message {
    body: Bytes,
    pub(super) damaged: u64,
}

impl Sender {
    /// A sender as the policy says.
    pub(super) fn new(settings: &Forward) -> Result<Self, ForwardError> {
        let (client, path) = match settings.protocol {
            ForwardProtocol::Grpc => (Client::http2()?, EXPORT),
            ForwardProtocol::HttpProtobuf => (Client::http1()?, settings.path.as_str()),
        };
        let address = format!("{}{path}", settings.endpoint.trim_end_matches('/'));
        let uri = address
            .parse()
            .map_err(|_| ForwardError::Address(address))?;
        let headers = settings.headers.iter().map(|(name, value)| {
            let wrong = || ForwardError::Header(name.to_owned());
            let value = HeaderValue::from_str(value.expose()).map_err(|_| wrong())?;
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            Ok((name, value))
        });
        Ok(Self {
            client,
            protocol: settings.protocol,
            compression: settings.compression,
            uri,
            headers: headers.collect::<Result<_, ForwardError>>()?,
            timeout: settings.timeout,
        })
    }

    /// Joins and compresses the requests of a batch. Takes milliseconds per MiB.
    pub(super) fn encode(&self, batch: &Batch) -> Message {
        let (mut raw, mut damaged) = (Vec::new(), 0);
        for item in &batch.items {
            match item.record.decompress() {
                Some(request) => raw.extend_from_slice(&request),
                None => damaged += item.spans,
            }
        }
        let packed = match self.compression {
            ForwardCompression::None => raw,
            ForwardCompression::Gzip => gzip(&raw),
            // Only without memory can this fail; then nothing else works either.
            ForwardCompression::Zstd => zstd::bulk::compress(&raw, ZSTD_LEVEL).unwrap_or_default(),
        };
        let body = match self.protocol {
            ForwardProtocol::HttpProtobuf => packed.into(),
            ForwardProtocol::Grpc => {
                let mut framed = BytesMut::with_capacity(packed.len() + 5);
                framed.put_u8(u8::from(self.encoding().is_some()));
                framed.put_u32(u32::try_from(packed.len()).unwrap_or(u32::MAX));
                framed.put_slice(&packed);
                framed.freeze()
            }
        };
        Message { body, damaged }
    }

    fn encoding(&self) -> Option<&'static str> {
        match self.compression {
            ForwardCompression::Gzip => Some("gzip"),
            ForwardCompression::Zstd => Some("zstd"),
            ForwardCompression::None => None,
        }
    }

    /// Sends it once.
    pub(super) async fn send(&self, message: &Message) -> Outcome {
        let Some(request) = self.request(message) else {
            return Outcome::Refused("the request cannot be made".to_owned());
        };
        match self.client.send(request, self.timeout).await {
            Ok(answer) => match self.protocol {
                ForwardProtocol::Grpc => answer::grpc(&answer),
                ForwardProtocol::HttpProtobuf => answer::http(&answer),
            },
            Err(ClientError::TooLarge) => Outcome::Refused("the answer is too large".to_owned()),
            Err(error) => Outcome::Retry(None, error.to_string()),
        }
    }

    fn request(&self, message: &Message) -> Option<Request<Full<Bytes>>> {
        let mut request = Request::post(self.uri.clone());
        let (media_type, encoding) = match self.protocol {
            ForwardProtocol::Grpc => {
                request = request.header(header::TE, "trailers");
                ("application/grpc", "grpc-encoding")
            }
            ForwardProtocol::HttpProtobuf => ("application/x-protobuf", "content-encoding"),
        };
        request = request
            .header(header::CONTENT_TYPE, media_type)
            .header(header::USER_AGENT, "tracemeter-collector");
        if let Some(name) = self.encoding() {
            request = request.header(encoding, name);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(Full::new(message.body.clone())).ok()
    }
}

fn gzip(raw: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory cannot fail.
    drop(encoder.write_all(raw));
    encoder.finish().unwrap_or_default()
}
