//! The columns of `spans`: one schema for memory, Parquet and SQL.
//!
//! Text is `Utf8View`, as DataFusion reads Parquet; columns that repeat within a request share
//! their bytes in memory. Money is `Decimal128(20, 9)`: nano-USD, so that SUM is exact. A new
//! column is appended at the end and must be nullable, since old partitions lack it.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanBuilder, Decimal128Builder, Float64Builder, Int32Builder, RecordBatch,
    StringViewBuilder, TimestampNanosecondBuilder,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

use crate::otlp::batch::{SpanBatch, SpanRow, Text};
use crate::otlp::lists::write_hex;

/// Precision of money columns.
pub(crate) const MONEY_PRECISION: u8 = 20;
/// Scale of money columns: nano-USD.
pub(crate) const MONEY_SCALE: i8 = 9;
/// The time zone of timestamps.
pub(crate) const UTC: &str = "+00:00";

const MONEY: DataType = DataType::Decimal128(MONEY_PRECISION, MONEY_SCALE);

/// Type of a timestamp column.
pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
}

/// The schema of `spans`.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let text = DataType::Utf8View;
        let field = |name: &str, kind: &DataType| Field::new(name, kind.clone(), true);
        let always = |name: &str, kind: &DataType| Field::new(name, kind.clone(), false);
        Arc::new(Schema::new(vec![
            always("trace_id", &text),
            always("span_id", &text),
            field("parent_id", &text),
            always("service_name", &text),
            always("operation", &text),
            always("kind", &text),
            always("timestamp", &timestamp()),
            always("duration_ms", &DataType::Float64),
            always("status_code", &text),
            field("status_message", &text),
            field("http_status_code", &DataType::Int32),
            always("error", &DataType::Boolean),
            field("cost_usd", &MONEY),
            always("cost_source", &text),
            field("price_version", &text),
            field("cost_path_usd", &MONEY),
            always("data_tag", &text),
            always("retention_days", &DataType::Int32),
            field("operation_type", &text),
            field("sampling_reason", &text),
            field("adjusted_count", &DataType::Float64),
            field("trace_state", &text),
            always("attributes", &text),
            field("events", &text),
            field("links", &text),
            field("scope_name", &text),
            always("resource_attributes", &text),
        ]))
    });
    SCHEMA.clone()
}

/// OTLP span kinds by number, as SQL shows them.
const KINDS: [&str; 6] = [
    "UNSPECIFIED",
    "INTERNAL",
    "SERVER",
    "CLIENT",
    "PRODUCER",
    "CONSUMER",
];
/// OTLP status codes by number.
const STATUSES: [&str; 3] = ["UNSET", "OK", "ERROR"];

/// Builders of all columns.
pub(crate) struct SpanColumns {
    trace_id: StringViewBuilder,
    span_id: StringViewBuilder,
    parent_id: StringViewBuilder,
    service_name: StringViewBuilder,
    operation: StringViewBuilder,
    kind: StringViewBuilder,
    timestamp: TimestampNanosecondBuilder,
    duration_ms: Float64Builder,
    status_code: StringViewBuilder,
    status_message: StringViewBuilder,
    http_status_code: Int32Builder,
    error: BooleanBuilder,
    cost_usd: Decimal128Builder,
    cost_source: StringViewBuilder,
    price_version: StringViewBuilder,
    cost_path_usd: Decimal128Builder,
    data_tag: StringViewBuilder,
    retention_days: Int32Builder,
    operation_type: StringViewBuilder,
    sampling_reason: StringViewBuilder,
    adjusted_count: Float64Builder,
    trace_state: StringViewBuilder,
    attributes: StringViewBuilder,
    events: StringViewBuilder,
    links: StringViewBuilder,
    scope_name: StringViewBuilder,
    resource_attributes: StringViewBuilder,
    hex: String,
    rows: usize,
}

/// Text that differs from row to row.
fn distinct() -> StringViewBuilder {
    StringViewBuilder::new()
}

/// Text that repeats: its bytes are kept once.
fn repeated() -> StringViewBuilder {
    StringViewBuilder::new().with_deduplicate_strings()
}

fn money() -> Decimal128Builder {
    Decimal128Builder::new().with_data_type(MONEY)
}

