//! The traces in memory, in the order in which they were heard of.
//!
//! A slab with a doubly linked list through it: finding, touching and dropping a trace take
//! constant time, and the order of eviction is exact. The slab grows by chunks, so that growing
//! neither copies nor reserves much.

use std::collections::HashMap;

use foldhash::fast::RandomState;
use mesh_config::DataTag;

use super::graph::Graph;

/// End of the list.
const NONE: u32 = u32::MAX;
/// Traces of a chunk.
const CHUNK: usize = 512;
/// What a trace takes in the index: a bucket of 32 bytes and one of its hash, at between seven
/// sixteenths and seven eighths of them filled.
const INDEX_BYTES: usize = 56;

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

/// Up to this many missing parents a scan is faster than a hash map.
const SCANNED: usize = 16;

/// Parents that have not arrived, with the spans that wait for them. Most traces have none, most of
/// the time.
#[derive(Debug)]
pub(super) enum Waits {
    /// A few, in no order.
    Few(Vec<(u64, Missing)>),
    /// More than [`SCANNED`]; it stays a map until it is empty.
    // Boxed: an empty map is twice as large as a list, in every trace.
    #[allow(clippy::box_collection)]
    Many(Box<HashMap<u64, Missing, RandomState>>),
}

impl Default for Waits {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Waits {
    /// Changes what is known of the spans that wait for a parent.
    pub(super) fn change<T>(&mut self, parent: u64, change: impl FnOnce(&mut Missing) -> T) -> T {
        if let Self::Few(list) = self
            && list.len() >= SCANNED
            && !list.iter().any(|(id, _)| *id == parent)
        {
            *self = Self::Many(Box::new(list.drain(..).collect()));
        }
        match self {
            Self::Few(list) => match list.iter_mut().find(|(id, _)| *id == parent) {
                Some((_, missing)) => change(missing),
                None => {
                    let mut missing = Missing::default();
                    let changed = change(&mut missing);
                    list.push((parent, missing));
                    changed
                }
            },
            Self::Many(map) => change(map.entry(parent).or_default()),
        }
    }

    /// The same, if there are any.
    pub(super) fn get_mut(&mut self, parent: u64) -> Option<&mut Missing> {
        match self {
            Self::Few(list) => {
                let found = list.iter_mut().find(|(id, _)| *id == parent);
                found.map(|(_, missing)| missing)
            }
            Self::Many(map) => map.get_mut(&parent),
        }
    }

    /// The parent has arrived.
    pub(super) fn remove(&mut self, parent: u64) -> Option<Missing> {
        let (found, is_empty) = match self {
            Self::Few(list) => {
                let at = list.iter().position(|(id, _)| *id == parent)?;
                (Some(list.swap_remove(at).1), list.is_empty())
            }
            Self::Many(map) => (map.remove(&parent), map.is_empty()),
        };
        if is_empty {
            *self = Self::default();
        }
        found
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Missing> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list), None),
            Self::Many(map) => (None, Some(map)),
        };
        let few = few.into_iter().flatten().map(|(_, missing)| missing);
        few.chain(many.into_iter().flat_map(|map| map.values()))
    }

    fn bytes(&self) -> usize {
        let entry = size_of::<(u64, Missing)>();
        match self {
            Self::Few(list) => list.capacity() * entry,
            Self::Many(map) => size_of_val(&**map) + map.capacity() * (entry + 1) * 8 / 7,
        }
    }
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
    pub(super) missing: Waits,
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
            + INDEX_BYTES
            + self.graph.bytes()
            + self.missing.bytes()
            + self.totals.len() * size_of::<Total>()
    }
}

/// The slab.
#[derive(Debug, Default)]
struct Slots(Vec<Vec<Trace>>);

impl Slots {
    fn get(&self, at: u32) -> Option<&Trace> {
        self.0.get(at as usize / CHUNK)?.get(at as usize % CHUNK)
    }

    fn get_mut(&mut self, at: u32) -> Option<&mut Trace> {
        self.0
            .get_mut(at as usize / CHUNK)?
            .get_mut(at as usize % CHUNK)
    }

    /// Adds a slot; returns its number.
    fn push(&mut self) -> u32 {
        let full = self.0.last().is_none_or(|chunk| chunk.len() == CHUNK);
        if full {
            self.0.push(Vec::with_capacity(CHUNK));
        }
        let before = (self.0.len() - 1) * CHUNK;
        let at = self.0.last_mut().map_or(0, |chunk| {
            chunk.push(Trace::default());
            chunk.len() - 1
        });
        u32::try_from(before + at).unwrap_or(NONE)
    }
}

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Traces {
    slots: Slots,
    free: Vec<u32>,
    index: HashMap<u128, u32, RandomState>,
    newest: u32,
    oldest: u32,
    bytes: usize,
}

impl Default for Traces {
    fn default() -> Self {
        Self {
            slots: Slots::default(),
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

    /// Memory of all traces, and of slots that wait for one.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.free.len() * (size_of::<Trace>() + size_of::<u32>())
    }

    /// The slot of a trace that is in memory; its place in the order stays.
    pub(super) fn find(&self, id: u128) -> Option<u32> {
        self.index.get(&id).copied()
    }

    /// The trace in a slot.
    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut Trace> {
        self.slots.get_mut(at)
    }

    /// The slot of a trace, made when there is none, as the one heard of last.
    pub(super) fn heard(&mut self, id: u128) -> u32 {
        let at = match self.find(id) {
            Some(at) if at == self.newest => return at,
            Some(at) => {
                self.unlink(at);
                at
            }
            None => self.make(id),
        };
        self.link_newest(at);
        at
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
            None => self.slots.push(),
        };
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = trace;
        }
        self.index.insert(id, at);
        at
    }

    /// Counts the memory of a trace that has changed.
    pub(super) fn account(&mut self, at: u32) {
        let Some(trace) = self.get_mut(at) else {
            return;
        };
        let (now, before) = (trace.bytes(), trace.counted_bytes);
        trace.counted_bytes = now;
        self.bytes = (self.bytes + now).saturating_sub(before);
    }

    /// When the trace that was quiet longest was heard of last.
    pub(super) fn quietest(&self) -> Option<u32> {
        self.slots.get(self.oldest).map(|trace| trace.heard_s)
    }

    /// Drops the trace that was quiet longest.
    pub(super) fn drop_quietest(&mut self) -> Option<Trace> {
        let at = self.oldest;
        self.unlink(at);
        let slot = self.slots.get_mut(at)?;
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
        let Some((newer, older)) = self.slots.get(at).map(|t| (t.newer, t.older)) else {
            return;
        };
        match self.slots.get_mut(newer) {
            Some(trace) => trace.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older) {
            Some(trace) => trace.newer = newer,
            None => self.oldest = newer,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let newest = self.newest;
        if let Some(trace) = self.slots.get_mut(at) {
            (trace.newer, trace.older) = (NONE, newest);
        }
        match self.slots.get_mut(newest) {
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
                let at = traces.heard(id);
                traces.account(at);
                model.retain(|known| *known != id);
                model.push(id);
            }
            assert_eq!(traces.len(), model.len());
        }
        while traces.drop_quietest().is_some() {}
        assert_eq!((traces.len(), traces.bytes()), (0, 0));
    }
}
