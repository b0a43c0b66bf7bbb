//! How spans stand in a Parquet file, where that is not how queries see them.
//!
//! # Layouts
//!
//! 2 (now): the spans of a trace stand together, in order of time; traces are in order of their
//! first span in the file. `duration_ns` takes the place of `duration_ms`: a number of nanoseconds
//! has three bytes that nobody can guess, its quotient as floating point has seven. Costs have a
//! dictionary. The file's metadata says `tracemeter.layout = 2`.
//!
//! 1: spans in order of time, the columns of queries. Such files are read as before, by the columns
//! that they have; merging and retention write them again in today's layout.
//!
//! # What standing together buys
//!
//! Of a trace, one id, one randomness in the trace state and the common parents are all the next
//! rows' repetition; among the spans of thousands of other traces each row had to say them again.
//! And who asks for a trace by its id reads its rows and no others. The time's range by page is
//! wider by what traces last.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray as _, Float64Array, Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::basic::Encoding;
use datafusion::parquet::file::metadata::KeyValue;
use datafusion::parquet::file::properties::WriterPropertiesBuilder;
use datafusion::parquet::schema::types::ColumnPath;

/// A span's duration as queries see it.
pub(crate) const DURATION_MS: &str = "duration_ms";
/// And as files have it.
pub(crate) const DURATION_NS: &str = "duration_ns";
/// Nanoseconds of a millisecond.
pub(crate) const NS_PER_MS: f64 = 1e6;

/// A batch with one column in the place of another.
fn exchanged(
    batch: &RecordBatch,
    (from, to): (&str, &str),
    kind: DataType,
    convert: impl FnOnce(&ArrayRef) -> Option<ArrayRef>,
) -> Result<RecordBatch, ArrowError> {
    let Some((at, field)) = batch.schema_ref().column_with_name(from) else {
        return Ok(batch.clone());
    };
    let field = Arc::new(Field::new(to, kind, field.is_nullable()));
    let wrong = || ArrowError::SchemaError(format!("column `{from}` has another type"));
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    if let (Some(old), Some(column)) = (fields.get_mut(at), columns.get_mut(at)) {
        *old = field;
        *column = convert(column).ok_or_else(wrong)?;
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

/// Spans as they go into a file.
pub(super) fn to_file(spans: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    exchanged(
        spans,
        (DURATION_MS, DURATION_NS),
        DataType::Int64,
        |column| {
            let durations = column.as_primitive_opt::<Float64Type>()?;
            // What was divided comes back to the nanosecond up to 26 days.
            let ns = durations.iter();
            let ns = ns.map(|ms| ms.map(|ms| (ms * NS_PER_MS).round() as i64));
            Some(Arc::new(Int64Array::from_iter(ns)))
        },
    )
}

/// Spans of a file of any layout, as queries see them.
pub(crate) fn from_file(spans: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    exchanged(
        spans,
        (DURATION_NS, DURATION_MS),
        DataType::Float64,
        |column| {
            let durations = column.as_primitive_opt::<Int64Type>()?;
            let ms = durations.iter();
            let ms = ms.map(|ns| ns.map(|ns| ns as f64 / NS_PER_MS));
            Some(Arc::new(Float64Array::from_iter(ms)))
        },
    )
}

/// How the columns of spans are encoded.
pub(super) fn encode(builder: WriterPropertiesBuilder) -> WriterPropertiesBuilder {
    let mut builder = builder.set_key_value_metadata(Some(vec![KeyValue::new(
        "tracemeter.layout".to_owned(),
        "2".to_owned(),
    )]));
    for (column, encoding) in [
        // Lengths apart, so that digits stand beside digits: four bits each.
        ("span_id", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ("parent_id", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ("trace_state", Encoding::DELTA_LENGTH_BYTE_ARRAY),
        ("attributes", Encoding::PLAIN),
        (super::stream::TIME, Encoding::DELTA_BINARY_PACKED),
        (DURATION_NS, Encoding::BYTE_STREAM_SPLIT),
    ] {
        let column = ColumnPath::from(column);
        builder = builder
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, encoding);
    }
    // Unless there are too many different ones for their dictionary.
    for column in ["cost_usd", "cost_path_usd"] {
        builder = builder.set_column_encoding(ColumnPath::from(column), Encoding::PLAIN);
    }
    builder
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use datafusion::arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
    use datafusion::parquet::arrow::ArrowWriter;

    use super::*;
    use crate::store::ids::Places;
    use crate::store::stream::{Rows, TIME};

    /// Makes a file of spans, and the list of its traces, what they were in layout 1.
    pub(crate) fn write_layout_1(spans: &Path, ids: &Path) {
        let rows = Rows::open(spans).unwrap().map(Result::unwrap);
        let rows: Vec<RecordBatch> = rows.collect();
        let all = concat_batches(&rows[0].schema(), &rows).unwrap();
        let times = all.column_by_name(TIME).unwrap();
        let all = take_record_batch(&all, &sort_to_indices(times, None, None).unwrap()).unwrap();
        let mut places = Places::default();
        places.look(&all);
        places.write(ids).unwrap();
        let file = std::fs::File::create(spans).unwrap();
        let mut writer = ArrowWriter::try_new(file, all.schema(), None).unwrap();
        writer.write(&all).unwrap();
        writer.close().unwrap();
    }

    fn durations(ms: Vec<f64>) -> RecordBatch {
        let schema = Schema::new(vec![Field::new(DURATION_MS, DataType::Float64, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Float64Array::from(ms))]).unwrap()
    }

    #[test]
    fn durations_come_back_as_they_were() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut ns: Vec<i64> = (0..10_000)
            .map(|_| random.i64(0..1 << 51) >> random.u32(0..50))
            .collect();
        ns.extend([0, 1, -1, -1_500_000, 86_400_000_000_000]);
        let before = durations(ns.iter().map(|ns| *ns as f64 / 1e6).collect());
        let file = to_file(&before).unwrap();
        let stored = file.column_by_name(DURATION_NS).unwrap();
        assert_eq!(stored.as_primitive::<Int64Type>().values().to_vec(), ns);
        assert_eq!(from_file(&file).unwrap(), before);
        // Layout 1 has the column itself.
        assert_eq!(from_file(&before).unwrap(), before);
    }
}
