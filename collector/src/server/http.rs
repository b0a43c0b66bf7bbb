//! OTLP/HTTP and the routes of the HTTP port.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::body::{self, Encoding, MAX_BODY};
use super::ingest::{self, Accepted, Export, Form, IngestError, RETRY_AFTER_S, Signal};
use super::{App, api};
use crate::control;
use crate::metrics::{self, RequestRefusal as Why};
use crate::otlp::reply;
use crate::page;

const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The routes of the HTTP port.
pub(crate) fn routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/traces", post(traces))
        .route("/v1/metrics", post(ledger))
        .route("/", get(page::index))
        .route("/traces/{id}", get(page::trace))
        .route("/style.css", get(page::style))
        .route("/api/traces", get(api::traces))
        .route("/api/traces/{id}", get(api::trace))
        .route("/api/sql", get(api::sql_get).post(api::sql_post))
        .route("/v1/rates", get(control::rates))
        .route("/v1/rates/table", get(control::leader_table))
        .route("/v1/rates/window", post(control::report))
        .route("/sampling", get(control::sampling))
        .route("/api/sampling", get(control::sampling))
        .route("/api/alerts", get(api::alerts))
        .route("/metrics", get(prometheus))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .with_state(app)
}

/// The routes of the port for Jaeger remote sampling.
pub(crate) fn sampling_routes(app: Arc<App>) -> Router {
    Router::new()
        .route("/sampling", get(control::sampling))
        .route("/", get(control::sampling))
        .fallback(|| async { (StatusCode::NOT_FOUND, "not found\n") })
        .with_state(app)
}

async fn traces(State(app): State<Arc<App>>, request: Request) -> Response {
    export(&app, Signal::Traces, request).await
}

async fn ledger(State(app): State<Arc<App>>, request: Request) -> Response {
    export(&app, Signal::Metrics, request).await
}

async fn export(app: &Arc<App>, signal: Signal, request: Request) -> Response {
    app.metrics.http_requests.add(1);
    let form = form_of(request.headers());
    match call(app, signal, form, request).await {
        Ok(accepted) => success(signal, form.unwrap_or(Form::Protobuf), &accepted),
        Err(error) => failure(form.unwrap_or(Form::Protobuf), &error),
    }
}

fn form_of(headers: &HeaderMap) -> Option<Form> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    let media_type = value.split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case(PROTOBUF)
        || media_type.eq_ignore_ascii_case("application/protobuf")
    {
        Some(Form::Protobuf)
    } else if media_type.eq_ignore_ascii_case(JSON) {
        Some(Form::Json)
    } else {
        None
    }
}

async fn call(
    app: &Arc<App>,
    signal: Signal,
    form: Option<Form>,
    request: Request,
) -> Result<Accepted, IngestError> {
    let mut share = app.budget.share();
    let read = async {
        if app.draining.load(Ordering::Acquire) {
            return Err(IngestError::refused(Why::Draining, "shutting down"));
        }
        let form = form.ok_or_else(|| {
            IngestError::refused(
                Why::MediaType,
                format!("content types are {PROTOBUF} and {JSON}"),
            )
        })?;
        let named = request
            .headers()
            .get(header::CONTENT_ENCODING)
            .map(HeaderValue::as_bytes);
        let encoding = Encoding::parse(named).ok_or_else(|| {
            IngestError::refused(Why::Encoding, "encodings are identity, gzip and zstd")
        })?;
        let body = body::read(request.into_body(), &mut share, MAX_BODY).await?;
        Ok((form, encoding, body))
    }
    .await;
    if let Err(error) = &read {
        app.metrics.refuse_request(error.why);
    }
    let (form, encoding, body) = read?;
    ingest::export(
        app,
        Export {
            signal,
            body,
            encoding,
            form,
            share,
        },
    )
    .await
}

fn success(signal: Signal, form: Form, accepted: &Accepted) -> Response {
    match form {
        Form::Protobuf => {
            let reply = reply::partial_success(accepted.rejected, &accepted.message);
            ([(header::CONTENT_TYPE, PROTOBUF)], reply).into_response()
        }
        Form::Json => {
            let items = match signal {
                Signal::Traces => "rejectedSpans",
                Signal::Metrics => "rejectedDataPoints",
            };
            let reply = reply::partial_success_json(items, accepted.rejected, &accepted.message);
            ([(header::CONTENT_TYPE, JSON)], reply).into_response()
        }
    }
}

fn failure(form: Form, error: &IngestError) -> Response {
    let status = StatusCode::from_u16(error.http_status()).unwrap_or(StatusCode::BAD_REQUEST);
    let (media_type, body) = match form {
        Form::Protobuf => {
            let retry = error.is_retryable().then_some(RETRY_AFTER_S);
            (
                PROTOBUF,
                Body::from(reply::status(error.grpc_code(), &error.message, retry)),
            )
        }
        Form::Json => (
            JSON,
            Body::from(reply::status_json(error.grpc_code(), &error.message)),
        ),
    };
    let mut response = (status, [(header::CONTENT_TYPE, media_type)], body).into_response();
    if error.is_retryable() {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER_S));
    }
    response
}

/// Prometheus' text format, or OpenMetrics (with exemplars) for clients that prefer it.
async fn prometheus(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let openmetrics = accept.is_some_and(metrics::openmetrics);
    let text = app.metrics.render(&app.gauges(), openmetrics) + &app.alerts.metrics();
    let (media_type, text) = if openmetrics {
        (OPENMETRICS, metrics::convert(&text))
    } else {
        ("text/plain; version=0.0.4; charset=utf-8", text)
    };
    let fields = [(header::CONTENT_TYPE, media_type), (header::VARY, "accept")];
    (fields, text).into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let problem = if app.draining.load(Ordering::Acquire) {
        "shutting down"
    } else if app.engine.is_poisoned() {
        "the log is poisoned by a failed sync; restart the collector"
    } else if app.engine.is_failing() {
        "the log cannot be written; is the disk full?"
    } else if app.engine.store().is_full() {
        "rows in memory wait for compaction"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n")).into_response()
}
