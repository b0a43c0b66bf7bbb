//! The filter's ledger: numbered deltas of exact sums, as OTLP metrics.
//!
//! A delta is a scope named `tracemeter` with the attribute `tracemeter.sequence`, inside a
//! resource with `service.instance.id`. Its five metrics (requests with their durations, errors,
//! cost, request and response bytes) are joined by key into one row per key. A sixth, the traces
//! decided per route, is no row: it feeds the adaptive rates.
//!
//! This is a cold path (one small request per proxy every few seconds), so it decodes by
//! `prost`. Other metrics are not stored: their points are counted as rejected, and the sender is
//! told so by partial success.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ScopeMetrics, number_data_point,
};
use prost::{DecodeError, Message};

use crate::policy::FILTER_SCOPE;

/// Keys of one delta; the filter itself stops at 1,000 to 10,000.
const MAX_ROWS: usize = 20_000;
/// Bytes of one dimension; the filter itself cuts at 128.
const MAX_TEXT: usize = 512;
/// The sum of decided traces by route, for adaptive rates.
const DECIDED: &str = "tracemeter.traces.decided";
/// Scales of the data model, and offsets far beyond those of any duration; a histogram with
/// others counts without its buckets, since adding up must not overflow.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;
const OFFSETS: std::ops::RangeInclusive<i32> = -1_000_000..=1_000_000;
/// Buckets of one histogram; the filter has at most 160.
const MAX_BUCKETS: usize = 1_024;

/// What a row counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// `inbound` or `outbound`.
    pub(crate) direction: String,
    /// How requests ended: `2xx`, `5xx`, `grpc_error`, ..
    pub(crate) status_class: String,
    /// Data class.
    pub(crate) data_tag: String,
    /// Which side is charged.
    pub(crate) charge_side: String,
    /// Route.
    pub(crate) route: String,
    /// Called host of outbound requests.
    pub(crate) peer: String,
    /// Tenant.
    pub(crate) tenant: String,
}

/// Sums of one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Sums {
    /// Requests.
    pub(crate) requests: u64,
    /// Requests of the error class.
    pub(crate) errors: u64,
    /// Exclusive cost in nano-USD.
    pub(crate) cost_nanos: u64,
    /// Request bodies.
    pub(crate) request_bytes: u64,
    /// Response bodies.
    pub(crate) response_bytes: u64,
    /// Sum of durations.
    pub(crate) duration_ns: f64,
    /// Exponential histogram of durations: scale, offset of the first bucket, counts.
    pub(crate) scale: i32,
    /// Index of the first bucket.
    pub(crate) bucket_offset: i32,
    /// Counts by bucket.
    pub(crate) buckets: Vec<u64>,
}

/// One delta of one filter instance.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Delta {
    /// `service.name`.
    pub(crate) service: String,
    /// `service.instance.id`.
    pub(crate) instance: String,
    /// Number of the delta, from 1 per instance.
    pub(crate) sequence: u64,
    /// Start of the time covered by [`Delta::decided`], nanoseconds since the epoch.
    pub(crate) from_ns: i64,
    /// End of the time covered, nanoseconds since the epoch.
    pub(crate) until_ns: i64,
    /// Traces decided at their root by the base rate, kept or not, by route.
    pub(crate) decided: BTreeMap<String, u64>,
    /// Sums by key.
    pub(crate) rows: BTreeMap<Key, Sums>,
}

/// A decoded request.
#[derive(Debug, Default)]
pub(crate) struct LedgerBatch {
    /// Deltas.
    pub(crate) deltas: Vec<Delta>,
    /// Points that are not the ledger's.
    pub(crate) rejected: u64,
}

/// Decodes an `ExportMetricsServiceRequest`.
pub(crate) fn ledger(message: &[u8]) -> Result<LedgerBatch, DecodeError> {
    let request = ExportMetricsServiceRequest::decode(message)?;
    let mut batch = LedgerBatch::default();
    for resource_metrics in request.resource_metrics {
        let attributes = resource_metrics
            .resource
            .map(|resource| resource.attributes);
        let attributes = attributes.unwrap_or_default();
        for scope_metrics in resource_metrics.scope_metrics {
            match delta(&attributes, &scope_metrics) {
                Some(delta) => batch.deltas.push(delta),
                None => batch.rejected += scope_metrics.metrics.iter().map(points).sum::<u64>(),
            }
        }
    }
    Ok(batch)
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) if text.len() <= MAX_TEXT => Some(text),
        _ => None,
    }
}

