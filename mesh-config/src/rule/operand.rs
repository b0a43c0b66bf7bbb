//! The values that a condition compares with, and wildcard matching.

use std::fmt;

use crate::DataTag;
use crate::money::NanoUsd;
use crate::units::{self, TIME_UNITS};

/// A value in a condition, read for the kind of its attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operand {
    Bool(bool),
    Class(DataTag),
    /// A string with stars, as the pieces between them.
    Glob(Box<[Box<str>]>),
    Money(NanoUsd),
    Nanos(u64),
    Number(f64),
    Text(Box<str>),
}

impl fmt::Display for Operand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Class(tag) => f.write_str(tag.as_str()),
            Self::Glob(pieces) => {
                f.write_str("\"")?;
                for (index, piece) in pieces.iter().enumerate() {
                    if index > 0 {
                        f.write_str("*")?;
                    }
                    escape(piece, f)?;
                }
                f.write_str("\"")
            }
            Self::Money(amount) => write!(f, "{amount}"),
            Self::Nanos(nanos) => f.write_str(&units::print_quantity(*nanos, &TIME_UNITS)),
            Self::Number(number) => units::Plain(*number).fmt(f),
            Self::Text(text) => {
                f.write_str("\"")?;
                escape(text, f)?;
                f.write_str("\"")
            }
        }
    }
}

fn escape(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for found in text.chars() {
        if matches!(found, '"' | '\\' | '*') {
            f.write_str("\\")?;
        }
        write!(f, "{found}")?;
    }
    Ok(())
}

/// Whether `text` is the pieces in order with any text between them.
pub(super) fn matches_pieces(pieces: &[Box<str>], text: &[u8]) -> bool {
    let Some((first, rest)) = pieces.split_first() else {
        return text.is_empty();
    };
    let Some(mut text) = text.strip_prefix(first.as_bytes()) else {
        return false;
    };
    let Some((last, middle)) = rest.split_last() else {
        return text.is_empty();
    };
    for piece in middle {
        // The leftmost place is as good as any: what follows has the most room.
        let Some(at) = find(text, piece.as_bytes()) else {
            return false;
        };
        text = text.get(at + piece.len()..).unwrap_or_default();
    }
    text.ends_with(last.as_bytes())
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if part.is_empty() {
        return Some(0);
    }
    text.windows(part.len()).position(|window| window == part)
}

/// Whether `text` fits `pattern`, in which `*` stands for any text; there is no escape.
pub fn glob(pattern: &[u8], text: &[u8]) -> bool {
    glob_by(pattern, text, |left, right| left == right)
}

/// [`glob`] without regard to ASCII letter case, for host and header names.
pub fn glob_ignore_case(pattern: &[u8], text: &[u8]) -> bool {
    glob_by(pattern, text, |left, right| {
        left.eq_ignore_ascii_case(&right)
    })
}

/// At most `pattern` times `text` steps.
fn glob_by(pattern: &[u8], text: &[u8], same: fn(u8, u8) -> bool) -> bool {
    let (mut at_pattern, mut at_text) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(at_pattern), text.get(at_text)) {
            (Some(b'*'), _) => {
                at_pattern += 1;
                retry = Some((at_pattern, at_text));
                continue;
            }
            (Some(wanted), Some(found)) if same(*wanted, *found) => {
                at_pattern += 1;
                at_text += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let Some((pattern_after_star, text_from)) = retry else {
            return false;
        };
        if text_from >= text.len() {
            return false;
        }
        (at_pattern, at_text) = (pattern_after_star, text_from + 1);
        retry = Some((at_pattern, at_text));
    }
}
