//! The columns of `ledger`: exact sums per minute, filter instance and key.
//!
//! Sums are additive: over instances, minutes, and parts of a minute. `minute` is the minute in
//! which the delta's time ended. `sequence` is the largest number merged into the row; together
//! with `instance` it tells after a restart which deltas were counted.
//!
//! `basis` tells exact counts of filters (`ledger`; null in old partitions) from what is estimated
//! from spans ([`super::estimates`]). They are never added.
//!
//! [`rollup`] adds rows up to hours or days, over instances. Each partition has the rollups of
//! its own rows, written with them: they are as idempotent and as crash-safe as the rows, a late
//! delta needs no rewriting, and a sum over all partitions is the whole.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    Array as _, ArrayRef, AsArray as _, Decimal128Array, Decimal128Builder, Float64Array,
    Float64Builder, Int32Array, Int32Builder, Int64Array, Int64Builder, ListArray, ListBuilder,
    RecordBatch, StringViewArray, StringViewBuilder, TimestampNanosecondArray,
    TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use foldhash::fast::RandomState;

use super::columns::{MONEY_PRECISION, MONEY_SCALE, UTC, timestamp};
use crate::otlp::metrics::{Delta, Key, Sums};

/// Nanoseconds of a minute.
pub(crate) const MINUTE_NS: i64 = 60_000_000_000;
/// Nanoseconds of an hour.
pub(crate) const HOUR_NS: i64 = 60 * MINUTE_NS;

/// What a row's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Basis {
    /// Counted by a filter, every request.
    Ledger,
    /// Estimated from spans.
    Estimate,
}

