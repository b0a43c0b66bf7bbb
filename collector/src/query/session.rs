//! One query: parse, check, run within limits.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Array as _, ArrayRef, AsArray as _, RecordBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::cache::cache_manager::{CacheManagerConfig, CachedFileMetadataEntry};
use datafusion::execution::cache::default_cache::DefaultCache;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::prelude::{DataFrame, SessionConfig, SessionContext};
use futures::{FutureExt as _, StreamExt as _};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::cache::Cache;
use super::merge_joins::MergeJoins;
use super::tables;
use crate::store::{Kinds, Snapshot};

/// Limits of queries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Rows of an answer. Defaults to 10,000.
    pub(crate) rows: usize,
    /// Bytes of an answer in memory. Defaults to 64 MiB.
    pub(crate) bytes: usize,
    /// Time of one query. Defaults to 30 s.
    pub(crate) time: Duration,
    /// Memory of all queries together, without the one that spills. Defaults to 96 MiB.
    pub(crate) memory: usize,
    /// Memory of the query that spills: one at a time, after it did not fit beside the others.
    /// Defaults to 32 MiB.
    pub(crate) spilling: usize,
    /// Bytes that sorts and joins may spill to the data folder. Defaults to 2 GiB.
    pub(crate) spill: u64,
    /// Queries at a time; more wait for up to `time`. Defaults to 4.
    pub(crate) concurrent: usize,
    /// Bytes of sums over ledger files that are kept for the next query. Defaults to 16 MiB.
    pub(crate) cache: usize,
    /// Bytes of parsed footers of files that are kept. Defaults to 32 MiB.
    pub(crate) footers: usize,
    /// Bytes of a query's text. Defaults to 64 KiB.
    pub(crate) text: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 10_000,
            bytes: 64 << 20,
            time: Duration::from_secs(30),
            memory: 96 << 20,
            spilling: 32 << 20,
            spill: 2 << 30,
            concurrent: 4,
            cache: 16 << 20,
            footers: 32 << 20,
            text: 64 << 10,
        }
    }
}

impl Limits {
    /// Memory of all queries together.
    pub(crate) fn all_memory(&self) -> usize {
        self.memory + self.spilling
    }
}

/// Why a query has no answer. The text goes to the client.
#[derive(Debug, Error)]
pub(crate) enum QueryError {
    /// The query is wrong or not allowed.
    #[error("{0}")]
    Refused(String),
    /// A limit was hit.
    #[error("{0}")]
    Limit(String),
    /// It did not fit into the memory of queries.
    #[error("query needs more memory than queries may use")]
    Memory,
    /// Reading failed.
    #[error("query failed: {0}")]
    Failed(String),
}

impl From<DataFusionError> for QueryError {
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            DataFusionError::ResourcesExhausted(_) => Self::Memory,
            DataFusionError::SQL(..)
            | DataFusionError::Plan(_)
            | DataFusionError::SchemaError(..)
            | DataFusionError::NotImplemented(_)
            | DataFusionError::Diagnostic(..) => Self::Refused(error.strip_backtrace()),
            // What spills to disk when memory is short has a limit, too.
            root if root.to_string().contains("max_temp_directory_size") => {
                Self::Limit("query needs more memory and disk than queries may use".to_owned())
            }
            _ => Self::Failed(error.strip_backtrace()),
        }
    }
}

/// Rows of an answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Names and types of the columns.
    pub(crate) schema: SchemaRef,
    /// Rows.
    pub(crate) batches: Vec<RecordBatch>,
    /// True when rows were left out because of a limit.
    pub(crate) truncated: bool,
    /// Time taken.
    pub(crate) elapsed: Duration,
}

/// How queries are planned, and with which memory.
struct Plans {
    runtime: Arc<RuntimeEnv>,
    config: SessionConfig,
    /// Whether joins merge sorted rows.
    merges: bool,
}

