//! Merging small partitions of a day, so that quiet hours and restarts do not leave thousands
//! of files behind.
//!
//! When a day has [`ENOUGH`] small partitions, they become one. The catalog exchanges them in
//! one step; queries that use the old files keep them until they end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::compactor::Failure;
use crate::store::Store;
use crate::store::catalog::{Catalog, Meta, Partition};
use crate::store::compact::{self, CompactError, Content, day_name};
use crate::store::generation::Batches;
use crate::wal::fs::RealFs;

/// Partitions of a day that are worth a merge.
const ENOUGH: usize = 8;
/// A partition below this size is small.
const SMALL_BYTES: u64 = 8 << 20;
/// Spans of one merge; bounds its memory to a few hundred MiB.
const MAX_ROWS: u64 = 500_000;

/// Merges where it is worth it; returns how many partitions were replaced.
pub(super) fn run(
    catalog: &mut Catalog<RealFs>,
    root: &Path,
    store: &Store,
) -> Result<usize, Failure> {
    let mut merged = 0;
    for ((day, swept_s), group) in candidates(catalog.partitions()) {
        let mut meta = merge(day, &group, root)?;
        meta.swept_s = swept_s;
        catalog.replace_partitions(&group, vec![meta])?;
        store.set_partitions(catalog.partitions().to_vec());
        merged += group.len();
    }
    Ok(merged)
}

/// A day and the age of its last sweep: partitions at different stages stay apart.
type Stage = (i64, u64);

fn candidates(partitions: &[Arc<Partition>]) -> Vec<(Stage, Vec<Arc<Partition>>)> {
    let mut stages: BTreeMap<Stage, (u64, Vec<Arc<Partition>>)> = BTreeMap::new();
    for partition in partitions {
        let meta = &partition.meta;
        let (rows, group) = stages.entry((meta.day, meta.swept_s)).or_default();
        if meta.bytes < SMALL_BYTES && *rows + meta.rows <= MAX_ROWS {
            *rows += meta.rows;
            group.push(partition.clone());
        }
    }
    stages
        .into_iter()
        .filter(|(_, (_, group))| group.len() >= ENOUGH)
        .map(|(stage, (_, group))| (stage, group))
        .collect()
}

fn merge(day: i64, group: &[Arc<Partition>], root: &Path) -> Result<Meta, CompactError> {
    let batches = read_all(group)?;
    let mut content = Content::of(&batches)?;
    content.parts = compact::merge_parts(&content.parts)?;
    // Unique: one thread merges, and the clock moves on between two merges of a day.
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_nanos());
    let stem = format!("{}/m{now:020x}", day_name(day));
    compact::write_partition(root, stem, day, &content)
}

/// Reads all rows of some partitions.
pub(super) fn read_all(group: &[Arc<Partition>]) -> Result<Batches, CompactError> {
    let mut batches = Batches::default();
    for partition in group {
        let meta = &partition.meta;
        read(meta.rows, &partition.spans(), &mut batches.spans)?;
        read(meta.traces, &partition.traces(), &mut batches.parts)?;
        read(meta.ledger, &partition.ledger(), &mut batches.ledger)?;
    }
    Ok(batches)
}

/// Reads a file that has `rows` rows; there is none when it has no rows.
pub(super) fn read(
    rows: u64,
    path: &Path,
    into: &mut Vec<RecordBatch>,
) -> Result<(), CompactError> {
    if rows == 0 {
        return Ok(());
    }
    let file = std::fs::File::open(path)?;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
        into.push(batch?);
    }
    Ok(())
}
