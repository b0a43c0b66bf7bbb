//! Reads a `google.protobuf.Struct`: what Envoy hands to a plugin whose configuration is a Struct
//! and not a `StringValue` with JSON. Envoy passes the message on as its bytes.
//!
//! Only the wire form of Struct is read; fields that it does not have are an error. The limits of
//! [`crate::node`] hold. There are no places: the message has no lines.

use crate::node::{
    Entry, MAX_BYTES, MAX_DEPTH, MAX_KEYS, MAX_NODES, Mark, Node, SyntaxError, Value,
};
use crate::units::Plain;

/// Whether the bytes can only be a Struct: its first byte is the tag of its one field, and what
/// follows is not JSON.
pub(crate) fn looks_like(bytes: &[u8]) -> bool {
    bytes.first() == Some(&FIELDS) && !matches!(bytes.trim_ascii().first(), Some(b'{') | None)
}

/// Tag of `Struct.fields`, `MapEntry.key` and `ListValue.values`: field 1, a length follows.
const FIELDS: u8 = 0x0a;

/// Reads the message.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, SyntaxError> {
    if bytes.len() > MAX_BYTES {
        return Err(error("configuration is longer than the limit"));
    }
    let mut nodes = 0;
    structure(bytes, 0, &mut nodes)
}

#[cold]
fn error(message: &str) -> SyntaxError {
    SyntaxError {
        mark: Mark::default(),
        message: format!(
            "{message}; it was read as a protobuf Struct, JSON in a StringValue is better"
        ),
    }
}

const BROKEN: &str = "configuration is neither JSON nor a protobuf Struct";

/// A field of a message: its tag byte and its bytes.
type Field<'a> = (u8, &'a [u8]);

/// Cuts a message into its fields. All field numbers of Struct are below 16: tags are one byte.
fn fields(mut bytes: &[u8]) -> Result<Vec<Field<'_>>, SyntaxError> {
    let mut found = Vec::new();
    while let Some((&tag, rest)) = bytes.split_first() {
        let (length, rest) = match tag & 7 {
            0 => (
                rest.iter()
                    .position(|byte| *byte < 0x80)
                    .map(|last| last + 1),
                rest,
            ),
            1 => (Some(8), rest),
            2 => {
                let (length, rest) = varint(rest)?;
                (usize::try_from(length).ok(), rest)
            }
            _ => (None, rest),
        };
        let cut = length.and_then(|length| rest.split_at_checked(length));
        let (value, rest) = cut.ok_or_else(|| error(BROKEN))?;
        found.push((tag, value));
        bytes = rest;
    }
    Ok(found)
}

fn varint(bytes: &[u8]) -> Result<(u64, &[u8]), SyntaxError> {
    let mut value = 0_u64;
    for (index, byte) in bytes.iter().take(9).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok((value, bytes.get(index + 1..).unwrap_or_default()));
        }
    }
    Err(error(BROKEN))
}

fn text(bytes: &[u8]) -> Result<Box<str>, SyntaxError> {
    std::str::from_utf8(bytes)
        .map(Into::into)
        .map_err(|_| error("text is not UTF-8"))
}

fn node(value: Value) -> Node {
    Node {
        mark: Mark::default(),
        value,
    }
}

fn structure(bytes: &[u8], depth: usize, nodes: &mut usize) -> Result<Node, SyntaxError> {
    let mut entries: Vec<Entry> = Vec::new();
    for (tag, pair) in fields(bytes)? {
        if tag != FIELDS {
            return Err(error(BROKEN));
        }
        let mut key: Box<str> = "".into();
        let mut value = Node::default();
        for (tag, part) in fields(pair)? {
            match tag {
                FIELDS => key = text(part)?,
                0x12 => value = self::value(part, depth + 1, nodes)?,
                _ => return Err(error(BROKEN)),
            }
        }
        // The last one of two equal keys counts, as in every protobuf map.
        if entries.len() >= MAX_KEYS {
            return Err(error("configuration has too many keys"));
        }
        entries.retain(|entry| entry.key != key);
        entries.push(Entry {
            key,
            mark: Mark::default(),
            value,
        });
    }
    Ok(node(Value::Map(entries)))
}

