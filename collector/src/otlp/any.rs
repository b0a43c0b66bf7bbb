//! OTLP attribute values: read as a scalar, written as JSON.
//!
//! Bytes become base64 and numbers that JSON cannot hold become the strings that
//! protobuf's JSON mapping uses (`"NaN"`, `"Infinity"`). Nesting is limited by the caller.

use std::fmt::Write as _;

use super::limits::Limits;
use super::wire::{Reader, Value, WireError};

/// An attribute's value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Any<'a> {
    /// No value set.
    Empty,
    /// Text.
    Str(&'a str),
    /// Boolean.
    Bool(bool),
    /// 64 bit integer.
    Int(i64),
    /// 64 bit float.
    Double(f64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// An encoded `ArrayValue`.
    List(&'a [u8]),
    /// An encoded `KeyValueList`.
    Map(&'a [u8]),
}

impl<'a> Any<'a> {
    /// Reads an encoded `AnyValue`.
    pub(crate) fn parse(message: &'a [u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(message);
        let mut any = Self::Empty;
        while let Some((number, value)) = reader.next()? {
            any = match number {
                1 => Self::Str(value.text()?),
                2 => Self::Bool(value.varint()? != 0),
                3 => Self::Int(value.varint()?.cast_signed()),
                4 => Self::Double(f64::from_bits(value.fixed64()?)),
                5 => Self::List(value.bytes()?),
                6 => Self::Map(value.bytes()?),
                7 => Self::Bytes(value.bytes()?),
                _ => continue,
            };
        }
        Ok(any)
    }

    /// The text, if it is text.
    pub(crate) fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// A whole number, also from text, since many SDK bridges send numbers as text.
    pub(crate) fn as_int(self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(number),
            Self::Str(text) => text.parse().ok(),
            // In range: beyond 2^53 a float is no count of anything.
            Self::Double(number) if number.fract() == 0.0 && number.abs() < 9.0e15 => {
                Some(number as i64)
            }
            _ => None,
        }
    }

    /// A finite number, also from text.
    pub(crate) fn as_f64(self) -> Option<f64> {
        let number = match self {
            Self::Int(number) => number as f64,
            Self::Double(number) => number,
            // `parse` would also take "inf" and "nan"; those are refused below.
            Self::Str(text) if text.len() <= 40 => text.trim().parse().ok()?,
            _ => return None,
        };
        number.is_finite().then_some(number)
    }

    /// Appends the value as JSON.
    pub(crate) fn write_json(
        self,
        limits: &Limits,
        depth: usize,
        out: &mut String,
    ) -> Result<(), WireError> {
        if depth > limits.depth {
            return Err(WireError::Depth);
        }
        match self {
            Self::Empty => out.push_str("null"),
            Self::Str(text) => write_string(text, out),
            Self::Bool(flag) => out.push_str(if flag { "true" } else { "false" }),
            Self::Int(number) => write_int(number, out),
            Self::Double(number) => write_double(number, out),
            Self::Bytes(bytes) => {
                out.push('"');
                write_base64(bytes, out);
                out.push('"');
            }
            Self::List(message) => {
                out.push('[');
                let mut reader = Reader::new(message);
                let mut first = true;
                while let Some((number, value)) = reader.next()? {
                    if number == 1 {
                        separate(&mut first, out);
                        Any::parse(value.bytes()?)?.write_json(limits, depth + 1, out)?;
                    }
                }
                out.push(']');
            }
            Self::Map(message) => {
                out.push('{');
                let mut reader = Reader::new(message);
                let mut first = true;
                while let Some((number, value)) = reader.next()? {
                    if number == 1 {
                        let (key, any) = key_value(value)?;
                        separate(&mut first, out);
                        write_string(key, out);
                        out.push(':');
                        any.write_json(limits, depth + 1, out)?;
                    }
                }
                out.push('}');
            }
        }
        Ok(())
    }
}

/// Reads an encoded `KeyValue`.
#[inline]
pub(crate) fn key_value(value: Value<'_>) -> Result<(&str, Any<'_>), WireError> {
    let bytes = value.bytes()?;
    if let Some((key, any)) = usual(bytes) {
        return Ok((std::str::from_utf8(key).map_err(|_| WireError::Utf8)?, any?));
    }
    let mut reader = Reader::new(bytes);
    let mut key = "";
    let mut any = Any::Empty;
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => key = value.text()?,
            2 => any = Any::parse(value.bytes()?)?,
            _ => {}
        }
    }
    Ok((key, any))
}

