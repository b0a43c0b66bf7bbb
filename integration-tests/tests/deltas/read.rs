//! A ledger delta, read from an OTLP `ExportMetricsServiceRequest`.

use prost::Message as _;

use super::Name;
use crate::metering::{Book, Key, Sums};

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resources: Vec<OfResource>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfResource {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scopes: Vec<OfScope>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct OfScope {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    metrics: Vec<Metric>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(message, repeated, tag = "3")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    integer: Option<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Metric {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "7")]
    sum: Option<Sum>,
    #[prost(message, optional, tag = "10")]
    histogram: Option<Histogram>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Sum {
    #[prost(message, repeated, tag = "1")]
    points: Vec<NumberPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
    #[prost(bool, tag = "3")]
    monotonic: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NumberPoint {
    #[prost(sfixed64, tag = "6")]
    integer: i64,
    #[prost(message, repeated, tag = "7")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Histogram {
    #[prost(message, repeated, tag = "1")]
    points: Vec<HistogramPoint>,
    #[prost(int32, tag = "2")]
    temporality: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HistogramPoint {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
    #[prost(fixed64, tag = "4")]
    count: u64,
    #[prost(message, optional, tag = "8")]
    positive: Option<Buckets>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Buckets {
    #[prost(uint64, repeated, tag = "2")]
    counts: Vec<u64>,
}

/// `AggregationTemporality::DELTA`.
const DELTA: i32 = 1;

/// The delta's name and what it counts.
pub(super) fn delta(body: &[u8]) -> Result<(Name, Book), String> {
    let export = Export::decode(body).map_err(|error| error.to_string())?;
    let [of_resource] = export.resources.as_slice() else {
        return Err("not one resource".to_owned());
    };
    let [of_scope] = of_resource.scopes.as_slice() else {
        return Err("not one scope".to_owned());
    };
    let resource = of_resource.resource.clone().unwrap_or_default();
    let instance = text(&resource.attributes, "service.instance.id");
    let scope = of_scope.scope.clone().unwrap_or_default();
    let number = scope
        .attributes
        .iter()
        .find(|pair| pair.key == "tracemeter.sequence");
    let number = number.and_then(|pair| pair.value.as_ref()?.integer);
    let name = match (instance.as_str(), number) {
        ("", _) | (_, None) => return Err("a delta without a name".to_owned()),
        (_, Some(number)) => (instance, number),
    };
    let mut book = Book::new();
    for metric in &of_scope.metrics {
        read_metric(metric, &mut book)?;
    }
    Ok((name, book))
}

fn read_metric(metric: &Metric, book: &mut Book) -> Result<(), String> {
    if let Some(histogram) = &metric.histogram {
        if metric.name != "tracemeter.requests.duration" || histogram.temporality != DELTA {
            return Err(format!("{metric:?}"));
        }
        for point in &histogram.points {
            let buckets = point.positive.clone().unwrap_or_default();
            if buckets.counts.iter().sum::<u64>() != point.count {
                return Err(format!("buckets do not add up: {point:?}"));
            }
            sums(book, &point.attributes).requests += point.count;
        }
    }
    if let Some(sum) = &metric.sum {
        if sum.temporality != DELTA || !sum.monotonic {
            return Err(format!("{metric:?}"));
        }
        let of: fn(&mut Sums) -> &mut u64 = match metric.name.as_str() {
            "tracemeter.requests.errors" => |sums| &mut sums.errors,
            "tracemeter.cost" => |sums| &mut sums.cost_nanos,
            "tracemeter.request.bytes" => |sums| &mut sums.request_bytes,
            "tracemeter.response.bytes" => |sums| &mut sums.response_bytes,
            other => return Err(format!("an unknown metric: {other}")),
        };
        for point in &sum.points {
            let value = u64::try_from(point.integer).map_err(|error| error.to_string())?;
            *of(sums(book, &point.attributes)) += value;
        }
    }
    Ok(())
}

fn sums<'b>(book: &'b mut Book, attributes: &[KeyValue]) -> &'b mut Sums {
    let key = Key {
        direction: text(attributes, "tracemeter.direction"),
        peer: text(attributes, "server.address"),
        route: text(attributes, "http.route"),
        status_class: text(attributes, "tracemeter.status_class"),
        data_tag: text(attributes, "data_tag"),
        charge_side: text(attributes, "tracemeter.charge_side"),
    };
    book.entry(key).or_default()
}

fn text(list: &[KeyValue], key: &str) -> String {
    let found = list.iter().find(|pair| pair.key == key);
    let value = found.and_then(|pair| pair.value.as_ref()?.text.clone());
    value.unwrap_or_default()
}
