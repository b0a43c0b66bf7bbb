//! A span's events and links, as JSON lists.

use super::any;
use super::attributes::attribute;
use super::batch::{Arena, Text};
use super::decode::write_member;
use super::limits::{Limits, Refusal};
use super::span::{SpanError, refuse};
use super::wire::Reader;

/// Remembers an item until the whole span was read.
pub(super) fn collect<'a>(
    items: &mut Vec<&'a [u8]>,
    item: &'a [u8],
    limits: &Limits,
) -> Result<(), SpanError> {
    if items.len() >= limits.events {
        return Err(refuse(
            Refusal::TooMany,
            format!("more than `{}` events or links", limits.events),
        ));
    }
    items.push(item);
    Ok(())
}

/// Writes events; no text when there are none.
pub(super) fn events(
    items: &[&[u8]],
    limits: &Limits,
    text: &mut Arena,
) -> Result<Text, SpanError> {
    list(items, limits, text, write_event)
}

/// Writes links; no text when there are none.
pub(super) fn links(items: &[&[u8]], limits: &Limits, text: &mut Arena) -> Result<Text, SpanError> {
    list(items, limits, text, write_link)
}

/// The traces that links point to, as hex with a blank between them; no text without links.
pub(super) fn linked_traces(items: &[&[u8]], text: &mut Arena) -> Result<Text, SpanError> {
    let start = text.len();
    for item in items {
        let mut reader = Reader::new(item);
        while let Some((number, value)) = reader.next()? {
            if let (1, id) = (number, value)
                && let Ok(id) = <&[u8; 16]>::try_from(id.bytes()?)
                && *id != [0; 16]
            {
                let out = text.buffer();
                if out.len() > start {
                    out.push(' ');
                }
                write_hex(id, out);
            }
        }
    }
    Ok(text.since(start))
}

type WriteItem = fn(&[u8], &Limits, &mut String) -> Result<(), SpanError>;

fn list(
    items: &[&[u8]],
    limits: &Limits,
    text: &mut Arena,
    write: WriteItem,
) -> Result<Text, SpanError> {
    if items.is_empty() {
        return Ok(Text::default());
    }
    let start = text.len();
    let out = text.buffer();
    for (index, item) in items.iter().enumerate() {
        out.push(if index == 0 { '[' } else { ',' });
        write(item, limits, out)?;
    }
    out.push(']');
    Ok(text.since(start))
}

fn write_event(message: &[u8], limits: &Limits, out: &mut String) -> Result<(), SpanError> {
    let (mut time, mut name) = (0, "");
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => time = value.fixed64()?,
            2 => name = value.text()?,
            _ => {}
        }
    }
    out.push_str("{\"time_unix_nano\":");
    out.push_str(&time.to_string());
    out.push_str(",\"name\":");
    any::write_string(name, out);
    write_attributes(message, 3, limits, out)
}

fn write_link(message: &[u8], limits: &Limits, out: &mut String) -> Result<(), SpanError> {
    let (mut trace_id, mut span_id, mut state) = (&[][..], &[][..], "");
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        match number {
            1 => trace_id = value.bytes()?,
            2 => span_id = value.bytes()?,
            3 => state = value.text()?,
            _ => {}
        }
    }
    out.push_str("{\"trace_id\":\"");
    write_hex(trace_id, out);
    out.push_str("\",\"span_id\":\"");
    write_hex(span_id, out);
    out.push('"');
    if !state.is_empty() {
        out.push_str(",\"trace_state\":");
        any::write_string(state, out);
    }
    write_attributes(message, 4, limits, out)
}

fn write_attributes(
    message: &[u8],
    field: u32,
    limits: &Limits,
    out: &mut String,
) -> Result<(), SpanError> {
    out.push_str(",\"attributes\":{");
    let mut first = true;
    let mut count = 0usize;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number == field {
            count += 1;
            let (key, any) = attribute(value, count, limits)?;
            write_member(key, any, limits, &mut first, out)?;
        }
    }
    out.push_str("}}");
    Ok(())
}

/// Appends lower-case hex.
pub(crate) fn write_hex(bytes: &[u8], out: &mut String) {
    const PAIRS: [[u8; 2]; 256] = {
        const fn digit(nibble: u8) -> u8 {
            nibble + if nibble < 10 { b'0' } else { b'a' - 10 }
        }
        let mut pairs = [[0; 2]; 256];
        let (mut rest, mut byte): (&mut [[u8; 2]], u8) = (&mut pairs, 0);
        while let [pair, others @ ..] = rest {
            *pair = [digit(byte >> 4), digit(byte & 15)];
            byte = byte.wrapping_add(1);
            rest = others;
        }
        pairs
    };
    for chunk in bytes.chunks(16) {
        let mut digits = [b'0'; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(chunk) {
            let digits = PAIRS.get(usize::from(*byte)).copied();
            pair.copy_from_slice(&digits.unwrap_or_default());
        }
        // Always ASCII.
        let text = digits.get(..chunk.len() * 2).unwrap_or_default();
        out.push_str(std::str::from_utf8(text).unwrap_or_default());
    }
}
