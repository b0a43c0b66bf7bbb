//! The spans of one trace by parent: how deep the trace is, and which parents are missing.
//!
//! A forest of disjoint sets with distances. A span is hung below its parent when it arrives, in
//! any order; a parent that is only named gets a place that it fills when it comes. Each set
//! knows the longest chain below its top, so a new link costs (amortised) next to nothing,
//! whatever the order of arrival, and the depth needs no walk over the trace.
//!
//! A link that would close a circle is not made; both spans count with the chains they have.
//!
//! Limits: [`MAX_NODES`] spans and missing parents; what comes later is not placed
//! ([`Placed::Full`]). A trace this large is a mistake or an attack; costs go on being added.

use std::collections::HashMap;

use foldhash::fast::RandomState;

/// Spans and missing parents of one trace. 16 bytes each and 35 in the index, so 3.3 MiB.
pub(super) const MAX_NODES: usize = 65_536;
/// Up to this many nodes a scan is faster than a hash map.
const SCANNED: usize = 16;

/// One span, or the place of one that is only named.
#[derive(Debug, Clone, Copy)]
struct Node {
    id: u64,
    /// The node above, or itself.
    up: u16,
    /// Links to the node above.
    distance: u16,
    /// For the top of a set: links of the longest chain below it.
    height: u16,
    present: bool,
}

/// What became of a span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placed {
    /// It was placed; its parent is there, or it has none.
    Linked,
    /// It was placed; its parent has not arrived.
    Waiting,
    /// Its parent is one of its own descendants, or itself.
    Circle,
    /// The trace has too many spans.
    Full,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: Vec<Node>,
    index: Option<Box<Index>>,
    depth: u32,
}

/// Nodes by id; small traces have none.
type Index = HashMap<u64, u16, RandomState>;

impl Graph {
    /// Spans on the longest chain.
    pub(super) fn depth(&self) -> u32 {
        self.depth
    }

    /// Bytes on the heap.
    pub(super) fn bytes(&self) -> usize {
        let entry = size_of::<(u64, u16)>() + 1;
        let index = self.index.as_ref().map_or(0, |index| {
            size_of::<Index>() + index.capacity() * entry * 8 / 7
        });
        self.nodes.capacity() * size_of::<Node>() + index
    }

    /// Adds a span; `parent` 0 means none. The caller has checked that it is new.
    pub(super) fn add(&mut self, id: u64, parent: u64) -> Placed {
        if self.nodes.len() + 2 > MAX_NODES {
            return Placed::Full;
        }
        let own = self.place(id);
        if let Some(node) = self.nodes.get_mut(own as usize) {
            node.present = true;
        }
        let placed = match parent {
            0 => Placed::Linked,
            parent => self.hang(own, parent),
        };
        let (top, _) = self.top(own);
        if let Some(node) = self.nodes.get(top as usize) {
            // A place that is not filled is no span of the chain.
            let spans = u32::from(node.height) + u32::from(node.present);
            self.depth = self.depth.max(spans);
        }
        placed
    }

    fn hang(&mut self, own: u16, parent: u64) -> Placed {
        let above = self.place(parent);
        let (top, distance) = self.top(above);
        if top == own {
            return Placed::Circle;
        }
        let below = self.nodes.get(own as usize).map_or(0, |node| node.height);
        if let Some(node) = self.nodes.get_mut(own as usize) {
            node.up = top;
            node.distance = distance.saturating_add(1);
        }
        if let Some(node) = self.nodes.get_mut(top as usize) {
            let height = distance.saturating_add(1).saturating_add(below);
            node.height = node.height.max(height);
        }
        let is_present = self.nodes.get(above as usize).is_some_and(|n| n.present);
        if is_present {
            Placed::Linked
        } else {
            Placed::Waiting
        }
    }

