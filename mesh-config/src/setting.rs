//! What a type must do to be an option: be read from a document, be written back, describe itself.
//!
//! [`Context`] collects the problems of a document with the path of the option at hand. Decoding
//! works in place: the value starts as its default, and what the document does not name stays.

use crate::diagnostic::{Diagnostic, MAX_DIAGNOSTICS, Severity};
use crate::node::{Entry, Mark, Node, Value};

/// A type that an option of the policy can have.
pub(crate) trait Setting {
    /// Takes over what `node` says; what it does not name keeps its value. Problems go to
    /// `context`, and the value then stays as it was.
    fn decode(&mut self, node: &Node, context: &mut Context);

    /// The value as a document; parts that equal their default are left out of sections.
    fn encode(&self) -> Node;

    /// The same for a value that is read over `base`: what equals `base` is left out of sections.
    fn encode_over(&self, _base: &Self) -> Node
    where
        Self: Sized,
    {
        self.encode()
    }

    /// Description for the reference page and the JSON Schema.
    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape;
}

/// Problems found so far, and the path of the option being read.
#[derive(Debug, Default)]
pub(crate) struct Context {
    file: String,
    path: String,
    found: Vec<Diagnostic>,
}

impl Context {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn into_found(self) -> Vec<Diagnostic> {
        self.found
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found
            .iter()
            .any(|found| found.severity == Severity::Error)
    }

    /// Runs `read` with the path extended by a key.
    pub(crate) fn at_key(&mut self, key: &str, read: impl FnOnce(&mut Self)) {
        let outer = self.enter_key(key);
        read(self);
        self.leave(outer);
    }

    /// Extends the path by a key; [`Context::leave`] takes what this returns.
    #[inline(never)]
    pub(crate) fn enter_key(&mut self, key: &str) -> usize {
        let outer = self.path.len();
        if !self.path.is_empty() {
            self.path.push('.');
        }
        if key.is_empty() || key.contains(['.', '[', ' ']) {
            self.path.push_str(&format!("{key:?}"));
        } else {
            self.path.push_str(key);
        }
        outer
    }

    /// Takes the path back to where it was.
    pub(crate) fn leave(&mut self, outer: usize) {
        self.path.truncate(outer);
    }

    /// Runs `read` with the path extended by a list index.
    pub(crate) fn at_index(&mut self, index: usize, read: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.push_index(index);
        read(self);
        self.path.truncate(length);
    }

    #[inline(never)]
    fn push_index(&mut self, index: usize) {
        self.path.push_str(&format!("[{index}]"));
    }

    /// Runs `read` with `path` as the path.
    pub(crate) fn at_path(&mut self, path: &str, read: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.path, path.to_owned());
        read(self);
        self.path = outer;
    }

    /// Records a problem at `mark`.
    #[cold]
    pub(crate) fn report(
        &mut self,
        severity: Severity,
        mark: Mark,
        message: String,
        help: Option<String>,
    ) {
        if self.found.len() >= MAX_DIAGNOSTICS {
            return;
        }
        self.found.push(Diagnostic {
            severity,
            file: self.file.clone(),
            line: mark.line,
            column: mark.column,
            path: self.path.clone(),
            message,
            help,
        });
    }

    /// Records an error at `mark`.
    #[cold]
    pub(crate) fn error(&mut self, mark: Mark, message: String, help: &str) {
        let help = if help.is_empty() {
            None
        } else {
            Some(help.to_owned())
        };
        self.report(Severity::Error, mark, message, help);
    }

    /// Records that the value is of the wrong kind.
    #[cold]
    pub(crate) fn wrong_kind(&mut self, node: &Node, wanted: &str) {
        let message = match node.text() {
            Some(text) => format!(
                "found {} `{}`, expected {wanted}",
                node.kind(),
                shorten(text)
            ),
            None => format!("found {}, expected {wanted}", node.kind()),
        };
        self.error(node.mark, message, "");
    }

    /// The pairs of a section or table; nothing written means no pair.
    pub(crate) fn entries<'a>(&mut self, node: &'a Node) -> &'a [Entry] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            Value::Plain(_) | Value::Text(_) | Value::List(_) => {
                self.wrong_kind(node, "a mapping");
                &[]
            }
        }
    }

    /// Records a key that the section does not have, with the nearest ones that it has.
    #[cold]
    pub(crate) fn unknown_key(&mut self, entry: &Entry, allowed: &[&str]) {
        let message = format!("unknown key `{}`", shorten(&entry.key));
        let near = nearest(&entry.key, allowed);
        let help = match near {
            Some(near) => format!("did you mean `{near}`? allowed here: {}", join(allowed)),
            None => format!("allowed here: {}", join(allowed)),
        };
        self.error(entry.mark, message, &help);
    }

    /// Records that a required key is missing.
    #[cold]
    pub(crate) fn missing(&mut self, mark: Mark, key: &str) {
        self.error(mark, format!("key `{key}` is missing"), "");
    }
}

/// The names in backticks, separated by commas.
pub(crate) fn join(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

/// At most 60 characters of a value, for messages.
pub(crate) fn shorten(text: &str) -> String {
    const LIMIT: usize = 60;
    if text.chars().count() <= LIMIT {
        return text
            .escape_debug()
            .to_string()
            .replace("\\'", "'")
            .replace("\\\"", "\"");
    }
    let head: String = text.chars().take(LIMIT).collect();
    format!("{}..", head.escape_debug())
}

/// The allowed name that differs from `word` by few enough letters to be a slip.
pub(crate) fn nearest<'a>(word: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let limit = (word.len() / 3).clamp(1, 4);
    let mut best = None;
    for name in allowed {
        let distance = edit_distance(word.as_bytes(), name.as_bytes());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, *name));
        }
    }
    best.map(|(_, name)| name)
}

/// Levenshtein distance; words longer than 64 bytes count as far away.
fn edit_distance(left: &[u8], right: &[u8]) -> usize {
    if left.len() > 64 || right.len() > 64 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, from) in left.iter().enumerate() {
        let mut diagonal = index;
        let mut previous = index + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right) {
            let cost = diagonal + usize::from(from != to);
            diagonal = *cell;
            previous = cost.min(*cell + 1).min(previous + 1);
            *cell = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}
