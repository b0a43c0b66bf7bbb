//! Percent encoding of baggage values.

use super::WriteError;
use crate::bytes;
use crate::write::Cursor;

const REPLACEMENT: &[u8] = "\u{fffd}".as_bytes();

/// Decodes a value into the buffer and returns what was written, which is always valid UTF-8.
///
/// A sequence that is not UTF-8 becomes U+FFFD, as the standard asks. A `%` that is not followed by
/// two hexadecimal digits stays as it is, and so does `+`, which is not a space. Three bytes of
/// buffer per byte of value always suffice.
///
/// # Errors
/// The buffer is too small.
///
/// ```
/// use w3c_traceparent_parser::baggage::percent_decode;
///
/// let mut buffer = [0; 32];
/// assert_eq!(percent_decode(b"caf%C3%A9+%FF", &mut buffer)?, "café+\u{fffd}".as_bytes());
/// # Ok::<(), w3c_traceparent_parser::WriteError>(())
/// ```
pub fn percent_decode<'o>(value: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], WriteError> {
    let mut cursor = Cursor::new(&mut *out);
    let mut utf8 = Utf8::default();
    let mut rest = value;
    while let Some((byte, tail)) = next_byte(rest) {
        utf8.push(byte, &mut cursor);
        rest = tail;
    }
    utf8.finish(&mut cursor);
    let len = cursor.finish()?;
    Ok(out.get(..len).unwrap_or_default())
}

/// Encodes any bytes (normally UTF-8 text) so that they may stand as a value, and returns what was
/// written. `%` is encoded too. Three bytes of buffer per byte of value always suffice.
///
/// # Errors
/// The buffer is too small.
///
/// ```
/// use w3c_traceparent_parser::baggage::percent_encode;
///
/// let mut buffer = [0; 32];
/// assert_eq!(percent_encode("50 % é".as_bytes(), &mut buffer)?, b"50%20%25%20%C3%A9");
/// # Ok::<(), w3c_traceparent_parser::WriteError>(())
/// ```
pub fn percent_encode<'o>(value: &[u8], out: &'o mut [u8]) -> Result<&'o [u8], WriteError> {
    let mut cursor = Cursor::new(&mut *out);
    for &byte in value {
        if byte != b'%' && bytes::is(byte, bytes::BAGGAGE_VALUE) {
            cursor.push(&[byte]);
        } else {
            cursor.push(&[b'%', upper_digit(byte >> 4), upper_digit(byte & 0x0f)]);
        }
    }
    let len = cursor.finish()?;
    Ok(out.get(..len).unwrap_or_default())
}

/// The next decoded byte.
fn next_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, rest @ ..] = text
        && let (Some(high), Some(low)) = (any_case_digit(*high), any_case_digit(*low))
    {
        return Some((high << 4 | low, rest));
    }
    text.split_first().map(|(&byte, rest)| (byte, rest))
}

const fn any_case_digit(byte: u8) -> Option<u8> {
    crate::hex::digit(match byte {
        b'A'..=b'F' => byte.to_ascii_lowercase(),
        _ => byte,
    })
}

const fn upper_digit(nibble: u8) -> u8 {
    match nibble {
        0..=9 => b'0' + nibble,
        _ => b'A' + nibble - 10,
    }
}

/// UTF-8 decoder that passes complete sequences on and replaces broken ones, each longest valid
/// prefix by one U+FFFD (the practice of Unicode and WHATWG).
#[derive(Default)]
struct Utf8 {
    /// The sequence so far and its length.
    pending: [u8; 4],
    len: usize,
    /// Length that the first byte promised.
    expected: usize,
}

impl Utf8 {
    fn push(&mut self, byte: u8, cursor: &mut Cursor<'_>) {
        if self.len > 0 && !self.continues_with(byte) {
            cursor.push(REPLACEMENT);
            self.len = 0;
        }
        if self.len == 0 {
            self.expected = match byte {
                0x00..=0x7f => 1,
                0xc2..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xf4 => 4,
                _ => return cursor.push(REPLACEMENT),
            };
        }
        if let Some(place) = self.pending.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
        if self.len == self.expected {
            cursor.push(self.pending.get(..self.len).unwrap_or_default());
            self.len = 0;
        }
    }

    /// The second byte has a narrower range after some first bytes: no overlong forms, no
    /// surrogates, nothing above U+10FFFF.
    const fn continues_with(&self, byte: u8) -> bool {
        let [first, ..] = self.pending;
        match (self.len, first) {
            (1, 0xe0) => matches!(byte, 0xa0..=0xbf),
            (1, 0xed) => matches!(byte, 0x80..=0x9f),
            (1, 0xf0) => matches!(byte, 0x90..=0xbf),
            (1, 0xf4) => matches!(byte, 0x80..=0x8f),
            _ => matches!(byte, 0x80..=0xbf),
        }
    }

    fn finish(self, cursor: &mut Cursor<'_>) {
        if self.len > 0 {
            cursor.push(REPLACEMENT);
        }
    }
}
