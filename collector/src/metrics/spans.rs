//! Cost and duration of received spans as histograms with exemplars: from a bucket of a dashboard
//! to a trace in it.
//!
//! These are the spans that the edge kept, so they are **no totals**: those come from the ledger
//! ([`super::totals`]). A request of which some spans were known already is left out.
//!
//! Limits: [`MAX_SERVICES`] services, further ones are counted as `other`; names are cut at
//! [`MAX_LABEL_BYTES`]. One exemplar per bucket, the latest.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use crate::otlp::batch::{SpanBatch, SpanRow};

/// Services with histograms of their own.
const MAX_SERVICES: usize = 200;
/// Longest value of a label.
const MAX_LABEL_BYTES: usize = 128;
/// The name of all further services.
const OTHER: &str = "other";

/// A family: its buckets' upper bounds and what is measured.
struct Family {
    name: &'static str,
    help: &'static str,
    bounds: &'static [f64],
}

const DURATION: Family = Family {
    name: "tracemeter_collector_received_span_duration_seconds",
    help: "Duration of received spans (kept ones, no totals).",
    bounds: &[
        0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ],
};
const COST: Family = Family {
    name: "tracemeter_collector_received_span_cost_usd",
    help: "Exclusive cost of received spans (kept ones, no totals).",
    bounds: &[1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0],
};

#[derive(Debug, Clone, Copy, Default)]
struct Exemplar {
    trace_id: [u8; 16],
    value: f64,
    seconds: f64,
}

#[derive(Debug)]
struct Histogram {
    /// One more than there are bounds.
    buckets: Vec<(u64, Option<Exemplar>)>,
    sum: f64,
}

impl Histogram {
    fn new(family: &Family) -> Self {
        Self {
            buckets: vec![(0, None); family.bounds.len() + 1],
            sum: 0.0,
        }
    }

    fn add(&mut self, family: &Family, exemplar: Exemplar) {
        let at = family
            .bounds
            .partition_point(|bound| *bound < exemplar.value);
        self.sum += exemplar.value;
        if let Some((count, latest)) = self.buckets.get_mut(at) {
            *count += 1;
            *latest = Some(exemplar);
        }
    }

    fn render(&self, family: &Family, service: &str, out: &mut String, with_exemplars: bool) {
        let bounds = family.bounds.iter().map(ToString::to_string);
        let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
        let (name, mut total) = (family.name, 0);
        for (bound, (count, exemplar)) in bounds.zip(&self.buckets) {
            total += count;
            let _ = write!(
                out,
                "{name}_bucket{{service=\"{service}\",le=\"{bound}\"}} {total}"
            );
            if let Some(exemplar) = exemplar.filter(|_| with_exemplars) {
                let trace_id = u128::from_be_bytes(exemplar.trace_id);
                let (value, seconds) = (exemplar.value, exemplar.seconds);
                let _ = write!(
                    out,
                    " # {{trace_id=\"{trace_id:032x}\"}} {value} {seconds:.3}"
                );
            }
            out.push('\n');
        }
        let _ = writeln!(out, "{name}_count{{service=\"{service}\"}} {total}");
        let _ = writeln!(out, "{name}_sum{{service=\"{service}\"}} {}", self.sum);
    }
}

#[derive(Debug)]
struct Service {
    duration: Histogram,
    cost: Histogram,
}

impl Service {
    fn new() -> Self {
        Self {
            duration: Histogram::new(&DURATION),
            cost: Histogram::new(&COST),
        }
    }

    fn add(&mut self, span: &SpanRow) {
        let exemplar = |value| Exemplar {
            trace_id: span.trace_id,
            value,
            seconds: span.end_ns as f64 / 1e9,
        };
        let duration_s = span.end_ns.saturating_sub(span.start_ns) as f64 / 1e9;
        self.duration.add(&DURATION, exemplar(duration_s));
        if let Some(nanos) = span.cost_nanos {
            self.cost.add(&COST, exemplar(nanos as f64 / 1e9));
        }
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Received(Mutex<HashMap<String, Service>>);

impl Received {
    /// Counts the spans of a request that are all new.
    pub(crate) fn add(&self, batch: &SpanBatch) {
        // Whole numbers and floats only: a panic elsewhere leaves them usable.
        let mut services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rest = batch.spans.as_slice();
        while let Some(first) = rest.first() {
            // Spans of one resource stand together.
            let len = rest
                .partition_point(|span| span.resource == first.resource)
                .max(1);
            let (run, later) = rest.split_at(len);
            let name = batch.str(batch.resource(first).service);
            let known = services.contains_key(name) || services.len() < MAX_SERVICES;
            let name = if known { name } else { OTHER };
            if !services.contains_key(name) {
                services.insert(name.to_owned(), Service::new());
            }
            if let Some(service) = services.get_mut(name) {
                run.iter().for_each(|span| service.add(span));
            }
            rest = later;
        }
    }

    /// Appends the families in Prometheus' text format.
    pub(crate) fn render(&self, out: &mut String, with_exemplars: bool) {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<&String> = services.keys().collect();
        names.sort();
        for family in [&DURATION, &COST] {
            let Family { name, help, .. } = family;
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} histogram");
            for service in names.iter().copied() {
                let Some(counts) = services.get(service) else {
                    continue;
                };
                let histogram = if family.name == DURATION.name {
                    &counts.duration
                } else {
                    &counts.cost
                };
                histogram.render(family, &escaped(service), out, with_exemplars);
            }
        }
    }
}

/// A label's value, cut and escaped.
fn escaped(text: &str) -> String {
    let cut = text.floor_char_boundary(MAX_LABEL_BYTES);
    let text = text.get(..cut).unwrap_or_default();
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{decode, double, request, span};

    #[test]
    fn buckets_add_up_and_carry_the_latest_trace() {
        let received = Received::default();
        let costs = [(1, 0.5), (2, 0.0005), (3, 0.0007)];
        for (trace, cost) in costs {
            let span = span(trace, 1, 0, 1_000_000_000, vec![double("cost_usd", cost)]);
            received.add(&decode(&request("sh\"op", vec![span])));
        }
        let (mut plain, mut exemplars) = (String::new(), String::new());
        received.render(&mut plain, false);
        received.render(&mut exemplars, true);
        let bucket = |bound: &str, count| {
            format!("cost_usd_bucket{{service=\"sh\\\"op\",le=\"{bound}\"}} {count}")
        };
        for (bound, count) in [
            ("0.0001", 0),
            ("0.001", 2),
            ("0.1", 2),
            ("1", 3),
            ("+Inf", 3),
        ] {
            assert!(plain.contains(&(bucket(bound, count) + "\n")), "{plain}");
        }
        let latest = " # {trace_id=\"00000000000000000000000000000003\"} 0.0007 ";
        assert!(
            exemplars.contains(&(bucket("0.001", 2) + latest)),
            "{exemplars}"
        );
        assert!(!plain.contains('#') || !plain.contains("trace_id"));
        assert!(plain.contains("duration_seconds_bucket{service=\"sh\\\"op\",le=\"0.005\"} 3\n"));
        assert!(plain.contains("duration_seconds_count{service=\"sh\\\"op\"} 3\n"));
    }

    #[test]
    fn too_many_services_are_counted_together() {
        let received = Received::default();
        for index in 0..MAX_SERVICES + 5 {
            let span = span(1 + index as u128, 1, 0, 1_000, Vec::new());
            received.add(&decode(&request(&format!("s{index}"), vec![span])));
        }
        let mut text = String::new();
        received.render(&mut text, false);
        assert!(text.contains("duration_seconds_count{service=\"other\"} 5\n"));
    }
}
