//! Records: encode, check, find. The layout is described in [`super`].

use std::cell::RefCell;

use crc32fast::Hasher;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

/// First bytes of a segment, for people and tools.
pub(crate) const SEGMENT_MAGIC: &[u8; 16] = b"TRACEMETER-WAL1\n";
/// Bytes of a record's header.
pub(crate) const HEADER: usize = 40;
/// Most bytes of a stored payload: 64 MiB decompressed, plus what zstd may add.
pub(crate) const MAX_STORED: usize = 80 << 20;

const MAGIC: [u8; 4] = *b"TMR1";

/// What a record's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `ExportTraceServiceRequest`.
    Traces = 1,
    /// `ExportMetricsServiceRequest`.
    Metrics = 2,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Traces),
            2 => Some(Self::Metrics),
            _ => None,
        }
    }
}

/// How a record's payload is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    /// As is.
    None = 0,
    /// One zstd frame.
    Zstd = 1,
}

impl Codec {
    fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::None),
            1 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the payload is.
    pub(crate) kind: Kind,
    /// How it is stored.
    pub(crate) codec: Codec,
    /// Its size after decompression.
    pub(crate) raw_len: u32,
    /// Time received, nanoseconds since the epoch.
    pub(crate) received_ns: u64,
    /// The payload as stored.
    pub(crate) payload: Vec<u8>,
}

impl Record {
    /// Compresses `payload` when that makes it smaller.
    pub(crate) fn compress(kind: Kind, received_ns: u64, payload: &[u8]) -> Self {
        let raw_len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
        // Below a few hundred bytes the frame costs more than it saves.
        if payload.len() > 256
            && let Some(packed) = pack(payload)
            && packed.len() < payload.len()
        {
            return Self {
                kind,
                codec: Codec::Zstd,
                raw_len,
                received_ns,
                payload: packed,
            };
        }
        Self {
            kind,
            codec: Codec::None,
            raw_len,
            received_ns,
            payload: payload.to_vec(),
        }
    }

    /// The payload as the client sent it; `None` when it does not decompress.
    pub(crate) fn decompress(&self) -> Option<Vec<u8>> {
        match self.codec {
            Codec::None => Some(self.payload.clone()),
            Codec::Zstd => {
                let raw_len = usize::try_from(self.raw_len).ok()?;
                zstd::bulk::decompress(&self.payload, raw_len).ok()
            }
        }
    }

    /// Appends header and payload to `out`.
    pub(crate) fn encode(&self, number: u64, salt: u64, out: &mut Vec<u8>) {
        let stored_len = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let start = out.len();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[self.kind as u8, self.codec as u8, 0, 0]);
        out.extend_from_slice(&stored_len.to_le_bytes());
        out.extend_from_slice(&self.raw_len.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.extend_from_slice(&self.received_ns.to_le_bytes());
        out.extend_from_slice(&checksum(salt, &self.payload).to_le_bytes());
        let header = out.get(start..).unwrap_or_default();
        let header_crc = checksum(salt, header);
        out.extend_from_slice(&header_crc.to_le_bytes());
        out.extend_from_slice(&self.payload);
    }
}

/// What a payload is compressed with: a zstd frame of a fast level. The log is read only after a
/// crash, and a segment lives until its rows are in a partition: on spans that do not repeat this
/// level takes 35 % less time than level 1, for a tenth more bytes.
const LEVEL: i32 = -2;
/// Bytes of the buffer that a thread keeps; the few requests that need more have one of their own.
const KEPT: usize = 1 << 20;

/// Compresses into a buffer that is used again and copies out of it: room for the worst case is
/// seven times what is used. Contexts are a megabyte of tables and used again, one per thread.
fn pack(payload: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static PACKER: RefCell<Option<(Compressor<'static>, Vec<u8>)>> =
            const { RefCell::new(None) };
    }
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = Compressor::new(LEVEL).ok().map(|new| (new, Vec::new()));
        }
        let (compressor, buffer) = packer.as_mut()?;
        buffer.clear();
        buffer.reserve(compress_bound(payload.len()));
        let packed = compressor.compress_to_buffer(payload, buffer).ok();
        let packed = packed.and_then(|len| Some(buffer.get(..len)?.to_vec()));
        if buffer.capacity() > KEPT {
            *buffer = Vec::new();
        }
        packed
    })
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

/// A header that passed its checksum.
struct Header {
    kind: Option<Kind>,
    codec: Option<Codec>,
    stored_len: usize,
    raw_len: u32,
    number: u64,
    received_ns: u64,
    payload_crc: u32,
}

