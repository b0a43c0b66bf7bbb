//! Redaction: classified values leave a request before it is written anywhere.
//!
//! A request in which the decoder found values to treat (`classification.redaction`) is rewritten
//! field by field and decoded again, so that log, memory, partitions, queries and whatever is
//! forwarded hold the treated values only. It is done before the durable log, not before the
//! warm tier: who asks for masking expects that a stolen disk holds nothing, not that it holds a
//! day of it. `mode: off` keeps everything as received.
//!
//! A treated span gets `data_tag`: its values do not show their class any more. Names and
//! messages cannot be left out: in mode `drop` they are overwritten. Numbers and nested values
//! whose attribute's name marks them are replaced as a whole.
//!
//! The filter has treated its spans already. A hash of a hash would not equal the hash that another
//! sender's value gets, so in mode `hash` what looks like one stays as it is on the filter's spans.
//!
//! Limits: the request's size; attributes that repeat are treated once ([`REMEMBERED`]).

use std::collections::HashMap;

use foldhash::fast::RandomState;
use mesh_config::DataTag;
use mesh_config::classify::Redacted;

use super::any::{self, Any};
use super::wire::{Reader, Value, WireError};
use crate::policy::{FILTER_SCOPE, Rules};

/// Different attributes remembered per request.
const REMEMBERED: usize = 1_024;
/// Nesting of values that is looked into; what is deeper is overwritten.
const DEPTH: usize = 16;
/// What overwrites a whole value.
const MASK: &str = "***";

/// A treated attribute: its new encoding (`None`: left out) and its class.
type Treated = (Option<Vec<u8>>, Option<DataTag>);

/// Rewrites requests.
pub(crate) struct Redactor<'a> {
    rules: &'a Rules,
    /// By encoding: what became of it, and how many values were treated.
    known: HashMap<&'a [u8], (Treated, u64), RandomState>,
    scratch: Vec<u8>,
    /// True within spans of the filter.
    is_filter: bool,
    /// Values treated.
    pub(crate) values: u64,
}

impl<'a> Redactor<'a> {
    /// Treats by these rules.
    pub(crate) fn new(rules: &'a Rules) -> Self {
        Self {
            rules,
            known: HashMap::default(),
            scratch: Vec::new(),
            is_filter: false,
            values: 0,
        }
    }

    /// Rewrites an `ExportTraceServiceRequest`.
    pub(crate) fn request(&mut self, message: &'a [u8]) -> Result<Vec<u8>, WireError> {
        self.fields(message, |redactor, number, value, out| {
            if number != 1 {
                copy(number, value, out);
                return Ok(());
            }
            let spans = redactor.fields(value.bytes()?, Self::in_resource_spans)?;
            put_bytes(number, &spans, out);
            Ok(())
        })
    }

    fn in_resource_spans(
        &mut self,
        number: u32,
        value: Value<'a>,
        out: &mut Vec<u8>,
    ) -> Result<(), WireError> {
        let rewritten = match number {
            // Resource: its attributes are field 1.
            1 => self.fields(value.bytes()?, |redactor, number, value, out| {
                if number == 1 {
                    redactor.attribute(number, value, out).map(|_| ())
                } else {
                    copy(number, value, out);
                    Ok(())
                }
            })?,
            2 => self.scope(value.bytes()?)?.fields(
                value.bytes()?,
                |redactor, number, value, out| {
                    if number == 2 {
                        // A span that cannot be read was refused, and is not written either.
                        if let Ok(span) = redactor.span(value.bytes()?) {
                            put_bytes(number, &span, out);
                        }
                        Ok(())
                    } else {
                        copy(number, value, out);
                        Ok(())
                    }
                },
            )?,
            _ => {
                copy(number, value, out);
                return Ok(());
            }
        };
        put_bytes(number, &rewritten, out);
        Ok(())
    }

    /// Looks whose spans these are.
    fn scope(&mut self, message: &'a [u8]) -> Result<&mut Self, WireError> {
        let mut is_filter = false;
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.next()? {
            if number == 1 {
                let mut scope = Reader::new(value.bytes()?);
                while let Some((number, value)) = scope.next()? {
                    if number == 1 {
                        is_filter = value.bytes()? == FILTER_SCOPE.as_bytes();
                    }
                }
            }
        }
        if self.is_filter != is_filter {
            self.is_filter = is_filter;
            self.known.clear();
        }
        Ok(self)
    }

