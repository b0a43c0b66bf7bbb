//! From rows in memory to Parquet partitions: one file per kind, segment and day.
//!
//! Spans are sorted by start time, zstd compressed, in row groups of
//! [`ROW_GROUP_ROWS`]; a bloom filter on the trace id makes look-ups by id skip almost all
//! of them. Files are synced before the catalog may name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, RecordBatch, TimestampNanosecondArray, UInt32Array,
};
use datafusion::arrow::compute::{sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{
    Decimal128Type, Int8Type, Int32Type, Int64Type, SchemaRef, TimestampNanosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::schema::types::ColumnPath;
use mesh_config::DataTag;
use mesh_config::policy::TraceStorage;
use thiserror::Error;

use super::assembled::{self, Assembled};
use super::catalog::{Meta, days_file, hours_file, ledger_file, spans_file, traces_file};
use super::generation::{Batches, Sealed};
use super::ledger::{HOUR_NS, rollup};
use super::parts::{self, DAY_NS, Part, PartColumns, day_of};
use super::retention::Tier;
use super::{columns, ledger};

/// Rows of a Parquet row group: large enough to compress, small enough to skip.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Why a generation cannot be written.
#[derive(Debug, Error)]
pub(crate) enum CompactError {
    /// The file system failed.
    #[error("cannot write a partition: {0}")]
    Io(#[from] io::Error),
    /// Arrow refused.
    #[error("cannot sort a partition: {0}")]
    Arrow(#[from] ArrowError),
    /// Parquet refused.
    #[error("cannot write a partition: {0}")]
    Parquet(#[from] ParquetError),
}

/// How the files of a partition are compressed: zstd, of this level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pages(i32);

impl Pages {
    /// Whatever a tier says, its files are compressed at least like this.
    pub(crate) const FAST: Self = Self(1);

    /// As the policy wants it for a tier.
    pub(crate) fn of(tier: Tier, storage: &TraceStorage) -> Self {
        let policy = match tier {
            Tier::Hot => &storage.hot,
            Tier::Warm => &storage.warm,
            Tier::Cold => &storage.cold,
        };
        match policy.compression {
            mesh_config::policy::Compression::None => Self::FAST,
            mesh_config::policy::Compression::Zstd => {
                Self(i32::try_from(policy.compression_level).unwrap_or(1))
            }
        }
    }
}

/// The rows of one partition.
pub(crate) struct Content {
    /// Spans, in order of time.
    pub(crate) spans: RecordBatch,
    /// Trace parts, one per trace.
    pub(crate) parts: RecordBatch,
    /// Ledger rows.
    pub(crate) ledger: RecordBatch,
}

impl Content {
    fn empty() -> Self {
        Self {
            spans: RecordBatch::new_empty(columns::schema()),
            parts: RecordBatch::new_empty(parts::schema()),
            ledger: RecordBatch::new_empty(ledger::schema()),
        }
    }

    /// Sorts and merges batches of all kinds.
    pub(crate) fn of(batches: &Batches) -> Result<Self, ArrowError> {
        let parts = sorted(&parts::schema(), &batches.parts, "first_seen")?;
        Ok(Self {
            spans: sorted(&columns::schema(), &batches.spans, "timestamp")?,
            parts,
            ledger: sorted(&ledger::schema(), &batches.ledger, "minute")?,
        })
    }
}

/// Writes the partitions of a generation below `root`.
pub(crate) fn write(sealed: &Sealed, root: &Path) -> Result<Vec<Meta>, CompactError> {
    let all = Content::of(&sealed.batches)?;
    let mut days: BTreeMap<i64, Content> = BTreeMap::new();
    for (day, spans) in by_day(&all.spans, "timestamp") {
        days.entry(day).or_insert_with(Content::empty).spans = spans;
    }
    // Parts are kept by day of their spans' start, so they have the same days.
    for (day, parts) in by_day(&all.parts, "first_seen") {
        days.entry(day).or_insert_with(Content::empty).parts = parts;
    }
    for (day, ledger) in by_day(&all.ledger, "minute") {
        days.entry(day).or_insert_with(Content::empty).ledger = ledger;
    }
    let mut metas = Vec::with_capacity(days.len());
    for (day, mut content) in days {
        content.parts = merge_parts(&content.parts)?;
        let stem = format!("{}/{:016x}", day_name(day), sealed.segment);
        metas.push(write_partition(root, stem, day, &content, Pages::FAST)?);
    }
    Ok(metas)
}

/// All batches as one, sorted by a timestamp column.
pub(crate) fn sorted(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    column: &str,
) -> Result<RecordBatch, ArrowError> {
    let all = assembled::concat(schema, batches)?;
    let Some(times) = all.column_by_name(column) else {
        return Err(ArrowError::SchemaError(format!("no column `{column}`")));
    };
    let order: UInt32Array = sort_to_indices(times, None, None)?;
    take_record_batch(&all, &order)
}

fn times<'a>(batch: &'a RecordBatch, column: &str) -> Option<&'a TimestampNanosecondArray> {
    batch
        .column_by_name(column)?
        .as_primitive_opt::<TimestampNanosecondType>()
}

/// Slices a sorted batch at midnights.
fn by_day(sorted: &RecordBatch, column: &str) -> Vec<(i64, RecordBatch)> {
    let mut days = Vec::new();
    let Some(times) = times(sorted, column).map(|array| array.values().to_vec()) else {
        return days;
    };
    let mut rest = times.as_slice();
    let mut offset = 0;
    while let Some(first) = rest.first() {
        let day = day_of(*first);
        let len = rest.partition_point(|time| day_of(*time) == day);
        days.push((day, sorted.slice(offset, len)));
        offset += len;
        rest = rest.get(len..).unwrap_or_default();
    }
    days
}

/// One row per trace.
pub(crate) fn merge_parts(parts: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut merged: HashMap<[u8; 16], Part> = HashMap::new();
    let column = |name: &str| -> Result<&ArrayRef, ArrowError> {
        parts
            .column_by_name(name)
            .ok_or_else(|| ArrowError::SchemaError(format!("no column `{name}`")))
    };
    let (ids, services, operations) = (
        column("trace_id")?.as_string_view(),
        column("root_service")?.as_string_view(),
        column("root_operation")?.as_string_view(),
    );
    let costs = column("recorded_cost")?.as_primitive::<Decimal128Type>();
    let counts = column("span_count")?.as_primitive::<Int64Type>();
    let errors = column("error")?.as_boolean();
    let classes = column("class")?.as_primitive::<Int8Type>();
    let first = column("first_seen")?.as_primitive::<TimestampNanosecondType>();
    let last = column("last_seen")?.as_primitive::<TimestampNanosecondType>();
    let assembled = Assembled::of(parts)?;
    for row in 0..parts.num_rows() {
        let Some(id) = unhex(ids.value(row)) else {
            continue;
        };
        let part = merged.entry(id).or_insert_with(|| Part {
            first_ns: first.value(row),
            last_ns: last.value(row),
            ..Part::default()
        });
        let cost = u64::try_from(costs.value(row)).unwrap_or(u64::MAX);
        part.cost_nanos = part.cost_nanos.saturating_add(cost);
        part.spans += counts.value(row);
        part.error |= errors.value(row);
        part.class = part.class.max(class_of(classes.value(row)));
        part.first_ns = part.first_ns.min(first.value(row));
        part.last_ns = part.last_ns.max(last.value(row));
        if services.is_valid(row) {
            part.root = Some((services.value(row).into(), operations.value(row).into()));
        }
        assembled.add(row, part);
    }
    let mut columns = PartColumns::default();
    let mut rows: Vec<_> = merged.iter().collect();
    rows.sort_unstable_by_key(|(id, part)| (part.first_ns, **id));
    for (id, part) in rows {
        columns.push(id, part);
    }
    columns.finish()
}

pub(crate) fn class_of(number: i8) -> DataTag {
    DataTag::ALL
        .into_iter()
        .find(|tag| *tag as i8 == number)
        .unwrap_or_default()
}

/// Reads 32 hex digits.
pub(crate) fn unhex(text: &str) -> Option<[u8; 16]> {
    (text.len() == 32)
        .then(|| u128::from_str_radix(text, 16).ok())?
        .map(u128::to_be_bytes)
}

/// Writes and syncs the files of a partition.
pub(crate) fn write_partition(
    root: &Path,
    stem: String,
    day: i64,
    content: &Content,
    pages: Pages,
) -> Result<Meta, CompactError> {
    let folder = root.join(day_name(day));
    std::fs::create_dir_all(&folder)?;
    let Content {
        spans,
        parts,
        ledger,
    } = content;
    let traces = parts.num_rows() as u64;
    let write = |name: String, batch: &RecordBatch, time| match batch.num_rows() {
        0 => Ok(0),
        _ => write_file(&root.join(name), batch, (traces, pages), time),
    };
    let spans_bytes = write(spans_file(&stem), spans, "timestamp")?;
    let bytes = spans_bytes
        + write(traces_file(&stem), parts, "first_seen")?
        + write(ledger_file(&stem), ledger, "minute")?
        + write(hours_file(&stem), &rollup(ledger, HOUR_NS)?, "minute")?
        + write(days_file(&stem), &rollup(ledger, DAY_NS)?, "minute")?;
    File::open(&folder)?.sync_all()?;
    File::open(root)?.sync_all()?;
    let range = times(spans, "timestamp")
        .map(|times| times.values().to_vec())
        .unwrap_or_default();
    Ok(Meta {
        stem,
        day,
        rows: spans.num_rows() as u64,
        traces,
        ledger: ledger.num_rows() as u64,
        rollups: true,
        bytes,
        min_ns: range.first().copied().unwrap_or_default(),
        max_ns: range.last().copied().unwrap_or_default(),
        retention_days: retention_days(spans),
        swept_s: 0,
        place: None,
        spans_bytes,
    })
}

/// The different values of `retention_days`; there are few.
fn retention_days(spans: &RecordBatch) -> Vec<u16> {
    let column = spans
        .column_by_name("retention_days")
        .and_then(|column| column.as_primitive_opt::<Int32Type>());
    let values: BTreeSet<u16> = column
        .into_iter()
        .flat_map(|days| days.values().iter())
        .filter_map(|days| u16::try_from(*days).ok())
        .collect();
    values.into_iter().collect()
}

fn write_file(
    path: &Path,
    batch: &RecordBatch,
    how: (u64, Pages),
    time: &str,
) -> Result<u64, CompactError> {
    let file = File::create(path)?;
    let mut writer = ArrowWriter::try_new(&file, batch.schema(), Some(properties(how, time)?))?;
    // In slices, so that the writer's buffers stay small.
    for offset in (0..batch.num_rows()).step_by(8 * 1024) {
        let len = (batch.num_rows() - offset).min(8 * 1024);
        writer.write(&batch.slice(offset, len))?;
    }
    writer.close()?;
    file.sync_all()?;
    Ok(file.metadata()?.len())
}

fn properties((traces, pages): (u64, Pages), time: &str) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(pages.0)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("tracemeter".to_owned())
        .set_column_bloom_filter_enabled(ColumnPath::from("trace_id"), true)
        .set_column_bloom_filter_fpp(ColumnPath::from("trace_id"), 0.01)
        .set_column_bloom_filter_max_ndv(
            ColumnPath::from("trace_id"),
            traces.clamp(1, ROW_GROUP_ROWS as u64),
        );
    // Values that never repeat only waste the dictionary's memory.
    for column in ["trace_id", "span_id", "parent_id", "attributes", time] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    Ok(builder.build())
}

/// `YYYY-MM-DD` of a day since the epoch (proleptic Gregorian calendar).
pub(crate) fn day_name(day: i64) -> String {
    // Howard Hinnant's civil_from_days: eras of 400 years, years that start in March.
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 {
        month_index + 3
    } else {
        month_index - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day_of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_calendar_names() {
        for (day, name) in [
            (0, "1970-01-01"),
            (59, "1970-03-01"),
            (10_957, "2000-01-01"),
            (11_016, "2000-02-29"),
            (20_777, "2026-11-20"),
            (-1, "1969-12-31"),
        ] {
            assert_eq!(day_name(day), name);
        }
    }
}
