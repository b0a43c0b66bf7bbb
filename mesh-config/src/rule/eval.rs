//! Three-valued truth, the values that a request hands in, and the comparison of one test.

use std::cmp::Ordering;

use super::Attribute;
use super::lexer::Sign;
use super::measure::Measures;
use super::operand::{Operand, matches_pieces};
use super::program::Test;
use crate::DataTag;
use crate::money::NanoUsd;

/// Truth of a condition, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tri {
    /// It does not hold.
    False,
    /// It is not known yet.
    Unknown,
    /// It holds.
    True,
}

impl Tri {
    /// Truth of a known outcome.
    pub const fn known(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }

    /// Whether it holds for certain.
    pub const fn is_true(self) -> bool {
        matches!(self, Self::True)
    }

    /// Whether it is not known yet.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// Both.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }

    /// Either.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// The opposite; what is unknown stays unknown.
    #[must_use]
    pub const fn negate(self) -> Self {
        match self {
            Self::False => Self::True,
            Self::Unknown => Self::Unknown,
            Self::True => Self::False,
        }
    }
}

/// What a request knows about its attributes.
pub trait Attributes {
    /// The value of `attribute`. Called at most once per test of a condition.
    fn get(&self, attribute: &Attribute) -> Lookup<'_>;

    /// The values that are numbers, where they are at hand: [`Attributes::get`] would say the same.
    fn measures(&self) -> Option<&Measures> {
        None
    }
}

