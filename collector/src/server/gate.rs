//! The ports while the collector still reads its log back.
//!
//! They are open from the start: `/healthz` says that the process lives, everything else is
//! answered 503 (gRPC: `UNAVAILABLE`) with a retry hint, `/readyz` included. When recovery is done
//! the real routes take over; no connection is lost.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tonic::Status;
use tower_service::Service as _;

use super::ingest::RETRY_AFTER_S;

/// The routes of a port, once there are any.
pub(crate) type Late = Arc<OnceLock<Router>>;

/// A router that hands everything to `late` as soon as it is set.
pub(crate) fn routes(late: Late) -> Router {
    Router::new().fallback(move |request: Request| {
        let late = late.clone();
        async move {
            match late.get() {
                Some(router) => match router.clone().call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                },
                None => recovering(&request),
            }
        }
    })
}

fn recovering(request: &Request) -> Response {
    if request.uri().path() == "/healthz" {
        return "ok\n".into_response();
    }
    let media_type = request.headers().get(header::CONTENT_TYPE);
    if media_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
        return Status::unavailable("reading the log back").into_http::<axum::body::Body>();
    }
    let mut response = (StatusCode::SERVICE_UNAVAILABLE, "reading the log back\n").into_response();
    let wait = HeaderValue::from(RETRY_AFTER_S);
    response.headers_mut().insert(header::RETRY_AFTER, wait);
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;

    use super::*;

    async fn ask(router: &Router, path: &str, media_type: &str) -> Response {
        let request = Request::get(path).header(header::CONTENT_TYPE, media_type);
        let request = request.body(Body::empty()).unwrap();
        router.clone().call(request).await.unwrap()
    }

    #[tokio::test]
    async fn until_the_routes_are_there_only_health_is_answered() {
        let late = Late::default();
        let router = routes(late.clone());
        assert_eq!(ask(&router, "/healthz", "").await.status(), 200);
        let ready = ask(&router, "/readyz", "").await;
        assert_eq!(ready.status(), 503);
        assert_eq!(ready.headers()[header::RETRY_AFTER], "1");
        let grpc = ask(&router, "/any.Service/Export", "application/grpc").await;
        assert_eq!(
            (grpc.status().as_u16(), &grpc.headers()["grpc-status"]),
            (200, &HeaderValue::from(14))
        );
        assert!(
            late.set(Router::new().route("/readyz", get(|| async { "ready" })))
                .is_ok()
        );
        assert_eq!(ask(&router, "/readyz", "").await.status(), 200);
        assert_eq!(ask(&router, "/other", "").await.status(), 404);
    }
}
