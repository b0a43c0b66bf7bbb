//! One trace by its id, without a plan: the answer of
//! `SELECT * FROM spans WHERE trace_id = '..' ORDER BY timestamp, span_id`.
//!
//! Rows in memory are compared one by one; a partition's list says where the trace's rows are
//! ([`crate::store::ids`]), and of its file only the pages with these rows are read, the trace ids
//! first. Footers are those that SQL keeps.
//!
//! What this cannot do is left to SQL: spans in another place, partitions without a list (of older
//! versions), and traces of more than [`MOST`] spans or more bytes than an answer may have.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::array::{AsArray as _, BooleanArray, RecordBatch, StringViewArray};
use datafusion::arrow::compute::kernels::cmp::eq;
use datafusion::arrow::compute::{
    SortColumn, concat_batches, filter_record_batch, lexsort_to_indices, take_record_batch,
};
use datafusion::arrow::error::ArrowError;
use datafusion::datasource::physical_plan::parquet::metadata::CachedParquetMetaData;
use datafusion::execution::cache::Cache as _;
use datafusion::execution::cache::cache_manager::CachedFileMetadataEntry;
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
    RowFilter, RowSelection,
};
use datafusion::parquet::file::metadata::{
    PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader,
};
use object_store::ObjectMeta;

use super::session::{Answer, Footers, QueryEngine, QueryError, bytes_of, closed};
use super::stored::selection;
use crate::store::assembled::conform;
use crate::store::catalog::Partition;
use crate::store::compact::unhex;
use crate::store::{Snapshot, columns, ids, layout};

/// Spans of an answer.
const MOST: usize = 10_000;
/// Rows that are read at a time.
const BATCH_ROWS: usize = 1_024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Spans of one trace as they are found.
struct Found {
    id: StringViewArray,
    spans: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
    most_bytes: usize,
}

impl Found {
    fn is_it(id: &StringViewArray, ids: &StringViewArray) -> Result<BooleanArray, ArrowError> {
        eq(ids, &datafusion::arrow::array::Scalar::new(id))
    }

    /// Adds what is of the trace; false when that is too much.
    fn add(&mut self, spans: &RecordBatch) -> Result<bool, ArrowError> {
        let ids = spans.column_by_name("trace_id");
        let Some(ids) = ids.and_then(|ids| ids.as_string_view_opt()) else {
            return Err(ArrowError::SchemaError("no trace ids".to_owned()));
        };
        let own = Self::is_it(&self.id, ids)?;
        if own.true_count() > 0 {
            let spans = filter_record_batch(spans, &own)?;
            self.rows += spans.num_rows();
            self.bytes += bytes_of(&spans);
            self.spans.push(spans);
        }
        Ok(self.rows <= MOST && self.bytes <= self.most_bytes)
    }

    /// Adds the trace's rows of a partition; false when SQL has to read it.
    fn read(&mut self, partition: &Partition, footers: &Footers) -> Result<bool, Failure> {
        let id = self.id.value(0);
        let id = unhex(id).ok_or("not a trace id")?;
        let places = ids::find(&partition.ids(), &[id])?;
        if places.is_empty() {
            return Ok(true);
        }
        let total = usize::try_from(partition.meta.rows)?;
        let Some(rows) = selection(places, total) else {
            return Ok(false);
        };
        if partition.meta.place.is_some() {
            return Ok(false);
        }
        self.read_rows(&partition.spans(), rows, footers)
    }

