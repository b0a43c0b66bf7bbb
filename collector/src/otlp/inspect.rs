//! Classes of everything in a span that can carry personal data: attributes with nested values,
//! events, links, its name and its status message.
//!
//! Resource attributes give spans no class: they describe the sender's process, not a request.
//! They are redacted all the same.

use mesh_config::DataTag;
use mesh_config::classify::Named;

use super::any::{self, Any};
use super::limits::Limits;
use super::wire::{Reader, WireError};
use crate::policy::Rules;

/// Names and messages remembered per request; services have few.
const TEXTS: usize = 16;

/// The strictest class of an attribute.
pub(super) fn class_of(
    key: &str,
    any: Any<'_>,
    rules: &Rules,
    limits: &Limits,
) -> Result<Option<DataTag>, WireError> {
    nested(rules.named(key), any, rules, limits.depth)
}

/// The same for a key that was looked at before.
pub(super) fn class_of_named(
    named: Named,
    any: Any<'_>,
    rules: &Rules,
    limits: &Limits,
) -> Result<Option<DataTag>, WireError> {
    nested(named, any, rules, limits.depth)
}

fn nested(
    named: Named,
    any: Any<'_>,
    rules: &Rules,
    depth: usize,
) -> Result<Option<DataTag>, WireError> {
    let mut found = rules.class_of(named, any.as_str().unwrap_or_default());
    let (message, is_map) = match any {
        Any::List(message) => (message, false),
        Any::Map(message) => (message, true),
        _ => return Ok(found),
    };
    let depth = depth.checked_sub(1).ok_or(WireError::Depth)?;
    let mut reader = Reader::new(message);
    while let Some((number, value)) = reader.next()? {
        if number != 1 {
            continue;
        }
        let (named, any) = if is_map {
            let (name, any) = any::key_value(value)?;
            (rules.named(name), any)
        } else {
            (named, Any::parse(value.bytes()?)?)
        };
        found = found.max(nested(named, any, rules, depth)?);
    }
    Ok(found)
}

/// The strictest class of the attributes and the name of events or links. `attributes` and
/// `name` are the numbers of their fields.
pub(super) fn items(
    items: &[&[u8]],
    (name, attributes): (u32, u32),
    rules: &Rules,
    limits: &Limits,
) -> Result<Option<DataTag>, WireError> {
    let mut found = None;
    for item in items {
        let mut reader = Reader::new(item);
        while let Some((number, value)) = reader.next()? {
            if number == attributes {
                let (key, any) = any::key_value(value)?;
                found = found.max(class_of(key, any, rules, limits)?);
            } else if number == name {
                found = found.max(rules.class_of_text(value.text()?));
            }
        }
    }
    Ok(found)
}

/// Classes of the texts that repeat within a request.
#[derive(Default)]
pub(super) struct Texts<'a>(Vec<(&'a str, Option<DataTag>)>);

impl<'a> Texts<'a> {
    /// The class that a text's content points to.
    pub(super) fn class_of(&mut self, text: &'a str, rules: &Rules) -> Option<DataTag> {
        if text.is_empty() {
            return None;
        }
        if let Some((_, class)) = self.0.iter().find(|(known, _)| *known == text) {
            return *class;
        }
        let class = rules.class_of_text(text);
        if self.0.len() < TEXTS {
            self.0.push((text, class));
        }
        class
    }
}
