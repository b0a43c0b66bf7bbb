//! The value of the `ot` member: `th`, `rv` and sub-members of others.

use core::fmt;

use super::{Randomness, Threshold};
use crate::bytes;
use crate::id::TraceId;
use crate::write::{Cursor, WriteError};

/// Bytes that the value may have.
pub const MAX_LEN: usize = 256;

/// The value of the `ot` member of a `tracestate`.
///
/// A malformed `th` or `rv` counts as absent and is not written again, nor is any other malformed
/// sub-member; of several `th` or `rv` the first well-formed one counts. Well-formed unknown sub-members are
/// kept, in order.
///
/// ```
/// use w3c_traceparent_parser::otel::{OtState, Threshold};
///
/// let state = OtState::parse(b"th:c;rv:d29d6a7215ced0;vendor:x");
/// let (threshold, randomness) = (state.threshold().unwrap(), state.randomness().unwrap());
/// assert!(threshold.keeps(randomness));
///
/// let mut out = [0; 256];
/// let raised = Threshold::from_probability(0.2);
/// let len = state.write(raised, state.randomness(), &mut out)?;
/// assert_eq!(&out[..len], b"th:cccd;rv:d29d6a7215ced0;vendor:x");
/// # Ok::<(), w3c_traceparent_parser::WriteError>(())
/// ```
#[derive(Clone, Copy, Default)]
pub struct OtState<'a> {
    value: &'a [u8],
    threshold: Option<Threshold>,
    randomness: Option<Randomness>,
    malformed: usize,
}

/// One sub-member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubMember<'a> {
    /// A lowercase letter, then lowercase letters and digits.
    pub key: &'a [u8],
    /// Letters, digits, `.`, `_` and `-`.
    pub value: &'a [u8],
}

impl<'a> OtState<'a> {
    /// A value without sub-members.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            value: b"",
            threshold: None,
            randomness: None,
            malformed: 0,
        }
    }

    /// Reads the value of the member. It cannot fail; a value of more than 256 bytes is empty.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Self {
        let mut state = Self::empty();
        if value.len() > MAX_LEN {
            state.malformed = 1;
            return state;
        }
        if value.is_empty() {
            return state;
        }
        state.value = value;
        for piece in value.split(|&byte| byte == b';') {
            let well_formed = match sub_member(piece) {
                Some(SubMember { key: b"th", value }) => {
                    first(&mut state.threshold, || Threshold::parse(value))
                }
                Some(SubMember { key: b"rv", value }) => {
                    first(&mut state.randomness, || Randomness::parse(value))
                }
                Some(_) => true,
                None => piece.is_empty(),
            };
            state.malformed += usize::from(!well_formed);
        }
        state
    }

    /// The rejection threshold of the last sampler, if the trace was sampled by probability.
    #[inline]
    #[must_use]
    pub const fn threshold(&self) -> Option<Threshold> {
        self.threshold
    }

    /// The explicit randomness of the trace.
    #[inline]
    #[must_use]
    pub const fn randomness(&self) -> Option<Randomness> {
        self.randomness
    }

    /// Number of sub-members that are not written again: malformed ones and a second `th` or `rv`.
    /// A value of more than 256 bytes counts as one; empty pieces do not count.
    #[inline]
    #[must_use]
    pub const fn malformed(&self) -> usize {
        self.malformed
    }

    /// The randomness that decides: the explicit one, else that of the trace id.
    #[inline]
    #[must_use]
    pub fn randomness_or(&self, trace_id: TraceId) -> Randomness {
        self.randomness
            .unwrap_or_else(|| Randomness::from_trace_id(trace_id))
    }

    /// The threshold that a parent-based sampler may pass on: the incoming one, unless it
    /// contradicts the sampled flag. `None` erases it.
    #[must_use]
    pub fn consistent_threshold(&self, sampled: bool, trace_id: TraceId) -> Option<Threshold> {
        self.threshold
            .filter(|threshold| threshold.keeps(self.randomness_or(trace_id)) == sampled)
    }

    /// The well-formed sub-members of others, in order.
    pub fn unknown(&self) -> impl Iterator<Item = SubMember<'a>> + Clone + use<'a> {
        sub_members(self.value).filter(|member| !matches!(member.key, b"th" | b"rv"))
    }

    /// Writes the value with this threshold and this randomness, and returns its length; 0 means
    /// that nothing is left and the member must be removed.
    ///
    /// Only the root of a trace may choose `rv`. Everybody else passes [`OtState::randomness`]; it
    /// is never changed, removed or invented on the way.
    ///
    /// # Errors
    /// The value would exceed 256 bytes (leave the member as it is then), or the buffer is too
    /// small.
    pub fn write(
        &self,
        th: Option<Threshold>,
        rv: Option<Randomness>,
        out: &mut [u8],
    ) -> Result<usize, WriteError> {
        let mut cursor = Cursor::new(out);
        let mut digits = [0; 14];
        if let Some(th) = th {
            let len = th.write_hex(&mut digits);
            push(&mut cursor, b"th", digits.get(..len).unwrap_or_default());
        }
        if let Some(rv) = rv {
            rv.write_hex(&mut digits);
            push(&mut cursor, b"rv", &digits);
        }
        for member in self.unknown() {
            push(&mut cursor, member.key, member.value);
        }
        if cursor.len() > MAX_LEN {
            return Err(WriteError::LimitTooSmall {
                needed: cursor.len(),
            });
        }
        cursor.finish()
    }
}

/// Sets the value if it is the first and well formed, and tells whether it was set.
#[inline]
fn first<T, E>(slot: &mut Option<T>, parse: impl FnOnce() -> Result<T, E>) -> bool {
    if slot.is_some() {
        return false;
    }
    *slot = parse().ok();
    slot.is_some()
}

#[inline]
fn push(cursor: &mut Cursor<'_>, key: &[u8], value: &[u8]) {
    if cursor.len() > 0 {
        cursor.push(b";");
    }
    cursor.push(key);
    cursor.push(b":");
    cursor.push(value);
}

fn sub_members<'a>(value: &'a [u8]) -> impl Iterator<Item = SubMember<'a>> + Clone + use<'a> {
    value.split(|&byte| byte == b';').filter_map(sub_member)
}

fn sub_member(text: &[u8]) -> Option<SubMember<'_>> {
    let (key, value) = bytes::cut(text, b':');
    let value = value?;
    let (first, _) = key.split_first()?;
    let well_formed = bytes::is(*first, bytes::LOWER)
        && bytes::all(key, bytes::LOWER_OR_DIGIT)
        && bytes::all(value, bytes::OT_VALUE);
    well_formed.then_some(SubMember { key, value })
}

impl fmt::Debug for OtState<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtState")
            .field("threshold", &self.threshold)
            .field("randomness", &self.randomness)
            .finish_non_exhaustive()
    }
}