fn sequence(scope: &InstrumentationScope) -> Option<u64> {
    let found = scope
        .attributes
        .iter()
        .find(|attribute| attribute.key == "tracemeter.sequence")?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::IntValue(number) => u64::try_from(*number).ok(),
        _ => None,
    }
}

/// `None` when this is not a delta of the ledger, or exceeds its limits.
fn delta(resource: &[KeyValue], scope_metrics: &ScopeMetrics) -> Option<Delta> {
    let scope = scope_metrics
        .scope
        .as_ref()
        .filter(|scope| scope.name == FILTER_SCOPE)?;
    let mut delta = Delta {
        service: text(resource, "service.name")
            .unwrap_or("unknown_service")
            .to_owned(),
        instance: text(resource, "service.instance.id")?.to_owned(),
        sequence: sequence(scope)?,
        ..Delta::default()
    };
    for metric in &scope_metrics.metrics {
        add(&mut delta, metric);
    }
    (delta.rows.len() <= MAX_ROWS && delta.until_ns > 0).then_some(delta)
}

fn key(attributes: &[KeyValue]) -> Key {
    let get = |name| text(attributes, name).unwrap_or_default().to_owned();
    Key {
        direction: get("tracemeter.direction"),
        status_class: get("tracemeter.status_class"),
        data_tag: get("data_tag"),
        charge_side: get("tracemeter.charge_side"),
        route: get("http.route"),
        peer: get("server.address"),
        tenant: get("tenant"),
    }
}

fn add(delta: &mut Delta, metric: &Metric) {
    let mut end = |time: u64| {
        delta.until_ns = delta.until_ns.max(i64::try_from(time).unwrap_or(0));
    };
    match metric.data.as_ref() {
        Some(Data::ExponentialHistogram(histogram))
            if metric.name == "tracemeter.requests.duration" =>
        {
            for point in &histogram.data_points {
                end(point.time_unix_nano);
                let sums = delta.rows.entry(key(&point.attributes)).or_default();
                sums.requests = sums.requests.saturating_add(point.count);
                sums.duration_ns += point.sum.filter(|sum| sum.is_finite()).unwrap_or(0.0);
                let makes_sense = SCALES.contains(&point.scale);
                if let Some(buckets) = point
                    .positive
                    .as_ref()
                    .filter(|buckets| makes_sense && OFFSETS.contains(&buckets.offset))
                {
                    sums.scale = point.scale;
                    sums.bucket_offset = buckets.offset;
                    sums.buckets = buckets
                        .bucket_counts
                        .iter()
                        .copied()
                        .take(MAX_BUCKETS)
                        .collect();
                }
            }
        }
        Some(Data::Sum(sum)) => {
            for point in &sum.data_points {
                end(point.time_unix_nano);
                let Some(number_data_point::Value::AsInt(number)) = point.value else {
                    continue;
                };
                let number = u64::try_from(number).unwrap_or(0);
                if metric.name == DECIDED {
                    delta.from_ns = i64::try_from(point.start_time_unix_nano).unwrap_or(0);
                    decide(&mut delta.decided, point, number);
                    continue;
                }
                let sums = delta.rows.entry(key(&point.attributes)).or_default();
                let slot = match metric.name.as_str() {
                    "tracemeter.requests.errors" => &mut sums.errors,
                    "tracemeter.cost" => &mut sums.cost_nanos,
                    "tracemeter.request.bytes" => &mut sums.request_bytes,
                    "tracemeter.response.bytes" => &mut sums.response_bytes,
                    _ => continue,
                };
                *slot = slot.saturating_add(number);
            }
        }
        _ => {}
    }
}

/// Adds decisions of one route.
fn decide(decided: &mut BTreeMap<String, u64>, point: &NumberDataPoint, count: u64) {
    let route = text(&point.attributes, "http.route").unwrap_or_default();
    let full = decided.len() >= MAX_ROWS;
    match decided.get_mut(route) {
        Some(sum) => *sum = sum.saturating_add(count),
        None if !full => {
            decided.insert(route.to_owned(), count);
        }
        None => {}
    }
}

fn points(metric: &Metric) -> u64 {
    let count = match metric.data.as_ref() {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    count as u64
}
