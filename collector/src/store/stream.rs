//! Spans trace by trace, in order of time, a few thousand rows at a time: so that writing, merging
//! and sweeping a partition takes the memory of some chunks, however large the partition is.
//!
//! The order ([`order`]): spans of a trace that are in memory together form a *run*, in order of
//! time; runs are in order of their first span ([`super::layout`] says what for). A merge takes
//! runs as they are, those that begin first, first. Runs of one trace stay apart where it came in
//! several pieces, so a trace may have several in a file; a file of layout 1 is one of short runs.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use datafusion::arrow::array::{
    Array as _, AsArray as _, PrimitiveArray, RecordBatch, StringViewArray,
    TimestampNanosecondArray,
};
use datafusion::arrow::buffer::ScalarBuffer;
use datafusion::arrow::compute::interleave_record_batch;
use datafusion::arrow::datatypes::{SchemaRef, TimestampNanosecondType};
use datafusion::arrow::error::ArrowError;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use foldhash::fast::RandomState;

use super::assembled::conform;
use super::compact::CompactError;
use super::parts::day_of;
use super::{columns, layout};

/// Rows of a chunk.
pub(crate) const CHUNK_ROWS: usize = 4 * 1024;
/// The column that spans are sorted by.
pub(crate) const TIME: &str = "timestamp";
/// The column that spans are sorted by before.
const TRACE: &str = "trace_id";

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
        Some(
            batch
                .and_then(|batch| {
                    let batch = layout::from_file(&batch)?;
                    match &self.schema {
                        Some(schema) => conform(&batch, schema),
                        None => Ok(batch),
                    }
                })
                .map_err(CompactError::from),
        )
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

/// The trace ids of a batch.
fn traces(batch: &RecordBatch) -> Option<&StringViewArray> {
    batch.column_by_name(TRACE)?.as_string_view_opt()
}

/// Where rows of some batches are, day by day and run by run: time, batch, row.
pub(crate) fn order(batches: &[RecordBatch]) -> Vec<(i64, u32, u32)> {
    let rows = || {
        batches.iter().zip(0u32..).flat_map(|(batch, number)| {
            let times = times(batch, TIME).map(|times| &times.values()[..]);
            let times = times.unwrap_or_default().iter().zip(0u32..);
            let ids = traces(batch);
            times.map(move |(time, row)| {
                let id = ids.map_or("", |ids| ids.value(row as usize));
                ((day_of(*time), id), (*time, number, row))
            })
        })
    };
    let count = batches.iter().map(RecordBatch::num_rows).sum();
    // Where each run is in the list of runs, and their first spans' times.
    let mut runs: HashMap<(i64, &str), u32, RandomState> = HashMap::default();
    let mut firsts: Vec<i64> = Vec::new();
    let mut order: Vec<(i64, u32, i64, u32, u32)> = Vec::with_capacity(count);
    for (key, (time, batch, row)) in rows() {
        let run = *runs.entry(key).or_insert_with(|| {
            firsts.push(time);
            firsts.len() as u32 - 1
        });
        if let Some(first) = firsts.get_mut(run as usize) {
            *first = time.min(*first);
        }
        order.push((0, run, time, batch, row));
    }
    drop(runs);
    for (first, run, ..) in &mut order {
        *first = firsts.get(*run as usize).copied().unwrap_or_default();
    }
    order.sort_unstable();
    let places = order.into_iter();
    places
        .map(|(_, _, time, batch, row)| (time, batch, row))
        .collect()
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
    /// Of the batch.
    traces: StringViewArray,
    at: usize,
}

impl Source {
    fn open(path: &Path) -> Result<Self, CompactError> {
        let mut source = Self {
            rows: Rows::open(path)?,
            batch: RecordBatch::new_empty(columns::schema()),
            times: ScalarBuffer::default(),
            traces: StringViewArray::new_null(0),
            at: 0,
        };
        source.fill()?;
        Ok(source)
    }

    fn time(&self) -> Option<i64> {
        self.times.get(self.at).copied()
    }

    /// The trace of the next row.
    fn trace(&self) -> &str {
        if self.at < self.traces.len() {
            self.traces.value(self.at)
        } else {
            ""
        }
    }

    /// Makes sure that there is a row, unless the file is at its end.
    fn fill(&mut self) -> Result<(), CompactError> {
        while self.time().is_none() {
            let Some(batch) = self.rows.next().transpose()? else {
                return Ok(());
            };
            let times = times(&batch, TIME).map(PrimitiveArray::values).cloned();
            self.times = times.unwrap_or_default();
            let ids = traces(&batch).cloned();
            self.traces = ids.unwrap_or_else(|| StringViewArray::new_null(0));
            self.batch = batch;
            self.at = 0;
        }
        Ok(())
    }
}

/// Files of spans as one, run by run.
pub(crate) struct Merged {
    sources: Vec<Source>,
    /// The source of the run that has begun, and its trace.
    run: Option<(usize, String)>,
}

impl Merged {
    /// Opens the files.
    pub(crate) fn open(paths: impl Iterator<Item = PathBuf>) -> Result<Self, CompactError> {
        let sources: Result<_, _> = paths.map(|path| Source::open(&path)).collect();
        Ok(Self {
            sources: sources?,
            run: None,
        })
    }

    /// The source of the next rows, and their trace.
    fn begin(&mut self) -> Option<(usize, String)> {
        if let Some((number, trace)) = self.run.take()
            && let Some(source) = self.sources.get(number)
            && source.time().is_some()
            && source.trace() == trace
        {
            return Some((number, trace));
        }
        let heads = self.sources.iter().enumerate();
        let heads = heads.filter_map(|(number, source)| Some((source.time()?, number)));
        let (_, number) = heads.min()?;
        let source = self.sources.get(number)?;
        Some((number, source.trace().to_owned()))
    }

