//! Where in a partition a trace is: `<stem>.ids`, a sorted list on disk.
//!
//! An entry is a 64-bit hash of a trace id with the first and last row of that trace's spans
//! (little-endian: u64, u32, u32). Entries are sorted by hash and hashes are even, so a look-up
//! guesses the place and reads one block, rarely two; nothing is kept in memory. Traces whose
//! hashes collide share an entry; who reads the rows compares ids anyway.
//!
//! Bytes: 16 per trace and partition. A list that is damaged or missing says nothing about a
//! trace, never that it is not there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use datafusion::arrow::array::{AsArray as _, RecordBatch};
use foldhash::fast::FixedState;

use super::compact::unhex;

const MAGIC: [u8; 8] = *b"TMids\x01\0\0";
/// Magic and number of entries.
const HEAD: u64 = 16;
const ENTRY: usize = 16;
/// Entries of one read: for a hundred thousand traces two standard deviations of the guess.
const BLOCK: u64 = 512;

/// Rows of a trace: the first and the last.
pub(crate) type Rows = (u32, u32);

/// Both halves mixed, so that ids that only fill one half are even, too.
fn hash(id: [u8; 16]) -> u64 {
    let id = u128::from_be_bytes(id);
    let mixed = (id ^ id >> 64).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let folded = (mixed >> 64) as u64 ^ mixed as u64;
    let folded = (folded ^ folded >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let folded = (folded ^ folded >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    folded ^ folded >> 31
}

/// The list of a partition under construction: batch by batch, as its spans are written.
#[derive(Debug, Default)]
pub(crate) struct Places {
    traces: HashMap<u64, Rows, FixedState>,
    rows: u32,
    /// A batch had no trace ids: there is no list.
    has_failed: bool,
}

impl Places {
    /// Adds the next rows.
    pub(crate) fn look(&mut self, spans: &RecordBatch) {
        let ids = spans
            .column_by_name("trace_id")
            .and_then(|column| column.as_string_view_opt());
        let Some(ids) = ids else {
            self.has_failed = true;
            return;
        };
        for (row, id) in (self.rows..).zip(ids.iter()) {
            match id.and_then(unhex) {
                Some(id) => self.traces.entry(hash(id)).or_insert((row, row)).1 = row,
                None => self.has_failed = true,
            }
        }
        // A partition has half a million rows or so.
        self.rows += u32::try_from(spans.num_rows()).unwrap_or(0);
    }

    /// Writes and syncs the list; returns its bytes.
    pub(crate) fn write(self, path: &Path) -> io::Result<u64> {
        if self.has_failed {
            return Err(io::Error::other("a span has no trace id"));
        }
        let mut entries: Vec<(u64, Rows)> = self.traces.into_iter().collect();
        entries.sort_unstable();
        let mut file = BufWriter::new(File::create(path)?);
        file.write_all(&MAGIC)?;
        file.write_all(&(entries.len() as u64).to_le_bytes())?;
        for (hash, (first, last)) in &entries {
            file.write_all(&hash.to_le_bytes())?;
            file.write_all(&first.to_le_bytes())?;
            file.write_all(&last.to_le_bytes())?;
        }
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(HEAD + (entries.len() * ENTRY) as u64)
    }
}

/// Finds some traces in the list at `path`: the rows of those that may be there.
pub(crate) fn find(path: &Path, ids: &[[u8; 16]]) -> io::Result<Vec<Rows>> {
    let list = List::open(path)?;
    let mut found = Vec::new();
    for id in ids {
        found.extend(list.find(hash(*id))?);
    }
    Ok(found)
}

struct List {
    file: File,
    entries: u64,
}

fn word(bytes: &[u8]) -> u64 {
    let word = bytes.first_chunk();
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn hash_of(entry: &[u8; ENTRY]) -> u64 {
    word(entry)
}

impl List {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let mut head = [0; HEAD as usize];
        file.read_exact_at(&mut head, 0)?;
        let (magic, entries) = head.split_at(MAGIC.len());
        let entries = word(entries);
        let expected = entries
            .checked_mul(ENTRY as u64)
            .map(|bytes| bytes.saturating_add(HEAD));
        if magic != MAGIC || expected != Some(file.metadata()?.len()) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "not a list of traces",
            ));
        }
        Ok(Self { file, entries })
    }

    fn find(&self, hash: u64) -> io::Result<Option<Rows>> {
        let (mut low, mut high) = (0, self.entries.div_ceil(BLOCK));
        // In proportion: hashes are even.
        let guess = (u128::from(hash) * u128::from(self.entries)) >> 64;
        let mut block = u64::try_from(guess).unwrap_or(0) / BLOCK;
        let mut buffer = vec![0; BLOCK as usize * ENTRY];
        let mut reads = 0;
        while low < high {
            let start = block * BLOCK;
            let len = (self.entries - start).min(BLOCK) as usize * ENTRY;
            let bytes = buffer.get_mut(..len).unwrap_or_default();
            self.file
                .read_exact_at(bytes, HEAD + start * ENTRY as u64)?;
            let (entries, _) = bytes.as_chunks::<ENTRY>();
            let (Some(first), Some(last)) = (entries.first(), entries.last()) else {
                return Ok(None);
            };
            reads += 1;
            let is_far = reads > 3;
            if hash < hash_of(first) {
                high = block;
                block = block.saturating_sub(1);
            } else if hash > hash_of(last) {
                low = block + 1;
                block += 1;
            } else {
                let found = entries.binary_search_by_key(&hash, hash_of);
                let entry = found.ok().and_then(|index| entries.get(index));
                return Ok(entry.map(|entry| {
                    let rows = word(entry.get(8..).unwrap_or_default());
                    (rows as u32, (rows >> 32) as u32)
                }));
            }
            if is_far {
                block = low.midpoint(high);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::arrow::array::StringViewArray;
    use datafusion::arrow::datatypes::{DataType, Field, Schema};

    use super::*;

    fn list(dir: &Path, ids: &[u128]) -> std::path::PathBuf {
        let path = dir.join("x.ids");
        let text: StringViewArray = ids.iter().map(|id| Some(format!("{id:032x}"))).collect();
        let schema = Schema::new(vec![Field::new("trace_id", DataType::Utf8View, false)]);
        let spans = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(text)]).unwrap();
        let mut places = Places::default();
        for start in (0..ids.len()).step_by(1_000) {
            places.look(&spans.slice(start, (ids.len() - start).min(1_000)));
        }
        places.write(&path).unwrap();
        path
    }

    #[test]
    fn every_trace_is_found_at_its_rows_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        for count in [0u32, 1, 511, 512, 513, 20_000] {
            // Half of them fill the low half only, as ids of 64 bits do.
            let traces: Vec<u128> = (0..count)
                .map(|index| match index % 2 {
                    0 => u128::from(index),
                    _ => random.u128(..),
                })
                .collect();
            let mut rows: Vec<u128> = traces.iter().flat_map(|id| [*id; 3]).collect();
            random.shuffle(&mut rows);
            let path = list(dir.path(), &rows);
            let mut expected: HashMap<u128, Rows> = HashMap::new();
            for (row, id) in (0..).zip(&rows) {
                expected.entry(*id).or_insert((row, row)).1 = row;
            }
            for id in &traces {
                let found = find(&path, &[id.to_be_bytes()]).unwrap();
                assert_eq!(found, [expected[id]], "{count}");
            }
            let strangers = (0..2_000).filter(|_| {
                let id = random.u128(..) | 1 << 127;
                !find(&path, &[id.to_be_bytes()]).unwrap().is_empty()
            });
            assert!(strangers.count() <= 1, "{count}");
        }
    }

    #[test]
    fn a_damaged_list_is_an_error_and_not_an_absence() {
        let dir = tempfile::tempdir().unwrap();
        let path = list(dir.path(), &[1, 2, 3]);
        let whole = std::fs::read(&path).unwrap();
        for bytes in [
            &whole[..whole.len() - 1],
            &whole[..10],
            b"something else....",
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert!(find(&path, &[1u128.to_be_bytes()]).is_err());
        }
    }
}
