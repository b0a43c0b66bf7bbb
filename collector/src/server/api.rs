//! JSON for programs: SQL, traces, one trace.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::App;
use super::{body, newest};
use crate::otlp::reply;
use crate::query::{Answer, Format, QueryError, render};

/// Most bytes of a posted query.
const MAX_QUERY: usize = 64 << 10;

/// `?q=..&format=..`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqlParameters {
    q: Option<String>,
    format: Option<String>,
}

/// `GET /api/sql?q=SELECT..`.
pub(crate) async fn sql_get(
    State(app): State<Arc<App>>,
    Query(parameters): Query<SqlParameters>,
    headers: HeaderMap,
) -> Response {
    let Some(text) = parameters.q else {
        return error(StatusCode::BAD_REQUEST, "parameter `q` is missing");
    };
    answer(&app, &text, parameters.format.as_deref(), &headers).await
}

/// `POST /api/sql` with the query as text, or as JSON `{"query": ".."}`.
pub(crate) async fn sql_post(
    State(app): State<Arc<App>>,
    Query(parameters): Query<SqlParameters>,
    request: Request,
) -> Response {
    let headers = request.headers().clone();
    let is_json = media_type_is_json(&headers);
    let mut share = app.budget.share();
    let bytes = match body::read(request.into_body(), &mut share, MAX_QUERY).await {
        Ok(bytes) => bytes,
        Err(refused) => return error(StatusCode::PAYLOAD_TOO_LARGE, &refused.message),
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        return error(StatusCode::BAD_REQUEST, "the query is not valid utf-8");
    };
    if !is_json {
        return answer(&app, text, parameters.format.as_deref(), &headers).await;
    }
    match serde_json::from_str::<PostedQuery>(text) {
        Ok(posted) => {
            let format = parameters.format.or(posted.format);
            answer(&app, &posted.query, format.as_deref(), &headers).await
        }
        Err(problem) => error(StatusCode::BAD_REQUEST, &problem.to_string()),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PostedQuery {
    query: String,
    format: Option<String>,
}

fn media_type_is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/json"))
}

/// The format comes from the parameter, else from `Accept`, else it is JSON.
async fn answer(app: &App, text: &str, format: Option<&str>, headers: &HeaderMap) -> Response {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    let format = match (format, accept) {
        (Some(name), _) => match Format::parse(name) {
            Some(format) => format,
            None => {
                let message = "formats are `json`, `csv`, `arrow` and `table`";
                return error(StatusCode::BAD_REQUEST, message);
            }
        },
        (None, Some(accept)) => match Format::accepted(accept) {
            Some(format) => format,
            None => {
                let message = "answers are `application/json`, `text/csv`, \
                               `application/vnd.apache.arrow.stream` or `text/plain`";
                return error(StatusCode::NOT_ACCEPTABLE, message);
            }
        },
        (None, None) => Format::Json,
    };
    respond(run(app, text).await, format)
}

/// Runs a query over the current view and counts it.
pub(crate) async fn run(app: &App, text: &str) -> Result<Answer, QueryError> {
    let result = app.queries.ask(text, |kinds| app.snapshot(kinds)).await;
    match &result {
        Ok(answer) => app.metrics.queries.add(answer.elapsed),
        Err(_) => app.metrics.query_failures.add(1),
    }
    result
}

fn respond(result: Result<Answer, QueryError>, format: Format) -> Response {
    let answer = match result {
        Ok(answer) => answer,
        Err(problem) => {
            let status = match &problem {
                QueryError::Refused(_) => StatusCode::BAD_REQUEST,
                QueryError::Limit(_) | QueryError::Memory => StatusCode::UNPROCESSABLE_ENTITY,
                QueryError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
            };
            return error(status, &problem.to_string());
        }
    };
    match render(&answer, format) {
        Ok(text) => {
            let mut response = (
                [(header::CONTENT_TYPE, format.media_type())],
                Body::from(text),
            )
                .into_response();
            if answer.truncated {
                response.headers_mut().insert(
                    "x-tracemeter-truncated",
                    header::HeaderValue::from_static("true"),
                );
            }
            response
        }
        Err(problem) => error(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}

/// `?order=cost|newest&limit=..`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TraceParameters {
    order: Option<String>,
    limit: Option<u32>,
}

/// `GET /api/traces`.
pub(crate) async fn traces(
    State(app): State<Arc<App>>,
    Query(parameters): Query<TraceParameters>,
) -> Response {
    let limit = parameters.limit.unwrap_or(100).min(1_000);
    let query = match parameters.order.as_deref().unwrap_or("newest") {
        "newest" => newest::query(&app, "*", limit as usize).await,
        "cost" => Ok(format!(
            "SELECT * FROM trace_metadata ORDER BY recorded_cost DESC, trace_id LIMIT {limit}"
        )),
        _ => return error(StatusCode::BAD_REQUEST, "orders are `newest` and `cost`"),
    };
    match query {
        Ok(query) => respond(run(&app, &query).await, Format::Json),
        Err(problem) => respond(Err(problem), Format::Json),
    }
}

/// `GET /api/traces/{id}`: the spans of one trace.
pub(crate) async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let Some(id) = trace_id(&id) else {
        return error(StatusCode::BAD_REQUEST, "a trace id has 32 hex digits");
    };
    match spans_of(&app, &id).await {
        Ok(answer) if answer.batches.iter().all(|batch| batch.num_rows() == 0) => {
            error(StatusCode::NOT_FOUND, "no such trace")
        }
        result => respond(result, Format::Json),
    }
}

/// `GET /api/alerts`: the state of all alerts.
pub(crate) async fn alerts(State(app): State<Arc<App>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, app.alerts.json().to_string()).into_response()
}

/// A trace id in lower case, if it is one.
pub(crate) fn trace_id(text: &str) -> Option<String> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.to_ascii_lowercase())
}

/// All spans of a trace, in order of time. `id` must come from [`trace_id`].
pub(crate) async fn spans_of(app: &App, id: &str) -> Result<Answer, QueryError> {
    let view = |id: &[u8; 16]| app.snapshot_of_trace(id);
    let Some(answer) = app.queries.trace(id, view).await? else {
        let query = "SELECT * FROM spans WHERE trace_id = '{id}' \
                     ORDER BY timestamp, span_id LIMIT 10000";
        return run(app, &query.replace("{id}", id)).await;
    };
    app.metrics.queries.add(answer.elapsed);
    Ok(answer)
}

/// An error as JSON.
fn error(status: StatusCode, message: &str) -> Response {
    let body = reply::status_json(0, message).replacen("\"code\":0,", "", 1);
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
