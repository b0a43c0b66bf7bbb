//! Descriptions of the options: reference page and JSON Schema are generated from them.

/// What an option can hold.
#[derive(Clone, Debug)]
pub enum Shape {
    /// `true` or `false`.
    Boolean,
    /// A whole number from 0.
    Whole,
    /// A non-negative number.
    Number,
    /// A share from 0 to 1.
    Rate,
    /// An amount in US dollars.
    Money,
    /// A duration with its unit.
    Duration,
    /// A size with its unit.
    Size,
    /// A string.
    Text,
    /// A condition of the rule language.
    Condition,
    /// An alert query.
    AlertQuery,
    /// One of a few words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A list.
    List(Box<Shape>),
    /// A map from free keys.
    Table(Box<Shape>),
    /// A value that may be absent.
    Optional(Box<Shape>),
    /// A section.
    Section(Section),
}

/// A section of options.
#[derive(Clone, Debug)]
pub struct Section {
    /// The type's name.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
    /// Its options.
    pub fields: Vec<Field>,
}

/// An option.
#[derive(Clone, Debug)]
pub struct Field {
    /// The key.
    pub name: &'static str,
    /// Reference text.
    pub doc: &'static str,
    /// What it can hold.
    pub shape: Shape,
    /// The default.
    pub default: crate::node::Node,
    /// Inclusive bounds.
    pub bounds: Option<(f64, f64)>,
    /// Whether it must be given.
    pub required: bool,
}
