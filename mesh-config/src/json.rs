//! JSON in and out: the filter's plugin configuration.
//!
//! The reader builds the document tree with places, keeps numbers as written, refuses repeated
//! keys and holds the limits of [`crate::node`]. It is written here rather than taken from a
//! library because the filter needs the places, the digits and little code.

use std::cell::Cell;

use crate::node::{
    Entry, MAX_BYTES, MAX_DEPTH, MAX_KEYS, MAX_NODES, Mark, Node, SyntaxError, Value,
};

/// Reads one JSON document.
pub(crate) fn parse(bytes: &[u8]) -> Result<Node, SyntaxError> {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return Err(SyntaxError {
            mark: Mark::default(),
            message: "text is not UTF-8".into(),
        });
    };
    let mut reader = Reader::new(text);
    if text.len() > MAX_BYTES {
        return Err(reader.error(format!("document is longer than {MAX_BYTES} bytes")));
    }
    reader.skip_space();
    let node = reader.value(0)?;
    reader.skip_space();
    if reader.at < text.len() {
        return Err(reader.error("text after the end of the document".into()));
    }
    Ok(node)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    /// The place of a byte offset at or before `at`.
    seen: Cell<(usize, Mark)>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            nodes: 0,
            seen: Cell::new((0, Mark { line: 1, column: 1 })),
        }
    }
}

impl<'a> Reader<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The place of the reader, counted on from the place asked for before.
    fn mark(&self) -> Mark {
        let (from, mut mark) = self.seen.get();
        for found in self.text.get(from..self.at).unwrap_or_default().chars() {
            if found == '\n' {
                mark.line = mark.line.saturating_add(1);
                mark.column = 1;
            } else {
                mark.column = mark.column.saturating_add(1);
            }
        }
        self.seen.set((self.at, mark));
        mark
    }

    #[cold]
    fn error(&self, message: String) -> SyntaxError {
        SyntaxError {
            mark: self.mark(),
            message,
        }
    }

    #[cold]
    fn unexpected(&self, wanted: &str) -> SyntaxError {
        match self.rest().chars().next() {
            Some(found) => self.error(format!(
                "found `{}`, expected {wanted}",
                found.escape_debug()
            )),
            None => self.error(format!("document ends, expected {wanted}")),
        }
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self, depth: usize) -> Result<Node, SyntaxError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.error(format!("document has more than {MAX_NODES} values")));
        }
        if depth > MAX_DEPTH {
            return Err(self.error(format!(
                "values are nested more than {MAX_DEPTH} levels deep"
            )));
        }
        let mark = self.mark();
        let value = match self.peek() {
            Some(b'{') => self.map(depth)?,
            Some(b'[') => self.list(depth)?,
            Some(b'"') => Value::Text(self.string()?.into()),
            Some(b'-' | b'0'..=b'9') => Value::Plain(self.number()?.into()),
            _ => self.word()?,
        };
        Ok(Node { mark, value })
    }

    fn word(&mut self) -> Result<Value, SyntaxError> {
        for (word, value) in [
            ("null", Value::Null),
            ("true", Value::Plain("true".into())),
            ("false", Value::Plain("false".into())),
        ] {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(self.unexpected("a JSON value"))
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start {
            Err(self.unexpected("a digit"))
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Result<&'a str, SyntaxError> {
        let start = self.at;
        self.eat(b'-');
        if !self.eat(b'0') {
            self.digits()?;
        }
        if self.eat(b'.') {
            self.digits()?;
        }
        if self.eat(b'e') || self.eat(b'E') {
            let _signed = self.eat(b'+') || self.eat(b'-');
            self.digits()?;
        }
        Ok(self.text.get(start..self.at).unwrap_or_default())
    }

    fn string(&mut self) -> Result<String, SyntaxError> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let run = self.rest().find(['"', '\\']).unwrap_or(self.rest().len());
            let plain = self.rest().get(..run).unwrap_or_default();
            if let Some(control) = plain.find(|c: char| c < ' ') {
                self.at += control;
                return Err(self.unexpected("an escape such as `\\n` in a string"));
            }
            out.push_str(plain);
            self.at += run;
            if self.eat(b'"') {
                return Ok(out);
            }
            if !self.eat(b'\\') {
                return Err(self.unexpected("the closing quote of a string"));
            }
            out.push(self.escape()?);
        }
    }

    fn escape(&mut self) -> Result<char, SyntaxError> {
        let found = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("one of the JSON escapes")),
        };
        self.at += 1;
        Ok(found)
    }

    fn hex4(&mut self) -> Result<u32, SyntaxError> {
        let unit = self
            .rest()
            .get(..4)
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u32::from_str_radix(text, 16).ok());
        match unit {
            Some(unit) => {
                self.at += 4;
                Ok(unit)
            }
            None => Err(self.unexpected("four hexadecimal digits")),
        }
    }

    fn unicode(&mut self) -> Result<char, SyntaxError> {
        let first = self.hex4()?;
        let mut code = first;
        if (0xD800..0xDC00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if (0xDC00..0xE000).contains(&second) {
                code = 0x1_0000 + ((first - 0xD800) << 10) + (second - 0xDC00);
            }
        }
        char::from_u32(code).ok_or_else(|| self.error("escape is half of a surrogate pair".into()))
    }

    fn list(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut items = Vec::new();
        self.skip_space();
        if self.eat(b']') {
            return Ok(Value::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value(depth + 1)?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::List(items));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("`,` or `]`"));
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        self.at += 1;
        let mut entries: Vec<Entry> = Vec::new();
        self.skip_space();
        if self.eat(b'}') {
            return Ok(Value::Map(entries));
        }
        loop {
            self.skip_space();
            let mark = self.mark();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a key in double quotes"));
            }
            let key: Box<str> = self.string()?.into();
            if entries.len() >= MAX_KEYS {
                return Err(self.error(format!("mapping has more than {MAX_KEYS} keys")));
            }
            if entries.iter().any(|entry| entry.key == key) {
                return Err(SyntaxError {
                    mark,
                    message: format!("key `{key}` appears twice"),
                });
            }
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.unexpected("`:`"));
            }
            self.skip_space();
            let value = self.value(depth + 1)?;
            entries.push(Entry { key, mark, value });
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Map(entries));
            }
            if !self.eat(b',') {
                return Err(self.unexpected("`,` or `}`"));
            }
        }
    }
}

