//! A request's attributes repeat (methods, routes, hosts): each pair is classified once.
//!
//! A small direct-mapped table; both texts are compared in full, so that a hit is never wrong.
//! It lives as long as the request's bytes.

use mesh_config::DataTag;

use crate::policy::Rules;

/// Pairs remembered. A power of two.
const SLOTS: usize = 128;
/// Longer values rarely repeat.
const MAX_VALUE: usize = 256;

type Slot<'a> = Option<(&'a str, &'a str, Option<DataTag>)>;

/// See the module's documentation.
#[derive(Default)]
pub(super) struct ClassCache<'a> {
    slots: Vec<Slot<'a>>,
}

impl<'a> ClassCache<'a> {
    /// The class of an attribute.
    pub(super) fn class_of(
        &mut self,
        name: &'a str,
        value: &'a str,
        rules: &Rules,
    ) -> Option<DataTag> {
        if value.len() > MAX_VALUE {
            return rules.class_of(name, value);
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        let Some(slot) = self.slots.get_mut(place(name, value)) else {
            return rules.class_of(name, value);
        };
        if let Some((known_name, known_value, class)) = slot
            && *known_name == name
            && *known_value == value
        {
            return *class;
        }
        let class = rules.class_of(name, value);
        *slot = Some((name, value, class));
        class
    }
}

/// A cheap hash of lengths and ends; a bad one costs time, nothing else.
fn place(name: &str, value: &str) -> usize {
    let end = |text: &str| {
        let tail = text.as_bytes().last_chunk::<8>().copied();
        tail.map_or_else(
            || text.bytes().fold(0, |sum, byte| sum << 8 | u64::from(byte)),
            u64::from_le_bytes,
        )
    };
    let mixed = end(name)
        .wrapping_add(name.len() as u64)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ end(value)
            .wrapping_add(value.len() as u64)
            .wrapping_mul(0xc2b2_ae3d_27d4_eb4f);
    // The high bits are the well mixed ones.
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 57) as usize & (SLOTS - 1)
}
