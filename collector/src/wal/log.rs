//! The log: segments in a folder, one of them open for appending.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::fs::{Fs, LogFile};
use super::record::{Found, Record, SEGMENT_MAGIC, Scanner};

/// Why the log did not take a group.
#[derive(Debug, Error)]
pub(crate) enum LogError {
    /// Writing failed and was undone; a later attempt may work (disk full).
    #[error("cannot write the log: {0}")]
    Write(#[source] io::Error),
    /// A sync failed, now or earlier: nothing is accepted until a restart.
    #[error("the log is poisoned by a failed sync")]
    Poisoned,
}

/// A segment's file name: number and salt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentName {
    /// Rises from segment to segment.
    pub(crate) number: u64,
    /// Enters the checksums.
    pub(crate) salt: u64,
}

impl SegmentName {
    const SUFFIX: &'static str = ".v1.wal";

    fn parse(name: &str) -> Option<Self> {
        let (number, salt) = name.strip_suffix(Self::SUFFIX)?.split_once('-')?;
        let hex = |text: &str| {
            (text.len() == 16)
                .then(|| u64::from_str_radix(text, 16).ok())
                .flatten()
        };
        Some(Self {
            number: hex(number)?,
            salt: hex(salt)?,
        })
    }

    fn file_name(self) -> String {
        format!("{:016x}-{:016x}{}", self.number, self.salt, Self::SUFFIX)
    }
}

struct OpenSegment<F> {
    name: SegmentName,
    file: F,
    synced_len: u64,
}

/// What reading a segment found besides records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Damage {
    /// Damaged places in the middle, as offset and length.
    pub(crate) skipped: Vec<(usize, usize)>,
    /// Bytes cut off the end.
    pub(crate) torn_bytes: usize,
}

/// The log of one data folder.
pub(crate) struct Log<F: Fs> {
    fs: Arc<F>,
    dir: PathBuf,
    closed: BTreeMap<u64, SegmentName>,
    open: Option<OpenSegment<F::File>>,
    next_segment: u64,
    next_record: u64,
    poisoned: bool,
    buffer: Vec<u8>,
}

impl<F: Fs> Log<F> {
    /// Opens the log in `dir`; nothing is read or written yet. New segments get numbers from
    /// `first` on, so that a number is not used again after its segment was removed.
    pub(crate) fn open(fs: Arc<F>, dir: &Path, first: u64) -> io::Result<Self> {
        let closed: BTreeMap<u64, SegmentName> = fs
            .list(dir)?
            .iter()
            .filter_map(|name| SegmentName::parse(name))
            .map(|name| (name.number, name))
            .collect();
        let last = closed.keys().next_back().map_or(0, |number| number + 1);
        Ok(Self {
            fs,
            dir: dir.to_owned(),
            closed,
            open: None,
            next_segment: last.max(first),
            next_record: 0,
            poisoned: false,
            buffer: Vec::new(),
        })
    }

    /// Numbers of the closed segments, oldest first.
    pub(crate) fn closed(&self) -> Vec<u64> {
        self.closed.keys().copied().collect()
    }

    /// Reads a closed segment, hands each intact record with its number to `each` in order,
    /// and says what was damaged. With `cut`, a torn tail is removed from the file.
    pub(crate) fn read(
        &mut self,
        number: u64,
        cut: bool,
        mut each: impl FnMut(u64, Record),
    ) -> io::Result<Damage> {
        let Some(name) = self.closed.get(&number).copied() else {
            return Ok(Damage::default());
        };
        let path = self.dir.join(name.file_name());
        let bytes = self.fs.read(&path)?;
        let mut damage = Damage::default();
        for found in Scanner::new(&bytes, name.salt) {
            match found {
                Found::Record(number, record) => {
                    self.next_record = self.next_record.max(number + 1);
                    each(number, record);
                }
                Found::Damage { offset, len } => damage.skipped.push((offset, len)),
                Found::TornTail { offset, len } => {
                    damage.torn_bytes = len;
                    if cut {
                        self.fs.truncate(&path, offset as u64)?;
                    }
                }
            }
        }
        Ok(damage)
    }

    /// Appends a group and makes it durable; all of it or none.
    pub(crate) fn append(&mut self, group: &[Record], salt: u64) -> Result<(), LogError> {
        if self.poisoned {
            return Err(LogError::Poisoned);
        }
        let mut segment = match self.open.take() {
            Some(segment) => segment,
            None => self.create_segment(salt).map_err(LogError::Write)?,
        };
        self.buffer.clear();
        let mut number = self.next_record;
        for record in group {
            record.encode(number, segment.name.salt, &mut self.buffer);
            number += 1;
        }
        if let Err(error) = segment.file.append(&self.buffer) {
            let undone = segment.file.cut(segment.synced_len);
            self.poisoned = undone.is_err();
            self.open = Some(segment);
            return Err(LogError::Write(error));
        }
        if segment.file.sync().is_err() {
            self.poisoned = true;
            self.open = Some(segment);
            return Err(LogError::Poisoned);
        }
        segment.synced_len += self.buffer.len() as u64;
        self.next_record = number;
        self.open = Some(segment);
        // One huge group must not hold its memory for ever.
        self.buffer.shrink_to(4 << 20);
        Ok(())
    }

    fn create_segment(&mut self, salt: u64) -> io::Result<OpenSegment<F::File>> {
        let name = SegmentName {
            number: self.next_segment,
            salt,
        };
        // The number is used up even if creation fails half way: a file of that name may exist.
        self.next_segment += 1;
        let mut file = self.fs.create(&self.dir.join(name.file_name()))?;
        file.append(SEGMENT_MAGIC)?;
        self.fs.sync_dir(&self.dir)?;
        Ok(OpenSegment {
            name,
            file,
            synced_len: SEGMENT_MAGIC.len() as u64,
        })
    }

    /// Number of the segment that the next group goes to.
    pub(crate) fn current(&self) -> u64 {
        self.open
            .as_ref()
            .map_or(self.next_segment, |segment| segment.name.number)
    }

    /// Number of the next record.
    pub(crate) fn next_record(&self) -> u64 {
        self.next_record
    }

    /// Bytes in the open segment.
    pub(crate) fn open_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |segment| segment.synced_len)
    }

    /// Closes the open segment; the next group opens a new one.
    pub(crate) fn rotate(&mut self) {
        if let Some(segment) = self.open.take() {
            self.closed.insert(segment.name.number, segment.name);
        }
    }

    /// Removes a closed segment whose content is stored elsewhere.
    pub(crate) fn remove(&mut self, number: u64) -> io::Result<()> {
        let Some(name) = self.closed.get(&number).copied() else {
            return Ok(());
        };
        match self.fs.remove(&self.dir.join(name.file_name())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.closed.remove(&number);
        self.fs.sync_dir(&self.dir)
    }

    /// True after a failed sync.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned
    }
}