    /// Applies `each` to every field of a message.
    fn fields(
        &mut self,
        message: &'a [u8],
        mut each: impl FnMut(&mut Self, u32, Value<'a>, &mut Vec<u8>) -> Result<(), WireError>,
    ) -> Result<Vec<u8>, WireError> {
        let mut out = Vec::with_capacity(message.len());
        let mut reader = Reader::new(message);
        while let Some((number, value)) = reader.next()? {
            each(self, number, value, &mut out)?;
        }
        Ok(out)
    }

    fn span(&mut self, message: &'a [u8]) -> Result<Vec<u8>, WireError> {
        let mut found = None;
        let mut said = None;
        let mut out = self.fields(message, |redactor, number, value, out| {
            found = found.max(match number {
                5 => redactor.text(number, value, out)?,
                9 => {
                    let (key, any) = any::key_value(value)?;
                    if key == "data_tag"
                        && let Some(tag) = any.as_str()
                    {
                        said = Some((redactor.rules.class_of_tag(tag), value));
                        return Ok(());
                    }
                    redactor.attribute(number, value, out)?
                }
                // Event: name 2, attributes 3. Link: attributes 4. Status: message 2.
                11 => redactor.item(number, value, (2, 3), out)?,
                13 => redactor.item(number, value, (0, 4), out)?,
                15 => redactor.item(number, value, (2, 0), out)?,
                _ => {
                    copy(number, value, out);
                    None
                }
            });
            Ok(())
        })?;
        match (said, found) {
            (Some((tag, value)), found) if found.is_none_or(|found| found <= tag) => {
                copy(9, value, &mut out);
            }
            (said, Some(found)) => {
                let tag = said.map_or(found, |(tag, _)| found.max(tag));
                put_bytes(9, &key_text("data_tag", tag.as_str().as_bytes()), &mut out);
            }
            (None, None) | (Some(_), None) => {}
        }
        Ok(out)
    }

    /// Treats the text and the attributes of an event, a link or a status.
    fn item(
        &mut self,
        number: u32,
        value: Value<'a>,
        (text, attributes): (u32, u32),
        out: &mut Vec<u8>,
    ) -> Result<Option<DataTag>, WireError> {
        let mut found = None;
        let item = self.fields(value.bytes()?, |redactor, number, value, out| {
            found = found.max(if number == text {
                redactor.text(number, value, out)?
            } else if number == attributes {
                redactor.attribute(number, value, out)?
            } else {
                copy(number, value, out);
                None
            });
            Ok(())
        })?;
        put_bytes(number, &item, out);
        Ok(found)
    }

    /// Treats a name or a message.
    fn text(
        &mut self,
        number: u32,
        value: Value<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Option<DataTag>, WireError> {
        let (class, redacted) = self.treat("", value.bytes()?);
        match redacted {
            Redacted::Unchanged => copy(number, value, out),
            Redacted::Replaced => put_bytes(number, &self.scratch, out),
            Redacted::Dropped => put_bytes(number, MASK.as_bytes(), out),
        }
        Ok(class)
    }

    /// Asks the classifier; a replacement is in `scratch` and is valid text.
    fn treat(&mut self, key: &str, value: &[u8]) -> (Option<DataTag>, Redacted) {
        let (class, mut redacted) = self.rules.redact(key, value, &mut self.scratch);
        if self.is_filter && self.rules.hashes_values() && is_hash(value) {
            redacted = Redacted::Unchanged;
        }
        if redacted != Redacted::Unchanged {
            self.values += 1;
        }
        // A long value is cut where the scanner ended, which may be inside a character.
        if let Err(error) = std::str::from_utf8(&self.scratch) {
            self.scratch.truncate(error.valid_up_to());
        }
        (class, redacted)
    }

    /// Treats one attribute; it is left out or written as field `number`.
    fn attribute(
        &mut self,
        number: u32,
        value: Value<'a>,
        out: &mut Vec<u8>,
    ) -> Result<Option<DataTag>, WireError> {
        let bytes = value.bytes()?;
        if let Some(((treated, class), values)) = self.known.get(bytes) {
            self.values += values;
            if let Some(treated) = treated {
                put_bytes(number, treated, out);
            }
            return Ok(*class);
        }
        let before = self.values;
        let treated = self.key_value(value, DEPTH)?;
        let values = self.values - before;
        if let Some(treated) = &treated.0 {
            put_bytes(number, treated, out);
        }
        let class = treated.1;
        if self.known.len() < REMEMBERED {
            self.known.insert(bytes, (treated, values));
        }
        Ok(class)
    }

    fn key_value(&mut self, value: Value<'a>, depth: usize) -> Result<Treated, WireError> {
        let (key, any) = any::key_value(value)?;
        let (any, class) = self.any(key, any, depth)?;
        let written = any.map(|any| {
            let mut out = Vec::with_capacity(any.len() + key.len() + 8);
            put_bytes(1, key.as_bytes(), &mut out);
            put_bytes(2, &any, &mut out);
            out
        });
        Ok((written, class))
    }

    /// Treats a value; `None` when it is to be left out.
    fn any(&mut self, key: &str, any: Any<'a>, depth: usize) -> Result<Treated, WireError> {
        let (message, is_map) = match any {
            Any::List(message) => (message, false),
            Any::Map(message) => (message, true),
            plain => return Ok(self.plain(key, plain)),
        };
        // The name may mark the value as a whole.
        let (class, redacted) = self.treat(key, b"");
        if let Some(whole) = self.whole(key, redacted, message) {
            return Ok((whole, class));
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Ok((Some(any_text(MASK.as_bytes())), class));
        };
        let mut found = class;
        let list = self.fields(message, |redactor, number, value, out| {
            if number != 1 {
                copy(number, value, out);
                return Ok(());
            }
            let (item, class) = if is_map {
                redactor.key_value(value, depth)?
            } else {
                redactor.any(key, Any::parse(value.bytes()?)?, depth)?
            };
            found = found.max(class);
            if let Some(item) = item {
                put_bytes(number, &item, out);
            }
            Ok(())
        })?;
        let mut out = Vec::with_capacity(list.len() + 8);
        put_bytes(if is_map { 6 } else { 5 }, &list, &mut out);
        Ok((Some(out), found))
    }

    /// Treats a value that has no parts.
    fn plain(&mut self, key: &str, any: Any<'a>) -> Treated {
        let number;
        let text = match any {
            Any::Str(text) => text.as_bytes(),
            Any::Int(value) => {
                number = value.to_string();
                number.as_bytes()
            }
            Any::Double(value) => {
                number = value.to_string();
                number.as_bytes()
            }
            Any::Bytes(bytes) => bytes,
            _ => b"",
        };
        // Only text is looked into; of other values only the name counts.
        let is_text = matches!(any, Any::Str(_));
        let (class, redacted) = self.treat(key, if is_text { text } else { b"" });
        if redacted == Redacted::Replaced && is_text {
            return (Some(any_text(&self.scratch)), class);
        }
        match self.whole(key, redacted, text) {
            Some(whole) => (whole, class),
            None => (Some(encode(any)), class),
        }
    }

    /// What takes the place of a value that its name marks; `None` when nothing does.
    fn whole(&mut self, key: &str, redacted: Redacted, value: &[u8]) -> Option<Option<Vec<u8>>> {
        match redacted {
            Redacted::Unchanged => None,
            Redacted::Dropped => Some(None),
            Redacted::Replaced => {
                // Again with the value: a hash is one of the value.
                let _ = self.rules.redact(key, value, &mut self.scratch);
                Some(Some(any_text(&self.scratch)))
            }
        }
    }
}

/// Whether a value looks like what mode `hash` leaves of one.
fn is_hash(value: &[u8]) -> bool {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    value.len() == 32 && value.iter().all(is_digit)
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push((number as u8) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(number: u32, bytes: &[u8], out: &mut Vec<u8>) {
    varint(u64::from(number) << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Writes a field as it was.
fn copy(number: u32, value: Value<'_>, out: &mut Vec<u8>) {
    let tag = u64::from(number) << 3;
    match value {
        Value::Bytes(bytes) => put_bytes(number, bytes, out),
        Value::Varint(value) => {
            varint(tag, out);
            varint(value, out);
        }
        Value::Fixed64(value) => {
            varint(tag | 1, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Value::Fixed32(value) => {
            varint(tag | 5, out);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

/// An `AnyValue` with text.
fn any_text(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 4);
    put_bytes(1, text, &mut out);
    out
}

/// A `KeyValue` with text.
fn key_text(key: &str, text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(1, key.as_bytes(), &mut out);
    put_bytes(2, &any_text(text), &mut out);
    out
}

/// An `AnyValue` without parts.
fn encode(any: Any<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match any {
        Any::Empty | Any::List(_) | Any::Map(_) => {}
        Any::Str(text) => put_bytes(1, text.as_bytes(), &mut out),
        Any::Bool(flag) => copy(2, Value::Varint(flag.into()), &mut out),
        Any::Int(number) => copy(3, Value::Varint(number.cast_unsigned()), &mut out),
        Any::Double(number) => copy(4, Value::Fixed64(number.to_bits()), &mut out),
        Any::Bytes(bytes) => put_bytes(7, bytes, &mut out),
    }
    out
}

#[cfg(test)]
mod tests;
