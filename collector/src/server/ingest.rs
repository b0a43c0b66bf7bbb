//! From a request's body to an answer, the same for both transports.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::App;
use super::body::{self, Encoding};
use super::budget::Share;
use crate::engine::{AppendError, Rows};
use crate::metrics::RequestRefusal as Why;
use crate::otlp::decode::{self, Context};
use crate::otlp::limits::Refusal;
use crate::otlp::redact::Redactor;
use crate::otlp::{json, metrics};
use crate::wal::record::{Kind, Record};

/// Bodies above this size are worked on by a thread of their own, so that small requests
/// are not held up (decoding takes about 1 ms per MiB).
const INLINE_BYTES: usize = 512 << 10;
/// What a refused client is asked to wait, in seconds.
pub(crate) const RETRY_AFTER_S: u32 = 1;

/// What a request exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    Traces,
    /// The filter's ledger.
    Metrics,
}

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
    /// Refused spans or points.
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
        Self {
            why,
            message: message.into(),
        }
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

/// A request's body and how to read it.
pub(crate) struct Export {
    /// What it exports.
    pub(crate) signal: Signal,
    /// The body as received.
    pub(crate) body: Bytes,
    /// Its compression.
    pub(crate) encoding: Encoding,
    /// Its form.
    pub(crate) form: Form,
    /// The bytes in flight it has taken.
    pub(crate) share: Share,
}

/// Stores an export request; returns when it is durable.
pub(crate) async fn export(app: &Arc<App>, export: Export) -> Result<Accepted, IngestError> {
    let result = store(app, export).await;
    if let Err(error) = &result {
        app.metrics.refuse_request(error.why);
        tracing::debug!(
            reason = error.why.as_str(),
            message = error.message,
            "refused a request"
        );
    }
    result
}

/// A request that is ready for the log.
struct Prepared {
    record: Record,
    /// `None` when there is nothing to store.
    rows: Option<Rows>,
    accepted: Accepted,
    /// Held until the rows are in the store; from there on `hot_bytes` counts them.
    _share: Share,
}

async fn store(app: &Arc<App>, export: Export) -> Result<Accepted, IngestError> {
    app.metrics.body_bytes.add(export.body.len() as u64);
    let received_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    let prepared = if export.body.len() <= INLINE_BYTES {
        prepare(app, export, received_ns)?
    } else {
        let app = app.clone();
        tokio::task::spawn_blocking(move || prepare(&app, export, received_ns))
            .await
            .map_err(|_| IngestError::refused(Why::Malformed, "the request cannot be decoded"))??
    };
    let Prepared {
        record,
        rows,
        accepted,
        _share,
    } = prepared;
    if let Some(rows) = rows {
        app.engine.append(record, rows).await?;
    }
    Ok(accepted)
}

fn prepare(app: &App, export: Export, received_ns: u64) -> Result<Prepared, IngestError> {
    let Export {
        signal,
        body,
        encoding,
        form,
        mut share,
    } = export;
    let raw = body::decompress(body, encoding, &mut share)?;
    let raw = match (form, signal) {
        (Form::Protobuf, _) => Ok(raw),
        (Form::Json, Signal::Traces) => json::traces_to_protobuf(&raw).map(Bytes::from),
        (Form::Json, Signal::Metrics) => json::metrics_to_protobuf(&raw).map(Bytes::from),
    }
    .map_err(|error| IngestError::refused(Why::Malformed, format!("not OTLP JSON: {error}")))?;
    let (kind, rows, accepted, treated) = match signal {
        Signal::Traces => spans(app, &raw, received_ns)?,
        Signal::Metrics => ledger(app, &raw)?,
    };
    let raw = treated.map_or(raw, Bytes::from);
    if let Some(Rows::Spans(batch)) = &rows
        && !share.grow(batch.memory_bytes())
    {
        return Err(IngestError::refused(
            Why::InFlight,
            "too many bytes in flight",
        ));
    }
    let logged: &[u8] = if rows.is_some() { &raw } else { &[] };
    let record = Record::compress(kind, received_ns, logged);
    Ok(Prepared {
        record,
        rows,
        accepted,
        _share: share,
    })
}

/// With the request as it is logged, when that is not as it was received.
type Decoded = (Kind, Option<Rows>, Accepted, Option<Vec<u8>>);

fn spans(app: &App, raw: &[u8], received_ns: u64) -> Result<Decoded, IngestError> {
    let context = Context {
        limits: &app.limits,
        rules: &app.rules,
        received_ns,
    };
    let malformed = |error| IngestError::refused(Why::Malformed, format!("not OTLP: {error}"));
    let mut batch = decode::traces(raw, &context).map_err(malformed)?;
    let mut treated = None;
    if batch.is_redactable {
        let mut redactor = Redactor::new(&app.rules);
        let request = redactor.request(raw).map_err(malformed)?;
        app.metrics.redacted.add(redactor.values);
        let again = decode::traces(&request, &context).map_err(malformed)?;
        let refused = std::mem::take(&mut batch.refused);
        let lost = batch.spans.len().saturating_sub(again.spans.len());
        batch = again;
        batch.refused = refused;
        for _ in 0..lost {
            batch
                .refused
                .add(Refusal::Malformed, || "cannot be redacted".to_owned());
        }
        treated = Some(request);
    }
    for (reason, count) in batch.refused.by_reason() {
        app.metrics.refuse_spans(reason, count);
    }
    let refused = batch.refused.total();
    if refused > 0 && app.metrics.told.is_due(received_ns) {
        let trace_id = batch.refused.trace_id.map(u128::from_be_bytes);
        let trace_id = trace_id.map(|id| format!("{id:032x}"));
        let cause = batch.refused.message();
        tracing::warn!(spans = refused, trace_id, cause, "refused spans");
    }
    let accepted = Accepted {
        rejected: batch.refused.total(),
        message: batch.refused.message(),
    };
    let rows = (!batch.spans.is_empty()).then(|| Rows::Spans(Box::new(batch)));
    Ok((Kind::Traces, rows, accepted, treated))
}

fn ledger(app: &App, raw: &[u8]) -> Result<Decoded, IngestError> {
    let batch = metrics::ledger(raw)
        .map_err(|error| IngestError::refused(Why::Malformed, format!("not OTLP: {error}")))?;
    app.metrics.points_refused.add(batch.rejected);
    let message = if batch.rejected > 0 {
        "only the filter's ledger is stored"
    } else {
        ""
    };
    let accepted = Accepted {
        rejected: batch.rejected,
        message: message.to_owned(),
    };
    let rows = (!batch.deltas.is_empty()).then_some(Rows::Ledger(batch));
    Ok((Kind::Metrics, rows, accepted, None))
}