    /// The number of a node; it is made when there is none.
    fn place(&mut self, id: u64) -> u16 {
        let known = match &self.index {
            None => self
                .nodes
                .iter()
                .position(|node| node.id == id)
                .and_then(|at| u16::try_from(at).ok()),
            Some(index) => index.get(&id).copied(),
        };
        if let Some(at) = known {
            return at;
        }
        // In range: MAX_NODES. So are the lengths of chains.
        let at = u16::try_from(self.nodes.len()).unwrap_or(u16::MAX);
        self.nodes.push(Node {
            id,
            up: at,
            distance: 0,
            height: 0,
            present: false,
        });
        if let Some(index) = &mut self.index {
            index.insert(id, at);
        } else if self.nodes.len() > SCANNED {
            let all = self.nodes.iter().zip(0u16..);
            self.index = Some(Box::new(all.map(|(node, at)| (node.id, at)).collect()));
        }
        at
    }

    /// The top of a node's set and the number of links up to it; shortens the way for next time.
    fn top(&mut self, from: u16) -> (u16, u16) {
        let (mut top, mut total) = (from, 0u16);
        while let Some(node) = self.nodes.get(top as usize)
            && node.up != top
        {
            total = total.saturating_add(node.distance);
            top = node.up;
        }
        let (mut at, mut left) = (from, total);
        while at != top {
            let Some(node) = self.nodes.get_mut(at as usize) else {
                break;
            };
            let (up, distance) = (node.up, node.distance);
            (node.up, node.distance) = (top, left);
            at = up;
            left = left.saturating_sub(distance);
        }
        (top, total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The longest chain by walking up from every span, with a limit for circles.
    fn naive(spans: &[(u64, u64)]) -> Option<u32> {
        let parents: HashMap<u64, u64> = spans.iter().copied().collect();
        let mut longest = 0;
        for (id, _) in spans {
            let (mut at, mut length) = (*id, 0u32);
            while let Some(parent) = parents.get(&at) {
                length += 1;
                at = *parent;
                if length as usize > spans.len() {
                    return None;
                }
            }
            longest = longest.max(length);
        }
        Some(longest)
    }

    #[test]
    fn depth_is_the_longest_chain_in_every_order_of_arrival() {
        let mut random = fastrand::Rng::with_seed(7);
        for round in 0..2_000 {
            let count = random.u64(1..40);
            let mut spans: Vec<(u64, u64)> = (1..=count)
                // Some parents are missing for good (numbers above 1,000), some spans are roots.
                .map(|id| match random.u8(0..8) {
                    0 => (id, 0),
                    1 => (id, 1_000 + random.u64(1..4)),
                    _ => (id, random.u64(0..id)),
                })
                .collect();
            random.shuffle(&mut spans);
            let mut graph = Graph::default();
            let mut waiting = 0i64;
            for (id, parent) in &spans {
                waiting += i64::from(graph.add(*id, *parent) == Placed::Waiting);
            }
            assert_eq!(
                Some(graph.depth()),
                naive(&spans),
                "round {round}: {spans:?}"
            );
            assert!(waiting >= 0);
        }
    }

    #[test]
    fn circles_end_and_are_told() {
        let mut graph = Graph::default();
        assert_eq!(graph.add(1, 1), Placed::Circle);
        assert_eq!(graph.add(2, 3), Placed::Waiting);
        assert_eq!(graph.add(3, 4), Placed::Waiting);
        assert_eq!(graph.add(4, 2), Placed::Circle);
        assert_eq!(graph.depth(), 3);
    }

    #[test]
    fn a_chain_that_arrives_leaf_first_is_cheap_and_a_huge_trace_is_cut() {
        let mut graph = Graph::default();
        let count = MAX_NODES as u64 + 10;
        let mut full = 0;
        for id in (1..=count).rev() {
            full += u64::from(graph.add(id, id - 1) == Placed::Full);
        }
        assert!(full > 0 && full < 20, "{full}");
        assert_eq!(u64::from(graph.depth()), count - full);
        assert!(graph.bytes() < 4 << 20);
    }
}
