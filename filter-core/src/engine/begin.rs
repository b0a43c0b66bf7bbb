//! The beginning of a request: context, labels, decision, headers.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::price::OperationId;
use mesh_config::rule::Measure;
use mesh_config::sampling::{Reason, Threshold};
use w3c_traceparent_parser::{TraceFlags, TraceParent};

use super::accept::{Accepted, new_span_id};
use super::{Engine, RequestInput};
use crate::Entropy;
use crate::context::{Incoming, Outgoing};
use crate::counters::Counter;
use crate::decision::{Decision, Parent, decide};
use crate::explain;
use crate::facts::Facts;
use crate::headers::RequestHeaders;
use crate::state::{Came, HeadVerdict, Labels, RequestState};
use crate::view::{View, measures_at_head};

/// Most bytes of an announced body that count in the estimate which travels on: a client may
/// announce what it never sends.
const ESTIMATE_MAX_BYTES: u64 = 64 << 20;

/// One request while its headers are there.
struct Request<'r> {
    now_unix_nanos: u64,
    direction: Direction,
    headers: &'r RequestHeaders<'r>,
    incoming: &'r Incoming<'r>,
    accepted: &'r Accepted,
    facts: &'r Facts,
}

impl Request<'_> {
    fn view<'v>(&'v self, engine: &'v Engine, labels: &Labels) -> View<'v> {
        let mut measures = measures_at_head(labels.tag, self.accepted.path_cost);
        measures.set(Measure::HitlRequired, u64::from(labels.hitl_required));
        View {
            settings: &engine.settings,
            identity: &engine.identity,
            direction: self.direction,
            facts: self.facts,
            headers: Some((self.headers, self.incoming)),
            operation: engine.settings.operation(labels.mapping).1,
            measures,
            end: None,
        }
    }
}

impl Engine {
    /// Takes a request. What has to change is then in [`Engine::edits`]. `None`: the request is
    /// not metered and nothing changes.
    #[must_use]
    pub fn request(
        &mut self,
        input: &RequestInput<'_>,
        entropy: &mut impl Entropy,
    ) -> Option<RequestState> {
        self.counters.bump(Counter::Requests);
        let headers = RequestHeaders::new(input.headers);
        if headers.method == b"CONNECT" || self.settings.is_own_export(&headers) {
            self.counters.reason(Reason::Excluded);
            return None;
        }
        let keys = &self.settings.baggage_keys;
        let mut incoming = Incoming::read(&headers, keys, &mut self.counters);
        let direction = self.direction(input.direction);
        let accepted = self.accept(direction, &mut incoming, entropy);
        let facts = self.facts(input, &headers, &incoming);
        let request = Request {
            now_unix_nanos: input.now_unix_nanos,
            direction,
            headers: &headers,
            incoming: &incoming,
            accepted: &accepted,
            facts: &facts,
        };
        let labels = self.labels(&request);
        let (mut head, local) = self.decide(&request, &labels);
        let llm = self.llm_call(direction, headers.authority);
        let charged = llm.is_some() || self.settings.charges(direction, headers.authority);
        let known_cost = self.known_cost(&request, &labels, charged);
        let granted = |engine: &Self| engine.granted(&request.view(engine, &labels));
        let left = self.budget_left(direction, &incoming, granted, input.in_flight);
        let budget = self.judge_budget(left, known_cost, &mut head);
        // A denied request does no work.
        let charged = charged && !budget.denied;
        let path_cost_out = accepted.path_cost.saturating_add(known_cost);
        let left = left.map(|left| left.saturating_sub(known_cost));
        self.write(&request, &labels, &head, path_cost_out, left);
        let explanation = self.explanation(&request, &labels);
        let tells_client = self.tells(&request, &labels);
        let side = self.side(direction, &headers, &incoming, tells_client);
        let mut state = RequestState {
            trace_id: accepted.trace_id,
            span_id: new_span_id(entropy),
            parent_id: accepted.parent.map(|parent| parent.parent_id),
            flags: self.flags(accepted.parent).with_sampled(head.keep),
            link: accepted.link,
            start_unix_nanos: input.now_unix_nanos,
            direction,
            labels,
            head,
            path_cost: accepted.path_cost,
            charged,
            trace_state: if head.keep && self.settings.owns_context() {
                self.writer.tracestate().to_vec()
            } else {
                Vec::new()
            },
            owns_context: self.settings.owns_context(),
            tracestate: Came::with(&headers.tracestate, self.writer.tracestate()),
            baggage: Came::with(&headers.baggage, self.writer.baggage()),
            explanation: None,
            side,
            budget,
            llm,
            facts,
        };
        if let Some(name) = explanation {
            let line = explain::line(&state, &incoming, local, path_cost_out);
            state.explanation = Some((name, line));
        }
        Some(state)
    }

    fn facts(
        &mut self,
        input: &RequestInput<'_>,
        headers: &RequestHeaders<'_>,
        incoming: &Incoming<'_>,
    ) -> Facts {
        let settings = &self.settings;
        let kept = settings.kept().iter();
        let values = kept.map(|attribute| settings.read_header_value(attribute, headers, incoming));
        let mut facts = Facts::copy(headers, values);
        facts.protocol = input.protocol;
        facts.set_route(self.routes.find(headers.path(), headers.is_grpc()));
        facts
    }

