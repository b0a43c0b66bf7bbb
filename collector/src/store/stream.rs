//! Spans in order of time, a few thousand rows at a time: so that writing, merging and sweeping a
//! partition takes the memory of some chunks, however large the partition is.

use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{
    AsArray as _, PrimitiveArray, RecordBatch, TimestampNanosecondArray,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};

use super::assembled::conform;
use super::columns;
use super::compact::CompactError;

/// Rows of a chunk.
pub(crate) const CHUNK_ROWS: usize = 4 * 1024;
/// The column that spans are sorted by.
pub(crate) const TIME: &str = "timestamp";

/// Rows of a file, in the file's order, as they would be written today.
pub(crate) struct Rows {
    reader: ParquetRecordBatchReader,
    /// `None`: only some columns are read.
    schema: Option<SchemaRef>,
}

impl Rows {
    /// Opens a file of spans.
    pub(crate) fn open(path: &Path) -> Result<Self, CompactError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        Ok(Self {
            reader: builder.with_batch_size(CHUNK_ROWS).build()?,
            schema: Some(columns::schema()),
        })
    }

    /// Opens a file for some of its columns.
    pub(crate) fn project(path: &Path, columns: &[&str]) -> Result<Self, CompactError> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied());
        let builder = builder.with_projection(mask);
        Ok(Self {
            reader: builder.with_batch_size(CHUNK_ROWS).build()?,
            schema: None,
        })
    }
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, CompactError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = self.reader.next()?;
        Some(match (batch, &self.schema) {
            (Ok(batch), Some(schema)) => conform(&batch, schema).map_err(CompactError::from),
            (batch, _) => batch.map_err(CompactError::from),
        })
    }
}

/// The times of a batch.
pub(crate) fn times<'a>(
    batch: &'a RecordBatch,
    column: &str,
) -> Option<&'a TimestampNanosecondArray> {
    batch
        .column_by_name(column)?
        .as_primitive_opt::<TimestampNanosecondType>()
}

/// Where rows of some batches are, by time: time, batch, row.
pub(crate) fn order(batches: &[RecordBatch]) -> Vec<(i64, u32, u32)> {
    let mut order = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
    for (batch, number) in batches.iter().zip(0u32..) {
        let times = times(batch, TIME).map(PrimitiveArray::values);
        let times = times.into_iter().flat_map(|times| times.iter());
        order.extend(times.zip(0u32..).map(|(time, row)| (*time, number, row)));
    }
    order.sort_unstable();
    order
}

/// The rows that an [`order`] names, chunk by chunk.
pub(crate) fn ordered<'a>(
    batches: &'a [RecordBatch],
    order: &'a [(i64, u32, u32)],
) -> impl Iterator<Item = Result<RecordBatch, CompactError>> + 'a {
    order.chunks(CHUNK_ROWS).map(move |chunk| {
        let picks: Vec<(usize, usize)> = chunk
            .iter()
            .map(|(_, batch, row)| (*batch as usize, *row as usize))
            .collect();
        pick(batches, picks).map_err(CompactError::from)
    })
}

/// Takes rows out of some batches. Batches that no row is taken of are left out: the result would
/// hold on to their text.
fn pick(
    batches: &[RecordBatch],
    mut picks: Vec<(usize, usize)>,
) -> Result<RecordBatch, ArrowError> {
    let mut used = vec![None; batches.len()];
    let mut taken = Vec::new();
    for (batch, _) in &mut picks {
        if let (Some(slot), Some(from)) = (used.get_mut(*batch), batches.get(*batch)) {
            *batch = *slot.get_or_insert_with(|| {
                taken.push(from);
                taken.len() - 1
            });
        }
    }
    interleave_record_batch(&taken, &picks)
}

/// A file that is merged.
struct Source {
    rows: Rows,
    batch: RecordBatch,
    /// Of the batch.
    times: ScalarBuffer<i64>,
    at: usize,
}

impl Source {
    fn open(path: &Path) -> Result<Self, CompactError> {
        let mut source = Self {
            rows: Rows::open(path)?,
            batch: RecordBatch::new_empty(columns::schema()),
            times: ScalarBuffer::default(),
            at: 0,
        };
        source.fill()?;
        Ok(source)
    }

    fn time(&self) -> Option<i64> {
        self.times.get(self.at).copied()
    }

    /// Makes sure that there is a row, unless the file is at its end.
    fn fill(&mut self) -> Result<(), CompactError> {
        while self.time().is_none() {
            let Some(batch) = self.rows.next().transpose()? else {
                return Ok(());
            };
            let times = times(&batch, TIME).map(PrimitiveArray::values).cloned();
            self.times = times.unwrap_or_default();
            self.batch = batch;
            self.at = 0;
        }
        Ok(())
    }
}

/// Files of spans as one, in order of time.
pub(crate) struct Merged {
    sources: Vec<Source>,
}

