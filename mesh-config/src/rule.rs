//! The condition language of the policy.
//!
#![doc = include_str!("rule/language.md")]
//!
//! # Compiled form
//!
//! A condition is parsed once into a flat program: tests in postfix order with jumps that skip
//! what cannot matter. Evaluation allocates nothing, calls [`Attributes::get`] at most once per
//! test and is bounded by [`MAX_TESTS`] and [`MAX_DEPTH`].

mod ast;
mod attribute;
mod error;
mod eval;
mod lexer;
mod measure;
mod operand;
mod parser;
mod program;

pub use ast::Parts;
pub use attribute::{Attribute, KNOWN, KnownAttribute, Phase};
pub use error::RuleError;
pub use eval::{Attributes, Lookup, Tri, Value};
pub use measure::{Known, Measure, Measures};
pub use operand::{glob, glob_ignore_case};

/// A condition has at most this many bytes.
pub const MAX_LENGTH: usize = 4096;
/// Parentheses and `not` are nested at most this deep.
pub const MAX_DEPTH: usize = 32;
/// A condition has at most this many comparisons; each item of an `in` list is one.
pub const MAX_TESTS: usize = 256;

/// A condition, compiled.
#[derive(Clone, Debug)]
pub struct Condition {
    source: Box<str>,
    program: program::Program,
}

impl Condition {
    /// Compiles a condition.
    pub fn parse(source: &str) -> Result<Self, RuleError> {
        let tree = parser::parse(source)?;
        Ok(Self {
            source: source.into(),
            program: program::compile(&tree),
        })
    }

    /// The condition that never holds.
    pub fn never() -> Self {
        Self {
            source: "".into(),
            program: program::Program::default(),
        }
    }

    /// A condition written in this crate; a test proves that every one of them compiles.
    pub(crate) fn constant(source: &str) -> Self {
        Self::parse(source).unwrap_or_else(|_| Self::never())
    }

    /// Whether the condition holds, as far as `attributes` knows.
    pub fn eval(&self, attributes: &impl Attributes) -> Tri {
        self.eval_with(attributes.measures(), attributes)
    }

    /// The same for whoever evaluates many: `measures` are those of the attributes.
    pub(crate) fn eval_with(
        &self,
        measures: Option<&Measures>,
        attributes: &dyn Attributes,
    ) -> Tri {
        match (&self.program.comparison, measures) {
            (Some(comparison), Some(measures)) => comparison.eval(measures),
            _ => self.program.eval(attributes),
        }
    }

    /// Whether [`Measures`] alone decide it.
    pub(crate) const fn compares_measure(&self) -> bool {
        self.program.comparison.is_some()
    }

    /// The attributes that an evaluation may ask for, each once.
    pub fn attributes(&self) -> &[Attribute] {
        &self.program.attributes
    }

    /// When the condition is decided for every request: the latest phase of its attributes.
    pub fn phase(&self) -> Phase {
        let phases = self.attributes().iter().map(Attribute::phase);
        phases.max().unwrap_or(Phase::Request)
    }

    /// Whether the condition asks for `attribute`.
    pub fn uses(&self, attribute: &Attribute) -> bool {
        self.attributes().contains(attribute)
    }

    /// The text that was parsed.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The condition in one spelling: equal texts mean equal conditions. Parses the text again.
    pub fn canonical(&self) -> Option<String> {
        parser::parse(&self.source)
            .ok()
            .map(|tree| tree.to_string())
    }

    /// Whether the condition wants one attribute to equal two different values. Other
    /// contradictions are not found.
    pub fn contradicts_itself(&self) -> bool {
        parser::parse(&self.source).is_ok_and(|tree| ast::contradicts_itself(&tree))
    }

    /// What is left of the condition in each phase, for explanations. Parses the text again.
    pub fn parts(&self) -> Option<Parts> {
        parser::parse(&self.source)
            .ok()
            .map(|tree| ast::parts(&tree))
    }
}

/// Conditions are equal when their text is.
impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Default for Condition {
    fn default() -> Self {
        Self::never()
    }
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.source)
    }
}

#[cfg(test)]
mod tests;
