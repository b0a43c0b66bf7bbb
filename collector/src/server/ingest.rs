//! From a request's body to an answer, the same for both transports.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::App;
use super::body::{self, Encoding};
use super::budget::Share;
use crate::engine::AppendError;
use crate::metrics::RequestRefusal as Why;
use crate::otlp::batch::SpanBatch;
use crate::otlp::decode::{self, Context};
use crate::otlp::json;
use crate::wal::record::{Kind, Record};

/// Bodies above this size are worked on by a thread of their own, so that small requests
/// are not held up (decoding takes about 1 ms per MiB).
const INLINE_BYTES: usize = 256 << 10;
/// What a refused client is asked to wait, in seconds.
pub(crate) const RETRY_AFTER_S: u32 = 1;

/// What a request is encoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// OTLP protobuf.
    Protobuf,
    /// OTLP JSON.
    Json,
}

/// What was stored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Accepted {
    /// Refused spans.
    pub(crate) rejected: u64,
    /// Why they were refused.
    pub(crate) message: String,
}

/// Why a request was refused.
#[derive(Debug)]
pub(crate) struct IngestError {
    /// The reason counted.
    pub(crate) why: Why,
    /// What the client is told.
    pub(crate) message: String,
}

impl IngestError {
    /// A refusal.
    pub(crate) fn refused(why: Why, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }

    /// True when the same request may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        !matches!(
            self.why,
            Why::TooLarge | Why::MediaType | Why::Encoding | Why::Malformed | Why::Body
        )
    }

    /// HTTP status: 429 for back-pressure, 503 for a failing disk, 4xx for the client's errors.
    pub(crate) fn http_status(&self) -> u16 {
        match self.why {
            Why::TooLarge => 413,
            Why::MediaType | Why::Encoding => 415,
            Why::Malformed => 400,
            Why::Body => 408,
            Why::InFlight | Why::Queue | Why::HotFull => 429,
            Why::Storage | Why::Draining => 503,
        }
    }

    /// gRPC status code.
    pub(crate) fn grpc_code(&self) -> u8 {
        match self.why {
            // INVALID_ARGUMENT: not retried by any client.
            Why::TooLarge | Why::MediaType | Why::Malformed | Why::Body => 3,
            // UNIMPLEMENTED, as the gRPC specification says for unknown encodings.
            Why::Encoding => 12,
            // RESOURCE_EXHAUSTED (retried, because it carries RetryInfo).
            Why::InFlight | Why::Queue | Why::HotFull => 8,
            // UNAVAILABLE.
            Why::Storage | Why::Draining => 14,
        }
    }
}

impl From<AppendError> for IngestError {
    fn from(error: AppendError) -> Self {
        let why = match error {
            AppendError::QueueFull => Why::Queue,
            AppendError::HotFull => Why::HotFull,
            AppendError::Storage => Why::Storage,
            AppendError::Closed => Why::Draining,
        };
        Self::refused(why, error.to_string())
    }
}

/// Stores a trace export request; returns when it is durable.
pub(crate) async fn traces(
    app: &Arc<App>,
    body: Bytes,
    encoding: Encoding,
    form: Form,
    share: Share,
) -> Result<Accepted, IngestError> {
    let result = store(app, body, encoding, form, share).await;
    if let Err(error) = &result {
        app.metrics.refuse_request(error.why);
        tracing::debug!(reason = error.why.as_str(), message = error.message, "refused a request");
    }
    result
}

async fn store(
    app: &Arc<App>,
    body: Bytes,
    encoding: Encoding,
    form: Form,
    mut share: Share,
) -> Result<Accepted, IngestError> {
    app.metrics.body_bytes.add(body.len() as u64);
    let received_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let (record, batch) = if body.len() <= INLINE_BYTES {
        prepare(app, body, encoding, form, received_ns, &mut share)?
    } else {
        let app = app.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let prepared = prepare(&app, body, encoding, form, received_ns, &mut share);
            prepared.map(|prepared| (prepared, share))
        });
        let (prepared, returned) = worked
            .await
            .map_err(|_| IngestError::refused(Why::Malformed, "the request cannot be decoded"))??;
        share = returned;
        prepared
    };
    let accepted =
        Accepted { rejected: batch.refused.total(), message: batch.refused.message() };
    for (reason, count) in batch.refused.by_reason() {
        app.metrics.refuse_spans(reason, count);
    }
    if !batch.spans.is_empty() {
        app.engine.append(record, batch).await?;
    }
    drop(share);
    Ok(accepted)
}

fn prepare(
    app: &App,
    body: Bytes,
    encoding: Encoding,
    form: Form,
    received_ns: u64,
    share: &mut Share,
) -> Result<(Record, SpanBatch), IngestError> {
    let raw = body::decompress(body, encoding, share)?;
    let raw = match form {
        Form::Protobuf => raw,
        Form::Json => json::traces_to_protobuf(&raw)
            .map_err(|error| IngestError::refused(Why::Malformed, format!("not OTLP JSON: {error}")))?
            .into(),
    };
    let context = Context { limits: &app.limits, rules: &app.rules, received_ns };
    let batch = decode::traces(&raw, &context)
        .map_err(|error| IngestError::refused(Why::Malformed, format!("not OTLP: {error}")))?;
    // The rows are held until they are in the store; from there on `hot_bytes` counts them.
    if !share.grow(batch.memory_bytes()) {
        return Err(IngestError::refused(Why::InFlight, "too many bytes in flight"));
    }
    let record = if batch.spans.is_empty() {
        // Nothing will be logged.
        Record::compress(Kind::Traces, received_ns, &[])
    } else {
        Record::compress(Kind::Traces, received_ns, &raw)
    };
    Ok((record, batch))
}