impl Default for SpanColumns {
    fn default() -> Self {
        Self {
            trace_id: distinct(),
            span_id: distinct(),
            parent_id: distinct(),
            service_name: repeated(),
            operation: repeated(),
            kind: distinct(),
            timestamp: TimestampNanosecondBuilder::new().with_timezone(UTC),
            duration_ms: Float64Builder::new(),
            status_code: distinct(),
            status_message: repeated(),
            http_status_code: Int32Builder::new(),
            error: BooleanBuilder::new(),
            cost_usd: money(),
            cost_source: repeated(),
            price_version: repeated(),
            cost_path_usd: money(),
            data_tag: distinct(),
            retention_days: Int32Builder::new(),
            operation_type: repeated(),
            sampling_reason: repeated(),
            adjusted_count: Float64Builder::new(),
            trace_state: repeated(),
            attributes: distinct(),
            events: distinct(),
            links: distinct(),
            scope_name: repeated(),
            resource_attributes: repeated(),
            hex: String::with_capacity(32),
            rows: 0,
        }
    }
}

/// Appends every builder's array in the schema's order; one list, so that none is forgotten.
macro_rules! arrays {
    ($self:ident, $finish:ident) => {
        vec![
            Arc::new($self.trace_id.$finish()) as ArrayRef,
            Arc::new($self.span_id.$finish()),
            Arc::new($self.parent_id.$finish()),
            Arc::new($self.service_name.$finish()),
            Arc::new($self.operation.$finish()),
            Arc::new($self.kind.$finish()),
            Arc::new($self.timestamp.$finish().with_timezone(UTC)),
            Arc::new($self.duration_ms.$finish()),
            Arc::new($self.status_code.$finish()),
            Arc::new($self.status_message.$finish()),
            Arc::new($self.http_status_code.$finish()),
            Arc::new($self.error.$finish()),
            Arc::new($self.cost_usd.$finish()),
            Arc::new($self.cost_source.$finish()),
            Arc::new($self.price_version.$finish()),
            Arc::new($self.cost_path_usd.$finish()),
            Arc::new($self.data_tag.$finish()),
            Arc::new($self.retention_days.$finish()),
            Arc::new($self.operation_type.$finish()),
            Arc::new($self.sampling_reason.$finish()),
            Arc::new($self.adjusted_count.$finish()),
            Arc::new($self.trace_state.$finish()),
            Arc::new($self.attributes.$finish()),
            Arc::new($self.events.$finish()),
            Arc::new($self.links.$finish()),
            Arc::new($self.scope_name.$finish()),
            Arc::new($self.resource_attributes.$finish()),
        ]
    };
}

impl SpanColumns {
    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// Appends one span.
    pub(crate) fn push(&mut self, batch: &SpanBatch, row: &SpanRow) {
        self.ids(row);
        let resource = batch.resource(row);
        let text = |piece: Text| batch.str(piece);
        let optional = |piece: Text| (!piece.is_empty()).then(|| batch.str(piece));
        self.service_name.append_value(text(resource.service));
        self.operation.append_value(text(row.name));
        self.kind.append_value(
            KINDS
                .get(usize::from(row.kind))
                .copied()
                .unwrap_or("UNSPECIFIED"),
        );
        self.timestamp.append_value(row.start_ns);
        self.duration_ms
            .append_value(row.end_ns.saturating_sub(row.start_ns) as f64 / 1e6);
        let status = STATUSES
            .get(usize::from(row.status))
            .copied()
            .unwrap_or("UNSET");
        self.status_code.append_value(status);
        self.status_message
            .append_option(optional(row.status_message));
        let http = (row.http_status != 0).then_some(i32::from(row.http_status));
        self.http_status_code.append_option(http);
        self.error.append_value(row.error);
        self.cost_usd.append_option(row.cost_nanos.map(i128::from));
        self.cost_source.append_value(row.cost_source.as_str());
        self.price_version
            .append_option(optional(row.price_version));
        self.cost_path_usd
            .append_option(row.cost_path_nanos.map(i128::from));
        self.data_tag.append_value(row.class.as_str());
        self.retention_days
            .append_value(i32::from(row.retention_days));
        self.operation_type
            .append_option(optional(row.operation_type));
        self.sampling_reason
            .append_option(optional(row.sampling_reason));
        self.adjusted_count.append_option(row.adjusted_count);
        self.trace_state.append_option(optional(row.trace_state));
        self.attributes.append_value(text(row.attributes));
        self.events.append_option(optional(row.events));
        self.links.append_option(optional(row.links));
        self.scope_name.append_option(optional(row.scope));
        self.resource_attributes
            .append_value(text(resource.attributes));
        self.rows += 1;
    }

    fn ids(&mut self, row: &SpanRow) {
        self.hex.clear();
        write_hex(&row.trace_id, &mut self.hex);
        self.trace_id.append_value(&self.hex);
        self.hex.clear();
        write_hex(&row.span_id, &mut self.hex);
        self.span_id.append_value(&self.hex);
        if row.parent_id == [0; 8] {
            self.parent_id.append_null();
        } else {
            self.hex.clear();
            write_hex(&row.parent_id, &mut self.hex);
            self.parent_id.append_value(&self.hex);
        }
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
