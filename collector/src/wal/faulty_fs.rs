//! A file system in memory that forgets what was not synced and fails on demand.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::fs::{Fs, LogFile};

/// What the next matching operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Writes half of the bytes and reports that the disk is full.
    ShortWrite,
    /// Like `ShortWrite`, and cutting the file back fails as well.
    ShortWriteAndNoCut,
    /// Reports an I/O error instead of syncing.
    Sync,
    /// Refuses to create a file.
    Create,
}

#[derive(Debug, Clone, Default)]
struct Content {
    data: Vec<u8>,
    synced: usize,
    linked: bool,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Content>,
    fault: Option<Fault>,
}

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(crate) struct FaultyFs(Arc<Mutex<State>>);

/// An open file of a [`FaultyFs`].
#[derive(Debug)]
pub(crate) struct FaultyFile {
    state: Arc<Mutex<State>>,
    path: PathBuf,
    cut_fails: bool,
}

impl FaultyFs {
    /// Arms a fault; `None` disarms it.
    pub(crate) fn arm(&self, fault: Option<Fault>) {
        self.0.lock().unwrap().fault = fault;
    }

    /// Power loss: unsynced bytes survive partly and possibly garbled, unsynced names by chance.
    pub(crate) fn crash(&self, random: &mut fastrand::Rng) {
        let mut state = self.0.lock().unwrap();
        state.fault = None;
        state.files.retain(|_, file| file.linked || random.bool());
        for file in state.files.values_mut() {
            let kept = random.usize(file.synced..=file.data.len());
            file.data.truncate(kept);
            if kept > file.synced && random.bool() {
                let at = random.usize(file.synced..kept);
                file.data[at] ^= random.u8(1..=255);
            }
            file.synced = kept;
            file.linked = true;
        }
    }

    /// Flips one random byte of a random file; false when there is nothing to flip.
    pub(crate) fn flip_byte(&self, random: &mut fastrand::Rng) -> bool {
        let mut state = self.0.lock().unwrap();
        let count = state.files.len();
        let Some(file) = state.files.values_mut().nth(random.usize(0..count.max(1))) else {
            return false;
        };
        if file.data.is_empty() {
            return false;
        }
        let at = random.usize(0..file.data.len());
        file.data[at] ^= random.u8(1..=255);
        true
    }
}

fn take(state: &mut State, wanted: &[Fault]) -> Option<Fault> {
    let fault = state.fault.filter(|fault| wanted.contains(fault))?;
    state.fault = None;
    Some(fault)
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Fs for FaultyFs {
    type File = FaultyFile;

    fn create(&self, path: &Path) -> io::Result<FaultyFile> {
        let mut state = self.0.lock().unwrap();
        if take(&mut state, &[Fault::Create]).is_some() {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if state.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.files.insert(path.to_owned(), Content::default());
        Ok(FaultyFile {
            state: self.0.clone(),
            path: path.to_owned(),
            cut_fails: false,
        })
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0
            .lock()
            .unwrap()
            .files
            .get(path)
            .map(|file| file.data.clone())
            .ok_or_else(missing)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let state = self.0.lock().unwrap();
        let names = state.files.keys().filter(|path| path.parent() == Some(dir));
        Ok(names
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0
            .lock()
            .unwrap()
            .files
            .remove(path)
            .map(drop)
            .ok_or_else(missing)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let file = state.files.remove(from).ok_or_else(missing)?;
        state.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn truncate(&self, path: &Path, len: u64) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        let file = state.files.get_mut(path).ok_or_else(missing)?;
        file.data.truncate(len as usize);
        file.synced = file.data.len();
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        for (path, file) in &mut state.files {
            file.linked |= path.parent() == Some(dir);
        }
        Ok(())
    }
}

impl LogFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let fault = take(&mut state, &[Fault::ShortWrite, Fault::ShortWriteAndNoCut]);
        let file = state.files.get_mut(&self.path).ok_or_else(missing)?;
        let Some(fault) = fault else {
            file.data.extend_from_slice(bytes);
            return Ok(());
        };
        self.cut_fails = fault == Fault::ShortWriteAndNoCut;
        file.data.extend_from_slice(&bytes[..bytes.len() / 2]);
        Err(io::ErrorKind::StorageFull.into())
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        if take(&mut state, &[Fault::Sync]).is_some() {
            return Err(io::Error::other("sync failed"));
        }
        let file = state.files.get_mut(&self.path).ok_or_else(missing)?;
        file.synced = file.data.len();
        Ok(())
    }

    fn cut(&mut self, len: u64) -> io::Result<()> {
        if self.cut_fails {
            return Err(io::Error::other("cut failed"));
        }
        let mut state = self.state.lock().unwrap();
        let file = state.files.get_mut(&self.path).ok_or_else(missing)?;
        file.data.truncate(len as usize);
        Ok(())
    }
}
