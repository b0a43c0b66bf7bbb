//! A string that must not reach a log: keys and credentials of the policy.

use std::fmt;

use crate::decode::text_node;
use crate::node::{Node, Value};
use crate::setting::{Context, Setting};

/// A key or credential. It is written to the filter's configuration, and nowhere else: messages,
/// `Debug` output and comparisons of policies show that it is set, not what it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret with this value.
    pub fn new(value: &str) -> Self {
        Self(value.to_owned())
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether nothing is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() {
            "Secret(unset)"
        } else {
            "Secret(set)"
        })
    }
}

impl Setting for Secret {
    /// Says nothing about the value when it is of the wrong kind.
    fn decode(&mut self, node: &Node, context: &mut Context) {
        match &node.value {
            Value::Plain(text) | Value::Text(text) => self.0 = text.to_string(),
            Value::Null | Value::List(_) | Value::Map(_) => context.wrong_kind(node, "a string"),
        }
    }

    fn encode(&self) -> Node {
        text_node(&self.0)
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Secret
    }
}