/// The key and the value of a `KeyValue` as all encoders write it: both fields in order, each
/// shorter than 128 bytes, the value text or a number. `None`: field by field.
#[inline(always)]
fn usual(bytes: &[u8]) -> Option<(&[u8], Result<Any<'_>, WireError>)> {
    let [0x0a, key_len @ 0..0x80, rest @ ..] = bytes else {
        return None;
    };
    let (key, rest) = rest.split_at_checked(usize::from(*key_len))?;
    let [0x12, any_len @ 0..0x80, any @ ..] = rest else {
        return None;
    };
    if any.len() != usize::from(*any_len) {
        return None;
    }
    let any = match any {
        [0x0a, len @ 0..0x80, text @ ..] if text.len() == usize::from(*len) => {
            let text = std::str::from_utf8(text);
            text.map(Any::Str).map_err(|_| WireError::Utf8)
        }
        [0x21, number @ ..] => {
            let number = u64::from_le_bytes(number.try_into().ok()?);
            Ok(Any::Double(f64::from_bits(number)))
        }
        _ => Any::parse(any),
    };
    Some((key, any))
}

/// Writes a comma before every item but the first.
pub(crate) fn separate(first: &mut bool, out: &mut String) {
    if !std::mem::take(first) {
        out.push(',');
    }
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    let mut rest = text;
    while let Some(at) = special(rest.as_bytes()) {
        let (plain, tail) = rest.split_at(at);
        out.push_str(plain);
        // The byte at `at` is ASCII, so the next character starts right behind it.
        match tail.bytes().next() {
            Some(b'"') => out.push_str("\\\""),
            Some(b'\\') => out.push_str("\\\\"),
            Some(b'\n') => out.push_str("\\n"),
            Some(b'\r') => out.push_str("\\r"),
            Some(b'\t') => out.push_str("\\t"),
            Some(byte) => {
                let _ = write!(out, "\\u{byte:04x}");
            }
            None => {}
        }
        rest = tail.get(1..).unwrap_or_default();
    }
    out.push_str(rest);
    out.push('"');
}

/// The first byte that JSON wants escaped.
fn special(bytes: &[u8]) -> Option<usize> {
    let is_special = |byte: &u8| *byte < 0x20 || *byte == b'"' || *byte == b'\\';
    // Eight at a time first: the high bits say which bytes are below a bound, or stand above one
    // that is, which does no harm here.
    let all = |byte: u8| u64::from_ne_bytes([byte; 8]);
    let below = |word: u64, bound: u8| word.wrapping_sub(all(bound)) & !word & all(0x80);
    let (words, _) = bytes.as_chunks::<8>();
    let plain = words.iter().take_while(|word| {
        let word = u64::from_ne_bytes(**word);
        let escaped = below(word ^ all(b'"'), 1) | below(word ^ all(b'\\'), 1);
        below(word, 0x20) | escaped == 0
    });
    let from = plain.count() * 8;
    let rest = bytes.get(from..).unwrap_or_default();
    Some(from + rest.iter().position(is_special)?)
}

fn write_int(number: i64, out: &mut String) {
    let mut digits = [b'0'; 20];
    let (mut rest, mut len) = (number.unsigned_abs(), 0);
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
        len += 1;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push('-');
    }
    // Always ASCII.
    let text = digits.get(digits.len() - len..).unwrap_or_default();
    out.push_str(std::str::from_utf8(text).unwrap_or_default());
}

fn write_double(number: f64, out: &mut String) {
    if number.is_nan() {
        out.push_str("\"NaN\"");
    } else if number.is_infinite() {
        out.push_str(if number > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    } else {
        // Debug keeps the shortest digits and uses an exponent for very large numbers.
        let _ = write!(out, "{number:?}");
    }
}

/// Bytes as base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    write_base64(bytes, &mut out);
    out
}

