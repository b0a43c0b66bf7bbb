//! Writing a list: own members to the front, foreign ones after them, within the limits.

use super::{Entry, MAX_MEMBERS, Member, TraceState, is_own_key, is_value};
use crate::write::{Cursor, WriteError, Written};

/// Members with more bytes than this are the first to go when a list is too long.
const LARGE_MEMBER_LEN: usize = 128;

impl TraceState<'_> {
    /// Writes one line: the own members in the order given, then the foreign ones in their order
    /// and with their bytes.
    ///
    /// - A foreign member with the key of an own one is replaced, with a key in `remove` left out.
    /// - Above `limit_bytes` (commas counted) whole foreign members are dropped: first those of
    ///   more than 128 bytes, beginning at the right, then any, beginning at the right. Only then
    ///   members beyond 32 are dropped from the right, so that the fewest are lost.
    /// - Own members are never dropped. Their keys must be valid in Level 1 and Level 2 alike: a
    ///   letter first and no `@`.
    /// - Without any member `len` is 0: send no header then.
    ///
    /// The standard asks everybody to pass on at least 512 bytes
    /// ([`MIN_LIMIT_BYTES`](super::MIN_LIMIT_BYTES)). If `traceparent` is passed on unchanged, the
    /// list must not be changed either.
    ///
    /// # Errors
    /// An own member is invalid or its key occurs twice, the own members alone exceed a limit, or
    /// the buffer is too small.
    pub fn write_with(
        &self,
        own: &[Member<'_>],
        remove: &[&[u8]],
        limit_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let own_len = check_own(own)?;
        if own_len > limit_bytes {
            return Err(WriteError::LimitTooSmall { needed: own_len });
        }
        let mut kept = Kept::select(self.entries(), own, remove);
        kept.truncate(self.entries(), own.len(), own_len, limit_bytes);

        let mut cursor = Cursor::new(out);
        for member in own {
            separate(&mut cursor);
            cursor.push(member.key);
            cursor.push_byte(b'=');
            cursor.push(member.value);
        }
        for (index, entry) in self.entries().iter().enumerate() {
            if kept.contains(index) {
                separate(&mut cursor);
                cursor.push(entry.raw());
            }
        }
        Ok(Written {
            len: cursor.finish()?,
            members: own.len() + kept.count,
            dropped: kept.dropped,
        })
    }
}

#[inline]
fn separate(cursor: &mut Cursor<'_>) {
    if cursor.len() > 0 {
        cursor.push_byte(b',');
    }
}

/// Checks the own members and returns the bytes they take.
fn check_own(own: &[Member<'_>]) -> Result<usize, WriteError> {
    if own.len() > MAX_MEMBERS {
        return Err(WriteError::TooManyMembers);
    }
    let mut len = own.len().saturating_sub(1);
    for (index, member) in own.iter().enumerate() {
        if !is_own_key(member.key) {
            return Err(WriteError::InvalidKey { index });
        }
        if !is_value(member.value) {
            return Err(WriteError::InvalidValue { index });
        }
        if own.iter().take(index).any(|other| other.key == member.key) {
            return Err(WriteError::DuplicateKey { index });
        }
        len += member.len();
    }
    Ok(len)
}

/// The set of foreign members that stay, one bit per index.
struct Kept {
    bits: u32,
    count: usize,
    dropped: usize,
    /// Bytes of all members that stay, each with a comma.
    len: usize,
}

impl Kept {
    fn select(foreign: &[Entry<'_>], own: &[Member<'_>], remove: &[&[u8]]) -> Self {
        let mut kept = Self {
            bits: 0,
            count: 0,
            dropped: 0,
            len: 0,
        };
        for (index, entry) in foreign.iter().enumerate() {
            let key = entry.key();
            let replaced = own.iter().any(|own| own.key == key);
            if !replaced && !remove.contains(&key) {
                kept.bits |= 1 << index;
                kept.count += 1;
                kept.len += entry.raw().len() + 1;
            }
        }
        kept
    }

    const fn contains(&self, index: usize) -> bool {
        self.bits & (1 << index) != 0
    }

    fn truncate(
        &mut self,
        foreign: &[Entry<'_>],
        own_count: usize,
        own_len: usize,
        limit_bytes: usize,
    ) {
        // `len` counts a comma per foreign member; without own members the first one has none.
        let budget = match own_count {
            0 => limit_bytes.saturating_add(1),
            _ => limit_bytes - own_len,
        };
        if self.len > budget {
            self.drop_from_right(foreign, budget, |entry| {
                entry.raw().len() > LARGE_MEMBER_LEN
            });
            self.drop_from_right(foreign, budget, |_| true);
        }
        let places = MAX_MEMBERS - own_count;
        for (index, entry) in foreign.iter().enumerate().rev() {
            if self.count <= places {
                break;
            }
            if self.contains(index) {
                self.drop(index, entry);
            }
        }
    }

    fn drop_from_right(
        &mut self,
        foreign: &[Entry<'_>],
        budget: usize,
        may_drop: impl Fn(&Entry<'_>) -> bool,
    ) {
        for (index, entry) in foreign.iter().enumerate().rev() {
            if self.len <= budget {
                return;
            }
            if self.contains(index) && may_drop(entry) {
                self.drop(index, entry);
            }
        }
    }

    fn drop(&mut self, index: usize, entry: &Entry<'_>) {
        self.bits &= !(1 << index);
        self.count -= 1;
        self.len -= entry.raw().len() + 1;
        self.dropped += 1;
    }
}
