//! Merging small partitions of a day, so that quiet hours and restarts do not leave thousands
//! of files behind.
//!
//! When there are [`ENOUGH`] small partitions of a day that retention has treated alike, they
//! become one; those of the hot tier only with others of the same hour, since a partition stays
//! until its youngest span may go. Two are enough once nothing more is expected. The catalog
//! exchanges them in one step; queries that use the old files keep them until they end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::compactor::Failure;
use super::retain::now_ns;
use crate::policy::Rules;
use crate::store::Store;
use crate::store::catalog::{Catalog, Meta, Partition};
use crate::store::compact::{self, CompactError, Pages, Rest, day_name};
use crate::store::parts::DAY_NS;
use crate::store::retention::{NS_PER_S, Tier};
use crate::store::stream::Merged;
use crate::wal::fs::RealFs;

/// Partitions that are worth a merge.
const ENOUGH: usize = 8;
/// Time after which an hour or a day is taken to be complete.
const COMPLETE_NS: i64 = 2 * HOUR_NS;
const HOUR_NS: i64 = 3_600_000_000_000;
/// A partition below this size is small.
const SMALL_BYTES: u64 = 8 << 20;
/// Spans of one merge. They pass through memory chunk by chunk; what stays until the end are their
/// traces' parts.
const MAX_ROWS: u64 = 500_000;

/// Merges where it is worth it; returns how many partitions were replaced.
pub(super) fn run(
    catalog: &mut Catalog<RealFs>,
    root: &Path,
    store: &Store,
    rules: &Rules,
    may_merge: impl Fn(&Meta) -> bool,
) -> Result<usize, Failure> {
    let mut merged = 0;
    for (stage, group) in candidates(catalog.partitions(), now_ns(), may_merge) {
        let tier = Tier::at(stage.swept_s, rules.storage());
        let meta = merge(stage, &group, root, Pages::of(tier, rules.storage()))?;
        catalog.replace_partitions(&group, vec![meta])?;
        store.set_partitions(catalog.partitions().to_vec());
        merged += group.len();
    }
    Ok(merged)
}

/// Partitions at different stages stay apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Stage {
    day: i64,
    /// The last boundary of retention.
    swept_s: u64,
    /// Of the youngest span, while nothing was swept; then 0.
    hour: i64,
}

impl Stage {
    fn of(meta: &Meta) -> Self {
        let is_hot = meta.swept_s == 0 && meta.rows > 0;
        Self {
            day: meta.day,
            swept_s: meta.swept_s,
            hour: if is_hot {
                meta.max_ns.div_euclid(HOUR_NS)
            } else {
                0
            },
        }
    }

    /// How many partitions are worth a merge.
    fn enough(self, now_ns: i64) -> usize {
        let end_ns = match self.hour {
            0 => self.day.saturating_add(1).saturating_mul(DAY_NS),
            hour => hour.saturating_add(1).saturating_mul(HOUR_NS),
        };
        // What was swept comes at its own pace: a whole day shows up within a day.
        let swept_ns = i64::try_from(self.swept_s).unwrap_or(i64::MAX / NS_PER_S);
        let swept_ns = swept_ns.saturating_mul(NS_PER_S);
        if now_ns.saturating_sub(end_ns).saturating_sub(swept_ns) > COMPLETE_NS {
            2
        } else {
            ENOUGH
        }
    }
}

fn candidates(
    partitions: &[Arc<Partition>],
    now_ns: i64,
    may_merge: impl Fn(&Meta) -> bool,
) -> Vec<(Stage, Vec<Arc<Partition>>)> {
    let mut stages: BTreeMap<Stage, (u64, Vec<Arc<Partition>>)> = BTreeMap::new();
    for partition in partitions {
        let meta = &partition.meta;
        if meta.place.is_some() || !may_merge(meta) {
            continue;
        }
        let (rows, group) = stages.entry(Stage::of(meta)).or_default();
        if meta.bytes < SMALL_BYTES && *rows + meta.rows <= MAX_ROWS {
            *rows += meta.rows;
            group.push(partition.clone());
        }
    }
    stages
        .into_iter()
        .filter(|(stage, (_, group))| group.len() >= stage.enough(now_ns))
        .map(|(stage, (_, group))| (stage, group))
        .collect()
}

fn merge(
    stage: Stage,
    group: &[Arc<Partition>],
    root: &Path,
    pages: Pages,
) -> Result<Meta, CompactError> {
    let (mut parts, mut ledger) = (Vec::new(), Vec::new());
    for partition in group {
        let meta = &partition.meta;
        read(meta.traces, &partition.traces(), &mut parts)?;
        read(meta.ledger, &partition.ledger(), &mut ledger)?;
    }
    let mut rest = Rest::of(&parts, &ledger)?;
    rest.parts = compact::merge_parts(&rest.parts)?;
    let with_spans = group.iter().filter(|partition| partition.meta.rows > 0);
    let mut spans = Merged::open(with_spans.map(|partition| partition.spans()))?;
    // Unique: one thread merges, and the clock moves on between two merges of a day.
    let stem = format!("{}/m{:020x}", day_name(stage.day), now_ns());
    let mut meta = compact::write_partition(root, (stem, stage.day), &mut spans, &rest, pages)?;
    meta.swept_s = stage.swept_s;
    Ok(meta)
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
