//! A table of batches in memory and partition files, wherever these are.
//!
//! Before any file is opened, the catalog's knowledge leaves out those that cannot match: by the
//! range of their time column, and, for files that are not in the data folder, by asking the
//! local list of the partition's traces for the trace ids that the query names. So a query about
//! the last hour or one trace touches no other machine unless the answer is there.

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
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::{MemTable, TableProvider, TableType};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::union::UnionExec;
use object_store::path::Path;

use crate::store::columns::UTC;
use crate::store::lookup;

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
    /// For a file that is not in the data folder: the local list of its traces.
    pub(super) traces: Option<PathBuf>,
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Stored {
    schema: SchemaRef,
    /// Name of the time column.
    time: &'static str,
    memory: MemTable,
    files: Vec<File>,
}

impl Stored {
    /// A table of `lists` of batches that are read side by side, and of files.
    pub(super) fn new(
        schema: SchemaRef,
        time: &'static str,
        lists: Vec<Vec<RecordBatch>>,
        files: Vec<File>,
    ) -> Result<Self> {
        Ok(Self {
            memory: MemTable::try_new(schema.clone(), lists)?,
            schema,
            time,
            files,
        })
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
    fn matching(&self, predicate: Option<&Arc<dyn PhysicalExpr>>) -> BTreeMap<String, Vec<&File>> {
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
        let mut stores: BTreeMap<String, Vec<&File>> = BTreeMap::new();
        for (index, file) in self.files.iter().enumerate() {
            let may_match = keep
                .as_ref()
                .and_then(|keep| keep.get(index).copied())
                .unwrap_or(true);
            if may_match {
                stores.entry(file.store.to_string()).or_default().push(file);
            }
        }
        stores
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
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let predicate = self.predicate(state, filters)?;
        let format = ParquetFormat::default();
        let mut inputs = vec![self.memory.scan(state, projection, &[], limit).await?];
        for files in self.matching(predicate.as_ref()).into_values() {
            let Some(first) = files.first() else { continue };
            let mut source = ParquetSource::new(self.schema.clone());
            if let Some(predicate) = &predicate {
                source = source.with_predicate(predicate.clone());
            }
            let named = files.iter().map(|file| named(file)).collect();
            let groups = FileGroup::new(named).split_files(state.config().target_partitions());
            let config = FileScanConfigBuilder::new(first.store.clone(), Arc::new(source))
                .with_file_groups(groups)
                .with_projection_indices(projection.cloned())?
                .with_limit(limit)
                .build();
            inputs.push(format.create_physical_plan(state, config).await?);
        }
        if inputs.len() == 1 {
            return inputs
                .pop()
                .ok_or_else(|| DataFusionError::Internal("no input".to_owned()));
        }
        UnionExec::try_new(inputs)
    }
}

fn named(file: &File) -> PartitionedFile {
    let mut named = PartitionedFile::new("", file.bytes);
    named.object_meta.location = file.path.clone();
    named
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