fn value(bytes: &[u8], depth: usize, nodes: &mut usize) -> Result<Node, SyntaxError> {
    *nodes += 1;
    if depth > MAX_DEPTH || *nodes > MAX_NODES {
        return Err(error("configuration has too many values or levels"));
    }
    // Of several kinds the last one counts, as in every protobuf choice.
    let Some((tag, part)) = fields(bytes)?.pop() else {
        return Ok(Node::default());
    };
    Ok(match tag {
        0x08 => Node::default(),
        0x11 => {
            let digits: [u8; 8] = part.try_into().map_err(|_| error(BROKEN))?;
            let number = Plain(f64::from_le_bytes(digits));
            node(Value::Plain(number.to_string().into()))
        }
        0x1a => node(Value::Text(text(part)?)),
        0x20 => node(Value::Plain(
            if part == [0] { "false" } else { "true" }.into(),
        )),
        0x2a => structure(part, depth, nodes)?,
        0x32 => {
            let mut items = Vec::new();
            for (tag, item) in fields(part)? {
                if tag != FIELDS {
                    return Err(error(BROKEN));
                }
                items.push(value(item, depth + 1, nodes)?);
            }
            node(Value::List(items))
        }
        _ => return Err(error(BROKEN)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length_delimited(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        let mut length = bytes.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(bytes);
        out
    }

    /// The message for a document, by the rules of the standard.
    fn write_value(node: &Node) -> Vec<u8> {
        match &node.value {
            Value::Null => vec![0x08, 0],
            Value::Plain(text) if &**text == "true" => vec![0x20, 1],
            Value::Plain(text) if &**text == "false" => vec![0x20, 0],
            Value::Plain(text) => {
                [&[0x11][..], &text.parse::<f64>().unwrap().to_le_bytes()].concat()
            }
            Value::Text(text) => length_delimited(0x1a, text.as_bytes()),
            Value::Map(_) => length_delimited(0x2a, &write_struct(node)),
            Value::List(items) => {
                let items: Vec<Vec<u8>> = items
                    .iter()
                    .map(|item| length_delimited(FIELDS, &write_value(item)))
                    .collect();
                length_delimited(0x32, &items.concat())
            }
        }
    }

    fn write_struct(node: &Node) -> Vec<u8> {
        let Value::Map(entries) = &node.value else {
            panic!("not a mapping")
        };
        let pair = |entry: &Entry| {
            let key = length_delimited(FIELDS, entry.key.as_bytes());
            let value = length_delimited(0x12, &write_value(&entry.value));
            length_delimited(FIELDS, &[key, value].concat())
        };
        entries.iter().map(pair).collect::<Vec<_>>().concat()
    }

    #[test]
    fn struct_is_read_as_the_same_policy_as_json() {
        let text = include_str!("../tests/policies/valid/istio_struct.json");
        let json = crate::json::parse(text.as_bytes()).unwrap();
        let bytes = write_struct(&json);
        assert!(looks_like(&bytes));
        let read = crate::Policy::from_json(&bytes).unwrap();
        assert_eq!(read, crate::Policy::from_json(text.as_bytes()).unwrap());
        assert_ne!(read.policy, crate::Policy::default());
    }

    #[test]
    fn broken_messages_are_errors() {
        let json = crate::json::parse(br#"{"sampling":{"default_rate":0.5}}"#).unwrap();
        let bytes = write_struct(&json);
        // A first byte alone is a line feed, which is an empty document.
        for cut in 2..bytes.len() {
            assert!(crate::Policy::from_json(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut rng = fastrand::Rng::with_seed(9);
        for _ in 0..20_000 {
            let mut mutant = bytes.clone();
            let at = rng.usize(0..mutant.len());
            mutant[at] = rng.u8(..);
            // Must not panic; what it means is no matter.
            let _outcome = parse(&mutant);
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let mut message = vec![0x08, 0];
        for _ in 0..200 {
            message = length_delimited(0x32, &length_delimited(FIELDS, &message));
        }
        assert!(value(&message, 0, &mut 0).is_err());
    }

    #[test]
    fn json_that_begins_with_a_line_feed_is_json() {
        assert!(!looks_like(b"\n {}"));
        assert!(!looks_like(b"\n\n"));
        assert!(crate::Policy::from_json(b"\n{\"sampling\":{}}").is_ok());
    }
}