impl Merged {
    /// Opens the files. Each is in order of time.
    pub(crate) fn open(paths: impl Iterator<Item = PathBuf>) -> Result<Self, CompactError> {
        let sources: Result<_, _> = paths.map(|path| Source::open(&path)).collect();
        Ok(Self { sources: sources? })
    }

    fn chunk(&mut self) -> Result<Option<RecordBatch>, CompactError> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        // By source: the place of its batch in `batches`.
        let mut places: Vec<Option<usize>> = vec![None; self.sources.len()];
        let mut picks = Vec::with_capacity(CHUNK_ROWS);
        while picks.len() < CHUNK_ROWS {
            let heads = self.sources.iter().enumerate();
            let heads = heads.filter_map(|(number, source)| Some((source.time()?, number)));
            let Some((_, first)) = heads.clone().min() else {
                break;
            };
            // Rows of one file stand together mostly: they are taken as far as they are next.
            let until = heads.filter(|(_, number)| *number != first).min();
            let (Some(source), Some(place)) = (self.sources.get_mut(first), places.get_mut(first))
            else {
                break;
            };
            let at = *place.get_or_insert_with(|| {
                batches.push(source.batch.clone());
                batches.len() - 1
            });
            while picks.len() < CHUNK_ROWS
                && let Some(time) = source.time()
                && until.is_none_or(|(until, _)| time <= until)
            {
                picks.push((at, source.at));
                source.at += 1;
            }
            if source.time().is_none() {
                source.fill()?;
                *place = None;
            }
        }
        if picks.is_empty() {
            return Ok(None);
        }
        Ok(Some(pick(&batches, picks)?))
    }
}

impl Iterator for Merged {
    type Item = Result<RecordBatch, CompactError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.chunk().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::store::catalog::spans_file;
    use crate::store::compact::{Pages, Rest, write_partition};
    use crate::store::parts::day_of;
    use crate::store::{Settings, Store};
    use crate::testing::{decode, request, span, text};

    fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
        let of = |batch: &RecordBatch| -> Vec<String> {
            let texts = batch.column_by_name(name).unwrap().as_string_view();
            texts.iter().map(|text| text.unwrap().to_owned()).collect()
        };
        batches.iter().flat_map(of).collect()
    }

    #[test]
    fn merged_files_are_one_in_order_of_time_with_every_row_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(11);
        let mut id = 0;
        let mut paths = Vec::new();
        let mut expected = Vec::new();
        // One of them alone has more rows than a chunk; the last one is after all others.
        for (number, count) in [(0, 6_000), (1, 10), (2, 3_000), (3, 700)] {
            let store = Store::new(Settings::default(), 0, Vec::new());
            let mut rest = count;
            while rest > 0 {
                let spans = (0..rest.min(400)).map(|_| {
                    id += 1;
                    let age_ns = match number {
                        3 => 0,
                        _ => random.u64(5_000_000_000..60_000_000_000),
                    };
                    span(1, id, 0, age_ns, vec![text("own", &format!("{id:016x}"))])
                });
                let batch = decode(&request("a", spans.collect()));
                store.insert(&batch, Instant::now()).unwrap();
                rest -= rest.min(400);
            }
            let rows = store.snapshot().unwrap().spans;
            let order = order(&rows);
            expected.extend(order.iter().map(|(time, ..)| *time));
            let day = day_of(order[0].0);
            let meta = write_partition(
                folder.path(),
                (format!("{number}"), day),
                &mut ordered(&rows, &order),
                &Rest::of(&[], &[]).unwrap(),
                Pages::FAST,
            )
            .unwrap();
            assert_eq!(meta.rows, count);
            assert_eq!(meta.min_ns, order[0].0);
            assert_eq!(meta.max_ns, order[order.len() - 1].0);
            assert!(0 < meta.raw_bytes && meta.raw_bytes < meta.spans_bytes);
            paths.push(folder.path().join(spans_file(&meta.stem)));
        }
        expected.sort_unstable();
        let merged = Merged::open(paths.into_iter()).unwrap();
        let merged: Vec<RecordBatch> = merged.map(Result::unwrap).collect();
        assert!(merged.iter().all(|batch| batch.num_rows() <= CHUNK_ROWS));
        let found: Vec<i64> = merged
            .iter()
            .flat_map(|batch| times(batch, TIME).unwrap().values().to_vec())
            .collect();
        assert_eq!(found, expected);
        // Rows stay whole.
        let ids = column(&merged, "span_id");
        let attributes = column(&merged, "attributes");
        for (id, attributes) in ids.iter().zip(attributes) {
            assert_eq!(attributes, format!("{{\"own\":\"{id}\"}}"));
        }
        assert_eq!(column(&merged, "service_name"), vec!["a"; ids.len()]);
    }
}