/// Answer to the question for an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Lookup<'a> {
    /// Not known yet: a later phase will tell.
    Unknown,
    /// Known to be missing.
    Absent,
    /// Known so far; it can still grow (see [`Attribute::only_grows`]).
    AtLeast(Value<'a>),
    /// Known.
    Value(Value<'a>),
}

/// A value of an attribute.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// `true` or `false`.
    Bool(bool),
    /// A number; for durations milliseconds, for money US dollars.
    Number(f64),
    /// A duration in nanoseconds.
    Nanos(u64),
    /// Money.
    Money(NanoUsd),
    /// A data class.
    Tag(DataTag),
    /// A string, or anything else as text; read as what the condition compares it with.
    Bytes(&'a [u8]),
}

/// Longer texts are not read as numbers.
const MAX_NUMBER_BYTES: usize = 64;

/// The outcome of one test.
pub(super) fn test(test: &Test, found: Lookup<'_>) -> Tri {
    match (found, test.sign) {
        (Lookup::Unknown, _) => Tri::Unknown,
        (Lookup::Absent, sign) => Tri::known(sign == Some(Sign::NotEqual)),
        (Lookup::AtLeast(_) | Lookup::Value(_), None) => Tri::True,
        (Lookup::Value(value), Some(sign)) => Tri::known(holds(sign, value, &test.operand)),
        (Lookup::AtLeast(value), Some(sign)) => at_least(sign, value, &test.operand),
    }
}

fn holds(sign: Sign, value: Value<'_>, operand: &Operand) -> bool {
    match (sign, operand) {
        (Sign::StartsWith, Operand::Text(text)) => starts_with(value, text.as_bytes()),
        (Sign::Equal, _) => equal(value, operand),
        (Sign::NotEqual, _) => !equal(value, operand),
        _ => match (sign, order(value, operand)) {
            (Sign::Greater, Some(order)) => order.is_gt(),
            (Sign::GreaterOrEqual, Some(order)) => order.is_ge(),
            (Sign::Less, Some(order)) => order.is_lt(),
            (Sign::LessOrEqual, Some(order)) => order.is_le(),
            _ => false,
        },
    }
}

/// The outcome when the final value is `value` or more.
fn at_least(sign: Sign, value: Value<'_>, operand: &Operand) -> Tri {
    let Some(order) = order(value, operand) else {
        return Tri::Unknown;
    };
    let decided = match sign {
        Sign::Greater => order.is_gt().then_some(Tri::True),
        Sign::GreaterOrEqual => order.is_ge().then_some(Tri::True),
        Sign::Less => order.is_ge().then_some(Tri::False),
        Sign::LessOrEqual => order.is_gt().then_some(Tri::False),
        Sign::Equal | Sign::NotEqual => {
            let equal = match order {
                Ordering::Greater => Some(Tri::False),
                // Nothing is above the strictest class.
                Ordering::Equal if *operand == Operand::Class(DataTag::Pii) => Some(Tri::True),
                Ordering::Equal | Ordering::Less => None,
            };
            if sign == Sign::Equal {
                equal
            } else {
                equal.map(Tri::negate)
            }
        }
        Sign::StartsWith => None,
    };
    decided.unwrap_or(Tri::Unknown)
}

fn starts_with(value: Value<'_>, beginning: &[u8]) -> bool {
    match value {
        Value::Bytes(bytes) => bytes.starts_with(beginning),
        Value::Tag(tag) => tag.as_str().as_bytes().starts_with(beginning),
        Value::Bool(_) | Value::Number(_) | Value::Nanos(_) | Value::Money(_) => false,
    }
}

fn equal(value: Value<'_>, operand: &Operand) -> bool {
    match operand {
        Operand::Text(text) => match value {
            Value::Bytes(bytes) => bytes == text.as_bytes(),
            Value::Tag(tag) => tag.as_str() == &**text,
            Value::Bool(flag) => (if flag { "true" } else { "false" }) == &**text,
            Value::Number(_) | Value::Nanos(_) | Value::Money(_) => false,
        },
        Operand::Glob(pieces) => match value {
            Value::Bytes(bytes) => matches_pieces(pieces, bytes),
            Value::Tag(tag) => matches_pieces(pieces, tag.as_str().as_bytes()),
            Value::Bool(_) | Value::Number(_) | Value::Nanos(_) | Value::Money(_) => false,
        },
        Operand::Bool(wanted) => as_bool(value) == Some(*wanted),
        _ => order(value, operand) == Some(Ordering::Equal),
    }
}

/// How the value stands to the operand; `None` when they cannot be compared.
fn order(value: Value<'_>, operand: &Operand) -> Option<Ordering> {
    match operand {
        Operand::Class(class) => match value {
            Value::Tag(tag) => Some(tag.cmp(class)),
            Value::Bytes(bytes) => DataTag::parse(bytes).map(|tag| tag.cmp(class)),
            _ => None,
        },
        Operand::Money(money) => match value {
            Value::Money(amount) => Some(amount.cmp(money)),
            Value::Bytes(bytes) => NanoUsd::parse_decimal(bytes)
                .ok()
                .map(|amount| amount.cmp(money)),
            Value::Number(usd) => usd.partial_cmp(&money.to_f64()),
            _ => None,
        },
        Operand::Nanos(nanos) => match value {
            Value::Nanos(found) => Some(found.cmp(nanos)),
            _ => as_number(value).and_then(|ms| (ms * 1e6).partial_cmp(&(*nanos as f64))),
        },
        Operand::Number(number) => as_number(value).and_then(|found| found.partial_cmp(number)),
        Operand::Bool(_) | Operand::Glob(_) | Operand::Text(_) => None,
    }
}

fn as_bool(value: Value<'_>) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(flag),
        Value::Bytes(b"1") => Some(true),
        Value::Bytes(b"0") => Some(false),
        Value::Bytes(bytes) if bytes.eq_ignore_ascii_case(b"true") => Some(true),
        Value::Bytes(bytes) if bytes.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

fn as_number(value: Value<'_>) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number),
        Value::Money(amount) => Some(amount.to_f64()),
        Value::Nanos(nanos) => Some(nanos as f64 / 1e6),
        Value::Bytes(bytes) if bytes.len() <= MAX_NUMBER_BYTES => {
            let number: f64 = std::str::from_utf8(bytes).ok()?.trim().parse().ok()?;
            number.is_finite().then_some(number)
        }
        Value::Bool(_) | Value::Bytes(_) | Value::Tag(_) => None,
    }
}
