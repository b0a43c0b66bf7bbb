//! The trust boundary: what of an incoming context counts here.

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::policy::{SampledFlag, TraceIdTrust};
use w3c_traceparent_parser::{SpanId, TraceFlags, TraceId};

use super::Engine;
use crate::Entropy;
use crate::context::{Incoming, ParentContext};
use crate::counters::Counter;
use crate::decision::Parent;
use crate::settings::Boundary;
use crate::state::RequestState;

/// Tries to draw an id that is not zero; after them a constant stands in (2^-256: for form's sake).
const ID_TRIES: usize = 4;

/// What of the context counts for the decisions here; the rest is in the state.
pub(super) struct Accepted {
    pub(super) boundary: Boundary,
    pub(super) sampling: Parent,
    /// Whether the parent has the sampled flag, believed or not.
    pub(super) is_sampled: bool,
    /// The class that counts.
    pub(super) tag: Option<DataTag>,
}

impl Engine {
    /// Applies the trust boundary to what came in.
    pub(super) fn accept(
        &mut self,
        state: &mut RequestState,
        incoming: &mut Incoming<'_>,
        entropy: &mut impl Entropy,
    ) -> Accepted {
        let boundary = self.settings.boundary(state.direction);
        let (path_cost, tag) = self.accept_members(boundary, incoming);
        let mut accepted = Accepted {
            boundary,
            sampling: Parent::Unknown,
            is_sampled: false,
            tag,
        };
        let restarts = matches!(boundary, Boundary::Edge(_, TraceIdTrust::Restart));
        match &incoming.parent {
            ParentContext::Valid(parent) if !restarts => {
                state.trace_id = parent.trace_id;
                state.parent_id = Some(parent.parent_id);
                // A continued trace carries its random flag.
                state.flags = TraceFlags::NONE.with_random(parent.flags.is_random());
                // The cost of a path belongs to its trace; a data class to the data.
                state.path_cost = path_cost;
                accepted.is_sampled = parent.flags.is_sampled();
                accepted.sampling = parent_sampling(boundary, accepted.is_sampled, incoming);
                self.counters.bump(Counter::TracesContinued);
            }
            _ => self.start_trace(state, incoming, entropy),
        }
        accepted
    }

    /// No context counts: a trace begins.
    #[inline(never)]
    fn start_trace(
        &mut self,
        state: &mut RequestState,
        incoming: &mut Incoming<'_>,
        entropy: &mut impl Entropy,
    ) {
        state.trace_id = new_trace_id(entropy);
        // Its id is uniformly random; the policy says whether the flag says so.
        let random = self.settings.policy.propagation.random_flag;
        state.flags = TraceFlags::NONE.with_random(random);
        let counter = match incoming.parent {
            ParentContext::Absent => Counter::TracesStarted,
            ParentContext::Invalid(_) => Counter::TracesRestarted,
            ParentContext::Valid(outside) => {
                state.link = Some(outside);
                // A new trace has no state of the old one; baggage is independent and passes on.
                incoming.forget_state();
                Counter::TracesStarted
            }
        };
        self.counters.bump(counter);
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
fn parent_sampling(boundary: Boundary, is_sampled: bool, incoming: &Incoming<'_>) -> Parent {
    match boundary {
        Boundary::Trusted if is_sampled => Parent::Sampled(incoming.threshold()),
        Boundary::Trusted => Parent::Unsampled,
        // An outside claim of a probability is not believed.
        Boundary::Edge(SampledFlag::Accept, _) if is_sampled => Parent::Sampled(None),
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
    let first = SpanId::from_u64(entropy.next_u64());
    first.unwrap_or_else(|| another_span_id(entropy))
}

#[cold]
#[inline(never)]
fn another_span_id(entropy: &mut impl Entropy) -> SpanId {
    for _ in 1..ID_TRIES {
        if let Some(id) = SpanId::from_u64(entropy.next_u64()) {
            return id;
        }
    }
    SpanId::MIN
}