    /// Operation type, data class and human review, by the policy's mappings in this order, so
    /// that a later one can ask for an earlier one.
    fn labels(&self, request: &Request<'_>) -> Labels {
        let mappings = &self.settings.policy.attributes;
        let unclassified = self.settings.default_tag();
        let mut tag = request.accepted.tag;
        let mut labels = Labels {
            operation: OperationId::UNKNOWN,
            mapping: None,
            tag: tag.unwrap_or(unclassified),
            hitl_required: false,
        };
        let mut view = request.view(self, &labels);
        let mut found = mappings.operation_type.iter();
        let found = found.position(|mapping| mapping.when.eval(&view).is_true());
        labels.mapping = found.and_then(|index| u16::try_from(index).ok());
        (labels.operation, view.operation) = self.settings.operation(labels.mapping);
        for mapping in &mappings.data_tag {
            // An explicit class, be it the least strict one, is more than none.
            if Some(mapping.value) > tag && mapping.when.eval(&view).is_true() {
                tag = Some(mapping.value);
                view.measures.set(Measure::DataTag, mapping.value as u64);
            }
        }
        labels.tag = tag.unwrap_or(unclassified);
        let mut human = mappings.hitl_required.iter();
        labels.hitl_required = human.any(|when| when.eval(&view).is_true());
        labels
    }

    /// The decision at the head, and the threshold of the local probability.
    fn decide(
        &mut self,
        request: &Request<'_>,
        labels: &Labels,
    ) -> (HeadVerdict, Option<Threshold>) {
        if self.is_companion() {
            return (followed(request), None);
        }
        let accepted = request.accepted;
        let undecided = accepted.sampling == Parent::Unknown;
        let base = self.base_rate(undecided, request.facts.route());
        let view = request.view(self, labels);
        let verdict = self.settings.sampler.head_with(&view, base);
        if verdict.forced && undecided {
            self.rate_was_forced(request.facts.route());
        }
        let explicit = request.incoming.explicit_randomness();
        let randomness = request.incoming.randomness(accepted.trace_id);
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
            explicit_randomness: explicit.is_some(),
            rule: verdict.rule,
        };
        // Only where nobody whom we believe has decided yet: floors at every hop would keep pieces
        // of traces. A trace that is kept anyway counts towards the floor.
        let floor = undecided
            && self
                .low_volume
                .take(request.facts.route(), request.now_unix_nanos);
        if by_parent {
            (head.reason, head.rule) = (Reason::ParentSampled, None);
        } else if !keep {
            head.rule = None;
            if verdict.threshold.is_some() {
                head.reason = Reason::NotSampled;
            }
            if floor {
                head.keep = true;
                head.reason = Reason::LowVolumeFloor;
            }
        }
        let counter = if head.keep {
            Counter::Kept
        } else {
            Counter::Dropped
        };
        self.counters.bump(counter);
        self.counters.reason(head.reason);
        (head, verdict.threshold)
    }

    fn write(
        &mut self,
        request: &Request<'_>,
        labels: &Labels,
        head: &HeadVerdict,
        path_cost: NanoUsd,
        budget_left: Option<NanoUsd>,
    ) {
        let with_own_members = !self
            .settings
            .strips(request.direction, request.headers.authority);
        if !with_own_members {
            self.counters.bump(Counter::EgressStripped);
        }
        let outgoing = Outgoing {
            path_cost,
            tag: labels.tag,
            threshold: head.threshold,
            with_own_members,
            takes_replies: self.takes_replies(request.direction, with_own_members),
            budget_left,
        };
        self.writer
            .write(request.incoming, &outgoing, &mut self.counters);
    }

    /// The part of this hop's cost that is known already.
    fn known_cost(&self, request: &Request<'_>, labels: &Labels, charged: bool) -> NanoUsd {
        if !charged {
            return NanoUsd::ZERO;
        }
        let (table, _) = self.settings.prices.at(request.now_unix_nanos);
        let announced = request.facts.content_length.unwrap_or(0);
        table.cost_of(labels.operation, 0, announced.min(ESTIMATE_MAX_BYTES))
    }

    /// Flags of the outgoing context, before the sampled bit: a continued trace carries its random
    /// flag, a new one has it by the policy (its id is uniformly random).
    fn flags(&self, parent: Option<TraceParent>) -> TraceFlags {
        match parent {
            Some(parent) => TraceFlags::NONE.with_random(parent.flags.is_random()),
            None => TraceFlags::NONE.with_random(self.settings.policy.propagation.random_flag),
        }
    }

    /// Whether the client may be told what its trace has cost.
    fn tells(&self, request: &Request<'_>, labels: &Labels) -> bool {
        let channel = &self.settings.policy.propagation.return_channel;
        let view = request.view(self, labels);
        !channel.client_header.is_empty() && channel.client_header_when.eval(&view).is_true()
    }

    /// Name of the response header that explains the decision, if the request may have it.
    fn explanation(&self, request: &Request<'_>, labels: &Labels) -> Option<String> {
        let debug = &self.settings.policy.debug;
        if !debug.explain {
            return None;
        }
        let view = request.view(self, labels);
        let wanted = debug.explain_when.eval(&view).is_true();
        wanted.then(|| debug.explain_header.clone())
    }
}

/// The verdict in companion mode: the decision is that of Envoy's tracer, so a threshold stays only
/// where it agrees with the flag, and none is ours.
fn followed(request: &Request<'_>) -> HeadVerdict {
    let (incoming, accepted) = (request.incoming, request.accepted);
    let keep = accepted
        .parent
        .is_some_and(|parent| parent.flags.is_sampled());
    let randomness = incoming.randomness(accepted.trace_id);
    let claimed = incoming.threshold().filter(|_| keep);
    HeadVerdict {
        keep,
        reason: if keep {
            Reason::ParentSampled
        } else {
            Reason::NotSampled
        },
        threshold: claimed.filter(|threshold| threshold.keeps(randomness)),
        randomness,
        explicit_randomness: incoming.explicit_randomness().is_some(),
        rule: None,
    }
}
