//! The page: what traces cost, at a glance. Server-rendered, no scripts, no foreign assets.
//!
//! Everything that comes from a span is escaped by [`html`]; the content security policy allows
//! our own style sheet and nothing else, so that even a mistake could not run anything.
//! It is not the full user interface: it shows today's totals and a few lists, and each number that
//! comes from spans, which are a sample, says so.
//!
//! Limits: at most [`overview::LISTED`] rows per list; one load runs up to ten queries, each within
//! the limits of SQL.

mod html;
mod overview;
mod rows;
mod status;
mod traces;
mod waterfall;

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::query::{Answer, QueryError};
use crate::server::{App, api};
use html::Html;
use rows::Rows;

const STYLE: &str = include_str!("page/style.css");
const POLICY: &str = "default-src 'none'; style-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// `GET /style.css`.
pub(crate) async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "max-age=300"),
    ];
    (headers, STYLE).into_response()
}

/// `GET /`.
pub(crate) async fn index(State(app): State<Arc<App>>) -> Response {
    match overview(&app).await {
        Ok(body) => page(StatusCode::OK, "Today", &body),
        Err(error) => problem(&error),
    }
}

async fn overview(app: &App) -> Result<Html, QueryError> {
    let mut body = Html::default();
    let kept = overview::render(app, &mut body).await?;
    traces::render(app, &mut body).await?;
    status::alerts(app, &mut body);
    status::sampling(app, &kept, &mut body);
    status::storage(app, &kept, &mut body)?;
    Ok(body)
}

/// `GET /traces/{id}`.
pub(crate) async fn trace(State(app): State<Arc<App>>, Path(id): Path<String>) -> Response {
    let Some(id) = api::trace_id(&id) else {
        return page(
            StatusCode::BAD_REQUEST,
            "Trace",
            &message("A trace id has 32 hex digits."),
        );
    };
    match api::spans_of(&app, &id)
        .await
        .and_then(|spans| rows_of(&spans))
    {
        Ok(rows) if rows.is_empty() => {
            page(StatusCode::NOT_FOUND, "Trace", &message("No such trace."))
        }
        Ok(rows) => page(StatusCode::OK, "Trace", &waterfall::render(&id, &rows)),
        Err(error) => problem(&error),
    }
}

async fn query(app: &App, text: &str) -> Result<Rows, QueryError> {
    rows_of(&api::run(app, text).await?)
}

fn rows_of(answer: &Answer) -> Result<Rows, QueryError> {
    Rows::of(answer).map_err(|error| QueryError::Failed(error.to_string()))
}

fn message(text: &str) -> Html {
    let mut body = Html::default();
    body.raw("<p>");
    body.text(text);
    body.raw("</p>");
    body
}

fn problem(error: &QueryError) -> Response {
    page(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Problem",
        &message(&error.to_string()),
    )
}

fn page(status: StatusCode, title: &str, body: &Html) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html::document(title, body)).into_response()
}
