//! The compactor: sealed generations become partitions.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::WeakSender;

use super::tiers::{SOON, Tiers, Work};
use super::{Command, merge};
use crate::memory;
use crate::metrics::Metrics;
use crate::policy::Rules;
use crate::store::Store;
use crate::store::catalog::{Catalog, CatalogError};
use crate::store::compact::{self, CompactError};
use crate::store::generation::Sealed;
use crate::wal::fs::RealFs;

/// How often retention is applied.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// Pause after a failed compaction (a full disk, most likely).
const RETRY: Duration = Duration::from_secs(5);
/// After this much without a generation, free memory goes back to the system.
const QUIET: Duration = Duration::from_secs(5);
/// How often a pause looks whether the collector is closing.
const STEP: Duration = Duration::from_millis(100);

/// See the module's documentation.
pub(super) struct Compactor {
    pub(super) catalog: Catalog<RealFs>,
    pub(super) root: PathBuf,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) closing: Arc<AtomicBool>,
    pub(super) committer: WeakSender<Command>,
    pub(super) rules: Arc<Rules>,
    pub(super) tiers: Tiers,
}

/// Why a generation could not be compacted.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Write(#[from] CompactError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Compactor {
    /// Works until the committer has ended.
    pub(super) fn run(mut self, sealed: &Receiver<Arc<Sealed>>) {
        let mut every = self.retain();
        let mut retained = Instant::now();
        // Free memory that the next generation may want: given back and taken again for each, its
        // pages would cost more time than the rows in them.
        let mut is_kept = false;
        loop {
            let wait = if is_kept { every.min(QUIET) } else { every };
            match sealed.recv_timeout(wait) {
                Ok(generation) => {
                    if !self.compact_for_sure(&generation) {
                        return;
                    }
                    drop(generation);
                    self.merge();
                    self.store.memory().look();
                    is_kept = !self.store.memory().is_high();
                    if !is_kept {
                        memory::give_back();
                    }
                    // Spans may come late enough to have run out, or to belong elsewhere.
                    every = SOON;
                }
                Err(RecvTimeoutError::Timeout) if is_kept => {
                    memory::give_back();
                    is_kept = false;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.is_closing() {
                // The rest stays in the log and is read back at the next start.
                return;
            }
            if retained.elapsed() >= every {
                every = self.retain();
                retained = Instant::now();
            }
        }
    }

    /// Repeats until it works; false when the collector closes meanwhile.
    fn compact_for_sure(&mut self, generation: &Sealed) -> bool {
        while let Err(error) = self.compact(generation) {
            self.metrics.compaction_failures.add(1);
            tracing::error!(segment = generation.segment, %error, "cannot compact");
            if !self.pause() {
                return false;
            }
        }
        true
    }

    /// Returns when to look again.
    fn retain(&mut self) -> Duration {
        let start = Instant::now();
        let mut work = Work {
            catalog: &mut self.catalog,
            root: &self.root,
            store: &self.store,
            rules: &self.rules,
            metrics: &self.metrics,
        };
        match self.tiers.step(&mut work) {
            Ok(0) => self.tiers.again().unwrap_or(RETAIN_EVERY).min(RETAIN_EVERY),
            Ok(_) => {
                self.metrics.sweeps.add(start.elapsed());
                self.merge();
                memory::give_back();
                SOON
            }
            // Tried again a minute later; until then rows stay longer than they should.
            Err(error) => {
                tracing::error!(%error, "cannot apply retention");
                RETAIN_EVERY
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// False when the collector closes meanwhile.
    fn pause(&self) -> bool {
        let end = Instant::now() + RETRY;
        while Instant::now() < end {
            if self.is_closing() {
                return false;
            }
            std::thread::sleep(STEP);
        }
        true
    }

    fn compact(&mut self, sealed: &Sealed) -> Result<(), Failure> {
        let start = Instant::now();
        let metas = compact::write(sealed, &self.root)?;
        let bytes: u64 = metas.iter().map(|meta| meta.bytes).sum();
        let raw_bytes = metas.iter().map(|meta| meta.raw_bytes).sum();
        let partitions = metas.len();
        self.catalog.commit_segment(sealed.segment, metas)?;
        self.store
            .compacted(sealed.segment, self.catalog.partitions().to_vec());
        if let Some(committer) = self.committer.upgrade() {
            // Closed: the segment is removed at the next start.
            drop(committer.blocking_send(Command::Compacted(sealed.segment)));
        }
        self.metrics.partition_bytes.add(bytes);
        self.metrics.partition_raw_bytes.add(raw_bytes);
        self.metrics.compactions.add(start.elapsed());
        tracing::info!(
            segment = sealed.segment,
            spans = sealed.rows,
            partitions,
            bytes,
            milliseconds = start.elapsed().as_millis() as u64,
            "compacted a log segment"
        );
        Ok(())
    }

    fn merge(&mut self) {
        let start = Instant::now();
        let tiers = &self.tiers;
        let may_merge = |meta: &_| !tiers.holds(meta);
        match merge::run(
            &mut self.catalog,
            &self.root,
            &self.store,
            &self.rules,
            may_merge,
        ) {
            Ok(0) => {}
            Ok(merged) => {
                self.metrics.merges.add(start.elapsed());
                tracing::info!(merged, "merged partitions");
            }
            // Nothing is lost: the partitions stay as they are.
            Err(error) => tracing::warn!(%error, "cannot merge partitions"),
        }
    }
}
