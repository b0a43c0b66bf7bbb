//! Checks across options, after each option was read by itself: what contradicts itself is
//! refused, what cannot have an effect is warned about.

use crate::node::Node;
use crate::policy::Policy;
use crate::setting::Context;

/// Checks the policy that was read from the document `root`.
pub(crate) fn check(_policy: &Policy, _root: &Node, _context: &mut Context) {}
