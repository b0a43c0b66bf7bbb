//! The sections that only the collector reads, as the filter's build has them: passed over. Their
//! code would be in the memory of every proxy. What is wrong in them is said where the policy is
//! written (`mesh-config validate`) and where it is used, not by the proxies.

use crate::node::Node;
use crate::setting::{Context, Setting};

/// Stands for such a section: takes whatever is written there and remembers nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped;

pub(super) type Alerts = Skipped;
pub(super) type Control = Skipped;
pub(super) type Forward = Skipped;
pub(super) type TraceStorage = Skipped;

/// What takes the place of the default alerts.
pub(super) const fn defaults() -> Alerts {
    Skipped
}

impl Setting for Skipped {
    fn decode(&mut self, _node: &Node, _context: &mut Context) {}

    fn encode(&self) -> Node {
        Node::default()
    }
}