    fn read_rows(
        &mut self,
        path: &Path,
        rows: RowSelection,
        footers: &Footers,
    ) -> Result<bool, Failure> {
        let file = std::fs::File::open(path)?;
        let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional);
        let footer = footer(path, &file, footers)?;
        let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(
            file,
            ArrowReaderMetadata::try_new(footer, options)?,
        );
        let ids = ProjectionMask::columns(builder.parquet_schema(), ["trace_id"]);
        let id = self.id.clone();
        let is_own = ArrowPredicateFn::new(ids, move |ids| {
            let column = ids
                .columns()
                .first()
                .and_then(|ids| ids.as_string_view_opt());
            let wrong = || ArrowError::SchemaError("no trace ids".to_owned());
            Self::is_it(&id, column.ok_or_else(wrong)?)
        });
        let reader = builder
            .with_row_selection(rows)
            .with_row_filter(RowFilter::new(vec![Box::new(is_own)]))
            .with_batch_size(BATCH_ROWS)
            .build()?;
        for spans in reader {
            let spans = conform(&layout::from_file(&spans?)?, &columns::schema())?;
            if !self.add(&spans)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All of them in order.
    fn sorted(self) -> Result<RecordBatch, ArrowError> {
        let all = concat_batches(&columns::schema(), &self.spans)?;
        let by = ["timestamp", "span_id"].iter();
        let by = by.filter_map(|name| all.column_by_name(name));
        let by: Vec<SortColumn> = by
            .map(|values| SortColumn {
                values: values.clone(),
                options: None,
            })
            .collect();
        take_record_batch(&all, &lexsort_to_indices(&by, None)?)
    }
}

/// The footer of a file with its page index, from where SQL keeps them.
fn footer(
    path: &Path,
    file: &std::fs::File,
    footers: &Footers,
) -> Result<Arc<ParquetMetaData>, Failure> {
    // As the files of a table are named (`tables.rs`).
    let meta = ObjectMeta {
        location: object_store::path::Path::from_absolute_path(std::path::absolute(path)?)?,
        last_modified: Default::default(),
        size: file.metadata()?.len(),
        e_tag: None,
        version: None,
    };
    let kept = footers.get(&meta.location);
    let kept = kept.filter(|kept| kept.is_valid_for(&meta));
    let kept = kept.and_then(|kept| {
        let kept = kept.file_metadata.as_any();
        let kept = kept.downcast_ref::<CachedParquetMetaData>()?;
        Some(kept.parquet_metadata().clone())
    });
    if let Some(kept) = kept.filter(|kept| kept.offset_index().is_some()) {
        return Ok(kept);
    }
    let read = ParquetMetaDataReader::new()
        .with_page_index_policy(PageIndexPolicy::Optional)
        .parse_and_finish(file)?;
    let read = Arc::new(read);
    let keep = Arc::new(CachedParquetMetaData::new(read.clone()));
    footers.put(
        &meta.location.clone(),
        CachedFileMetadataEntry::new(meta, keep),
    );
    Ok(read)
}

/// The spans of a trace; nothing when SQL has to look for them.
fn find(
    id: &str,
    snapshot: &Snapshot,
    footers: &Footers,
    most_bytes: usize,
) -> Result<Option<RecordBatch>, Failure> {
    let mut found = Found {
        id: StringViewArray::from_iter_values([id]),
        spans: Vec::new(),
        rows: 0,
        bytes: 0,
        most_bytes,
    };
    for spans in &snapshot.spans {
        if !found.add(spans)? {
            return Ok(None);
        }
    }
    for partition in snapshot.partitions.iter().filter(|part| part.meta.rows > 0) {
        if !partition.meta.ids || !found.read(partition, footers)? {
            return Ok(None);
        }
    }
    Ok(Some(found.sorted()?))
}

impl QueryEngine {
    /// All spans of a trace in order of time, `None` when SQL has to look for them. `view` is asked
    /// for partitions and the rows in memory that may be of the trace; `id` has 32 hex digits.
    pub(crate) async fn trace(
        &self,
        id: &str,
        view: impl FnOnce(&[u8; 16]) -> Result<Snapshot, QueryError>,
    ) -> Result<Option<Answer>, QueryError> {
        let start = Instant::now();
        let Some(bytes) = unhex(id) else {
            return Ok(None);
        };
        let (id, footers, most_bytes) = (id.to_owned(), self.footers.clone(), self.limits.bytes);
        let work = async {
            let slot = self
                .slots
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| closed())?;
            let snapshot = view(&bytes)?;
            let look = move || {
                // Taken until the work has ended, even if nobody waits for it any more.
                let _slot = slot;
                find(&id, &snapshot, &footers, most_bytes)
            };
            let found: Result<_, QueryError> = match tokio::task::spawn_blocking(look).await {
                Ok(Ok(found)) => Ok(found),
                // What fails here, SQL may still read; if not, it says why.
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a trace is left to SQL");
                    Ok(None)
                }
                Err(_) => Ok(None),
            };
            found
        };
        let found = tokio::time::timeout(self.limits.time, work).await;
        let found = found.map_err(|_| self.too_slow())?;
        Ok(found?.map(|spans: RecordBatch| Answer {
            schema: spans.schema(),
            batches: vec![spans],
            truncated: false,
            elapsed: start.elapsed(),
        }))
    }
}
