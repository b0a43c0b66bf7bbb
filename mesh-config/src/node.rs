//! The document tree that both front ends (JSON, YAML) produce: values with their place.
//!
//! Scalars keep their text as written, so that money is read as decimal digits and never passes
//! through a binary fraction. Mappings keep their order; a repeated key is refused by the front
//! end.

/// A document has at most this many bytes: a hundred times the longest policy we have seen.
pub const MAX_BYTES: usize = 1024 * 1024;
/// A document has at most this many values, aliases counted each time they are used.
pub const MAX_NODES: usize = 100_000;
/// Values are nested at most this deep; the policy itself needs six levels.
pub const MAX_DEPTH: usize = 32;

/// A mapping has at most this many keys: each new one is compared with all before it.
pub const MAX_KEYS: usize = 10_000;

/// A place in a document; both numbers count from 1, and 0 means unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// Line.
    pub line: u32,
    /// Column in characters.
    pub column: u32,
}

/// A value with its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Where the value starts.
    pub mark: Mark,
    /// The value.
    pub value: Value,
}

/// A document value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Value {
    /// Nothing: JSON `null`, YAML `null`, `~` or an empty value.
    #[default]
    Null,
    /// An unquoted scalar as written: a number, a boolean, or (YAML only) a word.
    Plain(Box<str>),
    /// A string: a JSON string, or a quoted or block scalar of YAML.
    Text(Box<str>),
    /// A list.
    List(Vec<Node>),
    /// A mapping in the order written.
    Map(Vec<Entry>),
}

/// One pair of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key's text.
    pub key: Box<str>,
    /// Where the key starts.
    pub mark: Mark,
    /// The value.
    pub value: Node,
}

impl Node {
    /// What kind of value this is, for messages.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Plain(_) => "a plain value",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The value of a scalar as written, quotes removed.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Plain(text) | Value::Text(text) => Some(text),
            Value::Null | Value::List(_) | Value::Map(_) => None,
        }
    }

    /// Removes and returns the value of `key` when this is a mapping that has it.
    pub(crate) fn take(&mut self, key: &str) -> Option<Entry> {
        let Value::Map(entries) = &mut self.value else {
            return None;
        };
        let index = entries.iter().position(|entry| &*entry.key == key)?;
        Some(entries.remove(index))
    }

    /// The value of `key` when this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        entries
            .iter()
            .find(|entry| &*entry.key == key)
            .map(|entry| &entry.value)
    }

    /// Moves every place down, for a document inside another one.
    #[cfg(feature = "yaml")]
    pub(crate) fn shift_lines(&mut self, lines: u32) {
        self.mark.line = self.mark.line.saturating_add(lines);
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.shift_lines(lines)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.mark.line = entry.mark.line.saturating_add(lines);
                    entry.value.shift_lines(lines);
                }
            }
            Value::Null | Value::Plain(_) | Value::Text(_) => {}
        }
    }
}

/// A syntax error of a front end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) mark: Mark,
    pub(crate) message: String,
}
