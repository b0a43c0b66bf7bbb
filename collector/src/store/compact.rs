//! From rows in memory to Parquet partitions: one file per kind, segment and day.
//!
//! Spans stand trace by trace ([`super::layout`]), zstd compressed, in row groups of
//! [`ROW_GROUP_ROWS`]. Beside them, a list says in which rows a trace is ([`super::ids`]), and pages are small, so that a
//! look-up by id decodes little. Files are synced before the catalog may name them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use datafusion::arrow::compute::{sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::{
    Decimal128Type, Int8Type, Int32Type, Int64Type, SchemaRef, TimestampNanosecondType,
};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, Encoding, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterVersion};
use datafusion::parquet::schema::types::ColumnPath;
use mesh_config::DataTag;
use mesh_config::policy::TraceStorage;
use thiserror::Error;

use super::assembled::{self, Assembled};
use super::catalog::{
    Meta, days_file, hours_file, ids_file, ledger_file, spans_file, sums_file, traces_file,
};
use super::generation::{Batches, Sealed};
use super::ledger::{HOUR_NS, rollup};
use super::parts::{self, DAY_NS, Part, PartColumns, day_of};
use super::retention::Tier;
use super::{ids, layout, ledger, stream, sums};

/// Rows of a Parquet row group: large enough to compress, small enough to skip.
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// Rows of a page: what a look-up of one trace decodes of every column.
const PAGE_ROWS: usize = 4 * 1024;

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

/// What a partition has besides spans: far less than those.
pub(crate) struct Rest {
    /// Trace parts, one per trace.
    pub(crate) parts: RecordBatch,
    /// Ledger rows.
    pub(crate) ledger: RecordBatch,
}

impl Rest {
    fn empty() -> Self {
        Self {
            parts: RecordBatch::new_empty(parts::schema()),
            ledger: RecordBatch::new_empty(ledger::schema()),
        }
    }

    /// Sorts batches of both kinds.
    pub(crate) fn of(parts: &[RecordBatch], ledger: &[RecordBatch]) -> Result<Self, ArrowError> {
        Ok(Self {
            parts: sorted(&parts::schema(), parts, "first_seen")?,
            ledger: sorted(&ledger::schema(), ledger, "minute")?,
        })
    }
}

/// Writes the partitions of a generation below `root`.
pub(crate) fn write(sealed: &Sealed, root: &Path) -> Result<Vec<Meta>, CompactError> {
    let Batches {
        spans,
        parts,
        ledger,
    } = &sealed.batches;
    let rest = Rest::of(parts, ledger)?;
    let order = stream::order(spans);
    let mut days: BTreeMap<i64, (&[_], Rest)> = BTreeMap::new();
    let none = || (&[][..], Rest::empty());
    for of_day in order.chunk_by(|a, b| day_of(a.0) == day_of(b.0)) {
        let day = of_day.first().map_or(0, |(time, ..)| day_of(*time));
        days.entry(day).or_insert_with(none).0 = of_day;
    }
    // Parts are kept by day of their spans' start, so they have the same days.
    for (day, parts) in by_day(&rest.parts, "first_seen") {
        days.entry(day).or_insert_with(none).1.parts = merge_parts(&parts)?;
    }
    for (day, ledger) in by_day(&rest.ledger, "minute") {
        days.entry(day).or_insert_with(none).1.ledger = ledger;
    }
    let mut metas = Vec::with_capacity(days.len());
    for (day, (order, rest)) in days {
        let stem = format!("{}/{:016x}", day_name(day), sealed.segment);
        let spans = &mut stream::ordered(spans, order);
        metas.push(write_partition(
            root,
            (stem, day),
            spans,
            &rest,
            Pages::FAST,
        )?);
    }
    Ok(metas)
}

