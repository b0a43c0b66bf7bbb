//! A table of batches in memory and partition files, wherever these are.
//!
//! Before any file is opened, the catalog's knowledge leaves out those that cannot match: by the
//! range of their time column, and by asking the partition's list of traces
//! ([`crate::store::ids`]) for the trace ids that the query names. So a query about the last hour
//! or one trace touches no other machine unless the answer is there, and of a file that has the
//! trace it reads a few pages.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{
    ArrayRef, BooleanArray, RecordBatch, TimestampNanosecondArray, UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::datasource::file_format::FileFormat as _;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::object_store::ObjectStoreUrl;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::arrow::arrow_reader::RowSelection;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use object_store::path::Path;

use super::adapt::Layouts;
use super::cache::{Read, Turn};
use super::timed::{self, Timed};
use crate::store::columns::UTC;
use crate::store::compact::unhex;
use crate::store::{ids, lookup};

/// Trace ids that are looked up one by one; a query with more reads the files.
const MAX_IDS: usize = 128;

/// A file of the table.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// The store it is in.
    pub(super) store: ObjectStoreUrl,
    /// Its path there.
    pub(super) path: Path,
    /// Its size.
    pub(super) bytes: u64,
    /// Earliest and latest value of the time column, both included.
    pub(super) range: (i64, i64),
    /// Where it is, when it is in the data folder.
    pub(super) local: Option<PathBuf>,
    /// For a file that is not in the data folder: the local table of its traces.
    pub(super) traces: Option<PathBuf>,
    /// Where its partition's traces are.
    pub(super) ids: Option<PathBuf>,
    /// Number of rows, when `ids` speaks of rows of this file.
    pub(super) rows: Option<usize>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stored {
    schema: SchemaRef,
    /// Name of the time column.
    time: &'static str,
    memory: Vec<Vec<RecordBatch>>,
    files: Vec<File>,
    /// Files are read as sums, as far as these are kept.
    sums: Option<(Turn, Read)>,
}

/// A file that may hold matching rows, and which rows.
type Match<'a> = (&'a File, Option<RowSelection>);

impl Stored {
    /// A table of `lists` of batches that are read side by side, and of files.
    pub(super) fn new(
        schema: SchemaRef,
        time: &'static str,
        lists: Vec<Vec<RecordBatch>>,
        files: Vec<File>,
    ) -> Self {
        Self {
            schema,
            time,
            memory: lists,
            files,
            sums: None,
        }
    }

    /// The same, with the sums over files from a cache.
    pub(super) fn with_sums(mut self, turn: Turn, read: Read) -> Self {
        self.sums = Some((turn, read));
        self
    }

    fn predicate(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        let Some(filter) = conjunction(filters.iter().cloned()) else {
            return Ok(None);
        };
        let schema = DFSchema::try_from(self.schema.as_ref().clone())?;
        state.create_physical_expr(filter, &schema).map(Some)
    }

    /// The files that may hold matching rows, by store.
    fn matching(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> Vec<Match<'_>> {
        let keep = predicate.and_then(|predicate| {
            let pruning = PruningPredicateBuilder::new()
                .with_file_schema(self.schema.clone())
                .try_build(predicate.clone())
                .ok()?;
            let known = Known {
                files: &self.files,
                time: self.time,
            };
            pruning.prune(&known).ok()
        });
        let traces = predicate.and_then(traces_of);
        let mut files = Vec::new();
        for (index, file) in self.files.iter().enumerate() {
            let may_match = keep
                .as_ref()
                .and_then(|keep| keep.get(index).copied())
                .unwrap_or(true);
            if may_match && let Some(rows) = rows_of(file, traces.as_deref()) {
                files.push((file, rows));
            }
        }
        files
    }

    /// Rows in memory and the files to read; sums that are kept take the place of their files.
    fn split<'a>(&self, files: Vec<Match<'a>>) -> Result<(MemTable, Vec<Match<'a>>)> {
        let mut lists = self.memory.clone();
        let Some((turn, read)) = &self.sums else {
            return Ok((MemTable::try_new(self.schema.clone(), lists)?, files));
        };
        let mut rest = Vec::new();
        let many = lists.len().max(1);
        for (index, (file, rows)) in files.into_iter().enumerate() {
            let sums = match &file.local {
                Some(path) => turn.sums(path, *read)?,
                None => None,
            };
            match (sums, lists.get_mut(index % many)) {
                (Some(sums), Some(list)) => list.push(sums),
                _ => rest.push((file, rows)),
            }
        }
        Ok((MemTable::try_new(self.schema.clone(), lists)?, rest))
    }
}

