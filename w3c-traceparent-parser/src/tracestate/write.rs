//! Writing a list: own members to the front, foreign ones after them, within the limits.

use super::{Entry, MAX_MEMBERS, Member, OWN, TraceState};
use crate::write::{Cursor, Own, OwnMembers, OwnValues, WriteError, Written};

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
        let own = OwnMembers(own, remove);
        own.check(&OWN, MAX_MEMBERS)?;
        self.write_list(own, limit_bytes, out)
    }

    /// [`TraceState::write_with`] for own members that are known to be valid: they are not checked.
    /// Each of the `keys`, which are different, is that of an own member if there is a value at its
    /// place in `values`; foreign members with one of them are replaced or left out.
    ///
    /// # Errors
    /// The own members alone exceed a limit, or the buffer is too small.
    pub fn write_valid(
        &self,
        keys: &[&[u8]],
        values: &[Option<&[u8]>],
        limit_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let own = OwnValues(keys, values);
        debug_assert!(own.check(&OWN, usize::MAX).is_ok(), "own members");
        self.write_list(own, limit_bytes, out)
    }

    #[inline]
    fn write_list(
        &self,
        own: impl Own,
        limit_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        if self.len() + own.len() > MAX_MEMBERS {
            return self.write_truncated(own, limit_bytes, out);
        }
        // As if all of it stayed: it nearly always does.
        let mut cursor = Cursor::new(out);
        let mut members = cursor.push_own(own);
        for entry in self.entries() {
            if !own.displaces(entry.key()) {
                cursor.push_member(entry.raw());
                members += 1;
            }
        }
        if cursor.len() > limit_bytes {
            return self.write_truncated(own, limit_bytes, out);
        }
        Ok(Written {
            len: cursor.finish()?,
            members,
            dropped: 0,
        })
    }

    /// Writes as many of the foreign members as the limits allow.
    #[cold]
    #[inline(never)]
    fn write_truncated(
        &self,
        own: impl Own,
        limit_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let (own_count, own_len) = own.size();
        if own_count > MAX_MEMBERS {
            return Err(WriteError::TooManyMembers);
        }
        if own_len > limit_bytes {
            return Err(WriteError::LimitTooSmall { needed: own_len });
        }
        let mut kept = Kept::select(self.entries(), own);
        kept.truncate(self.entries(), own_count, own_len, limit_bytes);

        let mut cursor = Cursor::new(out);
        cursor.push_own(own);
        for (index, entry) in self.entries().iter().enumerate() {
            if kept.contains(index) {
                cursor.push_member(entry.raw());
            }
        }
        Ok(Written {
            len: cursor.finish()?,
            members: own_count + kept.count,
            dropped: kept.dropped,
        })
    }
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
    fn select(foreign: &[Entry<'_>], own: impl Own) -> Self {
        let mut kept = Self {
            bits: 0,
            count: 0,
            dropped: 0,
            len: 0,
        };
        for (index, entry) in foreign.iter().enumerate() {
            if !own.displaces(entry.key()) {
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
