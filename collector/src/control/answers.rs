//! Control over HTTP: rates for filters, and Jaeger remote sampling for SDKs.
//!
//! `GET /v1/rates?service=checkout` answers
//! `{"version":12,"service":"checkout","unlisted":"<th>","routes":{"/cart":"<th>"}}` with an `ETag`;
//! with a matching `If-None-Match` 304. 204 says that there is nothing to go by: rates do not follow
//! the traffic (for this service), or there is no table yet.
//!
//! `GET /sampling?service=checkout` answers in the JSON of Jaeger's `sampling.proto` (strategy type
//! PROBABILISTIC, with strategies per operation), as Jaeger's and OpenTelemetry's remote samplers
//! read it. Operations are named as the routes are. Without adaptive rates, and for exempt services,
//! it is the policy's base rate.

use std::sync::Arc;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use mesh_config::rule::{Attribute, Attributes, Lookup};
use mesh_config::sampling::Sampler;
use serde::{Deserialize, Serialize};

use super::peers::{self, Leader, Report};
use super::table::Slice;
use super::task::now_ms;
use super::{Control, Role};
use crate::policy::Rules;
use crate::server::{App, body};

/// Longest service name that is looked up.
const MAX_SERVICE: usize = 512;

/// `?service=..`; further parameters do not matter.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Parameters {
    service: Option<String>,
}

impl Parameters {
    fn service(&self) -> Result<&str, (StatusCode, &'static str)> {
        match self.service.as_deref() {
            None | Some("") => Err((StatusCode::BAD_REQUEST, "parameter `service` is missing\n")),
            Some(name) if name.len() > MAX_SERVICE => {
                Err((StatusCode::BAD_REQUEST, "`service` is too long\n"))
            }
            Some(name) => Ok(name),
        }
    }
}

/// `GET /v1/rates`.
pub(crate) async fn rates(
    State(app): State<Arc<App>>,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Response {
    let service = match parameters.service() {
        Ok(service) => service,
        Err(refusal) => return refusal.into_response(),
    };
    let control = &app.control;
    let table = control
        .table(now_ms())
        .filter(|_| control.is_enabled() && control.is_adaptive(service));
    let Some(table) = table else {
        return (
            StatusCode::NO_CONTENT,
            [(header::CACHE_CONTROL, "no-cache")],
        )
            .into_response();
    };
    let (body, tag) = table.slice(service).answer(service);
    let known = headers
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .any(|value| matches(value, &tag));
    let mut response = if known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, "application/json")], body).into_response()
    };
    let fields = response.headers_mut();
    fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        fields.insert(header::ETAG, tag);
    }
    response
}

/// Whether an `If-None-Match` names the tag (RFC 9110: weak comparison, a list, or `*`).
fn matches(value: &HeaderValue, tag: &str) -> bool {
    value.to_str().is_ok_and(|list| {
        list.split(',')
            .map(|member| member.trim())
            .any(|member| member == "*" || member.strip_prefix("W/").unwrap_or(member) == tag)
    })
}

/// `GET /v1/rates/table`: the whole table, for other collectors.
pub(crate) async fn leader_table(State(app): State<Arc<App>>) -> Response {
    json(&app.control.say())
}

/// `POST /v1/rates/window`: the counts of another collector's window.
pub(crate) async fn report(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut share = app.budget.share();
    let read = body::read(request.into_body(), &mut share, peers::MAX_REPORT).await;
    let bytes = match read {
        Ok(bytes) => bytes,
        Err(refused) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, refused.message).into_response();
        }
    };
    let report = match serde_json::from_slice::<Report>(&bytes) {
        Ok(report) => report,
        Err(error) => return (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response(),
    };
    if app.control.take(report) {
        return StatusCode::NO_CONTENT.into_response();
    }
    let message = "the window is closed, or this collector does not lead\n";
    (StatusCode::CONFLICT, message).into_response()
}

fn json(value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

impl Control {
    /// What is told to other collectors.
    fn say(&self) -> Leader {
        let inner = self.lock();
        Leader {
            collector: self.name.clone(),
            confirmed_ms: inner.confirmed_ms,
            table: inner.table.as_deref().cloned(),
        }
    }

    /// Takes another collector's report; false when it came too late or to the wrong one.
    fn take(&self, report: Report) -> bool {
        let mut inner = self.lock();
        let taken = inner.role == Role::Leads && inner.reports.take(report);
        if !taken {
            inner.status.reports_refused += 1;
        }
        taken
    }
}

/// `GET /sampling`, `GET /api/sampling`.
pub(crate) async fn sampling(
    State(app): State<Arc<App>>,
    Query(parameters): Query<Parameters>,
) -> Response {
    let service = match parameters.service() {
        Ok(service) => service,
        Err(refusal) => return refusal.into_response(),
    };
    let strategy = Strategy::of(service, &app.control, &app.rules, now_ms());
    json(&strategy)
}

/// `SamplingStrategyResponse`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Strategy {
    strategy_type: &'static str,
    probabilistic_sampling: Probabilistic,
    operation_sampling: Operations,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Probabilistic {
    sampling_rate: f64,
}

/// `PerOperationSamplingStrategies`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operations {
    default_sampling_probability: f64,
    default_lower_bound_traces_per_second: f64,
    per_operation_strategies: Vec<Operation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    operation: String,
    probabilistic_sampling: Probabilistic,
}

impl Strategy {
    fn of(service: &str, control: &Control, rules: &Rules, now_ms: u64) -> Self {
        let table = control
            .table(now_ms)
            .filter(|_| control.is_enabled() && control.is_adaptive(service));
        let slice = table.as_ref().map(|table| table.slice(service));
        let sampling_rate = slice.map_or_else(
            || base_rate(service, rules),
            |slice| slice.unlisted.0.probability(),
        );
        let floor = rules.policy().sampling.low_volume.traces_per_minute;
        Self {
            strategy_type: "PROBABILISTIC",
            probabilistic_sampling: Probabilistic { sampling_rate },
            operation_sampling: Operations {
                default_sampling_probability: sampling_rate,
                default_lower_bound_traces_per_second: f64::from(floor) / 60.0,
                per_operation_strategies: slice.map(operations).unwrap_or_default(),
            },
        }
    }
}

fn operations(slice: &Slice) -> Vec<Operation> {
    let routes = slice.routes.iter();
    let operation = |(route, threshold): &(String, super::table::Th)| Operation {
        operation: route.clone(),
        probabilistic_sampling: Probabilistic {
            sampling_rate: threshold.0.probability(),
        },
    };
    routes.map(operation).collect()
}

/// A request of which nothing is known.
struct Unknown;

impl Attributes for Unknown {
    fn get(&self, _: &Attribute) -> Lookup<'_> {
        Lookup::Unknown
    }
}

/// What the policy says about a request of which nothing is known but the service.
fn base_rate(service: &str, rules: &Rules) -> f64 {
    let policy = rules.policy();
    let sampler = Sampler::new(policy, service, &policy.service.environment);
    let verdict = sampler.head(&Unknown, None);
    verdict
        .threshold
        .map_or(0.0, |threshold| threshold.probability())
}
