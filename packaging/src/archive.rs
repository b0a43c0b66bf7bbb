//! A tar archive (POSIX ustar) with fixed times and owners.
//!
//! Only what an image layer here needs: files, folders and symbolic links with short names. A name
//! that ustar cannot hold is an error, never cut.

use anyhow::{Result, bail};

/// Longest path, in bytes: the name field of ustar (its prefix field is not used).
pub const MAX_PATH_BYTES: usize = 100;

const BLOCK: usize = 512;

/// What stands at a path of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    File(Vec<u8>),
    Folder,
}

/// One entry of a layer. The path is relative to the root of the image, without a leading slash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    path: String,
    mode: u32,
    owner: u32,
    kind: Kind,
}

impl Entry {
    /// A file that everybody may read.
    #[must_use]
    pub fn file(path: &str, bytes: Vec<u8>) -> Self {
        Self::new(path, 0o644, Kind::File(bytes))
    }

    /// A file that everybody may run.
    #[must_use]
    pub fn program(path: &str, bytes: Vec<u8>) -> Self {
        Self::new(path, 0o755, Kind::File(bytes))
    }

    /// A folder that everybody may enter.
    #[must_use]
    pub fn folder(path: &str) -> Self {
        Self::new(path, 0o755, Kind::Folder)
    }

    /// The same entry for another user and group.
    #[must_use]
    pub fn owned_by(mut self, owner: u32) -> Self {
        self.owner = owner;
        self
    }

    /// The same entry with other permissions.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// The path inside the image.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    fn new(path: &str, mode: u32, kind: Kind) -> Self {
        Self {
            path: path.trim_start_matches('/').to_owned(),
            mode,
            owner: 0,
            kind,
        }
    }

    fn bytes(&self) -> &[u8] {
        match &self.kind {
            Kind::File(bytes) => bytes,
            Kind::Folder => &[],
        }
    }

    /// The header block; its checksum counts its own field as spaces.
    fn header(&self) -> Result<[u8; BLOCK]> {
        let (flag, path) = match self.kind {
            Kind::File(_) => (b'0', self.path.clone()),
            Kind::Folder => (b'5', format!("{}/", self.path)),
        };
        if path.len() > MAX_PATH_BYTES || path.split('/').any(|part| part == "..") {
            bail!(
                "the path `{path}` does not fit into a layer: at most {MAX_PATH_BYTES} bytes, no `..`"
            );
        }
        let mut block = [0; BLOCK];
        let mut put = |at: usize, bytes: &[u8]| {
            for (slot, byte) in block.iter_mut().skip(at).zip(bytes) {
                *slot = *byte;
            }
        };
        put(0, path.as_bytes());
        put(100, format!("{:07o}", self.mode).as_bytes());
        put(108, format!("{:07o}", self.owner).as_bytes());
        put(116, format!("{:07o}", self.owner).as_bytes());
        put(124, format!("{:011o}", self.bytes().len()).as_bytes());
        // The time: the epoch, for every entry.
        put(136, b"00000000000");
        put(148, b"        ");
        put(156, &[flag]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        for (slot, byte) in block
            .iter_mut()
            .skip(148)
            .zip(format!("{sum:06o}\0 ").into_bytes())
        {
            *slot = byte;
        }
        Ok(block)
    }
}

/// The archive of these entries, sorted by path; the folders above them are added.
///
/// # Errors
/// A path is too long, climbs, or stands there twice.
pub(crate) fn tar(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut all: Vec<Entry> = entries.to_vec();
    for entry in entries {
        for (at, _) in entry.path.match_indices('/') {
            let folder = Entry::folder(entry.path.get(..at).unwrap_or_default());
            if !all.iter().any(|known| known.path == folder.path) {
                all.push(folder);
            }
        }
    }
    all.sort_by(|a, b| a.path.cmp(&b.path));
    let mut archive = Vec::new();
    let mut before: Option<&str> = None;
    for entry in &all {
        if before == Some(entry.path()) {
            bail!("the path `{}` stands in the layer twice", entry.path);
        }
        before = Some(entry.path());
        archive.extend(entry.header()?);
        archive.extend(entry.bytes());
        archive.resize(archive.len().next_multiple_of(BLOCK), 0);
    }
    // The end of an archive: two empty blocks.
    archive.resize(archive.len() + 2 * BLOCK, 0);
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_entries_changes_nothing() {
        let (a, b) = (
            Entry::file("b/x", vec![1]),
            Entry::program("a", vec![2; 600]),
        );
        let forth = tar(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(forth, tar(&[b, a]).unwrap());
        assert_eq!(forth.len() % BLOCK, 0);
    }

    #[test]
    fn what_the_format_cannot_hold_is_an_error() {
        let long = "x".repeat(MAX_PATH_BYTES + 1);
        assert!(tar(&[Entry::file(&long, Vec::new())]).is_err());
        assert!(tar(&[Entry::file("a/../b", Vec::new())]).is_err());
        let twice = [Entry::file("a", vec![1]), Entry::file("/a", vec![2])];
        assert!(tar(&twice).is_err());
    }
}
