//! Counts from spans, for services whose requests no filter counts.
//!
//! Every span that the filter did not send adds its weight (how many spans it stands for by its
//! `th`) to a row like the ledger's, marked as an estimate. It is counted as it arrives, so
//! later sampling of the tiers does not touch it. A span without `th` stands for itself; one that
//! a rule kept without a `th` is no part of a sample and counts nothing.
//!
//! Limits: [`MAX_KEYS`] rows per generation; beyond them a row's route and peer are
//! [`OTHER`]. Rows are found by a 64-bit hash of their key.

use std::collections::HashMap;
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
    /// The bucket of the histogram that `buckets` begins with.
    offset: i32,
    /// By bucket. In one piece: a tree's nodes would have to be fetched for every span.
    buckets: Vec<f64>,
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
    /// Counts the spans of a request; returns how many rows they opened.
    pub(crate) fn add(&mut self, batch: &SpanBatch, rows: &[&SpanRow]) -> usize {
        let before = self.rows.len();
        // First all hashes, then all sums: those wait for memory, several at a time.
        let mut found: Vec<(u64, f64, &SpanRow)> = Vec::with_capacity(rows.len());
        found.extend(rows.iter().filter_map(|row| {
            let weight = weight(batch, row)?;
            Some((self.hash(&place(batch, row)), weight, *row))
        }));
        for (hash, weight, row) in found {
            match self.rows.get_mut(&hash) {
                Some(sums) => sums.add(row, weight),
                None => self.open(batch, row).add(row, weight),
            }
        }
        self.rows.len() - before
    }

    /// The row of a span that has none by its own key.
    fn open(&mut self, batch: &SpanBatch, row: &SpanRow) -> &mut Row {
        let mut place = place(batch, row);
        if self.rows.len() >= MAX_KEYS {
            (place.route, place.peer) = (OTHER, OTHER);
        }
        let hash = self.hash(&place);
        self.rows.entry(hash).or_insert_with(|| place.open())
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

/// How many spans a span stands for; `None` when it is not to be counted.
fn weight(batch: &SpanBatch, row: &SpanRow) -> Option<f64> {
    if batch.str(row.scope) == FILTER_SCOPE {
        return None;
    }
    match row.adjusted_count {
        Some(count) => Some(count),
        None => row.sampling_reason.is_empty().then_some(1.0),
    }
}

impl Row {
    fn add(&mut self, row: &SpanRow, weight: f64) {
        let duration_ns = row.end_ns.saturating_sub(row.start_ns).max(1) as f64;
        self.requests += weight;
        self.errors += if row.error { weight } else { 0.0 };
        self.cost_nanos += weight * row.cost_nanos.unwrap_or(0) as f64;
        self.duration_ns += weight * duration_ns;
        let bucket = (duration_ns.log2() * f64::from(SCALE).exp2()).ceil() as i32 - 1;
        self.count(bucket, weight);
    }

    /// Buckets lie between -1 and 4 times 63.
    fn count(&mut self, bucket: i32, weight: f64) {
        if self.buckets.is_empty() {
            self.offset = bucket;
        }
        let before = usize::try_from(self.offset.saturating_sub(bucket)).unwrap_or(0);
        if before > 0 {
            self.buckets.splice(..0, std::iter::repeat_n(0.0, before));
            self.offset = bucket;
        }
        let at = usize::try_from(bucket.saturating_sub(self.offset)).unwrap_or(0);
        if at >= self.buckets.len() {
            self.buckets.resize(at + 1, 0.0);
        }
        if let Some(count) = self.buckets.get_mut(at) {
            *count += weight;
        }
    }

    fn sums(&self) -> Sums {
        Sums {
            requests: self.requests.round() as u64,
            errors: self.errors.round() as u64,
            cost_nanos: self.cost_nanos.round() as u64,
            duration_ns: self.duration_ns,
            scale: SCALE,
            bucket_offset: self.offset,
            buckets: self.buckets.iter().map(|n| n.round() as u64).collect(),
            ..Sums::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_histogram_grows_at_both_ends() {
        let mut row = Row::default();
        for (bucket, weight) in [(40, 1.0), (43, 2.0), (-1, 3.0), (40, 4.0), (44, 5.0)] {
            row.count(bucket, weight);
        }
        let sums = row.sums();
        assert_eq!((sums.bucket_offset, sums.buckets.len()), (-1, 46));
        let counts = sums.buckets.iter().zip(-1i32..).filter(|(n, _)| **n > 0);
        let counts: Vec<(u64, i32)> = counts.map(|(n, at)| (*n, at)).collect();
        assert_eq!(counts, [(3, -1), (5, 40), (2, 43), (5, 44)]);
    }
}
