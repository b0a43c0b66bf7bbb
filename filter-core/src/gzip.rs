//! Export bodies as gzip (RFC 1952), made of what the proxy's own zlib has compressed.
//!
//! The host offers the zlib format (RFC 1950); OTLP/HTTP receivers take gzip. Both wrap the same
//! deflate stream, so only the head and the check sum change: native speed, and no compressor in
//! the module.
//!
//! What it is not: a compressor or a decompressor. Limits: bodies below [`MIN_BYTES`] are not worth
//! it; a result that is not smaller is not used.

/// A body below this size saves less than a packet.
pub const MIN_BYTES: usize = 512;

/// Method, flags and check bits in front of a zlib stream, and its check sum behind it.
const ZLIB_HEAD_BYTES: usize = 2;
const ZLIB_TAIL_BYTES: usize = 4;

/// Deflate, no name, no time, unknown system.
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The method in the low bits of the first byte of a zlib stream.
const DEFLATE: u8 = 8;
/// A preset dictionary, in the second byte.
const DICTIONARY: u8 = 0x20;

/// The gzip form of `plain`, of which `zlib` is the zlib form. `None` when it is not smaller, or
/// `zlib` is not what it should be.
#[must_use]
pub fn from_zlib(plain: &[u8], zlib: &[u8]) -> Option<Vec<u8>> {
    let (head, rest) = zlib.split_at_checked(ZLIB_HEAD_BYTES)?;
    let deflated = rest.get(..rest.len().checked_sub(ZLIB_TAIL_BYTES)?)?;
    let [method, flags] = head else { return None };
    let sound = method & 0xf == DEFLATE && flags & DICTIONARY == 0;
    let length = HEAD.len() + deflated.len() + 8;
    if !sound || length >= plain.len() {
        return None;
    }
    let mut out = Vec::with_capacity(length);
    out.extend_from_slice(&HEAD);
    out.extend_from_slice(deflated);
    out.extend_from_slice(&crc32(plain).to_le_bytes());
    // The size modulo 2^32.
    out.extend_from_slice(&(plain.len() as u32).to_le_bytes());
    Some(out)
}

/// CRC-32 of RFC 1952, section 8, byte by byte with its table.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        let index = (crc ^ u32::from(*byte)) & 0xff;
        CRC_TABLE.get(index as usize).copied().unwrap_or(0) ^ (crc >> 8)
    };
    !bytes.iter().fold(!0, step)
}

static CRC_TABLE: [u32; 256] = crc_table();

#[expect(
    clippy::indexing_slicing,
    reason = "constant: evaluated while compiling"
)]
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                0xedb8_8320 ^ (crc >> 1)
            } else {
                crc >> 1
            };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_sum_is_that_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(crc32(b""), 0);
    }

    #[test]
    fn a_deflate_stream_changes_its_head_and_tail() {
        let plain = [b'a'; 1_000];
        let deflated = [0x4b, 0x4c, 0x1c, 0x05, 0xa3];
        let zlib = [&[0x78, 0x9c][..], &deflated, &[1, 2, 3, 4]].concat();
        let gzip = from_zlib(&plain, &zlib).unwrap();
        assert_eq!(gzip[..10], HEAD);
        assert_eq!(gzip[10..15], deflated);
        assert_eq!(gzip[15..19], crc32(&plain).to_le_bytes());
        assert_eq!(gzip[19..], 1_000_u32.to_le_bytes());
    }

    #[test]
    fn what_is_not_smaller_or_no_zlib_stream_is_not_used() {
        let plain = [b'a'; 30];
        for zlib in [
            &b""[..],
            b"\x78",
            b"\x78\x9c",
            b"\x78\x9c123",
            b"\x79\x9c1234",
            b"\x78\xbc1234",
            &[0x78; 40],
        ] {
            assert_eq!(from_zlib(&plain, zlib), None, "{zlib:x?}");
        }
        assert!(from_zlib(&plain, b"\x78\x9c1234").is_some());
    }
}
