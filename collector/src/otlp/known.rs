//! A request's attributes repeat (methods, routes, hosts): each pair is read once.
//!
//! A small direct-mapped table from an attribute's encoded bytes to all that was found out about
//! it: key, value, class, and its JSON inside the request's text. The bytes are compared in full,
//! so that a hit is never wrong. It lives as long as the request's bytes.

use mesh_config::DataTag;

use super::any::Any;
use super::batch::Text;
use super::keys::Key;

/// Pairs remembered. A power of two.
const SLOTS: usize = 256;
/// Longer ones rarely repeat.
const MAX_BYTES: usize = 256;

/// What is known of an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its encoded `KeyValue`.
    pub(super) bytes: &'a [u8],
    /// What its key means.
    pub(super) key: Key,
    /// Its value.
    pub(super) any: Any<'a>,
    /// The class that a detector found.
    pub(super) detected: Option<DataTag>,
    /// `"key":value`; empty as long as nobody needed it.
    pub(super) json: Text,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct KnownAttributes<'a> {
    slots: Vec<Option<Known<'a>>>,
}

impl<'a> KnownAttributes<'a> {
    /// The attribute with exactly these bytes, if it is remembered.
    pub(super) fn get(&self, bytes: &[u8]) -> Option<Known<'a>> {
        let known = self.slots.get(place(bytes))?.as_ref()?;
        (known.bytes == bytes).then_some(*known)
    }

    /// Remembers an attribute in the place of another.
    pub(super) fn put(&mut self, known: Known<'a>) {
        if known.bytes.len() > MAX_BYTES {
            return;
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        if let Some(slot) = self.slots.get_mut(place(known.bytes)) {
            *slot = Some(known);
        }
    }

    /// Forgets everything: text that was written has been taken back.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

/// A cheap hash of length and both ends; a bad one costs time, nothing else.
fn place(bytes: &[u8]) -> usize {
    let first = bytes
        .first_chunk::<8>()
        .copied()
        .map_or(0, u64::from_le_bytes);
    let last = bytes
        .last_chunk::<8>()
        .copied()
        .map_or(0, u64::from_le_bytes);
    let mixed = first
        .wrapping_add(bytes.len() as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ last.wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    // The high bits are the well mixed ones.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as usize & (SLOTS - 1)
}
