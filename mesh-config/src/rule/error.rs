//! The one error of the rule language: what is wrong and which part of the text.

use std::fmt;
use std::ops::Range;

/// Why a condition was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    message: String,
    span: Range<usize>,
    source: Box<str>,
}

impl RuleError {
    #[cold]
    pub(super) fn new(message: String, span: Range<usize>, source: &str) -> Self {
        Self {
            message,
            span,
            source: source.into(),
        }
    }

    /// What is wrong, on one line.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The bytes of the condition that the message is about; empty at its end.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The condition with carets under the part that the message is about: two lines.
    pub fn marked(&self) -> String {
        let before = self.source.get(..self.span.start).unwrap_or(&self.source);
        let part = self.source.get(self.span.clone()).unwrap_or_default();
        // A condition may come from a block scalar: the marked line is the one with the start.
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = self.source.get(line_start..).unwrap_or_default();
        let line = line.lines().next().unwrap_or_default();
        let indent = before.get(line_start..).unwrap_or_default().chars().count();
        let carets = part
            .lines()
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            .max(1);
        format!("{}\n{}{}", line, " ".repeat(indent), "^".repeat(carets))
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}", self.message, self.marked())
    }
}

impl std::error::Error for RuleError {}
