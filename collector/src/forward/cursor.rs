//! The place in the log from which on requests may be undelivered: the file `forward.v1` in the data
//! folder, one line `segment record checksum` in hex.
//!
//! It is replaced at most once a second and not synced: after a power cut an older place is found,
//! and some requests are sent twice. Without the file, or with a damaged one, everything that is
//! in the log is sent.

use std::io;
use std::path::{Path, PathBuf};

use super::queue::Position;

/// The file's name.
const FILE: &str = "forward.v1";

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Cursor {
    path: PathBuf,
    written: Option<Position>,
}

impl Cursor {
    /// The cursor of a data folder.
    pub(super) fn new(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
            written: None,
        }
    }

    /// Where to go on.
    pub(super) fn read(&mut self) -> Position {
        self.written = match std::fs::read_to_string(&self.path) {
            Ok(text) => parse(&text),
            Err(_) => None,
        };
        self.written.unwrap_or_default()
    }

    /// Remembers where to go on, if that has changed.
    pub(super) fn write(&mut self, at: Position) -> io::Result<()> {
        if self.written == Some(at) {
            return Ok(());
        }
        let temporary = self.path.with_extension("tmp");
        std::fs::write(&temporary, render(at))?;
        std::fs::rename(&temporary, &self.path)?;
        self.written = Some(at);
        Ok(())
    }
}

fn render(at: Position) -> String {
    let place = format!("{:016x} {:016x}", at.segment, at.record);
    let crc = crc32fast::hash(place.as_bytes());
    format!("{place} {crc:08x}\n")
}

fn parse(text: &str) -> Option<Position> {
    let mut words = text.split_whitespace();
    let mut number = || u64::from_str_radix(words.next()?, 16).ok();
    let at = Position {
        segment: number()?,
        record: number()?,
    };
    (render(at) == text).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_comes_back_and_a_damaged_one_means_the_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let mut cursor = Cursor::new(dir.path());
        assert_eq!(cursor.read(), Position::default());
        let at = Position {
            segment: 7,
            record: 1 << 40,
        };
        cursor.write(at).unwrap();
        assert_eq!(Cursor::new(dir.path()).read(), at);
        let bytes = std::fs::read(dir.path().join(FILE)).unwrap();
        for flipped in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= 1;
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            assert_eq!(cursor.read(), Position::default(), "byte {flipped}");
        }
    }
}
