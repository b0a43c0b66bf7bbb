//! Whether the disk takes writes.
//!
//! A failed write of the log (a full disk, most likely) sets it; a later success clears it. While it
//! is set the collector is not ready and gets no requests, so it also tries by itself: once a tick
//! it writes a file of [`PROBE_BYTES`] and removes it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Room that has to be there again.
const PROBE_BYTES: usize = 1 << 20;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Failing {
    failing: AtomicBool,
    probe: PathBuf,
}

impl Failing {
    /// Nothing failed yet.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            failing: AtomicBool::new(false),
            probe: dir.join("probe.tmp"),
        }
    }

    /// True while writes fail.
    pub(super) fn is_set(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// A write failed.
    pub(super) fn set(&self) {
        self.failing.store(true, Ordering::Release);
    }

    /// A write succeeded.
    pub(super) fn clear(&self) {
        if self.failing.swap(false, Ordering::AcqRel) {
            tracing::info!("the log can be written again");
        }
    }

    /// Tries again, if the last write failed.
    pub(super) fn look(&self) {
        if self.is_set() && self.try_to_write().is_ok() {
            self.clear();
        }
    }

    fn try_to_write(&self) -> io::Result<()> {
        let written = File::create(&self.probe).and_then(|mut file| {
            file.write_all(&vec![0; PROBE_BYTES])?;
            file.sync_all()
        });
        std::fs::remove_file(&self.probe)?;
        written
    }
}
