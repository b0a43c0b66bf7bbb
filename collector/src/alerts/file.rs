//! `alerts.json` in the data folder: what alerts remember across restarts.
//!
//! Version 1. Written under another name, synced and renamed, so a reader finds the old or the
//! new one. It is written before anybody is told: a crash in between tells them after the restart.
//! A file that cannot be read is put aside (`alerts.json.damaged`), and alerts begin anew.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::board::Memory;
use super::outbox::Waiting;
use crate::assembly::Until;

const NAME: &str = "alerts.json";
const VERSION: u32 = 1;

/// Everything remembered.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    /// What is counted.
    pub(super) counted: Until,
    pub(super) alerts: Vec<Memory>,
    pub(super) waiting: Vec<Waiting>,
}

impl Saved {
    /// What is to be remembered now.
    pub(super) fn new(counted: Until, alerts: Vec<Memory>, waiting: Vec<Waiting>) -> Self {
        Self {
            version: VERSION,
            counted,
            alerts,
            waiting,
        }
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Reads what is remembered. Without a file what arrived before `now_ns` counts as counted: it was
/// stored by a version without alerts.
pub(super) fn load(dir: &Path, now_ns: u64) -> Saved {
    let fresh = || Saved {
        counted: Until {
            arrived_ns: now_ns,
            judged_ns: now_ns,
        },
        ..Saved::default()
    };
    let bytes = match std::fs::read(path(dir)) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return fresh(),
        Err(error) => {
            tracing::error!(%error, "cannot read the state of alerts; they begin anew");
            return fresh();
        }
    };
    match serde_json::from_slice::<Saved>(&bytes) {
        Ok(saved) if saved.version == VERSION => saved,
        found => {
            let reason = found.map_or_else(
                |error| error.to_string(),
                |saved| format!("version `{}` is not `{VERSION}`", saved.version),
            );
            let aside = dir.join(format!("{NAME}.damaged"));
            drop(std::fs::rename(path(dir), aside));
            tracing::error!(reason, "the state of alerts is damaged; they begin anew");
            fresh()
        }
    }
}

/// Replaces what is remembered.
pub(super) fn save(dir: &Path, saved: &Saved) -> io::Result<()> {
    let temporary = dir.join(format!("{NAME}.tmp"));
    let mut file = File::create(&temporary)?;
    file.write_all(&serde_json::to_vec(saved)?)?;
    file.sync_all()?;
    drop(file);
    std::fs::rename(&temporary, path(dir))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_is_read_back_and_a_damaged_file_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path(), 7).counted.arrived_ns, 7, "no file yet");
        let counted = Until {
            arrived_ns: 3,
            judged_ns: 4,
        };
        save(dir.path(), &Saved::new(counted, Vec::new(), Vec::new())).unwrap();
        assert_eq!(load(dir.path(), 7).counted, counted);
        for damaged in [
            "{",
            "{\"version\":2,\"counted\":{\"arrived_ns\":1,\"judged_ns\":1},\"alerts\":[],\"waiting\":[]}",
        ] {
            std::fs::write(path(dir.path()), damaged).unwrap();
            assert_eq!(load(dir.path(), 7).counted.arrived_ns, 7, "{damaged}");
            assert!(dir.path().join("alerts.json.damaged").exists());
            assert!(!path(dir.path()).exists());
        }
    }
}