#[async_trait]
impl TableProvider for Stored {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>> {
        let push_down = |filter: &&Expr| {
            if timed::is_met(filter, self.time) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Inexact
            }
        };
        Ok(filters.iter().map(push_down).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = self.predicate(state, filters)?;
        let timed = Timed::new(&self.schema, self.time, projection, filters)?;
        let (memory, files) = self.split(self.matching(predicate.as_ref()))?;
        let mut inputs = Vec::new();
        if timed.is_empty() {
            inputs.push(memory.scan(state, projection, &[], limit).await?);
        } else {
            let memory = memory.scan(state, timed.read(), &[], None).await?;
            inputs.push(timed.filter(state, memory)?);
        }
        // By store, and by whether all rows are within the query's time.
        let mut groups: BTreeMap<(String, bool), Vec<Match<'_>>> = BTreeMap::new();
        for matching in files {
            let (file, _) = &matching;
            let group = (file.store.to_string(), timed.holds(file.range));
            groups.entry(group).or_default().push(matching);
        }
        for ((_, is_whole), files) in groups {
            let input = if is_whole {
                self.read(state, (files, predicate.as_ref()), projection, limit)
                    .await?
            } else {
                let read = (files, predicate.as_ref());
                let input = self.read(state, read, timed.read(), None).await?;
                timed.filter(state, input)?
            };
            inputs.push(input);
        }
        if inputs.len() == 1 {
            return inputs
                .pop()
                .ok_or_else(|| DataFusionError::Internal("no input".to_owned()));
        }
        UnionExec::try_new(inputs)
    }
}

impl Stored {
    /// Reads files of one store.
    async fn read(
        &self,
        state: &dyn Session,
        (files, predicate): (Vec<Match<'_>>, Option<&Arc<dyn PhysicalExpr>>),
        projection: Option<&Vec<usize>>,
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some((first, _)) = files.first() else {
            return Err(DataFusionError::Internal("no file".to_owned()));
        };
        let mut source = ParquetSource::new(self.schema.clone());
        if let Some(predicate) = predicate {
            source = source.with_predicate(predicate.clone());
        }
        let store = first.store.clone();
        let named = files.into_iter().map(named).collect();
        let groups = FileGroup::new(named).split_files(state.config().target_partitions());
        let config = FileScanConfigBuilder::new(store, Arc::new(source))
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .with_expr_adapter(Some(Arc::new(Layouts)))
            .build();
        ParquetFormat::default()
            .create_physical_plan(state, config)
            .await
    }
}

fn named((file, rows): Match<'_>) -> PartitionedFile {
    let mut named = PartitionedFile::new("", file.bytes);
    named.object_meta.location = file.path.clone();
    match rows {
        Some(rows) => named.with_extension(ParquetRowSelection::new(rows)),
        None => named,
    }
}

/// The traces that a predicate names, when only rows of these can match.
fn traces_of(predicate: &Arc<dyn PhysicalExpr>) -> Option<Vec<[u8; 16]>> {
    let named = LiteralGuarantee::analyze(predicate);
    let named = named.into_iter().find(|named| {
        named.column.name == "trace_id"
            && named.guarantee == Guarantee::In
            && named.literals.len() <= MAX_IDS
    })?;
    let ids = named.literals.iter();
    ids.map(|id| unhex(id.try_as_str()??)).collect()
}

/// Which rows of a file may be of these traces: none at all (`None`), some, or any.
fn rows_of(file: &File, traces: Option<&[[u8; 16]]>) -> Option<Option<RowSelection>> {
    let (Some(traces), Some(list)) = (traces, &file.ids) else {
        return Some(None);
    };
    // A list that cannot be read says nothing.
    let Ok(found) = ids::find(list, traces) else {
        return Some(None);
    };
    if found.is_empty() {
        return None;
    }
    Some(file.rows.and_then(|rows| selection(found, rows)))
}

/// Rows of traces in a file of so many rows. A list that does not fit its file says nothing.
pub(super) fn selection(mut found: Vec<ids::Rows>, rows: usize) -> Option<RowSelection> {
    found.sort_unstable();
    let mut ranges: Vec<std::ops::Range<usize>> = Vec::new();
    for (first, last) in found {
        let (start, end) = (first as usize, last as usize + 1);
        match ranges.last_mut() {
            Some(before) if before.end >= start => before.end = before.end.max(end),
            _ => ranges.push(start..end),
        }
    }
    let fits = ranges.last().is_some_and(|range| range.end <= rows);
    fits.then(|| RowSelection::from_consecutive_ranges(ranges.into_iter(), rows))
}

/// What is known of files without opening them.
struct Known<'a> {
    files: &'a [File],
    time: &'a str,
}

impl Known<'_> {
    fn times(&self, column: &Column, of: fn(&File) -> i64) -> Option<ArrayRef> {
        (column.name == self.time).then(|| {
            let times: TimestampNanosecondArray = self.files.iter().map(of).map(Some).collect();
            Arc::new(times.with_timezone(UTC)) as ArrayRef
        })
    }
}

impl PruningStatistics for Known<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |file| file.range.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.times(column, |file| file.range.1)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        (column.name == self.time)
            .then(|| Arc::new(UInt64Array::from(vec![0; self.files.len()])) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, column: &Column, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if column.name != "trace_id" {
            return None;
        }
        let ids: Vec<&str> = values
            .iter()
            .map(|value| value.try_as_str().flatten())
            .collect::<Option<_>>()?;
        Some(
            self.files
                .iter()
                .map(|file| {
                    let traces = file.traces.as_ref()?;
                    // A list that cannot be read says nothing.
                    let possible = lookup::may_hold(traces, &ids).unwrap_or(true);
                    (!possible).then_some(false)
                })
                .collect(),
        )
    }
}
