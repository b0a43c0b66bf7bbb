//! The columns of `ledger`: exact sums per minute, filter instance and key.
//!
//! Sums are additive: over instances, minutes, and parts of a minute. `minute` is the minute in
//! which the delta's time ended. `sequence` is the largest number merged into the row; together
//! with `instance` it tells after a restart which deltas were counted.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, Decimal128Builder, Float64Builder, Int32Builder, Int64Builder, ListBuilder,
    RecordBatch, StringViewBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;

use super::columns::{MONEY_PRECISION, MONEY_SCALE, UTC, timestamp};
use crate::otlp::metrics::{Delta, Key, Sums};

const MINUTE_NS: i64 = 60_000_000_000;

/// The schema of `ledger`.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        let counts = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        let always = |name: &str, kind: DataType| Field::new(name, kind, false);
        let text = |name: &str| Field::new(name, DataType::Utf8View, false);
        Arc::new(Schema::new(vec![
            always("minute", timestamp()),
            text("service_name"),
            text("instance"),
            always("sequence", DataType::Int64),
            text("direction"),
            text("status_class"),
            text("data_tag"),
            text("charge_side"),
            text("route"),
            text("peer"),
            text("tenant"),
            always("requests", DataType::Int64),
            always("errors", DataType::Int64),
            always("cost_usd", money),
            always("request_bytes", DataType::Int64),
            always("response_bytes", DataType::Int64),
            always("duration_ms_sum", DataType::Float64),
            always("histogram_scale", DataType::Int32),
            always("histogram_offset", DataType::Int32),
            Field::new("histogram_counts", counts, false),
        ]))
    });
    SCHEMA.clone()
}

/// What one generation holds of the ledger, merged by minute.
#[derive(Debug, Default)]
pub(crate) struct Minutes(BTreeMap<Slot, (u64, Sums)>);

/// Minute, service, instance, key.
type Slot = (i64, Arc<str>, Arc<str>, Key);

impl Minutes {
    /// Adds a delta; the caller has checked that it is new. Returns the rows it opened.
    pub(crate) fn add(&mut self, delta: &Delta) -> usize {
        let before = self.0.len();
        let minute = delta.until_ns.div_euclid(MINUTE_NS) * MINUTE_NS;
        let service: Arc<str> = delta.service.as_str().into();
        let instance: Arc<str> = delta.instance.as_str().into();
        for (key, sums) in &delta.rows {
            let slot = (minute, service.clone(), instance.clone(), key.clone());
            let (sequence, total) = self.0.entry(slot).or_default();
            *sequence = delta.sequence.max(*sequence);
            merge(total, sums);
        }
        self.0.len() - before
    }

    /// True when there are no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rows as a batch, in order of time.
    pub(crate) fn batch(&self) -> Result<RecordBatch, ArrowError> {
        let mut columns = Columns::default();
        for ((minute, service, instance, key), (sequence, sums)) in &self.0 {
            columns.push(*minute, (service, instance, *sequence), key, sums);
        }
        columns.finish()
    }
}

fn merge(total: &mut Sums, more: &Sums) {
    total.requests = total.requests.saturating_add(more.requests);
    total.errors = total.errors.saturating_add(more.errors);
    total.cost_nanos = total.cost_nanos.saturating_add(more.cost_nanos);
    total.request_bytes = total.request_bytes.saturating_add(more.request_bytes);
    total.response_bytes = total.response_bytes.saturating_add(more.response_bytes);
    total.duration_ns += more.duration_ns;
    merge_buckets(total, more);
}

