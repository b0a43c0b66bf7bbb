//! Which traces an alert has fired for, so that it fires once per trace.
//!
//! The last [`MAX_FIRED`] traces are remembered, also across restarts. A trace is past that only
//! when as many others fired after it; with it in memory the assembly still knows.

use std::collections::{HashSet, VecDeque};

use serde::{Deserialize, Serialize};

/// Traces remembered per alert: an hour of three per second. About 100 bytes each.
const MAX_FIRED: usize = 10_000;

/// See the module's documentation.
#[derive(Debug, Clone, Default)]
pub(super) struct Fired {
    order: VecDeque<u128>,
    known: HashSet<u128>,
}

impl Fired {
    /// Remembers a trace; true when it is new.
    pub(super) fn insert(&mut self, trace: u128) -> bool {
        if !self.known.insert(trace) {
            return false;
        }
        self.order.push_back(trace);
        if self.order.len() > MAX_FIRED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

impl Serialize for Fired {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.order.iter().map(|trace| format!("{trace:032x}")))
    }
}

impl<'de> Deserialize<'de> for Fired {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fired = Self::default();
        for trace in Vec::<String>::deserialize(deserializer)? {
            let trace = u128::from_str_radix(&trace, 16).map_err(serde::de::Error::custom)?;
            fired.insert(trace);
        }
        Ok(fired)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_new_once_and_memory_is_bounded() {
        let mut fired = Fired::default();
        for trace in 0..3 * MAX_FIRED as u128 {
            assert!(fired.insert(trace) && !fired.insert(trace));
        }
        assert_eq!(fired.known.len(), MAX_FIRED);
        let text = serde_json::to_string(&fired).unwrap();
        let mut again: Fired = serde_json::from_str(&text).unwrap();
        assert!(!again.insert(3 * MAX_FIRED as u128 - 1));
    }
}
