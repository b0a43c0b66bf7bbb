//! Retention at work: partitions that are due are rewritten without what has run out.
//!
//! The catalog exchanges old and new files in one step, so a crash leaves either; doing a sweep
//! again changes nothing. Queries that use the old files keep them until they end.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::compactor::Failure;
use super::merge;
use crate::policy::Rules;
use crate::store::Store;
use crate::store::catalog::{Catalog, Partition};
use crate::store::compact::{self, Content, day_name};
use crate::store::generation::Batches;
use crate::store::retention::{age_s, is_due};
use crate::store::sweep::{self, Noted};
use crate::wal::fs::RealFs;

/// Partitions swept at a time: what waits for compaction must not wait long.
const AT_A_TIME: usize = 8;

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// Sweeps what is due; returns how many partitions were rewritten or removed.
pub(super) fn run(
    catalog: &mut Catalog<RealFs>,
    root: &Path,
    store: &Store,
    rules: &Rules,
) -> Result<usize, Failure> {
    let now_ns = now_ns();
    let due: Vec<Arc<Partition>> = catalog
        .partitions()
        .iter()
        .filter(|partition| is_due(&partition.meta, rules.storage(), now_ns))
        .take(AT_A_TIME)
        .cloned()
        .collect();
    for partition in &due {
        let batches: Batches = merge::read_all(std::slice::from_ref(partition))?;
        let noted = noted(catalog.partitions(), partition, &batches)?;
        let age_s = age_s(&partition.meta, now_ns);
        let content = Content::of(&batches).map_err(compact::CompactError::from)?;
        let left =
            sweep::sweep(content, &noted, age_s, rules).map_err(compact::CompactError::from)?;
        let mut added = Vec::new();
        if let Some(content) = left {
            let stem = format!("{}/s{:020x}", day_name(partition.meta.day), self::now_ns());
            let mut meta = compact::write_partition(root, stem, partition.meta.day, &content)?;
            meta.swept_s = age_s;
            added.push(meta);
        }
        let left = added.first().map_or(0, |meta| meta.rows);
        catalog.replace_partitions(std::slice::from_ref(partition), added)?;
        store.set_partitions(catalog.partitions().to_vec());
        let (stem, before) = (&partition.meta.stem, partition.meta.rows);
        tracing::info!(partition = stem, age_s, before, left, "applied retention");
    }
    Ok(due.len())
}

/// What is stored of a partition's traces, on its day and the neighbouring ones.
fn noted(
    partitions: &[Arc<Partition>],
    own: &Arc<Partition>,
    batches: &Batches,
) -> Result<Noted, Failure> {
    let mut noted = Noted::default();
    for parts in &batches.parts {
        noted
            .add(parts, true)
            .map_err(compact::CompactError::from)?;
    }
    for partition in partitions {
        let is_near = (partition.meta.day - own.meta.day).abs() <= 1;
        if !is_near || partition.meta.traces == 0 || partition.meta.stem == own.meta.stem {
            continue;
        }
        let mut batches = Vec::new();
        merge::read(partition.meta.traces, &partition.traces(), &mut batches)?;
        for batch in batches {
            noted
                .add(&batch, false)
                .map_err(compact::CompactError::from)?;
        }
    }
    Ok(noted)
}
