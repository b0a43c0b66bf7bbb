//! The beginning of a request: context, labels, decision, headers.

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::policy::{Direction, SampledFlag, TraceIdTrust};
use mesh_config::sampling::{Reason, Threshold};
use w3c_traceparent_parser::tracestate::TraceState;
use w3c_traceparent_parser::{SpanId, TraceFlags, TraceId, TraceParent};

use super::{Engine, RequestInput};
use crate::Entropy;
use crate::context::{Incoming, Outgoing, ParentContext};
use crate::counters::Counter;
use crate::decision::{Decision, Parent, decide};
use crate::explain;
use crate::facts::Facts;
use crate::headers::RequestHeaders;
use crate::settings::Boundary;
use crate::state::{HeadVerdict, Labels, RequestState};
use crate::view::View;

/// Tries to draw an id that is not zero; after them one bit is set (2^-256: for form's sake).
const ID_TRIES: usize = 4;

/// The context after the trust boundary.
struct Accepted {
    trace_id: TraceId,
    parent: Option<TraceParent>,
    link: Option<TraceParent>,
    sampling: Parent,
    /// Cost and class that count.
    path_cost: NanoUsd,
    tag: Option<DataTag>,
}

impl Engine {
    /// Takes a request. What has to change is then in [`Engine::edits`].
    #[must_use]
    pub fn request(
        &mut self,
        input: &RequestInput<'_>,
        entropy: &mut impl Entropy,
    ) -> RequestState {
        self.counters.bump(Counter::Requests);
        let headers = RequestHeaders::new(input.lines);
        let mut incoming = Incoming::read(&headers, &mut self.counters);
        let had_tracestate = headers.first("tracestate").is_some();
        let had_baggage = headers.first("baggage").is_some();
        let direction = self.direction(input.direction);
        let accepted = self.accept(direction, &mut incoming, entropy);

        let mut facts = self.facts(&headers, &incoming);
        facts.set_route(self.routes.find(headers.path(), headers.is_grpc()));
        let labels = self.labels(direction, &facts, &headers, &incoming, &accepted);
        let (head, local) = self.decide(
            input, direction, &facts, &headers, &incoming, &accepted, &labels,
        );
        self.count_head(&head);

        let charged = self.settings.charges(direction, headers.host());
        let path_cost_out = self.outgoing_cost(input, &accepted, &labels, &facts, charged);
        let with_own_members = !self.settings.strips(direction, headers.authority);
        if !with_own_members {
            self.counters.bump(Counter::EgressStripped);
        }
        let outgoing = Outgoing {
            path_cost: path_cost_out,
            tag: labels.tag,
            threshold: head.threshold,
            with_own_members,
        };
        self.writer.write(&incoming, &outgoing, &mut self.counters);

        let owns_context = self.settings.owns_context();
        let mut state = RequestState {
            trace_id: accepted.trace_id,
            span_id: new_span_id(entropy),
            parent_id: accepted.parent.map(|parent| parent.parent_id),
            flags: self.flags(accepted.parent).with_sampled(head.keep),
            link: accepted.link,
            start_unix_nanos: input.now_unix_nanos,
            direction,
            facts,
            labels,
            head,
            path_cost: accepted.path_cost,
            charged,
            trace_state: if head.keep {
                self.writer.tracestate().to_vec()
            } else {
                Vec::new()
            },
            owns_context,
            had_tracestate,
            had_baggage,
            explanation: None,
            filter_state: Vec::new(),
        };
        if !owns_context {
            state.filter_state = self.companion_tags(&state, path_cost_out);
        }
        self.explain(&mut state, &headers, &incoming, local, path_cost_out);
        state
    }

