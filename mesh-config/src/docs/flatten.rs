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
        (Shape::Secret, _) => out.push((path.to_owned(), hidden(node))),
        (Shape::Table(item), Value::Map(entries)) => {
            for Entry { key, value, .. } in entries {
                walk(&format!("{path}.{key}"), item, value, &Node::default(), out);
            }
        }
        _ => out.push((path.to_owned(), text(node))),
    }
}

/// Tells values apart without saying what they are: 16 bits of a checksum are no use to a guesser.
fn hidden(node: &Node) -> String {
    let value = node.text().unwrap_or_default();
    if value.is_empty() {
        return "\"\"".to_owned();
    }
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = value.bytes().fold(0xcbf2_9ce4_8422_2325, fold);
    format!("(secret {:04x})", (hash >> 24) & 0xffff)
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
