//! Which class of data an attribute holds, and what to do with it before it leaves.
//!
//! A [`Classifier`] is compiled once from plain [`ClassifierInputs`] and answers for one attribute
//! or header at a time:
//!
//! * by **name** (`names`): about 180 built-in word rules (`user.email`, `authorization`,
//!   `card_number`), and an operator's own patterns;
//! * by **value** (`scan`): one pass over the bytes finds e-mail addresses, payment cards, telephone
//!   numbers, national ids, IBANs, and tokens, keys and passwords of many forms. Check digits,
//!   issuer prefixes and country lengths are verified, so that an order number is no card.
//!
//! The class of an attribute is the strictest finding; that of a span is the strictest of its
//! attributes. [`Classifier::redact`] then masks, drops or hashes what an operator does not want to
//! leave.
//!
//! # What it is not
//!
//! It does not understand text: names and addresses of people in free text are not found, nor is
//! anything that was encoded (base64, compression) other than the percent-encoded `@` and `+` of
//! URLs. `tests/classify_corpus.rs` measures what is missed and what is found wrongly.
//!
//! # Limits
//!
//! The first [`MAX_VALUE_BYTES`] bytes of a value are looked at. Time is linear in them; nothing is
//! allocated except in the output of a redaction. Patterns are limited by [`MAX_PATTERNS`].

mod hmac;
mod kind;
mod names;
mod policy;
mod redact;
mod scan;

pub use kind::{Finding, Kind};
pub use redact::{Redacted, RedactionMode};

use crate::DataTag;
use crate::price::pattern::matches_pattern;
use core::fmt;
use core::ops::ControlFlow;
use hmac::Hmac;
use redact::Redaction;

/// Bytes of a value that are looked at: the usual limit of an attribute in span pipelines is 4096.
pub const MAX_VALUE_BYTES: usize = 8192;
/// Patterns in each of the lists of names.
pub const MAX_PATTERNS: usize = 1024;
/// Bytes of a pattern.
pub const MAX_PATTERN_BYTES: usize = 128;
/// Bytes of the shortest key for hashing.
pub const MIN_HASH_KEY_BYTES: usize = 16;

/// Which detectors work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detectors {
    /// Built-in names. Defaults to true.
    pub names: bool,
    /// E-mail addresses. Defaults to true.
    pub email: bool,
    /// Payment cards. Defaults to true.
    pub card: bool,
    /// Telephone numbers. Defaults to true.
    pub phone: bool,
    /// National ids and bank account numbers. Defaults to true.
    pub national_id: bool,
    /// Tokens, keys and passwords. Defaults to true.
    pub token: bool,
}

impl Default for Detectors {
    fn default() -> Self {
        Self {
            names: true,
            email: true,
            card: true,
            phone: true,
            national_id: true,
            token: true,
        }
    }
}

/// Everything that defines a classifier. In patterns `*` stands for any bytes; letters match in any
/// case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassifierInputs {
    /// Which detectors work. Defaults to all.
    pub detectors: Detectors,
    /// Further names that mark [`DataTag::Pii`]. Defaults to none.
    pub pii_names: Vec<String>,
    /// Further names that mark [`DataTag::Sensitive`]. Defaults to none.
    pub sensitive_names: Vec<String>,
    /// Names that mark nothing, whatever their value looks like. Defaults to none.
    pub ignored_names: Vec<String>,
    /// What is done to classified values. Defaults to masking.
    pub mode: RedactionMode,
    /// The least strict class that is treated. Defaults to [`DataTag::Sensitive`].
    pub redact_from: DataTag,
    /// The key for hashing. Defaults to none; [`RedactionMode::Hash`] needs one.
    pub hash_key: String,
}

impl Default for ClassifierInputs {
    fn default() -> Self {
        Self {
            detectors: Detectors::default(),
            pii_names: Vec::new(),
            sensitive_names: Vec::new(),
            ignored_names: Vec::new(),
            mode: RedactionMode::default(),
            redact_from: DataTag::Sensitive,
            hash_key: String::new(),
        }
    }
}

/// A compiled classifier. Its key does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Classifier {
    detectors: Detectors,
    pii_names: Box<[Box<str>]>,
    sensitive_names: Box<[Box<str>]>,
    ignored_names: Box<[Box<str>]>,
    redaction: Redaction,
}

/// What the name of an attribute or header says of its values: see [`Classifier::named`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// They are not looked at.
    Ignored,
    /// They have at least this class, if any.
    Class(Option<DataTag>),
}

impl Classifier {
    /// Checks and compiles.
    ///
    /// # Errors
    /// Too many or too long patterns, or a missing or too short key for hashing.
    pub fn new(inputs: &ClassifierInputs) -> Result<Self, ClassifyError> {
        let hashes = inputs.mode == RedactionMode::Hash;
        if hashes && inputs.hash_key.len() < MIN_HASH_KEY_BYTES {
            return Err(ClassifyError::HashKey);
        }
        Ok(Self {
            detectors: inputs.detectors,
            pii_names: patterns(&inputs.pii_names)?,
            sensitive_names: patterns(&inputs.sensitive_names)?,
            ignored_names: patterns(&inputs.ignored_names)?,
            redaction: Redaction {
                mode: inputs.mode,
                from: inputs.redact_from,
                hmac: hashes.then(|| Box::new(Hmac::new(inputs.hash_key.as_bytes()))),
            },
        })
    }

