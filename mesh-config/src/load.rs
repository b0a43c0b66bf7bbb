//! Loading a policy document, and writing the filter's JSON.
//!
//! Besides the sections of [`Policy`] a document may hold the specification's own shapes at its
//! top: `COSTS` (the price table) and Envoy's `tracing.http.typed_config` with its `propagation`
//! and `service_name`.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::node::{Entry, Mark, Node, SyntaxError, Value};
use crate::policy::Policy;
use crate::protobuf_struct;
use crate::setting::{Context, Setting};

/// A policy that was accepted, with what is worth a second look.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The policy.
    pub policy: Policy,
    /// What probably does not do what was meant.
    pub warnings: Vec<Diagnostic>,
}

impl Policy {
    /// Reads the JSON form, which the filter gets as its plugin configuration. No bytes at all
    /// mean every default, which is what Istio sends for an empty `pluginConfig`. A protobuf Struct
    /// is accepted as well: Envoy passes one on as its bytes.
    pub fn from_json(bytes: &[u8]) -> Result<Loaded, Diagnostics> {
        if bytes.trim_ascii().is_empty() {
            return load(Ok(Node::default()), "");
        }
        if protobuf_struct::looks_like(bytes) {
            return load(protobuf_struct::parse(bytes), "");
        }
        load(crate::json::parse(bytes), "")
    }

    /// Reads the YAML form; `file` is the document's name for messages.
    #[cfg(feature = "yaml")]
    pub fn from_yaml(text: &str, file: &str) -> Result<Loaded, Diagnostics> {
        load(crate::yaml::parse(text).and_then(unwrap_config_map), file)
    }

    /// The plugin configuration of the filter: the same shape in JSON, without what equals its
    /// default and without what only the collector needs.
    pub fn to_filter_json(&self) -> String {
        let mut out = String::new();
        crate::json::write(&self.filter_node(), &mut out);
        out
    }

    /// The document behind [`Policy::to_filter_json`].
    pub(crate) fn filter_node(&self) -> Node {
        let mut node = self.encode();
        for collector_only in ["trace_storage", "control", "forward", "alerts"] {
            node.take(collector_only);
        }
        node
    }
}

/// A Kubernetes ConfigMap stands for the documents it holds; everything else for itself.
#[cfg(feature = "yaml")]
fn unwrap_config_map(mut root: Node) -> Result<Node, SyntaxError> {
    if root.get("kind").and_then(Node::text) != Some("ConfigMap") {
        return Ok(root);
    }
    let Some(Entry {
        value: Node {
            value: Value::Map(files),
            ..
        },
        ..
    }) = root.take("data")
    else {
        return Ok(Node::default());
    };
    let mut merged: Vec<Entry> = Vec::new();
    for file in files.iter().filter(|file| file.key.ends_with(".yaml")) {
        let inner = crate::yaml::parse(file.value.text().unwrap_or_default());
        // Places count within the inner document; the block starts on the line after its key.
        let mut inner = inner.map_err(|error| SyntaxError {
            mark: Mark {
                line: error.mark.line + file.mark.line,
                ..error.mark
            },
            ..error
        })?;
        inner.shift_lines(file.mark.line);
        let Value::Map(entries) = inner.value else {
            continue;
        };
        for entry in entries {
            if merged.iter().any(|found| found.key == entry.key) {
                let message = format!("key `{}` appears in two documents", entry.key);
                return Err(SyntaxError {
                    mark: entry.mark,
                    message,
                });
            }
            merged.push(entry);
        }
    }
    Ok(Node {
        mark: root.mark,
        value: Value::Map(merged),
    })
}

fn load(parsed: Result<Node, SyntaxError>, file: &str) -> Result<Loaded, Diagnostics> {
    let mut context = Context::new(file);
    let mut policy = Policy::default();
    match parsed {
        Ok(mut root) => {
            take_specification_shapes(&mut root, &mut context);
            policy.decode(&root, &mut context);
            // What could not be read stands at its default: comparing it would mislead.
            if !context.has_errors() {
                crate::check::check(&policy, &root, &mut context);
            }
        }
        Err(error) => context.error(error.mark, error.message, ""),
    }
    if context.has_errors() {
        return Err(Diagnostics::new(context.into_found()));
    }
    Ok(Loaded {
        policy,
        warnings: context.into_found(),
    })
}

/// Moves the specification's top-level shapes to the sections they belong to.
#[inline(never)]
fn take_specification_shapes(root: &mut Node, context: &mut Context) {
    if let Some(costs) = root.take("COSTS") {
        place(root, "cost", "operations", costs, context);
    }
    let Some(mut tracing) = root.take("tracing") else {
        return;
    };
    let typed = tracing
        .value
        .take("http")
        .and_then(|mut http| http.value.take("typed_config"));
    let Some(mut typed) = typed else {
        return context.error(
            tracing.mark,
            "key `tracing` has no `http.typed_config`".to_owned(),
            "at the top of a policy, `tracing` is Envoy's tracing block",
        );
    };
    if let Some(propagation) = typed.value.take("propagation")
        && let Value::Map(pairs) = propagation.value.value
    {
        for pair in pairs {
            let key = pair.key.clone();
            place(root, "propagation", &key, pair, context);
        }
    }
    // A template that nobody filled in is not a name; the node metadata says it instead.
    let named = typed
        .value
        .take("service_name")
        .filter(|name| name.value.text().is_some_and(|text| !text.contains("{{")));
    if let Some(name) = named {
        place(root, "service", "name", name, context);
    }
}

/// Puts `entry` at `section.key` of the document unless something is there already.
#[inline(never)]
fn place(root: &mut Node, section: &str, key: &str, entry: Entry, context: &mut Context) {
    if root.get(section).and_then(|inner| inner.get(key)).is_some() {
        let message = format!("key `{}` is given here and as `{section}.{key}`", entry.key);
        return context.error(entry.mark, message, "");
    }
    let mark = entry.mark;
    let moved = Entry {
        key: key.into(),
        ..entry
    };
    if root.value == Value::Null {
        root.value = Value::Map(Vec::new());
    }
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    if let Some(found) = entries.iter_mut().find(|entry| &*entry.key == section) {
        if found.value.value == Value::Null {
            found.value.value = Value::Map(Vec::new());
        }
        if let Value::Map(inner) = &mut found.value.value {
            inner.push(moved);
        }
        return;
    }
    let value = Node {
        mark,
        value: Value::Map(vec![moved]),
    };
    entries.push(Entry {
        key: section.into(),
        mark: Mark { ..mark },
        value,
    });
}
