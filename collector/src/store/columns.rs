//! The columns of `spans`: one schema for memory, Parquet and SQL.
//!
//! Text is `Utf8View`, as DataFusion reads Parquet. Rows wait as they were decoded beside chunks
//! of their requests' text; a batch's columns are then made one after the other, each with its own
//! text in one piece. What the spans of a resource share is copied once for all of them. Money is `Decimal128(20, 9)`: nano-USD, so that SUM is exact. A new
//! column is appended at the end and must be nullable, since old partitions lack it.

use std::sync::{Arc, LazyLock};

use datafusion::arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, RecordBatch,
    StringViewArray, StringViewBuilder, TimestampNanosecondArray, UInt32Array,
};
use datafusion::arrow::compute::take;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::arrow::error::ArrowError;

use crate::otlp::batch::{ResourceRow, SpanBatch, SpanRow, Text};
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

/// Bytes of a chunk of text; a request with more text gets one of its own.
const CHUNK_BYTES: usize = 256 << 10;

/// A row and where its text begins.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    row: SpanRow,
    /// Service and resource attributes.
    resource: ResourceRow,
    chunk: u32,
    /// What is added to the offsets of the row's text.
    base: u32,
}

/// Rows that wait to become a batch.
#[derive(Debug, Default)]
pub(crate) struct SpanColumns {
    rows: Vec<Waiting>,
    full: Vec<String>,
    open: String,
}

impl SpanColumns {
    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Appends spans of one request.
    pub(crate) fn push<'a>(&mut self, batch: &SpanBatch, rows: impl Iterator<Item = &'a SpanRow>) {
        let text = batch.text.as_str();
        if self.open.len() + text.len() > self.open.capacity() {
            self.close_chunk();
            self.open.reserve_exact(text.len().max(CHUNK_BYTES));
        }
        // Requests are far smaller than 4 GiB, and so is a chunk.
        let base = u32::try_from(self.open.len()).unwrap_or(u32::MAX);
        let chunk = u32::try_from(self.full.len()).unwrap_or(u32::MAX);
        self.open.push_str(text);
        self.rows.extend(rows.map(|row| Waiting {
            row: *row,
            resource: batch.resource(row),
            chunk,
            base,
        }));
    }

    fn close_chunk(&mut self) {
        if !self.open.is_empty() {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    /// The rows as a batch; the next row begins another.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let batch = self.snapshot();
        // The next batch will be about as large, so the rows' memory and a chunk's are used again.
        self.rows.clear();
        self.full.clear();
        self.open.clear();
        self.open.shrink_to(CHUNK_BYTES);
        batch
    }

    /// A copy of the rows so far.
    pub(crate) fn snapshot(&self) -> Result<RecordBatch, ArrowError> {
        batch(&self.rows, &self.chunks())
    }

    /// A copy of the rows of one trace.
    pub(crate) fn of_trace(&self, id: &[u8; 16]) -> Result<RecordBatch, ArrowError> {
        let own = self
            .rows
            .iter()
            .filter(|waiting| waiting.row.trace_id == *id);
        batch(&own.copied().collect::<Vec<_>>(), &self.chunks())
    }

    fn chunks(&self) -> Vec<&str> {
        let full = self.full.iter().map(String::as_str);
        full.chain([self.open.as_str()]).collect()
    }
}

/// A text column: what it shows of a row.
type Piece = fn(&Waiting) -> Text;

impl Waiting {
    /// A piece of the row's text.
    fn str<'a>(&self, piece: Text, chunks: &[&'a str]) -> &'a str {
        let start = (self.base as usize).saturating_add(piece.start() as usize);
        let chunk = chunks.get(self.chunk as usize).copied().unwrap_or_default();
        // A piece never reaches beyond its request's text, nor into a character.
        chunk
            .get(start..start.saturating_add(piece.len() as usize))
            .unwrap_or_default()
    }
}

/// All columns, in the schema's order.
fn batch(rows: &[Waiting], chunks: &[&str]) -> Result<RecordBatch, ArrowError> {
    let always = |piece: Piece| text(rows, chunks, piece, false);
    let optional = |piece: Piece| text(rows, chunks, piece, true);
    let runs = Runs::of(rows);
    let named = |name: fn(&SpanRow) -> &'static str| -> ArrayRef {
        let names = rows.iter().map(|waiting| Some(name(&waiting.row)));
        Arc::new(names.collect::<StringViewArray>())
    };
    let columns = vec![
        hex(rows, |row| Some(&row.trace_id)),
        hex(rows, |row| Some(&row.span_id)),
        hex(rows, |row| {
            (row.parent_id != [0; 8]).then_some(&row.parent_id[..])
        }),
        runs.text(chunks, |waiting| waiting.resource.service)?,
        always(|waiting| waiting.row.name),
        named(|row| pick(&KINDS, row.kind)),
        times(rows),
        numbers(rows, |row| {
            Some(row.end_ns.saturating_sub(row.start_ns) as f64 / 1e6)
        }),
        named(|row| pick(&STATUSES, row.status)),
        optional(|waiting| waiting.row.status_message),
        integers(rows, |row| {
            (row.http_status != 0).then_some(i32::from(row.http_status))
        }),
        Arc::new(BooleanArray::from_iter(
            rows.iter().map(|waiting| Some(waiting.row.error)),
        )),
        money(rows, |row| row.cost_nanos)?,
        named(|row| row.cost_source.as_str()),
        optional(|waiting| waiting.row.price_version),
        money(rows, |row| row.cost_path_nanos)?,
        named(|row| row.class.as_str()),
        integers(rows, |row| Some(i32::from(row.retention_days))),
        optional(|waiting| waiting.row.operation_type),
        optional(|waiting| waiting.row.sampling_reason),
        numbers(rows, |row| row.adjusted_count),
        optional(|waiting| waiting.row.trace_state),
        always(|waiting| waiting.row.attributes),
        optional(|waiting| waiting.row.events),
        optional(|waiting| waiting.row.links),
        optional(|waiting| waiting.row.scope),
        runs.text(chunks, |waiting| waiting.resource.attributes)?,
    ];
    RecordBatch::try_new(schema(), columns)
}

