//! Lowercase hexadecimal, eight characters at a time.
//!
//! Words are handled as eight lanes of one byte (SWAR), so that the same code is fast natively
//! and in WebAssembly without SIMD. Nothing branches on the data: an invalid character sets a bit
//! in the second result, and the caller looks once, after the last word.
//!
//! It is not a general hex library: uppercase digits are invalid, as the W3C headers demand.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * ONES;

/// Decodes eight characters, the first one in the least significant byte (turning the four bytes of
/// the result is cheaper than turning eight characters). The second result is
/// zero if and only if all eight are lowercase hexadecimal digits.
#[inline(always)]
pub(crate) const fn decode_word(word: u64) -> (u32, u64) {
    let low = word & !HIGH_BITS;
    // A lane's high bit after the addition says "at least this character"; lanes cannot overflow
    // because the operand is below 0x80 and the addend at most 0x50. The wrapping operations only
    // spare the checks in builds that have them switched on.
    let from_zero = low.wrapping_add((0x80 - 0x30) * ONES);
    let above_nine = low.wrapping_add((0x80 - 0x3a) * ONES);
    let from_a = low.wrapping_add((0x80 - 0x61) * ONES);
    let above_f = low.wrapping_add((0x80 - 0x67) * ONES);
    let valid = (from_zero & !above_nine) | (from_a & !above_f);
    let error = (!valid | word) & HIGH_BITS;

    // `a` is 0x61: its low nibble is 1 and its bit 6 is set, 1 + 9 = 10.
    let letters = (word >> 6) & ONES;
    let nibbles = (word & (0x0f * ONES)).wrapping_add(letters.wrapping_mul(9));
    (pack(nibbles), error)
}

/// Joins eight lanes of one nibble to 32 bits, the lowest lane to the highest nibble.
#[inline(always)]
const fn pack(nibbles: u64) -> u32 {
    let pairs = ((nibbles << 4) | (nibbles >> 8)) & 0x00ff_00ff_00ff_00ff;
    let quads = (pairs | (pairs >> 8)) & 0x0000_ffff_0000_ffff;
    (((quads | (quads >> 16)) & 0xffff_ffff) as u32).swap_bytes()
}

/// Decodes sixteen characters. A character that is no lowercase digit sets a bit in `error`.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline(always))]
pub(crate) fn decode_u64(text: &[u8; 16], error: &mut u64) -> u64 {
    let mut value = 0;
    for word in text.as_chunks::<8>().0 {
        let (half, wrong) = decode_word(u64::from_le_bytes(*word));
        *error |= wrong;
        value = value << 32 | u64::from(half);
    }
    value
}

/// Encodes 32 bits as eight lowercase characters, the first one in the least significant byte.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline(always))]
const fn encode_word(value: u32) -> u64 {
    // The first character goes to the lowest lane: WebAssembly can turn the bytes of 32 bits much
    // cheaper than those of 64.
    let mut lanes = value.swap_bytes() as u64;
    lanes = (lanes | (lanes << 16)) & 0x0000_ffff_0000_ffff;
    lanes = (lanes | (lanes << 8)) & 0x00ff_00ff_00ff_00ff;
    lanes = ((lanes >> 4) | (lanes << 8)) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (lanes.wrapping_add(6 * ONES) >> 4) & ONES;
    // 0x27 is the distance from the character after `9` to `a`.
    lanes
        .wrapping_add(0x30 * ONES)
        .wrapping_add(letters.wrapping_mul(0x27))
}

/// Encodes 64 bits as sixteen lowercase characters.
#[cfg_attr(target_family = "wasm", inline(never))]
#[cfg_attr(not(target_family = "wasm"), inline(always))]
pub(crate) const fn encode_u64(value: u64, out: &mut [u8; 16]) {
    if let ([high, low], _) = out.as_chunks_mut::<8>() {
        *high = encode_word((value >> 32) as u32).to_le_bytes();
        *low = encode_word(value as u32).to_le_bytes();
    }
}

/// The value of one digit, or `None` for anything that is not a lowercase hexadecimal digit.
#[inline]
pub(crate) const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_in_every_lane_is_judged_like_the_single_digit() {
        for lane in 0..8 {
            for byte in 0..=255u8 {
                let mut text = *b"00000000";
                text[lane] = byte;
                let (value, error) = decode_word(u64::from_le_bytes(text));
                match digit(byte) {
                    Some(nibble) => {
                        assert_eq!(error, 0, "byte {byte:#x} in lane {lane}");
                        assert_eq!(value, u32::from(nibble) << (28 - 4 * lane));
                    }
                    None => assert_ne!(error, 0, "byte {byte:#x} in lane {lane}"),
                }
            }
        }
    }

    #[test]
    fn encoding_is_the_inverse_of_decoding() {
        for value in [0, 1, 0x0123_4567_89ab_cdef, u64::MAX, 0x9a9a_a9a9 << 20] {
            let (mut text, mut error) = ([0; 16], 0);
            encode_u64(value, &mut text);
            assert_eq!(decode_u64(&text, &mut error), value);
            assert_eq!(error, 0);
        }
        let mut text = [0; 16];
        encode_u64(0x0123_4567_89ab_cdef, &mut text);
        assert_eq!(&text, b"0123456789abcdef");
    }
}
