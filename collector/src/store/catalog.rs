//! The catalog: which partition files exist and how far the log is compacted.
//!
//! `catalog.json` (version 4; older ones are read) is written to a temporary file, synced, renamed and the folder
//! synced, so a reader finds the old or the new one. It names everything below `parts/`; files
//! it does not name are left-overs of an interrupted compaction and are removed at start.
//! Files of partitions that leave the catalog are removed when the last query that uses them
//! has ended.
//!
//! The spans of a partition may be in another place ([`Meta::place`], a tier's back end); the
//! lists of traces and the ledger never leave the folder. What has to be deleted there is listed
//! as garbage: an object from before its upload begins until a partition names it, and again from
//! when no partition names it until its deletion was answered. So an interrupted upload or
//! deletion leaves nothing behind for good, and nobody has to list a bucket.
//!
//! Limits: one partition per segment and day. The catalog is read whole (about 200 bytes per
//! partition).

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::wal::fs::{Fs, LogFile};

/// File name of the catalog.
const CATALOG: &str = "catalog.json";
const TEMPORARY: &str = "catalog.json.tmp";
/// Folder of the partitions.
pub(crate) const PARTS: &str = "parts";
/// 4: partitions may have spans of layout 2 ([`super::layout`]).
const VERSION: u32 = 4;

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
    /// Whether there are rollups of the ledger rows; not in catalogs of version 1.
    #[serde(default)]
    pub(crate) rollups: bool,
    /// Whether there is a list of where its traces are; not in catalogs before version 3.
    #[serde(default)]
    pub(crate) ids: bool,
    /// Whether there are sums over its spans; not in catalogs before version 3.
    #[serde(default)]
    pub(crate) sums: bool,
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Bytes of raw attributes among them; not in older catalogs.
    #[serde(default)]
    pub(crate) raw_bytes: u64,
    /// Earliest start of a span, nanoseconds since the epoch.
    pub(crate) min_ns: i64,
    /// Latest start of a span.
    pub(crate) max_ns: i64,
    /// The different `retention_days` of its spans, ascending.
    #[serde(default)]
    pub(crate) retention_days: Vec<u16>,
    /// The last boundary of retention that was applied, an age in seconds.
    #[serde(default)]
    pub(crate) swept_s: u64,
    /// Where the spans are; none: in the data folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) place: Option<String>,
    /// Bytes of the spans' file; 0 in catalogs of version 1.
    #[serde(default)]
    pub(crate) spans_bytes: u64,
}

impl Meta {
    /// The spans' object, when they are not in the data folder.
    pub(crate) fn remote(&self) -> Option<Remote> {
        Some(Remote {
            place: self.place.clone()?,
            path: spans_file(&self.stem),
        })
    }

    /// The files below `parts/`, a bit each: spans, traces, ledger, hours, days, ids, sums.
    fn files(&self) -> u8 {
        let bits = [
            self.rows > 0 && self.place.is_none(),
            self.traces > 0,
            self.ledger > 0,
            self.ledger > 0 && self.rollups,
            self.ledger > 0 && self.rollups,
            self.rows > 0 && self.ids,
            self.rows > 0 && self.sums,
        ];
        bits.iter()
            .rev()
            .fold(0, |mask, there| mask << 1 | u8::from(*there))
    }
}

/// An object in another place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Remote {
    /// The place's address.
    pub(crate) place: String,
    /// Path below it.
    pub(crate) path: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    version: u32,
    /// Segments below this number are compacted.
    next_segment: u64,
    /// Names this folder in places that several collectors share.
    #[serde(default)]
    folder: String,
    partitions: Vec<Meta>,
    /// Objects to delete.
    #[serde(default)]
    garbage: Vec<Remote>,
}

/// A partition on disk.
#[derive(Debug)]
pub(crate) struct Partition {
    /// What the catalog says about it.
    pub(crate) meta: Meta,
    root: PathBuf,
    /// Files that go when the last reader has gone; bits as in [`Meta::files`].
    doomed: AtomicU8,
}

impl Partition {
    fn new(meta: Meta, root: &Path) -> Arc<Self> {
        Arc::new(Self {
            meta,
            root: root.to_owned(),
            doomed: AtomicU8::new(0),
        })
    }

    /// The file with the spans.
    pub(crate) fn spans(&self) -> PathBuf {
        self.root.join(spans_file(&self.meta.stem))
    }

    /// True while all its files in the folder are there (a merge by another process removes them).
    pub(crate) fn exists(&self) -> bool {
        let files = self.meta.files();
        self.paths(files).all(|path| path.exists())
    }

    fn paths(&self, files: u8) -> impl Iterator<Item = PathBuf> {
        [
            self.spans(),
            self.traces(),
            self.ledger(),
            self.hours(),
            self.days(),
            self.ids(),
            self.sums(),
        ]
        .into_iter()
        .enumerate()
        .filter(move |(bit, _)| files >> bit & 1 == 1)
        .map(|(_, path)| path)
    }

    /// The file with the sums over its spans ([`super::sums`]).
    pub(crate) fn sums(&self) -> PathBuf {
        self.root.join(sums_file(&self.meta.stem))
    }

    /// The list of where its traces are ([`super::ids`]).
    pub(crate) fn ids(&self) -> PathBuf {
        self.root.join(ids_file(&self.meta.stem))
    }

