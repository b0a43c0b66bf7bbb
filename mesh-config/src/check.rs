//! Checks across options, after each option was read by itself: what contradicts itself is
//! refused, what cannot have an effect is warned about.

#[cfg(feature = "collector")]
mod collector;
mod sampling;
mod sections;

use crate::diagnostic::Severity;
use crate::node::{Mark, Node, Value};
use crate::policy::Policy;
use crate::rule::{Attribute, Condition, Phase};
use crate::setting::Context;

/// Checks the policy that was read from the document `root`.
pub(crate) fn check(policy: &Policy, root: &Node, context: &mut Context) {
    let mut checker = Checker { root, context };
    sampling::check(policy, &mut checker);
    sections::check(policy, &mut checker);
    #[cfg(feature = "collector")]
    collector::check(policy, &mut checker);
}

/// The document for places, and the list of problems.
struct Checker<'a> {
    root: &'a Node,
    context: &'a mut Context,
}

impl Checker<'_> {
    fn error(&mut self, path: &str, message: String, help: &str) {
        self.report(Severity::Error, path, message, help);
    }

    fn warn(&mut self, path: &str, message: String, help: &str) {
        self.report(Severity::Warning, path, message, help);
    }

    fn report(&mut self, severity: Severity, path: &str, message: String, help: &str) {
        let mark = self.mark(path);
        let help = if help.is_empty() {
            None
        } else {
            Some(help.to_owned())
        };
        self.context.at_path(path, |context| {
            context.report(severity, mark, message, help)
        });
    }

    /// Whether the document says something at `path`.
    #[cfg(feature = "collector")]
    fn is_written(&self, path: &str) -> bool {
        let mut node = Some(self.root);
        for step in steps(path) {
            node = node.and_then(|node| child(node, step));
        }
        node.is_some()
    }

    /// The place of the deepest part of `path` that the document has.
    fn mark(&self, path: &str) -> Mark {
        let mut node = self.root;
        for step in steps(path) {
            match child(node, step) {
                Some(inner) => node = inner,
                None => break,
            }
        }
        node.mark
    }

    /// Refuses a condition that asks for what is not known when it is evaluated.
    fn only_at_request(&mut self, path: &str, condition: &Condition, not_yet: &[Attribute]) {
        for attribute in condition.attributes() {
            // The collector asks the mappings about spans of applications as well.
            let other = matches!(attribute, Attribute::CostUsd | Attribute::DataTag)
                || (path.starts_with("attributes.") && matches!(attribute, Attribute::Span(_)));
            let late = attribute.phase() > Phase::Request && !other;
            if late || not_yet.contains(attribute) {
                let message = format!("condition asks for `{attribute}`, which is not known yet");
                self.error(
                    path,
                    message,
                    "this condition is evaluated when the request arrives",
                );
            }
        }
    }
}

/// Cuts `a.b[1].c` into `a`, `b`, `1`, `c`.
fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.split(['.', '[', ']']).filter(|step| !step.is_empty())
}

fn child<'a>(node: &'a Node, step: &str) -> Option<&'a Node> {
    match &node.value {
        Value::List(items) => items.get(step.parse::<usize>().ok()?),
        _ => node.get(step),
    }
}