impl Plans {
    fn context(&self) -> SessionContext {
        let mut state = SessionStateBuilder::new_with_default_features()
            .with_config(self.config.clone())
            .with_runtime_env(self.runtime.clone());
        if self.merges {
            state = state.with_physical_optimizer_rule(Arc::new(MergeJoins));
        }
        SessionContext::new_with_state(state.build())
    }
}

/// Runs queries; caches of file footers are shared between them.
pub(crate) struct QueryEngine {
    pub(super) limits: Limits,
    /// For queries that fit into memory.
    ready: Plans,
    /// For the others: sorts and merges instead of hash tables, each with a share of the memory.
    spilling: Plans,
    /// One query spills at a time.
    spill_slot: Semaphore,
    pub(super) cache: Arc<Cache>,
    pub(super) footers: Arc<Footers>,
    pub(super) slots: Arc<Semaphore>,
}

/// Parsed footers by file.
pub(super) type Footers = DefaultCache<object_store::path::Path, CachedFileMetadataEntry>;

impl QueryEngine {
    /// An engine that spills below `spill_dir` (only if it has to).
    pub(crate) fn new(limits: Limits, spill_dir: &Path) -> Result<Self, QueryError> {
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let config = SessionConfig::new()
            .with_target_partitions(workers)
            .with_information_schema(true);
        let footers = Arc::new(Footers::new(limits.footers));
        let caches = CacheManagerConfig::default()
            .with_file_metadata_cache(Some(footers.clone()))
            .with_metadata_cache_limit(limits.footers);
        // Without a disk: partitions that exchange rows through it were seen to wait for each other
        // for ever (DataFusion 55.2).
        let nowhere = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_disk_manager_builder(nowhere)
            .with_cache_manager(caches)
            .with_memory_limit(limits.memory, 1.0)
            .build_arc()?;
        let ready = Plans {
            runtime,
            config: config.clone(),
            merges: false,
        };
        // One step after the other, each with a share of the memory.
        let mut config = config
            .with_target_partitions(1)
            .with_batch_size(1_024)
            .with_sort_spill_reservation_bytes(limits.spilling / 32);
        // A filter that a join tells its other side is of use to hash joins alone.
        let optimizer = &mut config.options_mut().optimizer;
        optimizer.enable_dynamic_filter_pushdown = false;
        optimizer.enable_join_dynamic_filter_pushdown = false;
        optimizer.enable_topk_dynamic_filter_pushdown = false;
        optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        let spilling = Plans {
            runtime: RuntimeEnvBuilder::from_runtime_env(&ready.runtime)
                .with_temp_file_path(spill_dir)
                .with_max_temp_directory_size(limits.spill)
                .with_memory_pool(Arc::new(FairSpillPool::new(limits.spilling)))
                .build_arc()?,
            config,
            merges: true,
        };
        Ok(Self {
            limits,
            ready,
            spilling,
            spill_slot: Semaphore::new(1),
            cache: Arc::new(Cache::new(limits.cache)),
            footers,
            slots: Arc::new(Semaphore::new(limits.concurrent)),
        })
    }

    /// Bytes that queries have taken, with the sums that are kept for the next ones, and may take.
    /// Footers of files are apart ([`Self::footers`]).
    pub(crate) fn memory(&self) -> (usize, usize) {
        let limits = &self.limits;
        let reserved = |plans: &Plans| plans.runtime.memory_pool.reserved();
        let taken = reserved(&self.ready) + reserved(&self.spilling) + self.cache.used();
        (taken, limits.all_memory() + limits.cache)
    }

    /// Bytes of parsed footers that are kept for the next queries, and at most.
    pub(crate) fn footers(&self) -> (usize, usize) {
        (self.footers.memory_used(), self.limits.footers)
    }

    /// Runs one SQL text over a view of everything.
    pub(crate) async fn sql(&self, snapshot: &Snapshot, text: &str) -> Result<Answer, QueryError> {
        self.ask(text, |_| Ok(snapshot.clone())).await
    }

