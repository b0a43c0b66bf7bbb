//! Descriptions of the options, and what is generated from them: the reference page and the JSON
//! Schema. Both are the same bytes on every run.

mod flatten;
mod reference;
mod schema;
mod yaml;

pub use flatten::flatten;
pub use reference::reference;
pub use schema::schema;
pub use yaml::filter_yaml;

use crate::node::Node;
use crate::policy::Policy;
use crate::setting::Setting;

/// What an option can hold.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
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
    /// A string that must not be shown.
    Secret,
    /// A condition of the rule language.
    Condition,
    /// An alert query.
    AlertQuery,
    /// One of a few words, each with what it means.
    Choice(&'static [(&'static str, &'static str)]),
    /// A list.
    List(Box<Self>),
    /// A map from free keys.
    Table(Box<Self>),
    /// A value that may be absent.
    Optional(Box<Self>),
    /// A section.
    Section(Section),
}

/// A section of options.
#[derive(Clone, Debug)]
pub(crate) struct Section {
    /// What it is about.
    pub(crate) doc: &'static str,
    /// Its options.
    pub(crate) fields: Vec<Field>,
}

/// An option.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// The key.
    pub(crate) name: &'static str,
    /// Reference text.
    pub(crate) doc: &'static str,
    /// What it can hold.
    pub(crate) shape: Shape,
    /// The default; of a section only what differs from the section's own defaults.
    pub(crate) default: Node,
    /// Inclusive bounds.
    pub(crate) bounds: Option<(u64, u64)>,
    /// Whether it must be given.
    pub(crate) required: bool,
}

impl Field {
    /// The default where `outer` (the default of the section around it) says something else than
    /// the section itself.
    fn default_in<'a>(&'a self, outer: &'a Node) -> &'a Node {
        outer.get(self.name).unwrap_or(&self.default)
    }

    /// The reference text on one line.
    fn text(&self) -> String {
        one_line(self.doc)
    }
}

/// Doc comments as one line of text.
fn one_line(doc: &str) -> String {
    doc.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sections of the policy.
fn root() -> Section {
    match Policy::shape() {
        Shape::Section(section) => section,
        _ => Section {
            doc: "",
            fields: Vec::new(),
        },
    }
}
