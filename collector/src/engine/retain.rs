//! Retention at work: the plan's steps inside the data folder.
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
use crate::store::compact::{self, Content, Pages, day_name};
use crate::store::generation::Batches;
use crate::store::retention::{Tier, age_s};
use crate::store::sweep::{self, Noted};
use crate::wal::fs::RealFs;

/// Nanoseconds since the epoch.
pub(crate) fn now_ns() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

/// Removes a partition of which nothing may stay.
pub(super) fn expire(
    catalog: &mut Catalog<RealFs>,
    store: &Store,
    partition: &Arc<Partition>,
) -> Result<(), Failure> {
    catalog.replace_partitions(std::slice::from_ref(partition), Vec::new())?;
    store.set_partitions(catalog.partitions().to_vec());
    let (stem, spans) = (&partition.meta.stem, partition.meta.rows);
    tracing::info!(partition = stem, spans, "expired");
    Ok(())
}

/// Rewrites a partition without what has run out. `spans` is where its spans are.
pub(super) fn sweep(
    (catalog, root): (&mut Catalog<RealFs>, &Path),
    store: &Store,
    rules: &Rules,
    partition: &Arc<Partition>,
    (spans, boundary_s): (&Path, u64),
) -> Result<(), Failure> {
    let meta = &partition.meta;
    let mut batches = Batches::default();
    merge::read(meta.rows, spans, &mut batches.spans)?;
    merge::read(meta.traces, &partition.traces(), &mut batches.parts)?;
    merge::read(meta.ledger, &partition.ledger(), &mut batches.ledger)?;
    let noted = noted(catalog.partitions(), partition, &batches)?;
    let age_s = age_s(meta, now_ns());
    let content = Content::of(&batches).map_err(compact::CompactError::from)?;
    let left = sweep::sweep(content, &noted, age_s, rules).map_err(compact::CompactError::from)?;
    let mut added = Vec::new();
    if let Some(content) = left {
        let stem = format!("{}/s{:020x}", day_name(meta.day), now_ns());
        let pages = Pages::of(Tier::at(age_s, rules.storage()), rules.storage());
        let mut swept = compact::write_partition(root, stem, meta.day, &content, pages)?;
        swept.swept_s = boundary_s;
        added.push(swept);
    }
    let left = added.first().map_or(0, |meta| meta.rows);
    catalog.replace_partitions(std::slice::from_ref(partition), added)?;
    store.set_partitions(catalog.partitions().to_vec());
    let (stem, before) = (&meta.stem, meta.rows);
    tracing::info!(partition = stem, age_s, before, left, "applied retention");
    Ok(())
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
