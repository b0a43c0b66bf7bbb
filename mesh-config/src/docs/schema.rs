//! The JSON Schema (draft 2020-12) of a policy, for editors.
//!
//! It is as strict as the loader about keys, words and ranges. It cannot check conditions and
//! alert queries; the loader does.

use super::{Field, Section, Shape, one_line, root};
use crate::decode::{plain_node, text_node};
use crate::json;
use crate::node::{Entry, Mark, Node, Value};

/// The JSON Schema, with a final line break.
pub fn schema() -> String {
    let mut properties = section_properties(&root(), &Node::default());
    properties.push(pair(
        "COSTS",
        of(&Shape::Table(Box::new(Shape::Money)), None),
    ));
    properties.push(pair(
        "tracing",
        object(vec![pair("type", text_node("object"))]),
    ));
    let schema = object(vec![
        pair(
            "$schema",
            text_node("https://json-schema.org/draft/2020-12/schema"),
        ),
        pair("title", text_node("Tracemeter policy")),
        pair("description", text_node(&one_line(root().doc))),
        pair("type", types(&["object", "null"])),
        pair("additionalProperties", plain_node("false")),
        pair("properties", object(properties)),
    ]);
    let mut out = String::new();
    json::write_pretty(&schema, &mut out);
    out
}

fn object(entries: Vec<Entry>) -> Node {
    Node {
        mark: Mark::default(),
        value: Value::Map(entries),
    }
}

fn list(items: Vec<Node>) -> Node {
    Node {
        mark: Mark::default(),
        value: Value::List(items),
    }
}

fn pair(key: &str, value: Node) -> Entry {
    Entry {
        key: key.into(),
        mark: Mark::default(),
        value,
    }
}

fn types(names: &[&str]) -> Node {
    list(names.iter().map(|name| text_node(name)).collect())
}

fn section_properties(section: &Section, defaults: &Node) -> Vec<Entry> {
    section
        .fields
        .iter()
        .map(|field| pair(field.name, property(field, defaults)))
        .collect()
}

fn property(field: &Field, defaults: &Node) -> Node {
    let default = field.default_in(defaults);
    let mut node = match &field.shape {
        Shape::Section(section) => section_schema(section, default),
        shape => of(shape, field.bounds),
    };
    if let Value::Map(entries) = &mut node.value {
        entries.insert(0, pair("description", text_node(&field.text())));
        let scalar = !matches!(default.value, Value::Null);
        if scalar && !field.required && !matches!(field.shape, Shape::Section(_)) {
            entries.push(pair("default", default.clone()));
        }
    }
    node
}

fn section_schema(section: &Section, defaults: &Node) -> Node {
    let mut entries = vec![
        pair("type", types(&["object", "null"])),
        pair("additionalProperties", plain_node("false")),
        pair("properties", object(section_properties(section, defaults))),
    ];
    let required: Vec<Node> = section
        .fields
        .iter()
        .filter(|field| field.required)
        .map(|field| text_node(field.name))
        .collect();
    if !required.is_empty() {
        entries.push(pair("required", list(required)));
    }
    object(entries)
}

/// The schema of one value.
fn of(shape: &Shape, bounds: Option<(u64, u64)>) -> Node {
    let (low, high) = match bounds {
        Some((low, high)) => (low.to_string(), Some(high.to_string())),
        None => ("0".to_owned(), None),
    };
    let number = |kind: &str| {
        let mut entries = vec![
            pair("type", text_node(kind)),
            pair("minimum", plain_node(&low)),
        ];
        entries.extend(high.as_ref().map(|high| pair("maximum", plain_node(high))));
        object(entries)
    };
    let pattern = |pattern: &str| {
        object(vec![
            pair("type", text_node("string")),
            pair("pattern", text_node(pattern)),
        ])
    };
    match shape {
        Shape::Boolean => object(vec![pair("type", text_node("boolean"))]),
        Shape::Whole => number("integer"),
        Shape::Number | Shape::Money => number("number"),
        Shape::Rate => of_rate(),
        Shape::Duration => object(vec![
            pair("type", types(&["string", "integer"])),
            pair(
                "pattern",
                text_node("^(0|([0-9]+(\\.[0-9]+)?(ns|us|ms|s|m|h|d))+)$"),
            ),
            pair("maximum", plain_node("0")),
            pair("minimum", plain_node("0")),
        ]),
        Shape::Size => list_of_any(vec![
            pattern("^[0-9]+(\\.[0-9]+)?(B|KiB|MiB|GiB|KB|MB|GB)?$"),
            number("integer"),
        ]),
        Shape::Text | Shape::Secret => object(vec![pair("type", types(&["string", "number"]))]),
        Shape::Condition | Shape::AlertQuery => object(vec![
            pair("type", text_node("string")),
            pair("minLength", plain_node("1")),
        ]),
        Shape::Choice(words) => {
            let words = words.iter().map(|(word, _)| text_node(word)).collect();
            object(vec![pair("enum", list(words))])
        }
        Shape::List(item) => object(vec![
            pair("type", types(&["array", "null"])),
            pair("items", of(item, None)),
        ]),
        Shape::Table(item) => object(vec![
            pair("type", types(&["object", "null"])),
            pair("additionalProperties", of(item, None)),
        ]),
        Shape::Optional(inner) => {
            let nothing = object(vec![pair("type", text_node("null"))]);
            list_of_any(vec![of(inner, bounds), nothing])
        }
        Shape::Section(section) => section_schema(section, &Node::default()),
    }
}

fn of_rate() -> Node {
    object(vec![
        pair("type", text_node("number")),
        pair("minimum", plain_node("0")),
        pair("maximum", plain_node("1")),
    ])
}

fn list_of_any(options: Vec<Node>) -> Node {
    object(vec![pair("anyOf", list(options))])
}
