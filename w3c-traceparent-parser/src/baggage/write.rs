//! Writing baggage: foreign members as they came, own ones at the end, within the limits.

use super::member::Pieces;
use super::{Baggage, OWN};
use crate::write::{Cursor, Own, OwnPairs, OwnValues, WriteError, Written};

impl Baggage<'_> {
    /// Writes one line: the foreign members in order and with their bytes, then the own ones.
    ///
    /// - `own` are pairs of key and value, the value already percent-encoded. A foreign member
    ///   with the key of an own one is replaced, one with a key in `remove` left out.
    /// - Above `max_members` or `max_bytes` (commas counted, own ones too) whole foreign members
    ///   are dropped from the right; own ones never. Lines that did not fit into the view count
    ///   as dropped.
    /// - Without any member `len` is 0: send no header then.
    ///
    /// The standard asks everybody to pass on all members as long as both
    /// [`MAX_MEMBERS`](super::MAX_MEMBERS) and [`MAX_BYTES`](super::MAX_BYTES) hold.
    ///
    /// # Errors
    /// An own member is invalid or its key occurs twice, the own members alone exceed a limit, or
    /// the buffer is too small.
    pub fn write_with(
        &self,
        own: &[(&[u8], &[u8])],
        remove: &[&[u8]],
        max_members: usize,
        max_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let own = OwnPairs(own, remove);
        own.check(&OWN, max_members)?;
        self.write_list(own, max_members, max_bytes, out)
    }

    /// [`Baggage::write_with`] for own members that are known to be valid: they are not checked.
    /// Each of the `keys`, which are different, is that of an own member if there is a value at its
    /// place in `values`; foreign members with one of them are replaced or left out.
    ///
    /// # Errors
    /// The own members alone exceed a limit, or the buffer is too small.
    pub fn write_valid(
        &self,
        keys: &[&[u8]],
        values: &[Option<&[u8]>],
        max_members: usize,
        max_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let own = OwnValues(keys, values);
        debug_assert!(own.check(&OWN, usize::MAX).is_ok(), "own members");
        self.write_list(own, max_members, max_bytes, out)
    }

    #[inline]
    fn write_list(
        &self,
        own: impl Own,
        max_members: usize,
        max_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        if self.overflowed() > 0 || self.len() + own.len() > max_members {
            return self.write_truncated(own, max_members, max_bytes, out);
        }
        // As if all of it stayed: it nearly always does.
        let mut cursor = Cursor::new(out);
        let mut members = 0;
        for line in self.lines().iter().flatten() {
            for member in Pieces::new(line) {
                if !own.displaces(member.key) {
                    cursor.push_member(member.raw);
                    members += 1;
                }
            }
        }
        members += cursor.push_own(own);
        if cursor.len() > max_bytes {
            return self.write_truncated(own, max_members, max_bytes, out);
        }
        Ok(Written {
            len: cursor.finish()?,
            members,
            dropped: 0,
        })
    }

    /// Writes as many of the foreign members as the limits of members and bytes allow.
    #[cold]
    #[inline(never)]
    fn write_truncated(
        &self,
        own: impl Own,
        max_members: usize,
        max_bytes: usize,
        out: &mut [u8],
    ) -> Result<Written, WriteError> {
        let (own_count, own_len) = own.size();
        let places = max_members
            .checked_sub(own_count)
            .ok_or(WriteError::TooManyMembers)?;
        let left = max_bytes
            .checked_sub(own_len)
            .ok_or(WriteError::LimitTooSmall { needed: own_len })?;
        // The comma between the foreign members and the own ones.
        let budget = left.saturating_sub(usize::from(own_count > 0));

        let mut cursor = Cursor::new(out);
        let mut members = 0;
        let mut dropped = self.overflowed();
        // Once a member was dropped all those to its right are: the result is a prefix.
        let mut full = false;
        for member in self.iter() {
            if own.displaces(member.key) {
                continue;
            }
            let after = cursor.len() + usize::from(members > 0) + member.raw.len();
            full |= members == places || after > budget;
            if full {
                dropped += 1;
                continue;
            }
            cursor.push_member(member.raw);
            members += 1;
        }
        members += cursor.push_own(own);
        Ok(Written {
            len: cursor.finish()?,
            members,
            dropped,
        })
    }
}
