//! The filter's part of a policy as block-style YAML, for manifests that hold it as an object.

use crate::json;
use crate::node::{Node, Value};
use crate::policy::Policy;

/// What [`Policy::to_filter_json`] says, as YAML lines indented by `indent` blanks.
pub fn filter_yaml(policy: &Policy, indent: usize) -> String {
    let mut out = String::new();
    match policy.filter_node() {
        Node {
            value: Value::Map(entries),
            ..
        } if entries.is_empty() => {
            out.push_str(&" ".repeat(indent));
            out.push_str("{}\n");
        }
        node => block(&node, indent, false, &mut out),
    }
    out
}

/// Writes a mapping or list; `inline` when the first line already has its indentation.
fn block(node: &Node, indent: usize, inline: bool, out: &mut String) {
    let lead = " ".repeat(indent);
    let pad = |index: usize, out: &mut String| {
        if index > 0 || !inline {
            out.push_str(&lead);
        }
    };
    match &node.value {
        Value::Map(entries) => {
            for (index, entry) in entries.iter().enumerate() {
                pad(index, out);
                out.push_str(&scalar(&entry.key));
                out.push(':');
                if is_block(&entry.value) {
                    out.push('\n');
                    block(&entry.value, indent + 2, false, out);
                } else {
                    leaf(&entry.value, out);
                }
            }
        }
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                pad(index, out);
                out.push('-');
                if is_block(item) {
                    out.push(' ');
                    block(item, indent + 2, true, out);
                } else {
                    leaf(item, out);
                }
            }
        }
        Value::Null | Value::Plain(_) | Value::Text(_) => leaf(node, out),
    }
}

fn is_block(node: &Node) -> bool {
    match &node.value {
        Value::Map(entries) => !entries.is_empty(),
        Value::List(items) => !items.is_empty(),
        Value::Null | Value::Plain(_) | Value::Text(_) => false,
    }
}

fn leaf(node: &Node, out: &mut String) {
    out.push(' ');
    match &node.value {
        Value::Text(text) => out.push_str(&scalar(text)),
        _ => json::write(node, out),
    }
    out.push('\n');
}

/// A string; without quotes only where no YAML reader could take it for anything else.
fn scalar(text: &str) -> String {
    const RESERVED: [&str; 8] = ["true", "false", "null", "yes", "no", "on", "off", "y"];
    let safe = text.len() > 1
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-/.".contains(&byte))
        && !RESERVED.contains(&text.to_ascii_lowercase().as_str());
    if safe {
        return text.to_owned();
    }
    let mut out = String::new();
    json::write_string(text, &mut out);
    out
}