/// All batches as one, sorted by a timestamp column.
fn sorted(
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

/// Slices a sorted batch at midnights.
fn by_day(sorted: &RecordBatch, column: &str) -> Vec<(i64, RecordBatch)> {
    let mut days = Vec::new();
    let Some(times) = stream::times(sorted, column).map(|array| array.values().to_vec()) else {
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

/// Spans of a partition in order of time.
pub(crate) type Spans<'a> = &'a mut dyn Iterator<Item = Result<RecordBatch, CompactError>>;

/// Writes and syncs the files of a partition. Spans are taken chunk by chunk.
pub(crate) fn write_partition(
    root: &Path,
    (stem, day): (String, i64),
    spans: Spans<'_>,
    rest: &Rest,
    pages: Pages,
) -> Result<Meta, CompactError> {
    let folder = root.join(day_name(day));
    std::fs::create_dir_all(&folder)?;
    let Rest { parts, ledger } = rest;
    let traces = parts.num_rows() as u64;
    let write = |name: String, batch: RecordBatch, time| match batch.num_rows() {
        0 => Ok(0),
        _ => {
            let mut once = std::iter::once(Ok(batch));
            let path = root.join(name);
            write_file(&path, &mut once, (traces, pages), time).map(|(bytes, _)| bytes)
        }
    };
    let (mut seen, mut places, mut adder) = (
        Seen::default(),
        ids::Places::default(),
        sums::Adder::default(),
    );
    let (spans_bytes, raw_bytes) = {
        let look = |batch: &Result<RecordBatch, CompactError>| {
            seen.look(batch);
            if let Ok(batch) = batch {
                places.look(batch);
                adder.look(batch);
            }
        };
        let mut spans = spans.inspect(look).peekable();
        match spans.peek() {
            None => (0, 0),
            Some(_) => {
                let path = root.join(spans_file(&stem));
                write_file(&path, &mut spans, (traces, pages), stream::TIME)?
            }
        }
    };
    let ids_bytes = match seen.rows {
        0 => 0,
        _ => places.write(&root.join(ids_file(&stem)))?,
    };
    let bytes = spans_bytes
        + ids_bytes
        + write(traces_file(&stem), parts.clone(), "first_seen")?
        + write(ledger_file(&stem), ledger.clone(), "minute")?
        + write(hours_file(&stem), rollup(ledger, HOUR_NS)?, "minute")?
        + write(days_file(&stem), rollup(ledger, DAY_NS)?, "minute")?
        + write(sums_file(&stem), adder.finish()?, "day")?;
    File::open(&folder)?.sync_all()?;
    File::open(root)?.sync_all()?;
    Ok(Meta {
        stem,
        day,
        rows: seen.rows,
        traces,
        ledger: ledger.num_rows() as u64,
        rollups: true,
        ids: true,
        sums: true,
        bytes,
        raw_bytes,
        min_ns: seen.min_ns,
        max_ns: seen.max_ns,
        retention_days: seen.retention_days.into_iter().collect(),
        swept_s: 0,
        place: None,
        spans_bytes,
    })
}

/// What the catalog says of the spans that were written.
#[derive(Default)]
struct Seen {
    rows: u64,
    min_ns: i64,
    max_ns: i64,
    /// The different values; there are few.
    retention_days: BTreeSet<u16>,
}

impl Seen {
    fn look(&mut self, batch: &Result<RecordBatch, CompactError>) {
        let Ok(batch) = batch else {
            return;
        };
        let times = stream::times(batch, stream::TIME).map(|times| &times.values()[..]);
        for time in times.unwrap_or_default() {
            if self.rows == 0 {
                (self.min_ns, self.max_ns) = (*time, *time);
            }
            self.min_ns = self.min_ns.min(*time);
            self.max_ns = self.max_ns.max(*time);
            self.rows += 1;
        }
        let days = batch
            .column_by_name("retention_days")
            .and_then(|column| column.as_primitive_opt::<Int32Type>());
        let days = days.into_iter().flat_map(|days| days.values().iter());
        for day in days.filter_map(|day| u16::try_from(*day).ok()) {
            if !self.retention_days.contains(&day) {
                self.retention_days.insert(day);
            }
        }
    }
}

/// Columns of spans with what a sender said, as it said it.
const RAW: [&str; 4] = ["attributes", "resource_attributes", "events", "links"];

/// Writes batches that have the same columns, if any; returns the bytes of the file, and of raw
/// attributes among them.
fn write_file(
    path: &Path,
    batches: Spans<'_>,
    how: (u64, Pages),
    time: &str,
) -> Result<(u64, u64), CompactError> {
    let Some(first) = batches.next().transpose()? else {
        return Ok((0, 0));
    };
    let file = File::create(path)?;
    let schema = layout::to_file(&first.slice(0, 0))?.schema();
    let mut writer = ArrowWriter::try_new(&file, schema, Some(properties(how, time)?))?;
    for batch in std::iter::once(Ok(first)).chain(batches) {
        let batch = layout::to_file(&batch?)?;
        // In slices, so that the writer's buffers stay small.
        for offset in (0..batch.num_rows()).step_by(8 * 1024) {
            let len = (batch.num_rows() - offset).min(8 * 1024);
            writer.write(&batch.slice(offset, len))?;
        }
    }
    let written = writer.close()?;
    file.sync_all()?;
    let columns = written
        .row_groups()
        .iter()
        .flat_map(|group| group.columns());
    let raw = columns.filter(|column| RAW.contains(&column.column_path().string().as_str()));
    let raw_bytes: i64 = raw.map(|column| column.compressed_size()).sum();
    Ok((file.metadata()?.len(), raw_bytes.unsigned_abs()))
}

fn properties((traces, pages): (u64, Pages), time: &str) -> Result<WriterProperties, ParquetError> {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(pages.0)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        // The second lets decimals have a dictionary.
        .set_writer_version(WriterVersion::PARQUET_2_0)
        // By page only for the time, which is sorted; other columns' ranges by page exclude
        // nothing and would make up most of a footer.
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_column_statistics_enabled(ColumnPath::from(time), EnabledStatistics::Page)
        .set_created_by("tracemeter".to_owned());
    // Spans have a list of their own.
    if time == "first_seen" {
        let column = || ColumnPath::from("trace_id");
        builder = builder
            .set_column_bloom_filter_enabled(column(), true)
            .set_column_bloom_filter_fpp(column(), 0.01)
            .set_column_bloom_filter_max_ndv(column(), traces.clamp(1, ROW_GROUP_ROWS as u64));
    }
    // Values that never repeat only waste the dictionary's memory.
    for column in ["trace_id", "last_seen", time] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), false);
    }
    // Lengths apart: digits stand beside digits.
    let packed = Encoding::DELTA_LENGTH_BYTE_ARRAY;
    builder = builder.set_column_encoding(ColumnPath::from("trace_id"), packed);
    if time == stream::TIME {
        builder = layout::encode(builder);
    }
    // The smallest and the largest of these exclude nothing.
    for column in RAW
        .into_iter()
        .chain(["span_id", "parent_id", "trace_state"])
    {
        let column = ColumnPath::from(column);
        builder = builder.set_column_statistics_enabled(column, EnabledStatistics::None);
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