    fn chunk(&mut self) -> Result<Option<RecordBatch>, CompactError> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        // By source: the place of its batch in `batches`.
        let mut places: Vec<Option<usize>> = vec![None; self.sources.len()];
        let mut picks = Vec::with_capacity(CHUNK_ROWS);
        while picks.len() < CHUNK_ROWS {
            let Some((number, trace)) = self.begin() else {
                break;
            };
            let (Some(source), Some(place)) =
                (self.sources.get_mut(number), places.get_mut(number))
            else {
                break;
            };
            let at = *place.get_or_insert_with(|| {
                batches.push(source.batch.clone());
                batches.len() - 1
            });
            while picks.len() < CHUNK_ROWS && source.time().is_some() && source.trace() == trace {
                picks.push((at, source.at));
                source.at += 1;
            }
            if source.time().is_none() {
                source.fill()?;
                *place = None;
            }
            // It may go on in the source's next batch, or in the next chunk.
            self.run = Some((number, trace));
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
    use std::collections::HashSet;
    use std::time::Instant;

    use super::*;
    use crate::store::catalog::spans_file;
    use crate::store::compact::{Pages, Rest, write_partition};
    use crate::store::parts::{DAY_NS, day_of};
    use crate::store::{Settings, Store};
    use crate::testing::{decode, now_ns, request, span, text};

    fn column(batches: &[RecordBatch], name: &str) -> Vec<String> {
        let of = |batch: &RecordBatch| -> Vec<String> {
            let texts = batch.column_by_name(name).unwrap().as_string_view();
            texts.iter().map(|text| text.unwrap().to_owned()).collect()
        };
        batches.iter().flat_map(of).collect()
    }

    /// Times and traces in the order of rows.
    fn keys(batches: &[RecordBatch]) -> Vec<(i64, String)> {
        let times = batches
            .iter()
            .flat_map(|batch| times(batch, TIME).unwrap().values().to_vec());
        times.zip(column(batches, TRACE)).collect()
    }

    /// Rows that stand together; within one trace, times ascend.
    fn runs(keys: &[(i64, String)]) -> Vec<Vec<(i64, String)>> {
        let runs = keys.chunk_by(|a, b| a.1 == b.1).map(<[_]>::to_vec);
        let runs: Vec<_> = runs.collect();
        assert!(runs.iter().all(|run| run.is_sorted()));
        runs
    }

    #[test]
    fn merged_files_are_one_run_after_the_other_with_every_row_whole() {
        let folder = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(11);
        let (mut id, mut paths, mut expected) = (0, Vec::new(), Vec::new());
        let day_ns = DAY_NS as u64;
        let noon = now_ns() / day_ns * day_ns - day_ns / 2;
        // One of them alone has more rows than a chunk, and one trace, too; the last one is after
        // all others.
        for (number, count) in [(0, 12_000), (1, 10), (2, 3_000), (3, 700)] {
            let store = Store::new(Settings::default(), 0, Vec::new());
            let mut rest = count;
            while rest > 0 {
                let spans = (0..rest.min(400)).map(|_| {
                    id += 1;
                    let after_ns = match number {
                        3 => 70_000_000_000,
                        _ => random.u64(5_000_000_000..60_000_000_000),
                    };
                    let trace = match random.u32(0..2) {
                        0 => 1,
                        _ => random.u128(2..900),
                    };
                    let own = vec![text("own", &format!("{id:016x}"))];
                    let mut one = span(trace, id, 0, 0, own);
                    one.start_time_unix_nano = noon + after_ns;
                    one.end_time_unix_nano = noon + after_ns + 1;
                    one
                });
                let batch = decode(&request("a", spans.collect()));
                store.insert(&batch, Instant::now()).unwrap();
                rest -= rest.min(400);
            }
            let rows = store.snapshot().unwrap().spans;
            let order = order(&rows);
            let ordered: Vec<_> = ordered(&rows, &order).map(Result::unwrap).collect();
            let keys = keys(&ordered);
            let starts = runs(&keys);
            assert!(starts.is_sorted_by_key(|run| run[0].0));
            let traces: HashSet<&str> = starts.iter().map(|run| run[0].1.as_str()).collect();
            assert_eq!(traces.len(), starts.len(), "a trace is one run");
            expected.extend(starts);
            let (min, max) = (keys.iter().min().unwrap().0, keys.iter().max().unwrap().0);
            let meta = write_partition(
                folder.path(),
                (format!("{number}"), day_of(min)),
                &mut ordered.into_iter().map(Ok),
                &Rest::of(&[], &[]).unwrap(),
                Pages::FAST,
            )
            .unwrap();
            assert_eq!((meta.rows, meta.min_ns, meta.max_ns), (count, min, max));
            assert!(0 < meta.raw_bytes && meta.raw_bytes < meta.spans_bytes);
            paths.push(folder.path().join(spans_file(&meta.stem)));
        }
        // Stable: of runs that begin together, those of one file keep their order.
        expected.sort_by_key(|run: &Vec<(i64, String)>| run[0].0);
        let merged = Merged::open(paths.into_iter()).unwrap();
        let merged: Vec<RecordBatch> = merged.map(Result::unwrap).collect();
        assert!(merged.iter().all(|batch| batch.num_rows() <= CHUNK_ROWS));
        assert!(keys(&merged) == expected.concat());
        // Rows stay whole, and none is lost.
        let ids = column(&merged, "span_id");
        let attributes = column(&merged, "attributes");
        for (id, attributes) in ids.iter().zip(attributes) {
            assert_eq!(attributes, format!("{{\"own\":\"{id}\"}}"));
        }
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), 15_710);
        assert_eq!(column(&merged, "service_name"), vec!["a"; 15_710]);
    }
}