impl Header {
    fn parse(bytes: &[u8], salt: u64) -> Option<Self> {
        let header: &[u8; HEADER] = bytes.first_chunk()?;
        let (body, crc) = header.split_last_chunk::<4>()?;
        if !body.starts_with(&MAGIC) || checksum(salt, body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let u32_at = |at: usize| {
            body.get(at..)?
                .first_chunk()
                .map(|b| u32::from_le_bytes(*b))
        };
        let u64_at = |at: usize| {
            body.get(at..)?
                .first_chunk()
                .map(|b| u64::from_le_bytes(*b))
        };
        let stored_len = usize::try_from(u32_at(8)?).ok()?;
        if stored_len > MAX_STORED {
            return None;
        }
        Some(Self {
            kind: body.get(4).copied().and_then(Kind::from_byte),
            codec: body.get(5).copied().and_then(Codec::from_byte),
            stored_len,
            raw_len: u32_at(12)?,
            number: u64_at(16)?,
            received_ns: u64_at(24)?,
            payload_crc: u32_at(32)?,
        })
    }
}

/// What a segment holds at one place.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An intact record and its number.
    Record(u64, Record),
    /// Bytes that are no intact record, though intact ones follow (or a length is known).
    Damage {
        /// Where it starts.
        offset: usize,
        /// How many bytes were skipped.
        len: usize,
    },
    /// Nothing intact follows.
    TornTail {
        /// Where the last intact record ends.
        offset: usize,
        /// How many bytes follow.
        len: usize,
    },
}

/// Reads the records of one segment in order.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    bytes: &'a [u8],
    salt: u64,
    at: usize,
}

impl<'a> Scanner<'a> {
    /// A scanner over a whole segment.
    pub(crate) fn new(bytes: &'a [u8], salt: u64) -> Self {
        // A damaged magic loses nothing: the first record is then looked for.
        let at = if bytes.starts_with(SEGMENT_MAGIC) {
            SEGMENT_MAGIC.len()
        } else {
            0
        };
        Self { bytes, salt, at }
    }

    fn tail(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Skips to the next intact header, or reports the rest as torn.
    fn resync(&mut self) -> Found {
        let offset = self.at;
        let rest = self.tail();
        let next = (1..rest.len())
            .find(|skip| Header::parse(rest.get(*skip..).unwrap_or_default(), self.salt).is_some());
        match next {
            Some(len) => {
                self.at += len;
                Found::Damage { offset, len }
            }
            None => {
                self.at = self.bytes.len();
                Found::TornTail {
                    offset,
                    len: rest.len(),
                }
            }
        }
    }
}

impl Iterator for Scanner<'_> {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let rest = self.tail();
        if rest.is_empty() {
            return None;
        }
        let Some(header) = Header::parse(rest, self.salt) else {
            return Some(self.resync());
        };
        let offset = self.at;
        let len = HEADER + header.stored_len;
        let Some(payload) = rest.get(HEADER..len) else {
            // The length leads beyond the end: torn, unless more records can be found.
            return Some(self.resync());
        };
        let (Some(kind), Some(codec)) = (header.kind, header.codec) else {
            self.at += len;
            return Some(Found::Damage { offset, len });
        };
        if checksum(self.salt, payload) != header.payload_crc {
            self.at += len;
            let found = if self.tail().is_empty() {
                Found::TornTail { offset, len }
            } else {
                Found::Damage { offset, len }
            };
            return Some(found);
        }
        self.at += len;
        let record = Record {
            kind,
            codec,
            raw_len: header.raw_len,
            received_ns: header.received_ns,
            payload: payload.to_vec(),
        };
        Some(Found::Record(header.number, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Record {
        Record::compress(Kind::Traces, 7, text.as_bytes())
    }

    fn segment(texts: &[&str]) -> Vec<u8> {
        let mut bytes = SEGMENT_MAGIC.to_vec();
        for (number, text) in texts.iter().enumerate() {
            record(text).encode(number as u64, 42, &mut bytes);
        }
        bytes
    }

    fn texts(bytes: &[u8]) -> Vec<String> {
        Scanner::new(bytes, 42)
            .filter_map(|found| match found {
                Found::Record(_, record) => {
                    Some(String::from_utf8(record.decompress().unwrap()).unwrap())
                }
                _ => None,
            })
            .collect()
    }

    #[test]
    fn every_cut_keeps_all_whole_records_before_it() {
        let bytes = segment(&["one", "two", &"three ".repeat(100)]);
        let whole: Vec<_> = texts(&bytes);
        for len in 0..bytes.len() {
            let kept = texts(&bytes[..len]);
            assert_eq!(kept, whole[..kept.len()], "cut at {len}");
            assert!(len < 16 + 2 * 43 || kept.len() >= 2, "cut at {len}");
        }
    }

    #[test]
    fn every_flipped_byte_costs_at_most_one_record() {
        let bytes = segment(&["one", "two", "three", "four"]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            let kept = texts(&damaged);
            assert!(kept.len() >= 3, "flip at {at} kept {kept:?}");
            let reported = Scanner::new(&damaged, 42).any(|f| !matches!(f, Found::Record(..)));
            assert!(reported, "flip at {at} is not reported");
        }
    }

    #[test]
    fn a_record_inside_a_payload_is_not_taken_for_one_after_damage() {
        // The attacker knows the format, not the salt.
        let mut forged = Vec::new();
        record("forged").encode(1, 0, &mut forged);
        let mut bytes = SEGMENT_MAGIC.to_vec();
        let carrier = Record {
            payload: forged,
            codec: Codec::None,
            ..record("x")
        };
        carrier.encode(0, 42, &mut bytes);
        record("after").encode(1, 42, &mut bytes);
        bytes[20] ^= 1;
        assert_eq!(texts(&bytes), ["after"]);
    }
}
