//! One pass over the bytes of a value.
//!
//! The scanner moves from word to word. Where a word begins, or at a byte that only occurs inside a
//! certain detector's text (`@`, `+`, `(`, `-----`), it asks the detectors that can begin there; the
//! first that matches gives the finding, and the scan goes on behind it. Each detector looks at a
//! bounded number of bytes from its place, so the time is linear in the length of the value.

mod email;
mod national;
mod number;
#[cfg(feature = "collector")]
mod quiet;
mod secret;
mod text;

use super::{Detectors, Finding, Kind};
use crate::DataTag;
use core::ops::ControlFlow;
#[cfg(feature = "collector")]
use quiet::Possible;
use text::{at, is_word, part};

/// Everything is possible: the filter's module has to be small and looks at few values.
#[cfg(not(feature = "collector"))]
#[derive(Clone, Copy)]
struct Possible;

#[cfg(not(feature = "collector"))]
impl Possible {
    const fn of(_: &[u8]) -> Self {
        Self
    }
    const fn is_nothing(self) -> bool {
        false
    }
    const fn numbers(self) -> bool {
        true
    }
    const fn ids(self) -> bool {
        true
    }
    const fn tokens(self) -> bool {
        true
    }
    const fn credentials(self) -> bool {
        true
    }
    const fn marks(self) -> bool {
        true
    }
}

/// Calls `visit` for every finding, from left to right, without overlaps, until it breaks.
pub(super) fn scan(
    value: &[u8],
    detectors: &Detectors,
    visit: impl FnMut(Finding) -> ControlFlow<()>,
) {
    let possible = Possible::of(value);
    if !possible.is_nothing() {
        scan_for(possible, value, detectors, visit);
    }
}

/// The scan for what is possible.
fn scan_for(
    possible: Possible,
    value: &[u8],
    detectors: &Detectors,
    mut visit: impl FnMut(Finding) -> ControlFlow<()>,
) {
    let mut position = 0;
    // Nothing before this may be part of a finding again.
    let mut floor = 0;
    while position < value.len() {
        match begin(value, position, (floor, possible), detectors) {
            Some(finding) => {
                floor = finding.end;
                position = finding.end.max(position + 1);
                if visit(finding).is_break() {
                    return;
                }
            }
            // Between two letters or digits nothing begins.
            None if at(value, position).is_ascii_alphanumeric() => {
                position = run(value, position, value.len(), |byte| {
                    byte.is_ascii_alphanumeric()
                });
            }
            None => position += 1,
        }
    }
}

/// The finding that begins at `position`, or, for those with a mark in their middle, around it.
fn begin(
    value: &[u8],
    position: usize,
    (floor, possible): (usize, Possible),
    on: &Detectors,
) -> Option<Finding> {
    let byte = at(value, position);
    match byte {
        b'@' | b'%' if on.email || on.token => email::around(value, position, floor, on),
        b'-' if on.token => secret::private_key(value, position),
        b'+' | b'%' | b'(' if on.phone => number::phone(value, position),
        _ if !byte.is_ascii_alphanumeric() => None,
        _ if position > 0 && is_word(at(value, position - 1)) => {
            // Only a number may begin inside a word, after `_`.
            let after_underscore = at(value, position - 1) == b'_' && position > floor;
            if byte.is_ascii_digit() && after_underscore && possible.numbers() {
                number::begin(value, position, on)
            } else {
                None
            }
        }
        _ => word(value, position, possible, on),
    }
}

/// The finding that begins with the word at `position`.
fn word(value: &[u8], position: usize, possible: Possible, on: &Detectors) -> Option<Finding> {
    let byte = at(value, position);
    if possible.numbers()
        && byte.is_ascii_digit()
        && let Some(found) = number::begin(value, position, on)
    {
        return Some(found);
    }
    if possible.ids()
        && on.national_id
        && byte.is_ascii_uppercase()
        && let Some(found) = national::begin(value, position)
    {
        return Some(found);
    }
    if on.token {
        secret::begin(value, position, possible, on)
    } else {
        None
    }
}

/// A finding of personal data.
fn pii(kind: Kind, start: usize, end: usize) -> Finding {
    Finding {
        kind,
        tag: DataTag::Pii,
        start,
        end,
    }
}

/// A finding of a secret.
fn sensitive(kind: Kind, start: usize, end: usize) -> Finding {
    Finding {
        kind,
        tag: DataTag::Sensitive,
        start,
        end,
    }
}

/// The end of the longest run of bytes from `start` that `belongs` accepts, at most `limit` bytes.
fn run(value: &[u8], start: usize, limit: usize, belongs: impl Fn(u8) -> bool) -> usize {
    let bytes = part(value, start, start.saturating_add(limit));
    start + bytes.iter().take_while(|byte| belongs(**byte)).count()
}