/// Writes `node` as compact JSON. A YAML word becomes a string.
pub(crate) fn write(node: &Node, out: &mut String) {
    match &node.value {
        Value::Null => out.push_str("null"),
        Value::Plain(text) if is_literal(text) => out.push_str(text),
        Value::Plain(text) | Value::Text(text) => write_string(text, out),
        Value::List(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write(item, out);
            }
            out.push(']');
        }
        Value::Map(entries) => {
            out.push('{');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_string(&entry.key, out);
                out.push(':');
                write(&entry.value, out);
            }
            out.push('}');
        }
    }
}

fn is_literal(text: &str) -> bool {
    let mut reader = Reader::new(text);
    matches!(text, "true" | "false") || (reader.number().is_ok() && reader.at == text.len())
}

/// Writes a JSON string. Control characters are escaped; `</` needs no care outside HTML.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for found in text.chars() {
        match found {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            control if control < ' ' => {
                out.push_str("\\u00");
                for nibble in [u32::from(control) >> 4, u32::from(control) & 15] {
                    out.extend(char::from_digit(nibble, 16));
                }
            }
            other => out.push(other),
        }
    }
    out.push('"');
}

/// Writes `node` as JSON with two blanks of indentation per level and a final line break.
#[cfg(feature = "docs")]
pub(crate) fn write_pretty(node: &Node, out: &mut String) {
    pretty(node, 0, out);
    out.push('\n');
}

#[cfg(feature = "docs")]
fn pretty(node: &Node, level: usize, out: &mut String) {
    let line = |level: usize, out: &mut String| {
        out.push('\n');
        out.push_str(&"  ".repeat(level));
    };
    match &node.value {
        Value::Map(entries) if !entries.is_empty() => {
            out.push('{');
            for (index, entry) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(level + 1, out);
                write_string(&entry.key, out);
                out.push_str(": ");
                pretty(&entry.value, level + 1, out);
            }
            line(level, out);
            out.push('}');
        }
        Value::List(items) if items.iter().any(|item| matches!(item.value, Value::Map(_))) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                line(level + 1, out);
                pretty(item, level + 1, out);
            }
            line(level, out);
            out.push(']');
        }
        _ => write(node, out),
    }
}
