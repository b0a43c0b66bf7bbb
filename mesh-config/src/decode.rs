//! How the scalar, list and table types of the policy are read from and written to a document.

use std::time::Duration;

use crate::DataTag;
use crate::money::NanoUsd;
use crate::node::{Entry, Mark, Node, Value};
use crate::rule::Condition;
use crate::setting::{Context, Setting, join, nearest, shorten};
use crate::units::{self, ByteSize, Plain, Probability, SIZE_UNITS, TIME_UNITS};

/// A string node.
pub(crate) fn text_node(text: &str) -> Node {
    Node {
        mark: Mark::default(),
        value: Value::Text(text.into()),
    }
}

/// A number or boolean node.
pub(crate) fn plain_node(text: &str) -> Node {
    Node {
        mark: Mark::default(),
        value: Value::Plain(text.into()),
    }
}

/// A pair for the document that is being written.
pub(crate) fn entry(key: &str, value: Node) -> Entry {
    Entry {
        key: key.into(),
        mark: Mark::default(),
        value,
    }
}

/// Reads one of a few words, and says which there are when it is none of them.
pub(crate) fn word<'a>(node: &'a Node, words: &[&str], context: &mut Context) -> Option<&'a str> {
    let Some(text) = node.text() else {
        context.wrong_kind(node, &format!("one of {}", join(words)));
        return None;
    };
    if words.contains(&text) {
        return Some(text);
    }
    let message = format!("value `{}` is not one of {}", shorten(text), join(words));
    let near = nearest(text, words).map(|near| format!("did you mean `{near}`?"));
    context.error(node.mark, message, &near.unwrap_or_default());
    None
}

/// Checks inclusive bounds; a value outside is an error and is replaced by the nearest bound.
pub(crate) fn bounds<T: Bounded>(
    value: &mut T,
    low: u64,
    high: u64,
    node: &Node,
    context: &mut Context,
) {
    if !value.clamp_to(low, high) {
        return;
    }
    let text = node.text().unwrap_or_default();
    let message = format!("value `{}` is not between {low} and {high}", shorten(text));
    context.error(node.mark, message, "");
}

/// A number that a section can bound.
pub(crate) trait Bounded {
    /// Moves the value between the bounds; tells whether it was outside.
    fn clamp_to(&mut self, low: u64, high: u64) -> bool;
}

/// Istio hands whole numbers on as binary fractions, hence `512.0` and `1e+06`.
fn whole_float(text: &str) -> Option<u64> {
    let float = text.parse::<f64>().ok()?;
    let fits = (0.0..=9e15).contains(&float) && float.fract() == 0.0;
    fits.then_some(float as u64)
}

macro_rules! whole_number {
    ($($kind:ty),+) => { $(
        impl Bounded for $kind {
            fn clamp_to(&mut self, low: u64, high: u64) -> bool {
                let value = u64::from(*self);
                let moved = value.clamp(low, high);
                *self = <$kind>::try_from(moved).unwrap_or(<$kind>::MAX);
                moved != value
            }
        }

        impl Setting for $kind {
            fn decode(&mut self, node: &Node, context: &mut Context) {
                let Value::Plain(text) = &node.value else {
                    return context.wrong_kind(node, "a whole number");
                };
                let whole = text.parse::<$kind>().ok().or_else(|| {
                    whole_float(text).and_then(|whole| <$kind>::try_from(whole).ok())
                });
                match whole {
                    Some(whole) => *self = whole,
                    None => context.wrong_kind(node, &format!("a whole number from 0 to {}", <$kind>::MAX)),
                }
            }

            fn encode(&self) -> Node {
                plain_node(&self.to_string())
            }

            #[cfg(feature = "docs")]
            fn shape() -> crate::docs::Shape {
                crate::docs::Shape::Whole
            }
        }
    )+ };
}
whole_number!(u16, u32, u64);

impl Bounded for f64 {
    fn clamp_to(&mut self, low: u64, high: u64) -> bool {
        // Unlike `clamp` these cannot panic, with the number in the message.
        let moved = self.max(low as Self).min(high as Self);
        let outside = moved != *self;
        *self = moved;
        outside
    }
}

impl Setting for bool {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        match &node.value {
            Value::Plain(text) if &**text == "true" => *self = true,
            Value::Plain(text) if &**text == "false" => *self = false,
            _ => context.wrong_kind(node, "`true` or `false`"),
        }
    }

    fn encode(&self) -> Node {
        plain_node(if *self { "true" } else { "false" })
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Boolean
    }
}

impl Setting for String {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        match &node.value {
            Value::Plain(text) if matches!(&**text, "true" | "false") => {
                context.wrong_kind(node, "a string: put it in quotes if a string is meant");
            }
            Value::Plain(text) | Value::Text(text) => *self = text.to_string(),
            Value::Null | Value::List(_) | Value::Map(_) => context.wrong_kind(node, "a string"),
        }
    }

    fn encode(&self) -> Node {
        text_node(self)
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Text
    }
}

/// Reads a plain number; `wanted` says what kind for the message.
fn number(node: &Node, wanted: &str, context: &mut Context) -> Option<f64> {
    let found = match &node.value {
        Value::Plain(text) => text.parse::<f64>().ok().filter(|number| number.is_finite()),
        Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    };
    if found.is_none() {
        context.wrong_kind(node, wanted);
    }
    found
}

impl Setting for f64 {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let Some(found) = number(node, "a number", context) else {
            return;
        };
        if found < 0.0 {
            let message = format!("value `{}` is negative", Plain(found));
            return context.error(node.mark, message, "");
        }
        *self = found;
    }

    fn encode(&self) -> Node {
        plain_node(&Plain(*self).to_string())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Number
    }
}

