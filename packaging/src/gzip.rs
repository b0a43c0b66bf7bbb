//! Gzip (RFC 1952) without a time stamp or a name.
//!
//! The compressor is plain Rust without paths that depend on the processor: equal input gives equal
//! bytes on every machine, which a faster one with processor-specific matching does not promise.

use miniz_oxide::deflate::compress_to_vec;

/// Time and size balance: 125 MB of machine code take about 6 s and become a third.
const LEVEL: u8 = 6;

/// Magic, deflate, no flags, time 0, no extra flags, operating system unknown.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// `bytes` as one gzip member.
pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut member = HEADER.to_vec();
    member.extend(compress_to_vec(bytes, LEVEL));
    member.extend(crc32fast::hash(bytes).to_le_bytes());
    // The length modulo 2^32, by the standard.
    let length = u32::try_from(bytes.len() & 0xffff_ffff).unwrap_or_default();
    member.extend(length.to_le_bytes());
    member
}
