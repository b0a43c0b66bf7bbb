//! Trace parts: what one request added to one trace on one day.
//!
//! `trace_metadata` groups parts by trace. All its columns are sums, minima, maxima or "any",
//! so parts may come in any order and number, and be merged at any time.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Int8Builder, Int64Builder, RecordBatch,
    StringViewBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::error::ArrowError;
use mesh_config::DataTag;

use super::columns::{MONEY_PRECISION, MONEY_SCALE, UTC, timestamp};
use crate::otlp::batch::{SpanBatch, SpanRow};
use crate::otlp::lists::write_hex;

/// Nanoseconds of a day.
pub(crate) const DAY_NS: i64 = 86_400_000_000_000;

/// Days since the epoch.
pub(crate) fn day_of(start_ns: i64) -> i64 {
    start_ns.div_euclid(DAY_NS)
}

/// What some spans of one trace add up to.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    /// Sum of the spans' own costs.
    pub(crate) cost_nanos: u64,
    /// Number of spans.
    pub(crate) spans: i64,
    /// True when any span is in the error class.
    pub(crate) error: bool,
    /// The strictest class.
    pub(crate) class: DataTag,
    /// Earliest start.
    pub(crate) first_ns: i64,
    /// Latest end.
    pub(crate) last_ns: i64,
    /// Service and operation of the root span, when it is among these spans.
    pub(crate) root: Option<(Box<str>, Box<str>)>,
}

impl Part {
    fn add(&mut self, batch: &SpanBatch, row: &SpanRow) {
        if self.spans == 0 {
            self.first_ns = row.start_ns;
            self.last_ns = row.end_ns;
        }
        self.spans += 1;
        self.cost_nanos = self.cost_nanos.saturating_add(row.cost_nanos.unwrap_or(0));
        self.error |= row.error;
        self.class = self.class.max(row.class);
        self.first_ns = self.first_ns.min(row.start_ns);
        self.last_ns = self.last_ns.max(row.end_ns);
        if row.parent_id == [0; 8] {
            let service = batch.str(batch.resource(row).service);
            self.root = Some((service.into(), batch.str(row.name).into()));
        }
    }
}

/// Parts by trace and day.
pub(crate) type Parts = HashMap<([u8; 16], i64), Part, foldhash::fast::RandomState>;

/// Adds up the accepted rows of one request.
pub(crate) fn of_rows<'a>(
    batch: &SpanBatch,
    rows: impl Iterator<Item = &'a SpanRow>,
    parts: &mut Parts,
) {
    for row in rows {
        parts
            .entry((row.trace_id, day_of(row.start_ns)))
            .or_default()
            .add(batch, row);
    }
}

/// The schema of stored parts.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        Arc::new(Schema::new(vec![
            Field::new("trace_id", DataType::Utf8View, false),
            Field::new("recorded_cost", money, false),
            Field::new("span_count", DataType::Int64, false),
            Field::new("error", DataType::Boolean, false),
            Field::new("class", DataType::Int8, false),
            Field::new("first_seen", timestamp(), false),
            Field::new("last_seen", timestamp(), false),
            Field::new("root_service", DataType::Utf8View, true),
            Field::new("root_operation", DataType::Utf8View, true),
        ]))
    });
    SCHEMA.clone()
}

/// Builders of the columns of parts.
pub(crate) struct PartColumns {
    trace_id: StringViewBuilder,
    recorded_cost: Decimal128Builder,
    span_count: Int64Builder,
    error: BooleanBuilder,
    class: Int8Builder,
    first_seen: TimestampNanosecondBuilder,
    last_seen: TimestampNanosecondBuilder,
    root_service: StringViewBuilder,
    root_operation: StringViewBuilder,
    rows: usize,
}

impl Default for PartColumns {
    fn default() -> Self {
        let money = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);
        Self {
            trace_id: StringViewBuilder::new(),
            recorded_cost: Decimal128Builder::new().with_data_type(money),
            span_count: Int64Builder::new(),
            error: BooleanBuilder::new(),
            class: Int8Builder::new(),
            first_seen: TimestampNanosecondBuilder::new().with_timezone(UTC),
            last_seen: TimestampNanosecondBuilder::new().with_timezone(UTC),
            root_service: StringViewBuilder::new().with_deduplicate_strings(),
            root_operation: StringViewBuilder::new().with_deduplicate_strings(),
            rows: 0,
        }
    }
}

macro_rules! arrays {
    ($self:ident, $finish:ident) => {
        vec![
            Arc::new($self.trace_id.$finish()) as ArrayRef,
            Arc::new($self.recorded_cost.$finish()),
            Arc::new($self.span_count.$finish()),
            Arc::new($self.error.$finish()),
            Arc::new($self.class.$finish()),
            Arc::new($self.first_seen.$finish().with_timezone(UTC)),
            Arc::new($self.last_seen.$finish().with_timezone(UTC)),
            Arc::new($self.root_service.$finish()),
            Arc::new($self.root_operation.$finish()),
        ]
    };
}

impl PartColumns {
    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Appends one part.
    pub(crate) fn push(&mut self, trace_id: &[u8; 16], part: &Part) {
        let mut hex = String::with_capacity(32);
        write_hex(trace_id, &mut hex);
        self.trace_id.append_value(&hex);
        self.recorded_cost.append_value(i128::from(part.cost_nanos));
        self.span_count.append_value(part.spans);
        self.error.append_value(part.error);
        self.class.append_value(part.class as i8);
        self.first_seen.append_value(part.first_ns);
        self.last_seen.append_value(part.last_ns);
        let root = part.root.as_ref();
        self.root_service
            .append_option(root.map(|(service, _)| service));
        self.root_operation
            .append_option(root.map(|(_, operation)| operation));
        self.rows += 1;
    }

    /// The rows as a batch; the builders start again.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        RecordBatch::try_new(schema(), arrays!(self, finish))
    }

    /// A copy of the rows so far.
    pub(crate) fn snapshot(&self) -> Result<RecordBatch, ArrowError> {
        RecordBatch::try_new(schema(), arrays!(self, finish_cloned))
    }
}
