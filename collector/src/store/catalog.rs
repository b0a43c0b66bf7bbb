//! The catalog: which partition files exist and how far the log is compacted.
//!
//! `catalog.json` (version 1) is written to a temporary file, synced, renamed and the folder
//! synced, so a reader finds the old or the new one. It names everything below `parts/`; files
//! it does not name are left-overs of an interrupted compaction and are removed at start.
//! Files of partitions that leave the catalog are removed when the last query that uses them
//! has ended.
//!
//! Limits: one partition per segment and day. The catalog is read whole (about 200 bytes per
//! partition).

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wal::fs::{Fs, LogFile};

/// File name of the catalog.
const CATALOG: &str = "catalog.json";
const TEMPORARY: &str = "catalog.json.tmp";
/// Folder of the partitions.
pub(crate) const PARTS: &str = "parts";
const VERSION: u32 = 1;

/// Why the catalog cannot be used.
#[derive(Debug, Error)]
pub(crate) enum CatalogError {
    /// The file system failed.
    #[error("catalog: {0}")]
    Io(#[from] io::Error),
    /// Not JSON of the expected shape.
    #[error("catalog `{CATALOG}` is damaged: {0}")]
    Damaged(#[from] serde_json::Error),
    /// Written by a newer version.
    #[error("catalog has version `{0}`, this program knows `{VERSION}`")]
    Version(u32),
}

/// One partition: the spans, trace parts and ledger rows of one segment and day. There is a
/// file for each kind that has rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Meta {
    /// Path below `parts/` without the suffix.
    pub(crate) stem: String,
    /// Days since the epoch; every span of the partition starts on this day.
    pub(crate) day: i64,
    /// Spans.
    pub(crate) rows: u64,
    /// Trace parts.
    pub(crate) traces: u64,
    /// Ledger rows.
    #[serde(default)]
    pub(crate) ledger: u64,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Earliest start of a span, nanoseconds since the epoch.
    pub(crate) min_ns: i64,
    /// Latest start of a span.
    pub(crate) max_ns: i64,
    /// The different `retention_days` of its spans, ascending.
    #[serde(default)]
    pub(crate) retention_days: Vec<u16>,
    /// Age in seconds at which retention was applied last.
    #[serde(default)]
    pub(crate) swept_s: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    /// Segments below this number are compacted.
    next_segment: u64,
    partitions: Vec<Meta>,
}

/// A partition on disk.
#[derive(Debug)]
pub(crate) struct Partition {
    /// What the catalog says about it.
    pub(crate) meta: Meta,
    root: PathBuf,
    doomed: AtomicBool,
}

impl Partition {
    fn new(meta: Meta, root: &Path) -> Arc<Self> {
        Arc::new(Self {
            meta,
            root: root.to_owned(),
            doomed: AtomicBool::new(false),
        })
    }

    /// The file with the spans.
    pub(crate) fn spans(&self) -> PathBuf {
        self.root.join(spans_file(&self.meta.stem))
    }

    /// True while all its files are there (a merge by another process removes them).
    pub(crate) fn exists(&self) -> bool {
        let meta = &self.meta;
        [
            (meta.rows, self.spans()),
            (meta.traces, self.traces()),
            (meta.ledger, self.ledger()),
        ]
        .iter()
        .all(|(rows, path)| *rows == 0 || path.exists())
    }

    /// The file with the ledger rows.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join(ledger_file(&self.meta.stem))
    }

    /// The file with the trace parts.
    pub(crate) fn traces(&self) -> PathBuf {
        self.root.join(traces_file(&self.meta.stem))
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        if self.doomed.load(Ordering::Acquire) {
            // A file that stays behind is removed at the next start.
            drop(std::fs::remove_file(self.spans()));
            drop(std::fs::remove_file(self.traces()));
            drop(std::fs::remove_file(self.ledger()));
        }
    }
}

/// Name of a partition's spans file below `parts/`.
pub(crate) fn spans_file(stem: &str) -> String {
    format!("{stem}.spans.parquet")
}

/// Name of a partition's ledger file below `parts/`.
pub(crate) fn ledger_file(stem: &str) -> String {
    format!("{stem}.ledger.parquet")
}

