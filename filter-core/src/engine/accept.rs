//! The trust boundary: what of an incoming context counts here.

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::policy::{Direction, SampledFlag, TraceIdTrust};
use w3c_traceparent_parser::otel::Threshold;
use w3c_traceparent_parser::{SpanId, TraceId, TraceParent};

use super::Engine;
use crate::Entropy;
use crate::context::{Incoming, ParentContext};
use crate::counters::Counter;
use crate::decision::Parent;
use crate::settings::Boundary;

/// Tries to draw an id that is not zero; after them a constant stands in (2^-256: for form's sake).
const ID_TRIES: usize = 4;

/// The context after the trust boundary.
pub(super) struct Accepted {
    pub(super) trace_id: TraceId,
    pub(super) parent: Option<TraceParent>,
    pub(super) link: Option<TraceParent>,
    pub(super) sampling: Parent,
    /// Cost and class that count.
    pub(super) path_cost: NanoUsd,
    pub(super) tag: Option<DataTag>,
}

impl Engine {
    /// Applies the trust boundary to what came in.
    pub(super) fn accept(
        &mut self,
        direction: Direction,
        incoming: &mut Incoming<'_>,
        entropy: &mut impl Entropy,
    ) -> Accepted {
        let counter = match incoming.parent {
            ParentContext::Absent => Counter::TracesStarted,
            ParentContext::Invalid(_) => Counter::TracesRestarted,
            ParentContext::Valid(_) => Counter::TracesContinued,
        };
        let boundary = self.settings.boundary(direction);
        let mut link = None;
        if let (Boundary::Edge(_, TraceIdTrust::Restart), Some(outside)) =
            (boundary, incoming.parent.valid())
        {
            link = Some(outside);
            self.counters.bump(Counter::TracesStarted);
        } else {
            self.counters.bump(counter);
        }
        let (path_cost, tag) = self.accept_members(boundary, incoming);
        if link.is_some() {
            // A new trace has no state of the old one; baggage is independent and passes on.
            incoming.forget_state();
        }
        let parent = incoming.parent.valid().filter(|_| link.is_none());
        Accepted {
            trace_id: parent.map_or_else(|| new_trace_id(entropy), |parent| parent.trace_id),
            sampling: parent_sampling(boundary, parent, incoming.threshold()),
            // The cost of a path belongs to its trace; a data class to the data.
            path_cost: if parent.is_some() {
                path_cost
            } else {
                NanoUsd::ZERO
            },
            parent,
            link,
            tag,
        }
    }

    fn accept_members(
        &mut self,
        boundary: Boundary,
        incoming: &Incoming<'_>,
    ) -> (NanoUsd, Option<DataTag>) {
        match boundary {
            Boundary::Trusted => {
                let unknown = self.settings.policy.classification.unknown_tag;
                let cost = incoming.path_cost(&mut self.counters);
                (cost, incoming.data_tag(unknown, &mut self.counters))
            }
            Boundary::Edge(..) => {
                if incoming.has_own_members() {
                    self.counters.bump(Counter::UntrustedDropped);
                }
                (NanoUsd::ZERO, None)
            }
        }
    }
}

/// What the parent's decision means at this boundary.
fn parent_sampling(
    boundary: Boundary,
    parent: Option<TraceParent>,
    claimed: Option<Threshold>,
) -> Parent {
    let Some(parent) = parent else {
        return Parent::Unknown;
    };
    match boundary {
        Boundary::Trusted if parent.flags.is_sampled() => Parent::Sampled(claimed),
        Boundary::Trusted => Parent::Unsampled,
        // An outside claim of a probability is not believed.
        Boundary::Edge(SampledFlag::Accept, _) if parent.flags.is_sampled() => {
            Parent::Sampled(None)
        }
        // `clamp` and `ignore`: R >= T decides. The same R gives the same answer again, so a flag
        // that counts only where our own rate keeps the trace changes nothing.
        Boundary::Edge(..) => Parent::Unknown,
    }
}

fn new_trace_id(entropy: &mut impl Entropy) -> TraceId {
    for _ in 0..ID_TRIES {
        let (high, low) = (entropy.next_u64(), entropy.next_u64());
        if let Some(id) = TraceId::from_u128(u128::from(high) << 64 | u128::from(low)) {
            return id;
        }
    }
    TraceId::MIN
}

/// A random span id.
pub(super) fn new_span_id(entropy: &mut impl Entropy) -> SpanId {
    for _ in 0..ID_TRIES {
        if let Some(id) = SpanId::from_u64(entropy.next_u64()) {
            return id;
        }
    }
    SpanId::MIN
}