    /// Applies the trust boundary to what came in.
    fn accept(
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
            incoming.state = TraceState::empty();
            incoming.ot = b"";
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
            Boundary::Trusted => (
                incoming.path_cost(&mut self.counters),
                incoming.data_tag(&mut self.counters),
            ),
            Boundary::Edge(..) => {
                if incoming.has_own_members() {
                    self.counters.bump(Counter::UntrustedDropped);
                }
                (NanoUsd::ZERO, None)
            }
        }
    }

    fn facts<'a>(&self, headers: &RequestHeaders<'a>, incoming: &Incoming<'a>) -> Facts {
        let settings = &self.settings;
        let kept = settings.kept().iter();
        Facts::copy(
            headers,
            kept.map(|attribute| settings.read_header_value(attribute, headers, incoming)),
        )
    }

    /// Operation type, data class and human review, by the policy's mappings in this order, so
    /// that a later one can ask for an earlier one.
    fn labels(
        &self,
        direction: Direction,
        facts: &Facts,
        headers: &RequestHeaders<'_>,
        incoming: &Incoming<'_>,
        accepted: &Accepted,
    ) -> Labels {
        let mappings = &self.settings.policy.attributes;
        let mut view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction,
            facts,
            headers: Some((headers, incoming)),
            operation: None,
            tag: accepted
                .tag
                .unwrap_or_default()
                .max(self.settings.default_tag()),
            hitl_required: false,
            cost: accepted.path_cost,
            end: None,
        };
        let found = mappings
            .operation_type
            .iter()
            .position(|mapping| mapping.when.eval(&view).is_true());
        let mapping = found.and_then(|index| u16::try_from(index).ok());
        let (operation, name) = self.settings.operation(mapping);
        view.operation = name;
        for mapping in &mappings.data_tag {
            if mapping.value > view.tag && mapping.when.eval(&view).is_true() {
                view.tag = mapping.value;
            }
        }
        let hitl_required = mappings
            .hitl_required
            .iter()
            .any(|when| when.eval(&view).is_true());
        Labels {
            operation,
            mapping,
            tag: view.tag,
            hitl_required,
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "all are parts of one request, borrowed apart"
    )]
    fn decide(
        &mut self,
        input: &RequestInput<'_>,
        direction: Direction,
        facts: &Facts,
        headers: &RequestHeaders<'_>,
        incoming: &Incoming<'_>,
        accepted: &Accepted,
        labels: &Labels,
    ) -> (HeadVerdict, Option<Threshold>) {
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction,
            facts,
            headers: Some((headers, incoming)),
            operation: self.settings.operation(labels.mapping).1,
            tag: labels.tag,
            hitl_required: labels.hitl_required,
            cost: accepted.path_cost,
            end: None,
        };
        let verdict = self.settings.sampler.head(&view, None);
        let randomness = incoming.randomness(accepted.trace_id);
        let Decision {
            keep,
            by_parent,
            threshold,
        } = decide(accepted.sampling, randomness, verdict.threshold);
        let mut head = HeadVerdict {
            keep,
            reason: verdict.reason,
            threshold,
            randomness,
            rule: verdict.rule,
        };
        if by_parent {
            (head.reason, head.rule) = (Reason::ParentSampled, None);
        } else if !keep {
            head.rule = None;
            if verdict.threshold.is_some() {
                head.reason = Reason::NotSampled;
            }
            // Only where a trace starts: floors at every hop would keep pieces of traces.
            let starts = accepted.parent.is_none();
            if starts && self.low_volume.take(facts.route(), input.now_unix_nanos) {
                head.keep = true;
                head.reason = Reason::LowVolumeFloor;
            }
        }
        (head, verdict.threshold)
    }

    fn count_head(&mut self, head: &HeadVerdict) {
        self.counters.bump(if head.keep {
            Counter::Kept
        } else {
            Counter::Dropped
        });
        self.counters.reason(head.reason);
    }

    /// The accumulated cost that leaves: what came in and the part of this hop's cost that is
    /// known already.
    fn outgoing_cost(
        &self,
        input: &RequestInput<'_>,
        accepted: &Accepted,
        labels: &Labels,
        facts: &Facts,
        charged: bool,
    ) -> NanoUsd {
        if !charged {
            return accepted.path_cost;
        }
        let (table, _) = self.settings.prices.at(input.now_unix_nanos);
        let known = table.cost_of(labels.operation, 0, facts.content_length.unwrap_or(0));
        accepted.path_cost.saturating_add(known)
    }

    /// Flags of the outgoing context, before the sampled bit: a continued trace carries its random
    /// flag, a new one has it by the policy (its id is uniformly random).
    fn flags(&self, parent: Option<TraceParent>) -> TraceFlags {
        match parent {
            Some(parent) => TraceFlags::NONE.with_random(parent.flags.is_random()),
            None => TraceFlags::NONE.with_random(self.settings.policy.propagation.random_flag),
        }
    }

    fn explain(
        &mut self,
        state: &mut RequestState,
        headers: &RequestHeaders<'_>,
        incoming: &Incoming<'_>,
        local: Option<Threshold>,
        path_cost_out: NanoUsd,
    ) {
        let debug = &self.settings.policy.debug;
        if !debug.explain {
            return;
        }
        let view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: Some((headers, incoming)),
            operation: self.settings.operation(state.labels.mapping).1,
            tag: state.labels.tag,
            hitl_required: state.labels.hitl_required,
            cost: state.path_cost,
            end: None,
        };
        if debug.explain_when.eval(&view).is_true() {
            let line = explain::line(state, incoming, local, path_cost_out);
            state.explanation = Some((debug.explain_header.clone(), line));
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
    let mut bytes = [0; 16];
    for _ in 0..ID_TRIES {
        let (high, low) = bytes.split_at_mut(8);
        high.copy_from_slice(&entropy.next_u64().to_be_bytes());
        low.copy_from_slice(&entropy.next_u64().to_be_bytes());
        if let Some(id) = TraceId::from_bytes(bytes) {
            return id;
        }
    }
    bytes = [1; 16];
    TraceId::from_bytes(bytes).unwrap_or(FALLBACK_TRACE_ID)
}

fn new_span_id(entropy: &mut impl Entropy) -> SpanId {
    for _ in 0..ID_TRIES {
        if let Some(id) = SpanId::from_u64(entropy.next_u64()) {
            return id;
        }
    }
    FALLBACK_SPAN_ID
}

/// Ids for a source of entropy that yields nothing but zeros.
const FALLBACK_TRACE_ID: TraceId = match TraceId::from_u128(1) {
    Some(id) => id,
    None => panic!("one is not zero"),
};
const FALLBACK_SPAN_ID: SpanId = match SpanId::from_u64(1) {
    Some(id) => id,
    None => panic!("one is not zero"),
};
