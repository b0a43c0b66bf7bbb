//! What is kept of files between queries: sums for the cost views and the page, and which
//! services ledgers count exactly.
//!
//! Partitions never change, and each has a name of its own, so what is kept is right for as long as
//! a view names the partition; rows in memory are never kept here. What a query does not ask for
//! any more goes when there is no room. Sums that do not fit are not made: the query reads
//! the file.
//!
//! Limits: [`Cache::new`]'s bytes for sums; [`COVERED`] pairs of service and day, beyond which
//! they are read again by each query.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use datafusion::arrow::array::RecordBatch;
use datafusion::error::Result;
use datafusion::parquet::errors::ParquetError;

use crate::store::Snapshot;
use crate::store::catalog::Partition;
use crate::store::costs::{self, Covered};

/// Pairs of service and day.
const COVERED: usize = 50_000;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Cache {
    bytes: usize,
    turn: AtomicU64,
    sums: Mutex<Sums>,
    covered: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Sums {
    files: HashMap<PathBuf, (RecordBatch, u64)>,
    bytes: usize,
}

/// The partitions whose pairs are known, by name.
#[derive(Debug, Default)]
struct Known {
    partitions: HashMap<PathBuf, Arc<BTreeSet<Covered>>>,
    pairs: usize,
}

/// How sums are made of a file.
pub(super) type Read = fn(&Path) -> Result<RecordBatch, ParquetError>;

/// One query's use of the cache.
#[derive(Debug)]
pub(super) struct Turn {
    cache: Arc<Cache>,
    number: u64,
    /// Set once something did not fit.
    is_full: AtomicBool,
}

fn size(rows: &RecordBatch) -> usize {
    rows.get_array_memory_size()
}

impl Cache {
    /// A cache of so many bytes of sums.
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            bytes,
            turn: AtomicU64::new(0),
            sums: Mutex::default(),
            covered: Mutex::default(),
        }
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        // Entries are whole or not there.
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For one query.
    pub(super) fn turn(self: &Arc<Self>) -> Turn {
        Turn {
            cache: self.clone(),
            number: self.turn.fetch_add(1, Ordering::Relaxed) + 1,
            is_full: AtomicBool::new(false),
        }
    }

    /// Services and days that the partitions of a view count exactly.
    pub(super) fn covered(&self, snapshot: &Snapshot) -> Result<BTreeSet<Covered>> {
        let mut known = self.covered.lock().unwrap_or_else(PoisonError::into_inner);
        let counted = || {
            snapshot
                .partitions
                .iter()
                .filter(|part| part.meta.ledger > 0)
        };
        if known.partitions.len() > 2 * counted().count() {
            // Most have been merged or have run out.
            let named: HashSet<PathBuf> = counted().map(|part| part.ledger()).collect();
            known.partitions.retain(|path, _| named.contains(path));
            known.pairs = known.partitions.values().map(|pairs| pairs.len()).sum();
        }
        let mut all = BTreeSet::new();
        for partition in counted() {
            let path = partition.ledger();
            if let Some(pairs) = known.partitions.get(&path) {
                all.extend(pairs.iter().cloned());
                continue;
            }
            let pairs = read_covered(partition)?;
            all.extend(pairs.iter().cloned());
            // An empty set takes room, too.
            if known.pairs + known.partitions.len() + pairs.len() < COVERED {
                known.pairs += pairs.len();
                known.partitions.insert(path, Arc::new(pairs));
            }
        }
        Ok(all)
    }

    /// Bytes of sums that are kept.
    pub(super) fn used(&self) -> usize {
        self.sums().bytes
    }
}

fn read_covered(partition: &Partition) -> Result<BTreeSet<Covered>> {
    let mut pairs = BTreeSet::new();
    let path = if partition.has_rollups() {
        partition.days()
    } else {
        partition.ledger()
    };
    costs::read_covered(&path, &mut pairs)?;
    Ok(pairs)
}

impl Turn {
    /// The sums over a file, unless there is no room for more in this turn.
    pub(super) fn sums(&self, path: &Path, read: Read) -> Result<Option<RecordBatch>> {
        {
            let mut sums = self.cache.sums();
            if let Some((rows, used)) = sums.files.get_mut(path) {
                *used = self.number;
                return Ok(Some(rows.clone()));
            }
        }
        if self.is_full.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let rows = read(path)?;
        let mut sums = self.cache.sums();
        while sums.bytes + size(&rows) > self.cache.bytes {
            let oldest = sums.files.iter().min_by_key(|(_, (_, used))| *used);
            let oldest = oldest.filter(|(_, (_, used))| *used < self.number);
            let Some(path) = oldest.map(|(path, _)| path.clone()) else {
                self.is_full.store(true, Ordering::Relaxed);
                return Ok(Some(rows));
            };
            if let Some((gone, _)) = sums.files.remove(&path) {
                sums.bytes -= size(&gone);
            }
        }
        sums.bytes += size(&rows);
        let kept = (rows.clone(), self.number);
        if let Some((gone, _)) = sums.files.insert(path.to_owned(), kept) {
            // Two queries read the same file.
            sums.bytes -= size(&gone);
        }
        Ok(Some(rows))
    }
}