/// Adds two exponential histograms. A filter keeps one scale for life; should two scales meet,
/// the finer one is coarsened (each step joins pairs of buckets).
fn merge_buckets(total: &mut Sums, more: &Sums) {
    if more.buckets.is_empty() {
        return;
    }
    if total.buckets.is_empty() {
        total.scale = more.scale;
        total.bucket_offset = more.bucket_offset;
        total.buckets.clone_from(&more.buckets);
        return;
    }
    let scale = total.scale.min(more.scale);
    let indexed = |sums: &Sums| -> Vec<(i32, u64)> {
        let shift = u32::try_from(sums.scale - scale).unwrap_or(0).min(31);
        let numbered = (sums.bucket_offset..).zip(sums.buckets.iter().copied());
        numbered
            .map(|(index, count)| (index >> shift, count))
            .collect()
    };
    let mut merged: BTreeMap<i32, u64> = BTreeMap::new();
    for (index, count) in indexed(total).into_iter().chain(indexed(more)) {
        let slot = merged.entry(index).or_default();
        *slot = slot.saturating_add(count);
    }
    let (Some(first), Some(last)) = (
        merged.keys().next().copied(),
        merged.keys().next_back().copied(),
    ) else {
        return;
    };
    total.scale = scale;
    total.bucket_offset = first;
    // Two histograms of the filter lie close together; a hostile pair must not blow up.
    total.buckets = (first..=last.min(first.saturating_add(4_096)))
        .map(|index| merged.get(&index).copied().unwrap_or(0))
        .collect();
}

struct Columns {
    minute: TimestampNanosecondBuilder,
    texts: [StringViewBuilder; 9],
    sequence: Int64Builder,
    counts: [Int64Builder; 4],
    cost_usd: Decimal128Builder,
    duration_ms_sum: Float64Builder,
    scale: Int32Builder,
    offset: Int32Builder,
    buckets: ListBuilder<Int64Builder>,
}

impl Default for Columns {
    fn default() -> Self {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        Self {
            minute: TimestampNanosecondBuilder::new().with_timezone(UTC),
            texts: std::array::from_fn(|_| StringViewBuilder::new().with_deduplicate_strings()),
            sequence: Int64Builder::new(),
            counts: std::array::from_fn(|_| Int64Builder::new()),
            cost_usd: Decimal128Builder::new().with_data_type(money),
            duration_ms_sum: Float64Builder::new(),
            scale: Int32Builder::new(),
            offset: Int32Builder::new(),
            buckets: ListBuilder::new(Int64Builder::new()),
        }
    }
}

impl Columns {
    fn push(
        &mut self,
        minute: i64,
        (service, instance, sequence): (&str, &str, u64),
        key: &Key,
        sums: &Sums,
    ) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.minute.append_value(minute);
        let texts = [
            service,
            instance,
            &key.direction,
            &key.status_class,
            &key.data_tag,
            &key.charge_side,
            &key.route,
            &key.peer,
            &key.tenant,
        ];
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_value(text);
        }
        self.sequence.append_value(signed(sequence));
        let counts = [
            sums.requests,
            sums.errors,
            sums.request_bytes,
            sums.response_bytes,
        ];
        for (builder, count) in self.counts.iter_mut().zip(counts) {
            builder.append_value(signed(count));
        }
        self.cost_usd.append_value(i128::from(sums.cost_nanos));
        self.duration_ms_sum.append_value(sums.duration_ns / 1e6);
        self.scale.append_value(sums.scale);
        self.offset.append_value(sums.bucket_offset);
        self.buckets
            .append_value(sums.buckets.iter().map(|count| Some(signed(*count))));
    }

    fn finish(mut self) -> Result<RecordBatch, ArrowError> {
        let [
            service,
            instance,
            direction,
            status,
            tag,
            side,
            route,
            peer,
            tenant,
        ] = self
            .texts
            .each_mut()
            .map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let [requests, errors, request_bytes, response_bytes] = self
            .counts
            .each_mut()
            .map(|builder| Arc::new(builder.finish()) as ArrayRef);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.minute.finish().with_timezone(UTC)),
            service,
            instance,
            Arc::new(self.sequence.finish()),
            direction,
            status,
            tag,
            side,
            route,
            peer,
            tenant,
            requests,
            errors,
            Arc::new(self.cost_usd.finish()),
            request_bytes,
            response_bytes,
            Arc::new(self.duration_ms_sum.finish()),
            Arc::new(self.scale.finish()),
            Arc::new(self.offset.finish()),
            Arc::new(self.buckets.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}
