//! The traces in memory, in the order in which they were heard of.
//!
//! A slab with a doubly linked list through it: finding, touching and dropping a trace take
//! constant time, and the order of eviction is exact.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use mesh_config::DataTag;

use super::graph::Graph;

/// End of the list.
const NONE: u32 = u32::MAX;

/// Spans that wait for one parent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Missing {
    /// Spans that name it.
    pub(super) waiting: u32,
    /// How many of them were reported as orphans.
    pub(super) counted: u32,
    /// When they were reported, seconds since the epoch.
    pub(super) counted_s: u32,
    /// When the grace of the youngest of them ends.
    pub(super) due_s: u32,
}

/// Sum, largest and number of an attribute's values.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Total {
    pub(super) sum: f64,
    pub(super) max: f64,
    pub(super) count: u32,
}

/// What is known of a trace.
#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) id: u128,
    /// When its last span arrived, seconds since the epoch.
    pub(super) heard_s: u32,
    pub(super) spans: u32,
    pub(super) cost_nanos: u64,
    pub(super) first_ns: i64,
    pub(super) last_ns: i64,
    pub(super) class: DataTag,
    pub(super) error: bool,
    pub(super) hitl: bool,
    /// One bit per watch whose condition the trace has met.
    pub(super) met: u64,
    pub(super) graph: Graph,
    pub(super) missing: HashMap<u64, Missing, RandomState>,
    /// By attribute of the watches.
    pub(super) totals: Box<[Total]>,
    /// Bytes counted for it.
    pub(super) counted_bytes: usize,
    newer: u32,
    older: u32,
}

impl Trace {
    /// Memory, heap included.
    pub(super) fn bytes(&self) -> usize {
        // The slot, its key in the index, and what the containers hold.
        size_of::<Self>()
            + 26
            + self.graph.bytes()
            + self.missing.capacity() * (size_of::<(u64, Missing)>() + 2)
            + self.totals.len() * size_of::<Total>()
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Traces {
    slots: Vec<Trace>,
    free: Vec<u32>,
    index: HashMap<u128, u32, RandomState>,
    newest: u32,
    oldest: u32,
    bytes: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            index: HashMap::default(),
            newest: NONE,
            oldest: NONE,
            bytes: 0,
        }
    }
}

impl Traces {
    /// Traces in memory.
    pub(super) fn len(&self) -> usize {
        self.index.len()
    }

    /// Memory of all traces.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// A trace that is in memory; its place in the order stays.
    pub(super) fn get_mut(&mut self, id: u128) -> Option<&mut Trace> {
        let at = *self.index.get(&id)?;
        self.slots.get_mut(at as usize)
    }

    /// The trace, made when there is none, as the one heard of last.
    pub(super) fn heard(&mut self, id: u128) -> Option<&mut Trace> {
        let at = match self.index.get(&id).copied() {
            Some(at) if at == self.newest => return self.slots.get_mut(at as usize),
            Some(at) => {
                self.unlink(at);
                at
            }
            None => self.make(id),
        };
        self.link_newest(at);
        self.slots.get_mut(at as usize)
    }

    fn make(&mut self, id: u128) -> u32 {
        let trace = Trace {
            id,
            newer: NONE,
            older: NONE,
            ..Trace::default()
        };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.slots.push(Trace::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(NONE)
            }
        };
        if let Some(slot) = self.slots.get_mut(at as usize) {
            *slot = trace;
        }
        self.index.insert(id, at);
        at
    }

    /// Counts the memory of a trace that has changed.
    pub(super) fn account(&mut self, id: u128) {
        let Some(trace) = self.get_mut(id) else {
            return;
        };
        let (now, before) = (trace.bytes(), trace.counted_bytes);
        trace.counted_bytes = now;
        self.bytes = (self.bytes + now).saturating_sub(before);
    }

    /// When the trace that was quiet longest was heard of last.
    pub(super) fn quietest(&self) -> Option<u32> {
        self.slots
            .get(self.oldest as usize)
            .map(|trace| trace.heard_s)
    }

    /// Drops the trace that was quiet longest.
    pub(super) fn drop_quietest(&mut self) -> Option<Trace> {
        let at = self.oldest;
        self.unlink(at);
        let slot = self.slots.get_mut(at as usize)?;
        let trace = std::mem::take(slot);
        self.index.remove(&trace.id);
        self.bytes = self.bytes.saturating_sub(trace.counted_bytes);
        if self.index.is_empty() {
            // A quiet collector gives its memory back.
            *self = Self::default();
        } else {
            self.free.push(at);
        }
        Some(trace)
    }

    fn unlink(&mut self, at: u32) {
        let Some((newer, older)) = self.slots.get(at as usize).map(|t| (t.newer, t.older)) else {
            return;
        };
        match self.slots.get_mut(newer as usize) {
            Some(trace) => trace.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(trace) => trace.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let newest = self.newest;
        if let Some(trace) = self.slots.get_mut(at as usize) {
            (trace.newer, trace.older) = (NONE, newest);
        }
        match self.slots.get_mut(newest as usize) {
            Some(trace) => trace.newer = at,
            None => self.oldest = at,
        }
        self.newest = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trace_that_was_quiet_longest_goes_first_and_memory_comes_back() {
        let mut traces = Traces::default();
        let mut model: Vec<u128> = Vec::new();
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..5_000 {
            if random.u8(0..4) == 0 && !model.is_empty() {
                assert_eq!(traces.drop_quietest().unwrap().id, model.remove(0));
            } else {
                let id = random.u128(1..40);
                traces.heard(id).unwrap();
                traces.account(id);
                model.retain(|known| *known != id);
                model.push(id);
            }
            assert_eq!(traces.len(), model.len());
        }
        while traces.drop_quietest().is_some() {}
        assert_eq!((traces.len(), traces.bytes()), (0, 0));
    }
}
