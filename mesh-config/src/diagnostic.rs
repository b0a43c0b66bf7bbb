//! Errors and warnings of a policy document: where, which option, which value, what is allowed.
//!
//! A document yields all its problems at once, at most [`MAX_DIAGNOSTICS`] of them, in the order
//! in which they were found.

use std::fmt;

/// More problems than this are not reported: the first ones name the cause.
pub(crate) const MAX_DIAGNOSTICS: usize = 100;

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The policy is loaded, but probably does not do what was meant.
    Warning,
    /// The policy is refused.
    Error,
}

impl Severity {
    /// The word that is printed before the message.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One problem of a policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The document's name as the caller gave it; empty when it has none.
    pub file: String,
    /// Line, counted from 1; 0 when the problem has no place.
    pub line: u32,
    /// Column in characters, counted from 1; 0 when the problem has no place.
    pub column: u32,
    /// Path of the option, such as `sampling.priority_rules[1].condition`; may be empty.
    pub path: String,
    /// What is wrong, with the value in backticks.
    pub message: String,
    /// What is allowed, or what to do instead; several lines for a marked-up condition.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.file.is_empty() {
            write!(f, "{}:", self.file)?;
        }
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if !self.file.is_empty() || self.line > 0 {
            f.write_str(" ")?;
        }
        write!(f, "{}: ", self.severity.as_str())?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(help) = &self.help {
            for line in help.lines() {
                write!(f, "\n    {line}")?;
            }
        }
        Ok(())
    }
}

/// Every problem of a refused policy document: at least one error, and the warnings beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
}

impl Diagnostics {
    pub(crate) fn new(list: Vec<Diagnostic>) -> Self {
        Self { list }
    }

    /// The problems in the order in which they were found.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.list.iter()
    }

    /// The problems, to be printed one by one.
    pub fn into_vec(self) -> Vec<Diagnostic> {
        self.list
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{diagnostic}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}