impl Setting for Probability {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let Some(found) = number(node, "a rate from 0 to 1", context) else {
            return;
        };
        match Self::new(found) {
            Some(rate) => *self = rate,
            None => {
                let text = node.text().unwrap_or_default();
                let help = if (1.0..=100.0).contains(&found) {
                    format!(
                        "rates are shares: {} % is {}",
                        Plain(found),
                        Plain(found / 100.0)
                    )
                } else {
                    String::new()
                };
                let message = format!("rate `{}` is not between 0 and 1", shorten(text));
                context.error(node.mark, message, &help);
            }
        }
    }

    fn encode(&self) -> Node {
        plain_node(&self.to_string())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Rate
    }
}

impl Setting for NanoUsd {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let Value::Plain(text) = &node.value else {
            return context.wrong_kind(node, "an amount in US dollars");
        };
        // The exponent form comes from JSON writers for numbers below a millionth.
        let read = Self::parse_decimal(text.as_bytes()).ok().or_else(|| {
            text.parse::<f64>()
                .ok()
                .and_then(|usd| Self::from_f64(usd).ok())
        });
        match read {
            Some(amount) => *self = amount,
            None => context.wrong_kind(
                node,
                "a non-negative amount in US dollars, such as `0.00001`",
            ),
        }
    }

    fn encode(&self) -> Node {
        plain_node(&self.to_string())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Money
    }
}

impl Setting for Duration {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        match node.text().and_then(units::duration) {
            Some(found) => *self = found,
            None => context.wrong_kind(
                node,
                "a duration with its unit, such as `60s`, `5m` or `24h`",
            ),
        }
    }

    fn encode(&self) -> Node {
        let nanos = u64::try_from(self.as_nanos()).unwrap_or(u64::MAX);
        text_node(&units::print_quantity(nanos, &TIME_UNITS))
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Duration
    }
}

impl Setting for ByteSize {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let read = |text| units::quantity(text, &SIZE_UNITS, Some(1)).or_else(|| whole_float(text));
        match node.text().and_then(read) {
            Some(found) => *self = Self::new(found),
            None => context.wrong_kind(node, "a size such as `64KiB`, `4MiB` or a number of bytes"),
        }
    }

    fn encode(&self) -> Node {
        text_node(&units::print_quantity(self.bytes(), &SIZE_UNITS))
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Size
    }
}

impl Setting for DataTag {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let words = Self::ALL.map(Self::as_str);
        if let Some(tag) = word(node, &words, context).and_then(|text| Self::parse(text.as_bytes()))
        {
            *self = tag;
        }
    }

    fn encode(&self) -> Node {
        text_node(self.as_str())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Choice(&[
            ("EXPORT_OK", " may be exported"),
            ("SENSITIVE", " confidential, but not about a person"),
            ("PII", " personal data"),
        ])
    }
}

impl Setting for Condition {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let Some(text) = node.text() else {
            return context.wrong_kind(node, "a condition such as `error = true`");
        };
        match Self::parse(text) {
            Ok(condition) => *self = condition,
            Err(error) => {
                context.error(node.mark, error.message().to_owned(), &error.marked());
            }
        }
    }

    fn encode(&self) -> Node {
        text_node(self.source())
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Condition
    }
}

/// A list option replaces the default list as a whole.
impl<T: Setting + Default> Setting for Vec<T> {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        let items = match &node.value {
            Value::List(items) => items,
            Value::Null => return,
            Value::Plain(_) | Value::Text(_) | Value::Map(_) => {
                return context.wrong_kind(node, "a list");
            }
        };
        let mut read = Self::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let mut value = T::default();
            context.at_index(index, |context| value.decode(item, context));
            read.push(value);
        }
        *self = read;
    }

    fn encode(&self) -> Node {
        let items = self.iter().map(Setting::encode).collect();
        Node {
            mark: Mark::default(),
            value: Value::List(items),
        }
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::List(Box::new(T::shape()))
    }
}

/// Nothing written means not set.
impl<T: Setting + Default> Setting for Option<T> {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        if node.value == Value::Null {
            *self = None;
            return;
        }
        let mut value = T::default();
        value.decode(node, context);
        *self = Some(value);
    }

    fn encode(&self) -> Node {
        self.as_ref().map(Setting::encode).unwrap_or_default()
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Optional(Box::new(T::shape()))
    }
}

/// A small map from free keys to values, in the order written.
///
/// A table in a document is laid over the default table key by key.
#[derive(Clone, Debug, PartialEq)]
pub struct Table<T>(Vec<(String, T)>);

impl<T> Table<T> {
    /// A table with these pairs; keys are taken to be distinct.
    pub fn new(pairs: Vec<(String, T)>) -> Self {
        Self(pairs)
    }

    /// The value of exactly this key.
    pub fn get(&self, key: &str) -> Option<&T> {
        self.0
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no pair.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Setting + Default> Setting for Table<T> {
    fn decode(&mut self, node: &Node, context: &mut Context) {
        for entry in context.entries(node) {
            context.at_key(&entry.key, |context| {
                if let Some((_, value)) = self.0.iter_mut().find(|(name, _)| *name == *entry.key) {
                    return value.decode(&entry.value, context);
                }
                let mut value = T::default();
                value.decode(&entry.value, context);
                self.0.push((entry.key.to_string(), value));
            });
        }
    }

    fn encode(&self) -> Node {
        let entries = self
            .iter()
            .map(|(key, value)| entry(key, value.encode()))
            .collect();
        Node {
            mark: Mark::default(),
            value: Value::Map(entries),
        }
    }

    #[cfg(feature = "docs")]
    fn shape() -> crate::docs::Shape {
        crate::docs::Shape::Table(Box::new(T::shape()))
    }
}

impl Default for Probability {
    fn default() -> Self {
        Self::ONE
    }
}