    /// The file with the ledger rows.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join(ledger_file(&self.meta.stem))
    }

    /// True when the ledger's rows exist by hour and day.
    pub(crate) fn has_rollups(&self) -> bool {
        self.meta.ledger > 0 && self.meta.rollups
    }

    /// The file with the ledger's rows by hour.
    pub(crate) fn hours(&self) -> PathBuf {
        self.root.join(hours_file(&self.meta.stem))
    }

    /// The file with the ledger's rows by day.
    pub(crate) fn days(&self) -> PathBuf {
        self.root.join(days_file(&self.meta.stem))
    }

    /// The file with the trace parts.
    pub(crate) fn traces(&self) -> PathBuf {
        self.root.join(traces_file(&self.meta.stem))
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        for path in self.paths(self.doomed.load(Ordering::Acquire)) {
            // A file that stays behind is removed at the next start.
            drop(std::fs::remove_file(path));
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

/// Name of a partition's ledger file by hour below `parts/`.
pub(crate) fn hours_file(stem: &str) -> String {
    format!("{stem}.hours.parquet")
}

/// Name of a partition's ledger file by day below `parts/`.
pub(crate) fn days_file(stem: &str) -> String {
    format!("{stem}.days.parquet")
}

/// Name of a partition's file with sums over its spans, below `parts/`.
pub(crate) fn sums_file(stem: &str) -> String {
    format!("{stem}.sums.parquet")
}

/// Name of a partition's list of where its traces are, below `parts/`.
pub(crate) fn ids_file(stem: &str) -> String {
    format!("{stem}.ids")
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
    folder: String,
    partitions: Vec<Arc<Partition>>,
    garbage: Vec<Garbage>,
}

/// An object to delete, and the partition whose readers may still need it.
type Garbage = (Remote, Weak<Partition>);

impl<F: Fs> Catalog<F> {
    /// Reads the catalog of `dir`; a missing one is empty.
    pub(crate) fn load(fs: Arc<F>, dir: &Path) -> Result<Self, CatalogError> {
        let root = dir.join(PARTS);
        let manifest = match fs.read(&dir.join(CATALOG)) {
            Ok(bytes) => {
                let manifest: Manifest = serde_json::from_slice(&bytes)?;
                if manifest.version == 0 || manifest.version > VERSION {
                    return Err(CatalogError::Version(manifest.version));
                }
                manifest
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Manifest {
                version: VERSION,
                next_segment: 0,
                folder: String::new(),
                partitions: Vec::new(),
                garbage: Vec::new(),
            },
            Err(error) => return Err(error.into()),
        };
        let partitions = manifest
            .partitions
            .into_iter()
            .map(|meta| Partition::new(meta, &root))
            .collect();
        let folder = if manifest.folder.is_empty() {
            // The operating system's entropy; written with the first change.
            format!("{:016x}", RandomState::new().hash_one(dir))
        } else {
            manifest.folder
        };
        let objects = manifest.garbage.into_iter();
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            next_segment: manifest.next_segment,
            folder,
            partitions,
            garbage: objects.map(|object| (object, Weak::new())).collect(),
        })
    }

    /// A name for this folder that no other has.
    pub(crate) fn folder(&self) -> &str {
        &self.folder
    }

    /// Remembers an object before its upload begins.
    pub(crate) fn intend(&mut self, object: Remote) -> Result<(), CatalogError> {
        let mut garbage = self.garbage.clone();
        garbage.retain(|(known, _)| *known != object);
        garbage.push((object, Weak::new()));
        self.write(self.next_segment, self.partitions.clone(), garbage)
    }

    /// Objects that nobody reads any more.
    pub(crate) fn garbage(&self) -> Vec<Remote> {
        let unread = self
            .garbage
            .iter()
            .filter(|(_, readers)| readers.strong_count() == 0);
        unread.map(|(object, _)| object.clone()).collect()
    }

    /// Objects that were deleted.
    pub(crate) fn forget(&mut self, deleted: &[Remote]) -> Result<(), CatalogError> {
        let mut garbage = self.garbage.clone();
        garbage.retain(|(object, _)| !deleted.contains(object));
        self.write(self.next_segment, self.partitions.clone(), garbage)
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
        let named: HashSet<Remote> = added.iter().filter_map(Meta::remote).collect();
        let mut garbage = self.garbage.clone();
        garbage.retain(|(object, _)| !named.contains(object));
        let left = removed
            .iter()
            .filter_map(|part| Some((part.meta.remote()?, Arc::downgrade(part))));
        garbage.extend(left.filter(|(object, _)| !named.contains(object)));
        // A partition that lives on under its name keeps the files that it still has.
        let doomed: Vec<u8> = removed
            .iter()
            .map(|part| {
                let heir = added.iter().find(|meta| meta.stem == part.meta.stem);
                part.meta.files() & !heir.map_or(0, Meta::files)
            })
            .collect();
        partitions.extend(added.into_iter().map(|meta| Partition::new(meta, &root)));
        self.write(next_segment, partitions, garbage)?;
        for (part, files) in removed.iter().zip(doomed) {
            part.doomed.store(files, Ordering::Release);
        }
        Ok(())
    }

    /// Makes a new state durable, then current.
    fn write(
        &mut self,
        next_segment: u64,
        partitions: Vec<Arc<Partition>>,
        garbage: Vec<Garbage>,
    ) -> Result<(), CatalogError> {
        let bytes = serde_json::to_vec_pretty(&Manifest {
            version: VERSION,
            next_segment,
            folder: self.folder.clone(),
            partitions: partitions.iter().map(|part| part.meta.clone()).collect(),
            garbage: garbage.iter().map(|(object, _)| object.clone()).collect(),
        })?;
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
        self.partitions = partitions;
        self.next_segment = next_segment;
        self.garbage = garbage;
        Ok(())
    }

    /// Removes files below `parts/` that the catalog does not name; returns how many.
    pub(crate) fn remove_orphans(&self) -> io::Result<usize> {
        let root = self.dir.join(PARTS);
        let known: HashSet<PathBuf> = self
            .partitions
            .iter()
            .flat_map(|part| part.paths(part.meta.files()))
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
