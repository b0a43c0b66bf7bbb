//! Counts from spans, for services whose requests no filter counts.
//!
//! Every span that the filter did not send adds its weight (how many spans it stands for by its
//! `th`) to a row like the ledger's, marked as an estimate. It is counted as it arrives, so
//! later sampling of the tiers does not touch it. A span without `th` stands for itself; one that
//! a rule kept without a `th` is no part of a sample and counts nothing.
//!
//! Limits: [`MAX_KEYS`] rows per generation; beyond them a row's route and peer are
//! [`OTHER`]. Rows are found by a 64-bit hash of their key.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;

use super::ledger::{Basis, Columns, MINUTE_NS};
use crate::otlp::batch::kind::{CLIENT, CONSUMER, PRODUCER, SERVER};
use crate::otlp::batch::{SpanBatch, SpanRow};
use crate::otlp::metrics::{Key, Sums};
use crate::policy::FILTER_SCOPE;

/// Rows of one generation.
const MAX_KEYS: usize = 20_000;
/// Route and peer beyond the limit.
const OTHER: &str = "(other)";
/// Scale of the durations' histogram, the filter's.
const SCALE: i32 = 2;

#[derive(Debug, Default)]
struct Row {
    minute: i64,
    service: String,
    key: Key,
    requests: f64,
    errors: f64,
    cost_nanos: f64,
    duration_ns: f64,
    buckets: BTreeMap<i32, f64>,
}

/// The estimates of one generation.
#[derive(Debug, Default)]
pub(crate) struct Estimates {
    rows: HashMap<u64, Row, RandomState>,
    hasher: RandomState,
}

struct Place<'a> {
    minute: i64,
    service: &'a str,
    direction: &'static str,
    status: &'static str,
    data_tag: &'static str,
    route: &'a str,
    peer: &'a str,
}

fn place<'a>(batch: &'a SpanBatch, row: &SpanRow) -> Place<'a> {
    let name = batch.str(row.name);
    let (direction, route, peer) = match row.kind {
        SERVER | CONSUMER if row.endpoint.is_unset() => ("inbound", name, ""),
        SERVER | CONSUMER => ("inbound", batch.str(row.endpoint), ""),
        CLIENT | PRODUCER => ("outbound", name, batch.str(row.endpoint)),
        _ => ("internal", name, ""),
    };
    let status = match (row.http_status / 100, row.error) {
        (1, _) => "1xx",
        (2, _) => "2xx",
        (3, _) => "3xx",
        (4, _) => "4xx",
        (5, _) => "5xx",
        (_, true) => "error",
        _ => "ok",
    };
    Place {
        minute: row.start_ns.div_euclid(MINUTE_NS) * MINUTE_NS,
        service: batch.str(batch.resource(row).service),
        direction,
        status,
        data_tag: row.class.as_str(),
        route,
        peer,
    }
}

impl Estimates {
    /// Counts a span; returns true when it opened a row.
    pub(crate) fn add(&mut self, batch: &SpanBatch, row: &SpanRow) -> bool {
        if batch.str(row.scope) == FILTER_SCOPE {
            return false;
        }
        let weight = match row.adjusted_count {
            Some(count) => count,
            None if row.sampling_reason.is_empty() => 1.0,
            None => return false,
        };
        let mut place = place(batch, row);
        let mut hash = self.hash(&place);
        if self.rows.len() >= MAX_KEYS && !self.rows.contains_key(&hash) {
            (place.route, place.peer) = (OTHER, OTHER);
            hash = self.hash(&place);
        }
        let before = self.rows.len();
        let sums = self.rows.entry(hash).or_insert_with(|| place.open());
        let duration_ns = row.end_ns.saturating_sub(row.start_ns).max(1) as f64;
        sums.requests += weight;
        sums.errors += if row.error { weight } else { 0.0 };
        sums.cost_nanos += weight * row.cost_nanos.unwrap_or(0) as f64;
        sums.duration_ns += weight * duration_ns;
        let bucket = (duration_ns.log2() * f64::from(SCALE).exp2()).ceil() as i32 - 1;
        *sums.buckets.entry(bucket).or_default() += weight;
        self.rows.len() > before
    }

    fn hash(&self, place: &Place<'_>) -> u64 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write_i64(place.minute);
        for text in [
            place.service,
            place.direction,
            place.status,
            place.data_tag,
            place.route,
            place.peer,
        ] {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff);
        }
        hasher.finish()
    }

    /// The rows as ledger rows.
    pub(crate) fn batch(&self) -> Result<Option<RecordBatch>, ArrowError> {
        if self.rows.is_empty() {
            return Ok(None);
        }
        let mut rows: Vec<&Row> = self.rows.values().collect();
        rows.sort_unstable_by(|a, b| {
            let (a, b) = (
                (a.minute, &a.service, &a.key),
                (b.minute, &b.service, &b.key),
            );
            a.cmp(&b)
        });
        let mut columns = Columns::default();
        for row in rows {
            let from = (row.service.as_str(), "", 0);
            columns.push(row.minute, from, &row.key, &row.sums(), Basis::Estimate);
        }
        columns.finish().map(Some)
    }
}

impl Place<'_> {
    fn open(&self) -> Row {
        Row {
            minute: self.minute,
            service: self.service.to_owned(),
            key: Key {
                direction: self.direction.to_owned(),
                status_class: self.status.to_owned(),
                data_tag: self.data_tag.to_owned(),
                charge_side: "span".to_owned(),
                route: self.route.to_owned(),
                peer: self.peer.to_owned(),
                tenant: String::new(),
            },
            ..Row::default()
        }
    }
}

impl Row {
    fn sums(&self) -> Sums {
        let (first, last) = (
            self.buckets.keys().next().copied().unwrap_or(0),
            self.buckets.keys().next_back().copied().unwrap_or(0),
        );
        Sums {
            requests: self.requests.round() as u64,
            errors: self.errors.round() as u64,
            cost_nanos: self.cost_nanos.round() as u64,
            duration_ns: self.duration_ns,
            scale: SCALE,
            bucket_offset: first,
            buckets: (first..=last)
                .map(|index| self.buckets.get(&index).map_or(0, |n| n.round() as u64))
                .collect(),
            ..Sums::default()
        }
    }
}