    /// The class that the name of an attribute or header gives to any value, if it gives one.
    #[must_use]
    pub fn name(&self, name: &[u8]) -> Option<DataTag> {
        let name = name.get(..names::MAX_NAME_BYTES).unwrap_or(name);
        if self.ignores(name) {
            return None;
        }
        if any_matches(&self.pii_names, name) {
            return Some(DataTag::Pii);
        }
        let own = any_matches(&self.sensitive_names, name).then_some(DataTag::Sensitive);
        own.max(if self.detectors.names {
            names::classify(name)
        } else {
            None
        })
    }

    /// The strictest class of an attribute or header, and the first thing found that has it.
    /// `None` is no class, which a strict policy may treat as more than [`DataTag::ExportOk`].
    #[must_use]
    pub fn classify(&self, name: &[u8], value: &[u8]) -> Option<(DataTag, Kind)> {
        self.classify_named(self.named(name), value)
    }

    /// What a name says of every value, worked out once for names that come again and again.
    #[must_use]
    pub fn named(&self, name: &[u8]) -> Named {
        if self.ignores(name.get(..names::MAX_NAME_BYTES).unwrap_or(name)) {
            return Named::Ignored;
        }
        Named::Class(self.name(name))
    }

    /// As [`Classifier::classify`], for a name that [`Classifier::named`] has looked at.
    #[must_use]
    pub fn classify_named(&self, named: Named, value: &[u8]) -> Option<(DataTag, Kind)> {
        let Named::Class(by_name) = named else {
            return None;
        };
        let mut strictest = by_name.map(|tag| (tag, Kind::Name));
        if strictest.is_some_and(|(tag, _)| tag == DataTag::Pii) {
            return strictest;
        }
        self.find(value, |finding| {
            if strictest.is_none_or(|(tag, _)| finding.tag > tag) {
                strictest = Some((finding.tag, finding.kind));
            }
            if finding.tag == DataTag::Pii {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        strictest
    }

    /// Calls `visit` with everything found in a value, from left to right, until it breaks. Names
    /// play no part.
    pub fn find(&self, value: &[u8], visit: impl FnMut(Finding) -> ControlFlow<()>) {
        let value = value.get(..MAX_VALUE_BYTES).unwrap_or(value);
        scan::scan(value, &self.detectors, visit);
    }

    fn ignores(&self, name: &[u8]) -> bool {
        any_matches(&self.ignored_names, name)
    }
}

impl Default for Classifier {
    fn default() -> Self {
        let inputs = ClassifierInputs::default();
        let redaction = Redaction {
            mode: inputs.mode,
            from: inputs.redact_from,
            hmac: None,
        };
        Self {
            detectors: inputs.detectors,
            pii_names: Box::default(),
            sensitive_names: Box::default(),
            ignored_names: Box::default(),
            redaction,
        }
    }
}

impl fmt::Debug for Classifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Classifier")
            .field("detectors", &self.detectors)
            .field("pii_names", &self.pii_names)
            .field("sensitive_names", &self.sensitive_names)
            .field("ignored_names", &self.ignored_names)
            .field("mode", &self.redaction.mode)
            .field("from", &self.redaction.from)
            .finish_non_exhaustive()
    }
}

fn any_matches(patterns: &[Box<str>], name: &[u8]) -> bool {
    patterns
        .iter()
        .any(|pattern| matches_pattern(pattern.as_bytes(), name))
}

fn patterns(list: &[String]) -> Result<Box<[Box<str>]>, ClassifyError> {
    if list.len() > MAX_PATTERNS {
        return Err(ClassifyError::TooManyPatterns);
    }
    let wrong = |pattern: &&String| pattern.is_empty() || pattern.len() > MAX_PATTERN_BYTES;
    if let Some(pattern) = list.iter().find(wrong) {
        return Err(ClassifyError::Pattern {
            pattern: pattern.clone(),
        });
    }
    Ok(list.iter().map(|pattern| pattern.as_str().into()).collect())
}

/// Why a classifier cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClassifyError {
    /// Hashing without a key, or with one that is shorter than [`MIN_HASH_KEY_BYTES`].
    HashKey,
    /// A pattern is empty or longer than [`MAX_PATTERN_BYTES`].
    Pattern {
        /// The pattern.
        pattern: String,
    },
    /// A list has more than [`MAX_PATTERNS`] patterns.
    TooManyPatterns,
}

impl fmt::Display for ClassifyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HashKey => {
                write!(
                    formatter,
                    "key for hashing has fewer than `{MIN_HASH_KEY_BYTES}` bytes"
                )
            }
            Self::Pattern { pattern } => {
                write!(
                    formatter,
                    "name pattern `{pattern}` must have 1 to {MAX_PATTERN_BYTES} bytes"
                )
            }
            Self::TooManyPatterns => {
                write!(
                    formatter,
                    "more than `{MAX_PATTERNS}` name patterns are given"
                )
            }
        }
    }
}

impl core::error::Error for ClassifyError {}
