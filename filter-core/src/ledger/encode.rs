//! A delta as an OTLP `ExportMetricsServiceRequest` (opentelemetry-proto metrics v1, delta
//! temporality).
//!
//! Five metrics per key: the histogram `tracemeter.requests.duration` (its count is the number of
//! requests) and the sums `tracemeter.requests.errors`, `tracemeter.cost`, `tracemeter.request.bytes`
//! and `tracemeter.response.bytes`; sums of zero are left out. Where adaptive rates are on, the sum
//! `tracemeter.traces.decided` counts per `http.route` the traces that they decided. The delta's number is the scope
//! attribute `tracemeter.sequence`; the instance is the resource's `service.instance.id`.

use super::histogram::{Histogram, SCALE};
use super::{Counted, Sums, attributes};
use crate::otlp::request::SCOPE_NAME;
use crate::otlp::wire::{self, AnyValue, Open};

/// `AggregationTemporality::DELTA`.
const DELTA: u64 = 1;

/// Scope attribute that numbers the deltas of one instance, from 1.
pub(crate) const SEQUENCE: &str = "tracemeter.sequence";

/// Name of the metric from which the collector computes the adaptive rates.
const DECIDED: &str = "tracemeter.traces.decided";

/// Attribute of a route, as in [`super::ATTRIBUTES`].
const ROUTE: &str = "http.route";

/// A metric that is one number per key.
struct SumMetric {
    name: &'static str,
    unit: &'static str,
    read: fn(&Sums) -> u64,
}

const SUMS: [SumMetric; 4] = [
    SumMetric {
        name: "tracemeter.requests.errors",
        unit: "{request}",
        read: |sums| sums.errors,
    },
    SumMetric {
        name: "tracemeter.cost",
        unit: "n{USD}",
        read: |sums| sums.cost_nanos,
    },
    SumMetric {
        name: "tracemeter.request.bytes",
        unit: "By",
        read: |sums| sums.request_bytes,
    },
    SumMetric {
        name: "tracemeter.response.bytes",
        unit: "By",
        read: |sums| sums.response_bytes,
    },
];

/// The time covered by a delta, Unix nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) from_unix_nanos: u64,
    pub(crate) until_unix_nanos: u64,
}

/// Encodes a delta. `resource` is an encoded `ResourceMetrics.resource` field.
pub(crate) fn encode(resource: &[u8], sequence: u64, window: Window, counted: &Counted) -> Vec<u8> {
    let sums = &counted.sums;
    let mut out = Vec::with_capacity(resource.len() + 512 * sums.len());
    let resource_metrics = wire::begin(&mut out, 1);
    out.extend_from_slice(resource);
    let scope_metrics = wire::begin(&mut out, 2);
    let scope = wire::begin(&mut out, 1);
    wire::bytes(&mut out, 1, SCOPE_NAME.as_bytes());
    wire::bytes(&mut out, 2, env!("CARGO_PKG_VERSION").as_bytes());
    let number = i64::try_from(sequence).unwrap_or(i64::MAX);
    wire::attribute(&mut out, 3, SEQUENCE, AnyValue::Int(number));
    wire::end(&mut out, scope);
    if !sums.is_empty() {
        durations(&mut out, window, sums);
    }
    for metric in &SUMS {
        sum(&mut out, metric, window, sums);
    }
    decided(&mut out, window, &counted.decided);
    wire::end(&mut out, scope_metrics);
    wire::end(&mut out, resource_metrics);
    out
}

fn named(out: &mut Vec<u8>, name: &str, unit: &str) {
    wire::bytes(out, 1, name.as_bytes());
    wire::bytes(out, 3, unit.as_bytes());
}

#[inline(never)]
fn sum(out: &mut Vec<u8>, metric: &SumMetric, window: Window, sums: &[(Vec<u8>, Sums)]) {
    if sums.iter().all(|(_, sums)| (metric.read)(sums) == 0) {
        return;
    }
    let open = wire::begin(out, 2);
    named(out, metric.name, metric.unit);
    let data = wire::begin(out, 7);
    for (key, sums) in sums {
        let value = (metric.read)(sums);
        if value > 0 {
            sum_point(out, window, value, attributes(key));
        }
    }
    end_sum(out, open, data);
}

/// Traces decided by the adaptive rates, per route.
#[inline(never)]
fn decided(out: &mut Vec<u8>, window: Window, routes: &[(Vec<u8>, u64)]) {
    if routes.is_empty() {
        return;
    }
    let open = wire::begin(out, 2);
    named(out, DECIDED, "{trace}");
    let data = wire::begin(out, 7);
    for (route, traces) in routes {
        let route = [(ROUTE, route.as_slice())];
        let route = route.into_iter().filter(|(_, route)| !route.is_empty());
        sum_point(out, window, *traces, route);
    }
    end_sum(out, open, data);
}

#[inline(never)]
fn sum_point<'k>(
    out: &mut Vec<u8>,
    window: Window,
    value: u64,
    attributes: impl Iterator<Item = (&'static str, &'k [u8])>,
) {
    let point = wire::begin(out, 1);
    wire::fixed64(out, 2, window.from_unix_nanos);
    wire::fixed64(out, 3, window.until_unix_nanos);
    // as_int: sfixed64. Sums beyond i64 would take centuries; they stop there.
    wire::fixed64(out, 6, value.min(i64::MAX as u64));
    for (name, text) in attributes {
        wire::attribute(out, 7, name, AnyValue::String(text));
    }
    wire::end(out, point);
}

fn end_sum(out: &mut Vec<u8>, metric: Open, data: Open) {
    wire::uint(out, 2, DELTA);
    wire::uint(out, 3, 1);
    wire::end(out, data);
    wire::end(out, metric);
}

#[inline(never)]
fn durations(out: &mut Vec<u8>, window: Window, sums: &[(Vec<u8>, Sums)]) {
    let open = wire::begin(out, 2);
    named(out, "tracemeter.requests.duration", "ns");
    let data = wire::begin(out, 10);
    for (key, sums) in sums {
        let point = wire::begin(out, 1);
        for (name, text) in attributes(key) {
            wire::attribute(out, 1, name, AnyValue::String(text));
        }
        histogram_point(out, window, &sums.durations);
        wire::end(out, point);
    }
    wire::uint(out, 2, DELTA);
    wire::end(out, data);
    wire::end(out, open);
}

#[inline(never)]
fn histogram_point(out: &mut Vec<u8>, window: Window, histogram: &Histogram) {
    wire::fixed64(out, 2, window.from_unix_nanos);
    wire::fixed64(out, 3, window.until_unix_nanos);
    wire::fixed64(out, 4, histogram.count());
    wire::fixed64(out, 5, (histogram.sum_nanos() as f64).to_bits());
    wire::uint(out, 6, zigzag(SCALE));
    let (offset, counts) = histogram.buckets();
    let buckets = wire::begin(out, 8);
    wire::uint(out, 1, zigzag(offset));
    let packed = wire::begin(out, 2);
    for count in counts {
        wire::varint(out, u64::from(*count));
    }
    wire::end(out, packed);
    wire::end(out, buckets);
}

/// `sint32` (protobuf encoding guide: ZigZag).
fn zigzag(value: i32) -> u64 {
    u64::from(((value << 1) ^ (value >> 31)) as u32)
}