impl Basis {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Estimate => "estimate",
        }
    }
}

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
            Field::new("basis", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// What one generation holds of the ledger, merged by minute.
#[derive(Debug, Default)]
pub(crate) struct Minutes(BTreeMap<Place, (u64, Sums)>);

/// Minute, service, instance, key.
type Place = (i64, Arc<str>, Arc<str>, Key);

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
            let from = (&**service, &**instance, *sequence);
            columns.push(*minute, from, key, sums, Basis::Ledger);
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
    if total.scale == more.scale
        && let Some(shift) = more.bucket_offset.checked_sub(total.bucket_offset)
        && let Ok(shift) = usize::try_from(shift)
        && let Some(slots) = total.buckets.get_mut(shift..)
        && slots.len() >= more.buckets.len()
    {
        // The usual case: the range is known already.
        for (slot, count) in slots.iter_mut().zip(&more.buckets) {
            *slot = slot.saturating_add(*count);
        }
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

/// Rows added up to units of `unit_ns`, over instances; in order of time.
pub(crate) fn rollup(rows: &RecordBatch, unit_ns: i64) -> Result<RecordBatch, ArrowError> {
    let read = Rows::of(rows)?;
    let mut sums: HashMap<Slot<'_>, Sums, RandomState> = HashMap::default();
    for row in 0..rows.num_rows() {
        let (minute, basis, texts) = read.slot(row);
        let slot = (minute.div_euclid(unit_ns) * unit_ns, basis, texts);
        merge(sums.entry(slot).or_default(), &read.sums(row));
    }
    let mut sums: Vec<(Slot<'_>, Sums)> = sums.into_iter().collect();
    sums.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut columns = Columns::default();
    for ((unit, basis, [service, texts @ ..]), sums) in &sums {
        let [direction, status, data_tag, side, route, peer, tenant] = texts.map(str::to_owned);
        let key = Key {
            direction,
            status_class: status,
            data_tag,
            charge_side: side,
            route,
            peer,
            tenant,
        };
        columns.push(*unit, (service, "", 0), &key, sums, *basis);
    }
    columns.finish()
}

/// Unit, basis, and the texts of a row: service, then the key's.
type Slot<'a> = (i64, Basis, [&'a str; 8]);

/// The columns of a batch, for reading.
struct Rows<'a> {
    minute: &'a TimestampNanosecondArray,
    texts: [&'a StringViewArray; 8],
    counts: [&'a Int64Array; 4],
    cost_usd: &'a Decimal128Array,
    duration_ms_sum: &'a Float64Array,
    scale: &'a Int32Array,
    offset: &'a Int32Array,
    buckets: &'a ListArray,
    basis: Option<&'a StringViewArray>,
}

impl<'a> Rows<'a> {
    fn of(batch: &'a RecordBatch) -> Result<Self, ArrowError> {
        let column = |name: &str| {
            batch
                .column_by_name(name)
                .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
        };
        let text = |name| column(name).map(|column| column.as_string_view());
        let count = |name| column(name).map(|column| column.as_primitive::<Int64Type>());
        Ok(Self {
            minute: column("minute")?.as_primitive(),
            texts: [
                text("service_name")?,
                text("direction")?,
                text("status_class")?,
                text("data_tag")?,
                text("charge_side")?,
                text("route")?,
                text("peer")?,
                text("tenant")?,
            ],
            counts: [
                count("requests")?,
                count("errors")?,
                count("request_bytes")?,
                count("response_bytes")?,
            ],
            cost_usd: column("cost_usd")?.as_primitive(),
            duration_ms_sum: column("duration_ms_sum")?.as_primitive(),
            scale: column("histogram_scale")?.as_primitive(),
            offset: column("histogram_offset")?.as_primitive(),
            buckets: column("histogram_counts")?.as_list(),
            basis: batch
                .column_by_name("basis")
                .map(|column| column.as_string_view()),
        })
    }

    fn slot(&self, row: usize) -> Slot<'_> {
        let is_estimate = self.basis.is_some_and(|basis| {
            basis.is_valid(row) && basis.value(row) == Basis::Estimate.as_str()
        });
        let basis = if is_estimate {
            Basis::Estimate
        } else {
            Basis::Ledger
        };
        let texts = self.texts.map(|texts| texts.value(row));
        (self.minute.value(row), basis, texts)
    }

    fn sums(&self, row: usize) -> Sums {
        let unsigned = |number: i64| u64::try_from(number).unwrap_or(0);
        let [requests, errors, request_bytes, response_bytes] =
            self.counts.map(|counts| unsigned(counts.value(row)));
        let buckets = self.buckets.value(row);
        let buckets = buckets.as_primitive::<Int64Type>().values().iter();
        Sums {
            requests,
            errors,
            cost_nanos: u64::try_from(self.cost_usd.value(row)).unwrap_or(u64::MAX),
            request_bytes,
            response_bytes,
            duration_ns: self.duration_ms_sum.value(row) * 1e6,
            scale: self.scale.value(row),
            bucket_offset: self.offset.value(row),
            buckets: buckets.map(|count| unsigned(*count)).collect(),
        }
    }
}

/// Builders of the columns.
pub(super) struct Columns {
    minute: TimestampNanosecondBuilder,
    texts: [StringViewBuilder; 9],
    sequence: Int64Builder,
    counts: [Int64Builder; 4],
    cost_usd: Decimal128Builder,
    duration_ms_sum: Float64Builder,
    scale: Int32Builder,
    offset: Int32Builder,
    buckets: ListBuilder<Int64Builder>,
    basis: StringViewBuilder,
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
            basis: StringViewBuilder::new(),
        }
    }
}

impl Columns {
    /// Appends a row.
    pub(super) fn push(
        &mut self,
        minute: i64,
        (service, instance, sequence): (&str, &str, u64),
        key: &Key,
        sums: &Sums,
        basis: Basis,
    ) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.minute.append_value(minute);
        self.basis.append_value(basis.as_str());
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

    /// The rows as a batch.
    pub(super) fn finish(mut self) -> Result<RecordBatch, ArrowError> {
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
            Arc::new(self.basis.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}
