//! What is done to classified values before they leave.

use super::hmac::Hmac;
use super::{Classifier, Kind, Named};
use crate::DataTag;
use core::ops::ControlFlow;

/// What takes the place of a masked part. As long as no secret that is found, so that a masked
/// value never grows.
const MASK: &[u8] = b"***";
/// Bytes of the keyed hash that are shown, as twice as many hexadecimal digits: 128 bits do not
/// collide in any mesh.
const HASH_BYTES: usize = 16;

/// The treatment of values from a class upwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RedactionMode {
    /// The parts that were found are overwritten; the whole value when its name is the reason.
    #[default]
    Mask,
    /// The attribute is left out.
    Drop,
    /// The whole value is replaced by its keyed hash, so that equal values stay equal.
    Hash,
    /// Nothing is done.
    Off,
}

/// Which values are treated how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Redaction {
    pub(super) mode: RedactionMode,
    pub(super) from: DataTag,
    /// Present whenever the mode is [`RedactionMode::Hash`].
    pub(super) hmac: Option<Box<Hmac>>,
}

/// What became of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redacted {
    /// It may leave as it is; nothing was written.
    Unchanged,
    /// What was written to the output takes its place.
    Replaced,
    /// The attribute must be left out; nothing was written.
    Dropped,
}

impl Classifier {
    /// Classifies a value and treats it: `out` is cleared and holds the replacement when the result
    /// is [`Redacted::Replaced`]. It grows at most to the length of the value or to 32 bytes, so
    /// with a reused buffer nothing is allocated.
    ///
    /// Of a value longer than the scanner looks at, a replacement ends where the scanner ended:
    /// nothing leaves unseen. An unclassified value is not cut.
    #[must_use = "the value may only leave as the result says"]
    pub fn redact(
        &self,
        name: &[u8],
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> (Option<(DataTag, Kind)>, Redacted) {
        self.redact_named(self.named(name), value, out)
    }

    /// The same for a name that was looked at before.
    #[must_use = "the value may only leave as the result says"]
    pub fn redact_named(
        &self,
        named: Named,
        value: &[u8],
        out: &mut Vec<u8>,
    ) -> (Option<(DataTag, Kind)>, Redacted) {
        out.clear();
        let found = self.classify_named(named, value);
        let treated = found.is_some_and(|(tag, _)| tag >= self.redaction.from);
        if !treated {
            return (found, Redacted::Unchanged);
        }
        let by_name = matches!(named, Named::Class(Some(tag)) if tag >= self.redaction.from);
        let redacted = match (self.redaction.mode, &self.redaction.hmac) {
            (RedactionMode::Off, _) => Redacted::Unchanged,
            (RedactionMode::Drop, _) => Redacted::Dropped,
            (RedactionMode::Hash, Some(hmac)) => {
                write_hash(hmac, value, out);
                Redacted::Replaced
            }
            (RedactionMode::Mask | RedactionMode::Hash, _) if by_name => {
                out.extend_from_slice(MASK);
                Redacted::Replaced
            }
            (RedactionMode::Mask | RedactionMode::Hash, _) => {
                self.write_masked(value, out);
                Redacted::Replaced
            }
        };
        (found, redacted)
    }

    /// Writes a value with the findings of treated classes overwritten.
    fn write_masked(&self, value: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        self.find(value, |finding| {
            if finding.tag >= self.redaction.from {
                out.extend_from_slice(value.get(copied..finding.start).unwrap_or_default());
                out.extend_from_slice(MASK);
                copied = finding.end;
            }
            ControlFlow::Continue(())
        });
        let scanned = value.len().min(super::MAX_VALUE_BYTES);
        out.extend_from_slice(value.get(copied..scanned).unwrap_or_default());
    }
}

/// Writes the first bytes of the keyed hash in hexadecimal.
fn write_hash(hmac: &Hmac, value: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in hmac.hash(value).iter().take(HASH_BYTES) {
        for digit in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0'));
        }
    }
}
