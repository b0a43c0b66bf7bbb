//! Writing baggage: foreign members as they came, own ones at the end, within the limits.

use super::{Baggage, BaggageMember, is_key, is_value};
use crate::write::{Cursor, WriteError, Written};

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
        let own_len = check_own(own, max_members)?;
        let left = max_bytes
            .checked_sub(own_len)
            .ok_or(WriteError::LimitTooSmall { needed: own_len })?;
        // The comma between the foreign members and the own ones.
        let budget = left.saturating_sub(usize::from(!own.is_empty()));
        let places = max_members - own.len();

        let mut cursor = Cursor::new(out);
        let mut members = 0;
        let mut dropped = self.overflowed();
        // Once a member was dropped all those to its right are: the result is a prefix.
        let mut full = false;
        for member in self.iter() {
            if !stays(&member, own, remove) {
                continue;
            }
            let after = cursor.len() + usize::from(members > 0) + member.raw.len();
            full |= members == places || after > budget;
            if full {
                dropped += 1;
                continue;
            }
            separate(&mut cursor);
            cursor.push(member.raw);
            members += 1;
        }
        for (key, value) in own {
            separate(&mut cursor);
            cursor.push(key);
            cursor.push_byte(b'=');
            cursor.push(value);
        }
        Ok(Written {
            len: cursor.finish()?,
            members: members + own.len(),
            dropped,
        })
    }
}

fn stays(member: &BaggageMember<'_>, own: &[(&[u8], &[u8])], remove: &[&[u8]]) -> bool {
    !own.iter().any(|(key, _)| *key == member.key) && !remove.contains(&member.key)
}

#[inline]
fn separate(cursor: &mut Cursor<'_>) {
    if cursor.len() > 0 {
        cursor.push_byte(b',');
    }
}

/// Checks the own members and returns the bytes they take.
fn check_own(own: &[(&[u8], &[u8])], max_members: usize) -> Result<usize, WriteError> {
    if own.len() > max_members {
        return Err(WriteError::TooManyMembers);
    }
    let mut len = own.len().saturating_sub(1);
    for (index, (key, value)) in own.iter().enumerate() {
        if !is_key(key) {
            return Err(WriteError::InvalidKey { index });
        }
        if !is_value(value) {
            return Err(WriteError::InvalidValue { index });
        }
        if own.iter().take(index).any(|(other, _)| other == key) {
            return Err(WriteError::DuplicateKey { index });
        }
        len += key.len() + 1 + value.len();
    }
    Ok(len)
}
