//! The write-ahead log: what a client was told is stored, is stored.
//!
//! # Constraints
//!
//! - An appended group is acknowledged after one `fdatasync`; whatever was acknowledged
//!   survives `kill -9` and power loss (as far as the disk keeps its promise).
//! - One writer. Records are at most [`record::MAX_STORED`] bytes.
//! - Damage is expected: a torn tail after a crash, flipped bits anywhere. Neither may cost
//!   more than the records it touches.
//!
//! # On disk (version 1)
//!
//! A folder of segments named `<number>-<salt>.v1.wal`, both as 16 hex digits. Numbers rise;
//! a segment is never written to again after it was closed or after a restart. A segment is:
//!
//! ```text
//! 16 bytes  "TRACEMETER-WAL1\n"     for people and tools; recovery does not need it
//! records   back to back, little endian:
//!    0  u32  magic "TMR1"
//!    4  u8   kind: 1 = OTLP trace request, 2 = OTLP metrics request
//!    5  u8   codec of the payload: 0 = none, 1 = zstd
//!    6  u16  zero
//!    8  u32  payload bytes as stored
//!   12  u32  payload bytes after decompression
//!   16  u64  number of the record, rising by one within the log
//!   24  u64  time received, nanoseconds since the epoch
//!   32  u32  CRC-32 of salt and payload
//!   36  u32  CRC-32 of salt and bytes 0..36
//!   40  payload
//! ```
//!
//! The payload is the request as the client sent it (decompressed, then compressed by us), so
//! the log needs no schema of its own and a newer version can always read it again. The salt
//! is random per segment and enters both checksums: bytes that a client sends cannot pose as
//! a record when the reader looks for one after damage.
//!
//! # Write
//!
//! All records of a group are written by one call and synced once. If writing fails (disk
//! full), the segment is cut back to its last synced length and the group is refused; if even
//! that fails, or a sync fails, the log is *poisoned*: the kernel may have dropped dirty pages,
//! so nothing is accepted until a restart has read back what is really there.
//!
//! # Recovery
//!
//! Segments are read in order. A record whose header is intact but whose payload is not is
//! skipped by its length; after a damaged header the reader looks for the next intact one.
//! Both are reported with their place. What follows the last intact record of a segment is a
//! torn tail: it was never acknowledged (or the disk lost it) and is cut off.

pub(crate) mod fs;
pub(crate) mod log;
pub(crate) mod record;

#[cfg(test)]
mod faulty_fs;
#[cfg(test)]
mod model_tests;
