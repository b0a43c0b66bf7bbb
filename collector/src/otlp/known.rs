//! A request's attributes repeat (methods, routes, hosts): each pair is read once.
//!
//! A small direct-mapped table from an attribute's encoded bytes to all that was found out about
//! it: key, value, class, and its JSON inside the request's text. The bytes are compared in full,
//! so that a hit is never wrong. It lives as long as the request's bytes.
//!
//! Values that never repeat (paths, sizes) would only push the others out: those of a key that were
//! remembered in vain too often are not remembered any more.

use mesh_config::DataTag;
use mesh_config::classify::Named;

use super::any::Any;
use super::batch::Text;
use super::keys::Key;
use crate::policy::Rules;

/// Pairs remembered. A power of two.
const SLOTS: usize = 256;
/// Longer ones rarely repeat.
const MAX_BYTES: usize = 256;
/// Values of a key that may be remembered in vain.
const PATIENCE: u8 = 24;
/// What a value that did repeat adds to the patience with its key.
const REWARD: u8 = 4;
/// The number of a key that has no place.
const NO_KEY: u16 = u16::MAX;

/// What is known of an attribute.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    /// Its encoded `KeyValue`.
    pub(super) bytes: &'a [u8],
    /// What its key means.
    pub(super) key: Key,
    /// Where its key is remembered.
    pub(super) named: KeyPlace,
    /// Its value.
    pub(super) any: Any<'a>,
    /// The class that a detector found.
    pub(super) detected: Option<DataTag>,
    /// `"key":value`; empty as long as nobody needed it.
    pub(super) json: Text,
}

/// The place of a key in the table of keys.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyPlace(u16);

/// A key and what was found out about it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownKey<'a> {
    name: &'a str,
    /// What it means.
    pub(super) key: Key,
    /// What it says of every value.
    pub(super) named: Named,
    /// Where it is remembered.
    pub(super) place: KeyPlace,
    patience: u8,
}

/// See the module's documentation.
#[derive(Default)]
pub(super) struct KnownAttributes<'a> {
    slots: Vec<Option<Known<'a>>>,
    keys: Vec<Option<KnownKey<'a>>>,
}

impl<'a> KnownAttributes<'a> {
    /// The attribute with exactly these bytes, if it is remembered.
    pub(super) fn get(&mut self, bytes: &[u8]) -> Option<Known<'a>> {
        let known = self.slots.get(place(bytes))?.as_ref()?;
        if known.bytes != bytes {
            return None;
        }
        if let Some(key) = in_place(&mut self.keys, known.named) {
            key.patience = key.patience.saturating_add(REWARD);
        }
        Some(*known)
    }

    /// Remembers an attribute in the place of another.
    pub(super) fn put(&mut self, known: Known<'a>) {
        if known.bytes.len() > MAX_BYTES {
            return;
        }
        if let Some(key) = in_place(&mut self.keys, known.named) {
            match key.patience.checked_sub(1) {
                Some(left) => key.patience = left,
                None => return,
            }
        }
        if self.slots.is_empty() {
            self.slots.resize(SLOTS, None);
        }
        if let Some(slot) = self.slots.get_mut(place(known.bytes)) {
            *slot = Some(known);
        }
    }

    /// What a key means, and what it says of every value.
    pub(super) fn key(&mut self, name: &'a str, rules: &Rules) -> KnownKey<'a> {
        if self.keys.is_empty() {
            self.keys.resize(SLOTS, None);
        }
        let at = place(name.as_bytes());
        if let Some(Some(known)) = self.keys.get(at)
            && known.name == name
        {
            return *known;
        }
        let known = KnownKey {
            name,
            key: Key::of(name),
            named: rules.named(name),
            place: KeyPlace(u16::try_from(at).unwrap_or(NO_KEY)),
            patience: PATIENCE,
        };
        if let Some(slot) = self.keys.get_mut(at) {
            *slot = Some(known);
        }
        known
    }

    /// Forgets all pairs: text that was written has been taken back.
    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }
}

/// The key in a place: another one, if that has taken the place meanwhile.
fn in_place<'k, 'a>(
    keys: &'k mut [Option<KnownKey<'a>>],
    place: KeyPlace,
) -> Option<&'k mut KnownKey<'a>> {
    keys.get_mut(usize::from(place.0))?.as_mut()
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

#[cfg(test)]
mod tests {
    use mesh_config::DataTag;

    use crate::otlp::decode::{Context, traces};
    use crate::otlp::limits::Limits;
    use crate::policy::Rules;
    use crate::testing::{double, now_ns, request, span, text};

    #[test]
    fn a_repeated_attribute_says_the_same_in_every_span_also_after_a_refused_one() {
        let mut spans: Vec<_> = (1..=300)
            .map(|id| {
                let attributes = vec![
                    text("data_tag", "SENSITIVE"),
                    text("http.route", "/a/\"{id}\""),
                    text("http.response.status_code", "503"),
                    // This one has a column; the next is kept as it is.
                    double("cost_usd", 0.5),
                    double("cost_usd", -1.0),
                    double("index", (id % 3) as f64),
                ];
                span(u128::from(id), id, 0, 1, attributes)
            })
            .collect();
        for index in [0, 1, 150] {
            // Refused, but only after its attributes were read.
            spans[index].end_time_unix_nano = 1;
        }
        let (limits, rules) = (Limits::default(), Rules::load(None).unwrap());
        let context = Context {
            limits: &limits,
            rules: &rules,
            received_ns: now_ns(),
        };
        let batch = traces(&request("again", spans), &context).unwrap();
        assert_eq!((batch.spans.len(), batch.refused.total()), (297, 3));
        for row in &batch.spans {
            let json: serde_json::Value = serde_json::from_str(batch.str(row.attributes)).unwrap();
            let index = u64::from_be_bytes(row.span_id) % 3;
            assert_eq!(
                json,
                serde_json::json!({"http.route": "/a/\"{id}\"", "cost_usd": -1.0, "index": index as f64})
            );
            assert_eq!((row.http_status, row.cost_nanos), (503, Some(500_000_000)));
            assert_eq!(row.class, DataTag::Sensitive);
        }
    }
}
