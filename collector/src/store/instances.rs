//! Which deltas of which filter instance were counted.
//!
//! An instance sends its deltas in order and repeats one until it is acknowledged, so the largest
//! number seen is all there is to remember. At most twice [`PER_HALF`] instances are kept, those
//! heard of last; an instance is one start of one proxy's VM.

use std::collections::HashMap;

/// Instances after which the half that was silent longest is forgotten.
const PER_HALF: usize = 50_000;

/// Largest number by instance.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    young: HashMap<Box<str>, u64>,
    old: HashMap<Box<str>, u64>,
}

impl Instances {
    /// True when `sequence` is new for `instance`; it is then remembered.
    pub(crate) fn advance(&mut self, instance: &str, sequence: u64) -> bool {
        let known = self
            .young
            .get(instance)
            .or_else(|| self.old.get(instance))
            .copied();
        let last = known.unwrap_or(0).max(sequence);
        if let Some(slot) = self.young.get_mut(instance) {
            *slot = last;
        } else {
            if self.young.len() >= PER_HALF {
                self.old = std::mem::take(&mut self.young);
            }
            self.young.insert(instance.into(), last);
        }
        known.is_none_or(|known| sequence > known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_or_older_delta_is_known_and_instances_are_apart() {
        let mut instances = Instances::default();
        assert!(instances.advance("a", 1));
        assert!(!instances.advance("a", 1));
        assert!(instances.advance("b", 1));
        assert!(instances.advance("a", 5), "numbers may be skipped");
        assert!(!instances.advance("a", 3));
        for other in 0..PER_HALF {
            instances.advance(&other.to_string(), 1);
        }
        assert!(!instances.advance("a", 5), "kept in the older half");
    }
}
