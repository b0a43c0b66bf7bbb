//! Protobuf wire format (encoding guide: varint, 64-bit, length-delimited, 32-bit).
//!
//! Nested messages are written in place: [`begin`] reserves a fixed five-byte length, [`end`]
//! fills it in. A padded varint is valid protobuf and saves a second buffer.

/// Longest string attribute value written, in bytes; longer ones are cut (OTel's
/// `AttributeValueLengthLimit` idea; bounds the bytes per span).
pub const MAX_STRING_BYTES: usize = 1024;

/// Bytes reserved for the length of a nested message: five 7-bit groups hold any `u32`.
const LENGTH_BYTES: usize = 5;

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const DELIMITED: u32 = 2;
const FIXED32: u32 = 5;

/// The position of a nested message whose length is not known yet.
#[derive(Debug)]
#[must_use = "a message that was begun has to be ended"]
pub struct Open {
    body: usize,
}

/// Writes a base-128 varint.
pub fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that [`varint`] writes for `value`.
#[must_use]
pub fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

fn tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// Writes an unsigned or enum field; zero, the proto3 default, is left out.
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    if value != 0 {
        tag(out, field, VARINT);
        varint(out, value);
    }
}

/// Writes a `fixed64` field.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a `fixed32` field.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    tag(out, field, FIXED32);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Writes a `bytes` field.
pub fn bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    tag(out, field, DELIMITED);
    varint(out, value.len() as u64);
    out.extend_from_slice(value);
}

/// Writes a `string` field. Protobuf strings are UTF-8: bytes that are not become U+FFFD, and a
/// value over [`MAX_STRING_BYTES`] is cut at a character boundary.
pub fn string(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    match core::str::from_utf8(value) {
        Ok(text) => bytes(out, field, cut(text).as_bytes()),
        Err(_) => bytes(out, field, cut(&String::from_utf8_lossy(value)).as_bytes()),
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_STRING_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Begins a nested message in `field`.
pub fn begin(out: &mut Vec<u8>, field: u32) -> Open {
    tag(out, field, DELIMITED);
    let body = out.len() + LENGTH_BYTES;
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    Open { body }
}

/// Ends the nested message: its length goes into the bytes that [`begin`] reserved.
pub fn end(out: &mut [u8], open: Open) {
    let mut length = out.len().saturating_sub(open.body);
    if let Some(reserved) = out.get_mut(open.body - LENGTH_BYTES..open.body) {
        let last = LENGTH_BYTES - 1;
        for (index, byte) in reserved.iter_mut().enumerate() {
            let more = if index == last { 0 } else { 0x80 };
            *byte = (length as u8 & 0x7f) | more;
            length >>= 7;
        }
    }
}

/// One attribute value as `opentelemetry.proto.common.v1.AnyValue`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AnyValue<'a> {
    /// `string_value`; need not be UTF-8 yet.
    String(&'a [u8]),
    /// `int_value`.
    Int(i64),
    /// `double_value`.
    Double(f64),
    /// `bool_value`.
    Bool(bool),
}

/// Writes a `KeyValue` message in `field`; lengths are computed, not padded, because attributes
/// are most of a span's bytes.
pub fn attribute(out: &mut Vec<u8>, field: u32, key: &str, value: AnyValue<'_>) {
    match value {
        AnyValue::String(raw) => match core::str::from_utf8(raw) {
            Ok(text) => string_attribute(out, field, key, cut(text).as_bytes()),
            Err(_) => string_attribute(
                out,
                field,
                key,
                cut(&String::from_utf8_lossy(raw)).as_bytes(),
            ),
        },
        AnyValue::Bool(flag) => {
            key_value(out, field, key, 2);
            tag(out, 2, VARINT);
            varint(out, u64::from(flag));
        }
        AnyValue::Int(number) => {
            key_value(out, field, key, 1 + varint_len(number as u64));
            tag(out, 3, VARINT);
            varint(out, number as u64);
        }
        AnyValue::Double(number) => {
            key_value(out, field, key, 9);
            fixed64(out, 4, number.to_bits());
        }
    }
}

fn string_attribute(out: &mut Vec<u8>, field: u32, key: &str, text: &[u8]) {
    key_value(
        out,
        field,
        key,
        1 + varint_len(text.len() as u64) + text.len(),
    );
    bytes(out, 1, text);
}

/// Writes everything of a `KeyValue` up to the body of its `AnyValue` of `any_len` bytes.
fn key_value(out: &mut Vec<u8>, field: u32, key: &str, any_len: usize) {
    let key_len = key.len() as u64;
    let length = 1 + varint_len(key_len) + key.len() + 1 + varint_len(any_len as u64) + any_len;
    tag(out, field, DELIMITED);
    varint(out, length as u64);
    bytes(out, 1, key.as_bytes());
    tag(out, 2, DELIMITED);
    varint(out, any_len as u64);
}