/// Name of a partition's trace parts file below `parts/`.
pub(crate) fn traces_file(stem: &str) -> String {
    format!("{stem}.traces.parquet")
}

/// The catalog of one data folder.
pub(crate) struct Catalog<F: Fs> {
    fs: Arc<F>,
    dir: PathBuf,
    next_segment: u64,
    partitions: Vec<Arc<Partition>>,
}

impl<F: Fs> Catalog<F> {
    /// Reads the catalog of `dir`; a missing one is empty.
    pub(crate) fn load(fs: Arc<F>, dir: &Path) -> Result<Self, CatalogError> {
        let root = dir.join(PARTS);
        let manifest = match fs.read(&dir.join(CATALOG)) {
            Ok(bytes) => {
                let manifest: Manifest = serde_json::from_slice(&bytes)?;
                if manifest.version != VERSION {
                    return Err(CatalogError::Version(manifest.version));
                }
                manifest
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest {
                version: VERSION,
                next_segment: 0,
                partitions: Vec::new(),
            },
            Err(error) => return Err(error.into()),
        };
        let partitions = manifest
            .partitions
            .into_iter()
            .map(|meta| Partition::new(meta, &root))
            .collect();
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            next_segment: manifest.next_segment,
            partitions,
        })
    }

    /// Segments below this number are compacted.
    pub(crate) fn next_segment(&self) -> u64 {
        self.next_segment
    }

    /// All partitions, oldest segment first.
    pub(crate) fn partitions(&self) -> &[Arc<Partition>] {
        &self.partitions
    }

    /// Adds the partitions of a compacted segment.
    pub(crate) fn commit_segment(
        &mut self,
        segment: u64,
        added: Vec<Meta>,
    ) -> Result<(), CatalogError> {
        self.replace(&[], added, segment.saturating_add(1).max(self.next_segment))
    }

    /// Replaces some partitions by others (merge, expiry); both sides are durable at once.
    pub(crate) fn replace_partitions(
        &mut self,
        removed: &[Arc<Partition>],
        added: Vec<Meta>,
    ) -> Result<(), CatalogError> {
        self.replace(removed, added, self.next_segment)
    }

    fn replace(
        &mut self,
        removed: &[Arc<Partition>],
        added: Vec<Meta>,
        next_segment: u64,
    ) -> Result<(), CatalogError> {
        let gone: HashSet<&str> = removed.iter().map(|part| part.meta.stem.as_str()).collect();
        let root = self.dir.join(PARTS);
        let mut partitions: Vec<Arc<Partition>> = self
            .partitions
            .iter()
            .filter(|part| !gone.contains(part.meta.stem.as_str()))
            .cloned()
            .collect();
        partitions.extend(added.into_iter().map(|meta| Partition::new(meta, &root)));
        self.write(&Manifest {
            version: VERSION,
            next_segment,
            partitions: partitions.iter().map(|part| part.meta.clone()).collect(),
        })?;
        for part in removed {
            part.doomed.store(true, Ordering::Release);
        }
        self.partitions = partitions;
        self.next_segment = next_segment;
        Ok(())
    }

    fn write(&self, manifest: &Manifest) -> Result<(), CatalogError> {
        let bytes = serde_json::to_vec_pretty(manifest)?;
        let temporary = self.dir.join(TEMPORARY);
        match self.fs.remove(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = self.fs.create(&temporary)?;
        file.append(&bytes)?;
        file.sync()?;
        drop(file);
        self.fs.rename(&temporary, &self.dir.join(CATALOG))?;
        self.fs.sync_dir(&self.dir)?;
        Ok(())
    }

    /// Removes files below `parts/` that the catalog does not name; returns how many.
    pub(crate) fn remove_orphans(&self) -> io::Result<usize> {
        let root = self.dir.join(PARTS);
        let known: HashSet<PathBuf> = self
            .partitions
            .iter()
            .flat_map(|part| [part.spans(), part.traces(), part.ledger()])
            .collect();
        let mut removed = 0;
        for day in self.fs.list(&root)? {
            let folder = root.join(day);
            for name in self.fs.list(&folder)? {
                let path = folder.join(name);
                if !known.contains(&path) {
                    self.fs.remove(&path)?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