    /// Runs one SQL text; `view` is asked for the kinds of rows that it reads.
    pub(crate) async fn ask(
        &self,
        text: &str,
        view: impl FnOnce(Kinds) -> Result<Snapshot, QueryError>,
    ) -> Result<Answer, QueryError> {
        if text.len() > self.limits.text {
            return Err(QueryError::Limit(format!(
                "query has `{}` bytes, the limit is `{}`",
                text.len(),
                self.limits.text
            )));
        }
        let start = Instant::now();
        let work = async {
            let _slot = self.slots.acquire().await.map_err(|_| closed())?;
            let state = self.ready.context().state();
            let dialect = state.config().options().sql_parser.dialect;
            let statement = state.sql_to_statement(text, &dialect)?;
            let named = state.resolve_table_references(&statement)?;
            let snapshot = view(tables::kinds(&named))?;
            let answer = self.run(&self.ready, &snapshot, &named, text, start).await;
            let Err(QueryError::Memory) = answer else {
                return answer;
            };
            let _slot = self.spill_slot.acquire().await.map_err(|_| closed())?;
            self.run(&self.spilling, &snapshot, &named, text, start)
                .await
        };
        // The planner and some operators panic on rare plans; one query must not take its
        // connection along. What it touched (a session of its own) is dropped.
        let work = AssertUnwindSafe(work).catch_unwind();
        match tokio::time::timeout(self.limits.time, work).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(QueryError::Failed(
                "the query engine failed on this plan".to_owned(),
            )),
            Err(_) => Err(self.too_slow()),
        }
    }

    pub(super) fn too_slow(&self) -> QueryError {
        let seconds = self.limits.time.as_secs();
        QueryError::Limit(format!("query took longer than `{seconds}` s"))
    }

    async fn run(
        &self,
        plans: &Plans,
        snapshot: &Snapshot,
        named: &[TableReference],
        text: &str,
        start: Instant,
    ) -> Result<Answer, QueryError> {
        let context = plans.context();
        tables::register(&context, snapshot, &self.cache, named).await?;
        let options = SQLOptions::new()
            .with_allow_ddl(false)
            .with_allow_dml(false)
            .with_allow_statements(false);
        let frame = context.sql_with_options(text, options).await?;
        self.collect(frame, start).await
    }

    async fn collect(&self, frame: DataFrame, start: Instant) -> Result<Answer, QueryError> {
        let mut stream = frame.execute_stream().await?;
        let schema = stream.schema();
        let mut batches = Vec::new();
        let (mut rows, mut bytes) = (0usize, 0usize);
        let mut truncated = false;
        while let Some(batch) = stream.next().await {
            let mut batch = batch?;
            let room = self.limits.rows.saturating_sub(rows);
            if batch.num_rows() > room {
                batch = batch.slice(0, room);
                truncated = true;
            }
            rows += batch.num_rows();
            bytes += bytes_of(&batch);
            batches.push(batch);
            if truncated || bytes > self.limits.bytes {
                truncated = true;
                break;
            }
        }
        Ok(Answer {
            schema,
            batches,
            truncated,
            elapsed: start.elapsed(),
        })
    }
}

pub(super) fn closed() -> QueryError {
    QueryError::Failed("queries are not accepted any more".to_owned())
}

/// Bytes of an answer's rows. Text columns point into chunks that they share with each other and
/// with rows that are not part of the answer; what counts is the text they show.
pub(super) fn bytes_of(batch: &RecordBatch) -> usize {
    let column = |column: &ArrayRef| match column.as_string_view_opt() {
        // The low half of a view's first word is its length.
        Some(text) => text
            .views()
            .iter()
            .map(|view| 16 + (*view as u32) as usize)
            .sum(),
        None => column.get_array_memory_size(),
    };
    batch.columns().iter().map(column).sum()
}
