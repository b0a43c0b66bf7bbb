//! Conditions of one comparison of a value that is a number by itself: most rules of a policy.
//!
//! Whoever asks many of them with every request hands in these values in one table
//! ([`Measures`]); then a rule is two loads and a comparison instead of the general evaluation.
//! Both say the same: a test compares them.

use super::attribute::Attribute;
use super::eval::{Attributes, Lookup, Tri, Value};
use super::lexer::Sign;
use super::operand::Operand;
use crate::DataTag;
use crate::money::NanoUsd;

/// An attribute that is one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// [`Attribute::Error`]: 0 or 1.
    Error,
    /// [`Attribute::HitlRequired`]: 0 or 1.
    HitlRequired,
    /// [`Attribute::DataTag`]: its place among the classes.
    DataTag,
    /// [`Attribute::DurationMs`], in nanoseconds.
    Duration,
    /// [`Attribute::CostUsd`], in billionths of a US dollar.
    Cost,
}

impl Measure {
    /// Every one.
    pub const ALL: [Self; 5] = [
        Self::Error,
        Self::HitlRequired,
        Self::DataTag,
        Self::Duration,
        Self::Cost,
    ];

    /// The measure that an attribute is.
    pub const fn of(attribute: &Attribute) -> Option<Self> {
        match attribute {
            Attribute::Error => Some(Self::Error),
            Attribute::HitlRequired => Some(Self::HitlRequired),
            Attribute::DataTag => Some(Self::DataTag),
            Attribute::DurationMs => Some(Self::Duration),
            Attribute::CostUsd => Some(Self::Cost),
            _ => None,
        }
    }

    fn value(self, number: u64) -> Value<'static> {
        match self {
            Self::Error | Self::HitlRequired => Value::Bool(number != 0),
            Self::DataTag => {
                let class = DataTag::ALL.into_iter().find(|tag| *tag as u64 == number);
                Value::Tag(class.unwrap_or(DataTag::Pii))
            }
            Self::Duration => Value::Nanos(number),
            Self::Cost => Value::Money(NanoUsd::from_nanos(number)),
        }
    }
}

/// What is known of a measure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing yet.
    #[default]
    Nothing,
    /// It can still grow.
    AtLeast,
    /// The final value.
    Exactly,
}

/// All measures of a request, by [`Measure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measures {
    /// The numbers.
    pub numbers: [u64; Measure::ALL.len()],
    /// What is known of each.
    pub known: [Known; Measure::ALL.len()],
}

impl Measures {
    /// Changes a number.
    pub fn set(&mut self, measure: Measure, number: u64) {
        if let Some(place) = self.numbers.get_mut(measure as usize) {
            *place = number;
        }
    }

    fn get(&self, measure: Measure) -> (Known, u64) {
        let at = measure as usize;
        match (self.known.get(at), self.numbers.get(at)) {
            (Some(known), Some(number)) => (*known, *number),
            _ => (Known::Nothing, 0),
        }
    }

    /// A measure as the general evaluation asks for it.
    #[inline(never)]
    pub fn lookup(&self, measure: Measure) -> Lookup<'static> {
        let (known, number) = self.get(measure);
        match known {
            Known::Nothing => Lookup::Unknown,
            Known::AtLeast => Lookup::AtLeast(measure.value(number)),
            Known::Exactly => Lookup::Value(measure.value(number)),
        }
    }
}

/// For conditions that ask for nothing else.
impl Attributes for Measures {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        Measure::of(attribute).map_or(Lookup::Unknown, |measure| self.lookup(measure))
    }

    fn measures(&self) -> Option<&Measures> {
        Some(self)
    }
}

/// How a value can stand to another one, as a set.
const BELOW: u8 = 1;
const EQUAL: u8 = 1 << 1;
const ABOVE: u8 = 1 << 2;
const ANY: u8 = BELOW | EQUAL | ABOVE;

/// A comparison of a measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Comparison {
    measure: Measure,
    /// For which relations it holds.
    holds: u8,
    operand: u64,
}

impl Comparison {
    /// The comparison as this kind, if it is one.
    pub(super) fn of(attribute: &Attribute, sign: Sign, operand: &Operand) -> Option<Self> {
        let measure = Measure::of(attribute)?;
        let holds = match sign {
            Sign::Equal => EQUAL,
            Sign::NotEqual => BELOW | ABOVE,
            Sign::Greater => ABOVE,
            Sign::GreaterOrEqual => EQUAL | ABOVE,
            Sign::Less => BELOW,
            Sign::LessOrEqual => BELOW | EQUAL,
            Sign::StartsWith => return None,
        };
        let (holds, operand) = match (measure, operand) {
            (Measure::Error | Measure::HitlRequired, Operand::Bool(flag))
                if matches!(sign, Sign::Equal | Sign::NotEqual) =>
            {
                (holds, u64::from(*flag))
            }
            // Nothing is above the strictest class: what is equal to it at least is equal.
            (Measure::DataTag, Operand::Class(DataTag::Pii)) => {
                let holds = match sign {
                    Sign::Equal => EQUAL | ABOVE,
                    Sign::NotEqual => BELOW,
                    _ => holds,
                };
                (holds, DataTag::Pii as u64)
            }
            (Measure::DataTag, Operand::Class(class)) => (holds, *class as u64),
            (Measure::Duration, Operand::Nanos(nanos)) => (holds, *nanos),
            (Measure::Cost, Operand::Money(amount)) => (holds, amount.as_nanos()),
            _ => return None,
        };
        Some(Self {
            measure,
            holds,
            operand,
        })
    }

    pub(super) fn eval(&self, measures: &Measures) -> Tri {
        let (known, number) = measures.get(self.measure);
        let is = if number < self.operand {
            BELOW
        } else if number == self.operand {
            EQUAL
        } else {
            ABOVE
        };
        let can_be = match known {
            Known::Nothing => return Tri::Unknown,
            // What it is now and all that is above.
            Known::AtLeast => is.wrapping_neg() & ANY,
            Known::Exactly => is,
        };
        if can_be & self.holds == 0 {
            Tri::False
        } else if can_be & !self.holds == 0 {
            Tri::True
        } else {
            Tri::Unknown
        }
    }
}