fn write_base64(bytes: &[u8], out: &mut String) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |bits: u32| char::from(DIGITS.get(bits as usize & 63).copied().unwrap_or(b'A'));
    for chunk in bytes.chunks(3) {
        let mut bits = 0u32;
        for index in 0..3 {
            bits = bits << 8 | u32::from(chunk.get(index).copied().unwrap_or(0));
        }
        out.push(digit(bits >> 18));
        out.push(digit(bits >> 12));
        out.push(if chunk.len() > 1 {
            digit(bits >> 6)
        } else {
            '='
        });
        out.push(if chunk.len() > 2 { digit(bits) } else { '=' });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(any: Any<'_>) -> String {
        let mut out = String::new();
        any.write_json(&Limits::default(), 0, &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_escaped_is_found_wherever_it_stands() {
        for byte in 0..=0xff_u8 {
            let is_special = byte < 0x20 || byte == b'"' || byte == b'\\';
            for len in [1, 7, 8, 9, 17, 31] {
                for at in 0..len {
                    let mut bytes = vec![b'!'; len];
                    bytes[at] = byte;
                    assert_eq!(special(&bytes), is_special.then_some(at), "{byte} {len}");
                    bytes[len - 1] = b'\n';
                    let first = if is_special { at } else { len - 1 };
                    assert_eq!(special(&bytes), Some(first), "{byte} {len}");
                }
            }
        }
    }

    #[test]
    fn json_of_scalars_parses_back() {
        for text in ["", "a", "\"\\\n\r\t\u{1}\u{7f}ü€😀", "</script>"] {
            let parsed: serde_json::Value = serde_json::from_str(&json(Any::Str(text))).unwrap();
            assert_eq!(parsed.as_str(), Some(text));
        }
        for number in [0.0, -0.5, 1e300, 5e-324, 0.1, 1e15] {
            let parsed: serde_json::Value =
                serde_json::from_str(&json(Any::Double(number))).unwrap();
            assert_eq!(parsed.as_f64(), Some(number));
        }
        assert_eq!(json(Any::Double(f64::NAN)), "\"NaN\"");
        for number in [0, -1, 7, 10, 1_000_000, i64::MAX, i64::MIN] {
            assert_eq!(json(Any::Int(number)), number.to_string());
        }
        assert_eq!(json(Any::Bytes(b"fo")), "\"Zm8=\"");
        assert_eq!(json(Any::Bytes(b"foobar")), "\"Zm9vYmFy\"");
    }

    #[test]
    fn nesting_beyond_the_limit_is_refused_not_overflowed() {
        let mut message = Vec::new();
        for _ in 0..1_000 {
            // AnyValue { array_value: ArrayValue { values: [inner] } }
            let mut list = vec![0x0a];
            put_len(&mut list, message.len());
            list.extend(&message);
            let mut any = vec![0x2a];
            put_len(&mut any, list.len());
            any.extend(&list);
            message = any;
        }
        let any = Any::parse(&message).unwrap();
        let mut out = String::new();
        assert_eq!(
            any.write_json(&Limits::default(), 0, &mut out),
            Err(WireError::Depth)
        );
    }

    fn put_len(out: &mut Vec<u8>, mut len: usize) {
        while len >= 0x80 {
            out.push((len & 0x7f) as u8 | 0x80);
            len >>= 7;
        }
        out.push(len as u8);
    }

    #[test]
    fn numbers_come_from_doubles_ints_and_text() {
        assert_eq!(Any::Str("1.0E-5").as_f64(), Some(1.0e-5));
        assert_eq!(Any::Int(3).as_f64(), Some(3.0));
        assert_eq!(Any::Str("inf").as_f64(), None);
        assert_eq!(Any::Double(f64::NAN).as_f64(), None);
        assert_eq!(Any::Str("404").as_int(), Some(404));
        assert_eq!(Any::Double(2.5).as_int(), None);
    }
}
