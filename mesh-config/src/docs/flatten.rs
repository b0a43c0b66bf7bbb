//! A policy as a flat list of options with their values, defaults included, for comparisons.

use super::{Shape, root};
use crate::json;
use crate::node::{Entry, Node, Value};
use crate::policy::Policy;
use crate::setting::Setting;

/// Every option of the policy with its value as text, in the order of the reference page. List
/// items with a name are called by it, others by their index.
pub fn flatten(policy: &Policy) -> Vec<(String, String)> {
    let mut out = Vec::new();
    walk(
        "",
        &Shape::Section(root()),
        &policy.encode(),
        &Policy::default().encode(),
        &mut out,
    );
    out
}

/// `node` is what was written, `defaults` what holds where it says nothing.
fn walk(path: &str, shape: &Shape, node: &Node, defaults: &Node, out: &mut Vec<(String, String)>) {
    match (shape, &node.value) {
        (Shape::Section(section), _) => {
            for field in &section.fields {
                let default = field.default_in(defaults);
                let inner = if path.is_empty() {
                    field.name.to_owned()
                } else {
                    format!("{path}.{}", field.name)
                };
                let value = node.get(field.name).unwrap_or(default);
                walk(&inner, &field.shape, value, default, out);
            }
        }
        (Shape::List(item), Value::List(items)) if matches!(**item, Shape::Section(_)) => {
            for (index, value) in items.iter().enumerate() {
                let name = value
                    .get("name")
                    .and_then(Node::text)
                    .filter(|name| !name.is_empty());
                let label = name.map_or_else(|| index.to_string(), |name| format!("{name:?}"));
                walk(
                    &format!("{path}[{label}]"),
                    item,
                    value,
                    &Node::default(),
                    out,
                );
            }
        }
        (_, Value::Map(entries)) => {
            for Entry { key, value, .. } in entries {
                out.push((format!("{path}.{key}"), text(value)));
            }
        }
        _ => out.push((path.to_owned(), text(node))),
    }
}

fn text(node: &Node) -> String {
    match node.text() {
        Some("") => "\"\"".to_owned(),
        Some(text) => text.to_owned(),
        None => {
            let mut out = String::new();
            json::write(node, &mut out);
            out
        }
    }
}