fn pick<const N: usize>(names: &[&'static str; N], number: u8) -> &'static str {
    let named = names.get(usize::from(number)).or(names.first());
    named.copied().unwrap_or_default()
}

/// A column with its text in one piece; empty text is null when it is optional.
fn text(rows: &[Waiting], chunks: &[&str], piece: Piece, is_optional: bool) -> ArrayRef {
    let bytes = rows
        .iter()
        .map(|waiting| piece(waiting).len() as usize)
        .sum();
    let mut column = builder(rows.len(), bytes);
    for waiting in rows {
        let text = waiting.str(piece(waiting), chunks);
        if text.is_empty() && is_optional {
            column.append_null();
        } else {
            column.append_value(text);
        }
    }
    Arc::new(column.finish())
}

/// A builder whose text will have `bytes`.
fn builder(rows: usize, bytes: usize) -> StringViewBuilder {
    let block = u32::try_from(bytes.max(1)).unwrap_or(u32::MAX);
    StringViewBuilder::with_capacity(rows).with_fixed_block_size(block)
}

/// Rows that share their resource; they stand together.
struct Runs<'a> {
    /// The first row of each run.
    firsts: Vec<&'a Waiting>,
    /// The run of each row.
    of_row: UInt32Array,
}

impl<'a> Runs<'a> {
    fn of(rows: &'a [Waiting]) -> Self {
        let mut firsts: Vec<&Waiting> = Vec::new();
        let mut of_row = Vec::with_capacity(rows.len());
        for waiting in rows {
            let is_same = |first: &&Waiting| {
                (first.chunk, first.base, first.row.resource)
                    == (waiting.chunk, waiting.base, waiting.row.resource)
            };
            if !firsts.last().is_some_and(is_same) {
                firsts.push(waiting);
            }
            of_row.push(firsts.len() as u32 - 1);
        }
        Self {
            firsts,
            of_row: of_row.into(),
        }
    }

    /// A column that says the same of all rows of a run.
    fn text(&self, chunks: &[&str], piece: Piece) -> Result<ArrayRef, ArrowError> {
        let firsts = &self.firsts;
        let bytes = firsts.iter().map(|first| piece(first).len() as usize).sum();
        let mut column = builder(firsts.len(), bytes);
        for first in firsts {
            column.append_value(first.str(piece(first), chunks));
        }
        take(&column.finish(), &self.of_row, None)
    }
}

/// A column of ids as lower-case hex.
fn hex(rows: &[Waiting], id: fn(&SpanRow) -> Option<&[u8]>) -> ArrayRef {
    let bytes = rows
        .first()
        .map_or(8, |waiting| id(&waiting.row).map_or(8, <[u8]>::len));
    // One block for all; ids of one column have one length.
    let block = u32::try_from(rows.len().max(1) * bytes * 2).unwrap_or(u32::MAX);
    let mut column = StringViewBuilder::with_capacity(rows.len()).with_fixed_block_size(block);
    let mut digits = String::with_capacity(32);
    for waiting in rows {
        match id(&waiting.row) {
            Some(id) => {
                digits.clear();
                write_hex(id, &mut digits);
                column.append_value(&digits);
            }
            None => column.append_null(),
        }
    }
    Arc::new(column.finish())
}

fn times(rows: &[Waiting]) -> ArrayRef {
    let starts = rows.iter().map(|waiting| waiting.row.start_ns);
    Arc::new(TimestampNanosecondArray::from_iter_values(starts).with_timezone(UTC))
}

fn numbers(rows: &[Waiting], number: fn(&SpanRow) -> Option<f64>) -> ArrayRef {
    let numbers = rows.iter().map(|waiting| number(&waiting.row));
    Arc::new(Float64Array::from_iter(numbers))
}

fn integers(rows: &[Waiting], number: fn(&SpanRow) -> Option<i32>) -> ArrayRef {
    let numbers = rows.iter().map(|waiting| number(&waiting.row));
    Arc::new(Int32Array::from_iter(numbers))
}

fn money(rows: &[Waiting], nanos: fn(&SpanRow) -> Option<u64>) -> Result<ArrayRef, ArrowError> {
    let amounts = rows
        .iter()
        .map(|waiting| nanos(&waiting.row).map(i128::from));
    let amounts = Decimal128Array::from_iter(amounts);
    let amounts = amounts.with_precision_and_scale(MONEY_PRECISION, MONEY_SCALE)?;
    Ok(Arc::new(amounts))
}
