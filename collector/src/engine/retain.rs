//! Retention at work: the plan's steps inside the data folder.
//!
//! The catalog exchanges old and new files in one step, so a crash leaves either; doing a sweep
//! again changes nothing. Queries that use the old files keep them until they end.

use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datafusion::arrow::array::RecordBatch;

use super::compactor::Failure;
use super::merge;
use crate::policy::Rules;
use crate::store::Store;
use crate::store::catalog::{Catalog, Partition};
use crate::store::compact::{self, Pages, Rest, day_name};
use crate::store::retention::{Tier, age_s, keeps_ledger};
use crate::store::stream::Rows;
use crate::store::sweep::{self, Noted, Verdicts};
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
    let (mut parts, mut ledger) = (Vec::new(), Vec::new());
    merge::read(meta.traces, &partition.traces(), &mut parts)?;
    merge::read(meta.ledger, &partition.ledger(), &mut ledger)?;
    let noted = noted(catalog.partitions(), partition, &parts)?;
    let age_s = age_s(meta, now_ns());
    // Twice through the file instead of all of it in memory.
    let verdicts = match meta.rows {
        0 => Verdicts::default(),
        _ => sweep::verdicts(Rows::project(spans, &sweep::ASKED)?, &noted, age_s, rules)?,
    };
    if !keeps_ledger(age_s, rules.storage()) {
        ledger.clear();
    }
    let mut rest = Rest::of(&parts, &ledger).map_err(compact::CompactError::from)?;
    rest.parts = sweep::filtered(&rest.parts, &verdicts).map_err(compact::CompactError::from)?;
    let mut added = Vec::new();
    if verdicts.keep_any() || rest.ledger.num_rows() > 0 {
        let stem = format!("{}/s{:020x}", day_name(meta.day), now_ns());
        let pages = Pages::of(Tier::at(age_s, rules.storage()), rules.storage());
        let rows = match meta.rows {
            0 => None,
            _ => Some(Rows::open(spans)?),
        };
        let staying = rows
            .into_iter()
            .flatten()
            .map(|batch| sweep::stay(&batch?, &verdicts).map_err(compact::CompactError::from));
        // A file without rows is none.
        let is_empty = |batch: &RecordBatch| batch.num_rows() == 0;
        let mut staying = staying.filter(|batch| !batch.as_ref().is_ok_and(is_empty));
        let mut swept =
            compact::write_partition(root, (stem, meta.day), &mut staying, &rest, pages)?;
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
    parts: &[RecordBatch],
) -> Result<Noted, Failure> {
    let mut noted = Noted::default();
    for parts in parts {
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
