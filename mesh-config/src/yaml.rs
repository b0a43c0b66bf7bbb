//! The YAML front end: events of the parser become the document tree.
//!
//! One document, string keys, plain scalars of the core schema. Anchors and aliases are
//! supported; each use of an alias counts its values again, so that a few lines cannot become
//! gigabytes. Merge keys (`<<`) and tags of applications are refused.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::node::{
    Entry, MAX_BYTES, MAX_DEPTH, MAX_KEYS, MAX_NODES, Mark, Node, SyntaxError, Value,
};

/// Reads one YAML document; an empty one is nothing.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    if text.len() > MAX_BYTES {
        let message = format!("document is longer than {MAX_BYTES} bytes");
        return Err(SyntaxError {
            mark: Mark { line: 1, column: 1 },
            message,
        });
    }
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| SyntaxError {
            mark: place(error.marker().line(), error.marker().col()),
            message: format!("not valid YAML: {}", error.info()),
        })?;
        builder.event(event, mark(span))?;
    }
    Ok(builder.root.unwrap_or_default())
}

fn mark(span: Span) -> Mark {
    place(span.start.line(), span.start.col())
}

fn place(line: usize, column: usize) -> Mark {
    Mark {
        line: u32::try_from(line).unwrap_or(u32::MAX),
        column: u32::try_from(column.saturating_add(1)).unwrap_or(u32::MAX),
    }
}

fn fail<T>(mark: Mark, message: impl Into<String>) -> Result<T, SyntaxError> {
    Err(SyntaxError {
        mark,
        message: message.into(),
    })
}

/// A list or mapping that is not closed yet.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map(Vec<Entry>, Option<(Box<str>, Mark)>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: BTreeMap<usize, (Node, usize)>,
    nodes: usize,
    documents: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), SyntaxError> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return fail(mark, "second document: a policy is one document");
                }
                Ok(())
            }
            Event::Alias(anchor) => self.alias(anchor, mark),
            Event::Scalar(text, style, anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                let forced = tag.is_some_and(|tag| tag.suffix == "str");
                let value = scalar(&text, style, forced);
                self.count(1, mark)?;
                self.add(Node { mark, value }, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                self.push(Open {
                    mark,
                    anchor,
                    content: Content::List(Vec::new()),
                })
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), mark)?;
                self.push(Open {
                    mark,
                    anchor,
                    content: Content::Map(Vec::new(), None),
                })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.open.pop() else {
                    return Ok(());
                };
                let value = match open.content {
                    Content::List(items) => Value::List(items),
                    Content::Map(entries, _) => Value::Map(entries),
                };
                self.add(
                    Node {
                        mark: open.mark,
                        value,
                    },
                    open.anchor,
                )
            }
        }
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            return fail(mark, format!("document has more than {MAX_NODES} values"));
        }
        Ok(())
    }

    fn push(&mut self, open: Open) -> Result<(), SyntaxError> {
        self.count(1, open.mark)?;
        if self.open.len() >= MAX_DEPTH {
            return fail(
                open.mark,
                format!("values are nested more than {MAX_DEPTH} levels deep"),
            );
        }
        self.open.push(open);
        Ok(())
    }

    fn alias(&mut self, anchor: usize, mark: Mark) -> Result<(), SyntaxError> {
        let Some((node, size)) = self.anchors.get(&anchor) else {
            return fail(mark, "alias to a value that is not complete yet");
        };
        let (node, size) = (node.clone(), *size);
        if self.open.len() + depth(&node) > MAX_DEPTH {
            return fail(
                mark,
                format!("values are nested more than {MAX_DEPTH} levels deep"),
            );
        }
        self.count(size, mark)?;
        self.add(Node { mark, ..node }, 0)
    }

    /// Puts a complete value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            // Anchored values are stored twice: count them so that memory stays bounded.
            let size = size(&node);
            self.count(size, node.mark)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match &mut open.content {
            Content::List(items) => items.push(node),
            Content::Map(entries, key) => match key.take() {
                Some((key, mark)) => entries.push(Entry {
                    key,
                    mark,
                    value: node,
                }),
                None => *key = Some(as_key(&node, entries)?),
            },
        }
        Ok(())
    }
}

fn as_key(node: &Node, entries: &[Entry]) -> Result<(Box<str>, Mark), SyntaxError> {
    let Some(text) = node.text() else {
        return fail(node.mark, "key is not a string");
    };
    if text == "<<" {
        return fail(
            node.mark,
            "merge key `<<` is not supported: repeat the values",
        );
    }
    if entries.len() >= MAX_KEYS {
        return fail(node.mark, format!("mapping has more than {MAX_KEYS} keys"));
    }
    if entries.iter().any(|entry| &*entry.key == text) {
        return fail(node.mark, format!("key `{text}` appears twice"));
    }
    Ok((text.into(), node.mark))
}

fn check_tag(tag: Option<&Tag>, mark: Mark) -> Result<(), SyntaxError> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => fail(
            mark,
            format!("tag `{}{}` is not supported", tag.handle, tag.suffix),
        ),
        _ => Ok(()),
    }
}

/// Plain scalars of the core schema: `null` and booleans in their three spellings.
fn scalar(text: &str, style: ScalarStyle, forced: bool) -> Value {
    if style != ScalarStyle::Plain || forced {
        return Value::Text(text.into());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Plain("true".into()),
        "false" | "False" | "FALSE" => Value::Plain("false".into()),
        _ => Value::Plain(text.into()),
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| size(&entry.value))
                .sum::<usize>()
        }
        Value::Null | Value::Plain(_) | Value::Text(_) => 1,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => {
            1 + entries
                .iter()
                .map(|entry| depth(&entry.value))
                .max()
                .unwrap_or(0)
        }
        Value::Null | Value::Plain(_) | Value::Text(_) => 0,
    }
}
