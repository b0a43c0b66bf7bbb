//! The beginning of a request: context, labels, decision, headers.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::rule::Measure;
use mesh_config::sampling::{BaseRate, Randomness, Reason, Verdict};

use super::accept::{Accepted, new_span_id};
use super::{Engine, RequestInput};
use crate::Entropy;
use crate::context::{Incoming, Outgoing};
use crate::counters::Counter;
use crate::decision::{Parent, decide};
use crate::explain;
use crate::facts::Facts;
use crate::headers::RequestHeaders;
use crate::settings::Boundary;
use crate::state::{Came, HeadVerdict, Labels, RequestState};
use crate::view::{View, measures_at_head};

/// Most bytes of an announced body that count in the estimate which travels on: a client may
/// announce what it never sends.
const ESTIMATE_MAX_BYTES: u64 = 64 << 20;

/// One request while its headers are there.
struct Request<'r> {
    input: &'r RequestInput<'r>,
    headers: &'r RequestHeaders<'r>,
    incoming: &'r Incoming<'r>,
    accepted: Accepted,
}

/// What the policy's conditions say at the head, beside the labels. Filled in place.
struct Asked {
    verdict: Verdict,
    /// Whether the client may be told what its trace has cost.
    tells_client: bool,
    /// Whether the response explains the decision.
    explains: bool,
    /// Budget that the policy grants, at a gateway.
    granted: Option<NanoUsd>,
}

impl Asked {
    const NOTHING: Self = Self {
        verdict: Verdict::NOTHING,
        tells_client: false,
        explains: false,
        granted: None,
    };
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
        let mut state = RequestState::EMPTY;
        self.request_in_place(input, entropy, &mut state)
            .then_some(state)
    }

    /// The same without a copy: the state, which has to be [empty](RequestState::EMPTY), is filled
    /// where it will stay. False: the request is not metered, and the state is still empty.
    #[must_use]
    pub fn request_in_place(
        &mut self,
        input: &RequestInput<'_>,
        entropy: &mut impl Entropy,
        state: &mut RequestState,
    ) -> bool {
        self.counters.bump(Counter::Requests);
        let headers = RequestHeaders::new(input.headers);
        if headers.method() == b"CONNECT" || self.settings.is_own_export(&headers) {
            self.counters.reason(Reason::Excluded);
            return false;
        }
        let keys = &self.settings.baggage_keys;
        let mut incoming = Incoming::empty();
        incoming.read(&headers, keys, &mut self.counters);
        state.start_unix_nanos = input.now_unix_nanos;
        state.direction = self.direction(input.direction);
        state.owns_context = self.settings.owns_context();
        let request = Request {
            accepted: self.accept(state, &mut incoming, entropy),
            input,
            headers: &headers,
            incoming: &incoming,
        };
        self.remember(&request, &mut state.facts);
        let mut asked = Asked::NOTHING;
        self.decide(&request, state, &mut asked);
        let out = self.charge(&request, state, &asked);
        self.writer.write(&incoming, &out, &mut self.counters);
        self.side(&request, state, &asked, out.with_own_members);
        state.span_id = new_span_id(entropy);
        state.flags = state.flags.with_sampled(state.head.keep);
        state.tracestate = Came::with(&headers.tracestate(), self.writer.tracestate());
        state.baggage = Came::with(&headers.baggage(), self.writer.baggage());
        if state.head.keep && state.owns_context {
            state.trace_state = self.writer.tracestate().to_vec();
        }
        if asked.explains {
            let name = self.settings.policy.debug.explain_header.clone();
            let local = asked.verdict.threshold;
            let line = explain::line(state, &incoming, local, out.path_cost);
            state.explanation = Some((name, line));
        }
        true
    }

    /// Copies what is asked for later, and finds the route.
    fn remember(&mut self, request: &Request<'_>, facts: &mut Facts) {
        let (settings, headers) = (&self.settings, request.headers);
        facts.copy_fixed(headers);
        for attribute in settings.kept() {
            facts.keep(settings.read_header_value(attribute, headers, request.incoming));
        }
        facts.protocol = request.input.protocol;
        facts.set_route(self.routes.find(headers.path(), facts.grpc));
    }

    /// Asks every condition that can matter now. Operation type, data class and human review first,
    /// by the policy's mappings in this order, so that a later one can ask for an earlier one.
    fn ask(
        &self,
        request: &Request<'_>,
        state: &mut RequestState,
        base: BaseRate,
        asked: &mut Asked,
    ) {
        let policy = &self.settings.policy;
        let unclassified = self.settings.default_tag();
        let mut tag = request.accepted.tag;
        let mut view = View {
            settings: &self.settings,
            identity: &self.identity,
            direction: state.direction,
            facts: &state.facts,
            headers: Some((request.headers, request.incoming)),
            operation: None,
            measures: measures_at_head(tag.unwrap_or(unclassified), state.path_cost),
            end: None,
        };
        let mut found = policy.attributes.operation_type.iter();
        let found = found.position(|mapping| mapping.when.eval(&view).is_true());
        let mapping = found.and_then(|index| u16::try_from(index).ok());
        let (operation, name) = self.settings.operation(mapping);
        view.operation = name;
        for mapping in &policy.attributes.data_tag {
            // An explicit class, be it the least strict one, is more than none.
            if Some(mapping.value) > tag && mapping.when.eval(&view).is_true() {
                tag = Some(mapping.value);
                view.measures.set(Measure::DataTag, mapping.value as u64);
            }
        }
        let hitl_required = policy.attributes.needs_human(&view);
        let human = u64::from(hitl_required);
        view.measures.set(Measure::HitlRequired, human);
        // In companion mode the decision is that of Envoy's tracer.
        if state.owns_context {
            self.settings
                .sampler
                .head_into(&view, base, &mut asked.verdict);
        }
        let debug = &policy.debug;
        if debug.explain {
            asked.explains = debug.explain_when.eval(&view).is_true();
        }
        if state.direction == Direction::Gateway {
            self.ask_at_gateway(&view, asked);
        }
        state.labels = Labels {
            operation,
            mapping,
            tag: tag.unwrap_or(unclassified),
            hitl_required,
        };
    }

    #[inline(never)]
    fn ask_at_gateway(&self, view: &View<'_>, asked: &mut Asked) {
        let channel = &self.settings.policy.propagation.return_channel;
        asked.tells_client =
            !channel.client_header.is_empty() && channel.client_header_when.eval(view).is_true();
        asked.granted = self.granted(view);
    }

    /// The decision at the head, with the labels.
    fn decide(&mut self, request: &Request<'_>, state: &mut RequestState, asked: &mut Asked) {
        let accepted = &request.accepted;
        let undecided = accepted.sampling == Parent::Unknown;
        let mut base = BaseRate::Policy;
        if self.rates.is_some() && state.owns_context {
            base = self.base_rate(undecided, state.facts.route());
        }
        self.ask(request, state, base, asked);
        let explicit = request.incoming.explicit_randomness();
        let randomness = explicit.unwrap_or_else(|| Randomness::from_trace_id(state.trace_id));
        let head = &mut state.head;
        head.randomness = randomness;
        head.explicit_randomness = explicit.is_some();
        if !state.owns_context {
            follow(request, head);
            return;
        }
        let verdict = &asked.verdict;
        let decision = decide(accepted.sampling, randomness, verdict.threshold);
        head.keep = decision.keep;
        head.threshold = decision.threshold;
        head.reason = verdict.reason;
        if decision.by_parent {
            head.reason = Reason::ParentSampled;
        } else if decision.keep {
            head.rule = verdict.rule;
        } else if verdict.threshold.is_some() {
            head.reason = Reason::NotSampled;
        }
        if undecided {
            self.begin_trace(state, verdict.forced);
        }
        let counter = if state.head.keep {
            Counter::Kept
        } else {
            Counter::Dropped
        };
        self.counters.bump(counter);
        self.counters.reason(state.head.reason);
    }

    /// Only where nobody whom we believe has decided yet: floors at every hop would keep pieces of
    /// traces. A trace that is kept anyway counts towards the floor.
    #[inline(never)]
    fn begin_trace(&mut self, state: &mut RequestState, forced: bool) {
        let route = state.facts.route();
        if forced {
            self.rate_was_forced(route);
        }
        let floor = self.low_volume.take(route, state.start_unix_nanos);
        if floor && !state.head.keep {
            state.head.keep = true;
            state.head.reason = Reason::LowVolumeFloor;
        }
    }

    /// What is known of the cost, what is left of the budget, and with that all that leaves.
    fn charge(
        &mut self,
        request: &Request<'_>,
        state: &mut RequestState,
        asked: &Asked,
    ) -> Outgoing {
        let authority = request.headers.authority();
        state.llm = self.llm_call(state.direction, authority);
        state.charged = state.llm.is_some() || self.settings.charges(state.direction, authority);
        let mut known_cost = NanoUsd::ZERO;
        if state.charged {
            let (table, _) = self.settings.prices.at(state.start_unix_nanos);
            let announced = state.facts.content_length.unwrap_or(0);
            let bytes = announced.min(ESTIMATE_MAX_BYTES);
            known_cost = table.cost_of(state.labels.operation, 0, bytes);
        }
        let budget_left = self.apply_budget(request, state, asked.granted, known_cost);
        let with_own_members = !self.settings.strips(state.direction, authority);
        if !with_own_members {
            self.counters.bump(Counter::EgressStripped);
        }
        Outgoing {
            path_cost: state.path_cost.saturating_add(known_cost),
            tag: state.labels.tag,
            threshold: state.head.threshold,
            with_own_members,
            takes_replies: self.takes_replies(state.direction, with_own_members),
            budget_left,
        }
    }

    /// The budget, where there is one; returns what is left behind this hop.
    fn apply_budget(
        &mut self,
        request: &Request<'_>,
        state: &mut RequestState,
        granted: Option<NanoUsd>,
        known_cost: NanoUsd,
    ) -> Option<NanoUsd> {
        let mut carried = granted;
        if request.accepted.boundary == Boundary::Trusted
            && let Some(budget) = request.incoming.budget(&mut self.counters)
        {
            carried = Some(budget);
        }
        let left = self.judge_budget(
            carried?,
            request.incoming,
            request.input.in_flight,
            state,
            known_cost,
        );
        Some(left.saturating_sub(known_cost))
    }

    /// The side of a request, by its direction and by whom it comes from.
    fn side(
        &self,
        request: &Request<'_>,
        state: &mut RequestState,
        asked: &Asked,
        with_own_members: bool,
    ) {
        if !self.settings.has_return_channel {
            return;
        }
        let side = &mut state.side;
        side.believes = with_own_members;
        if state.direction == Direction::Outbound {
            side.hears = true;
            return;
        }
        let trusted = request.accepted.boundary == Boundary::Trusted;
        side.answers = trusted && request.incoming.takes_replies();
        let gateway = state.direction == Direction::Gateway;
        side.hears = gateway;
        side.guards = !gateway;
        side.tells_client = asked.tells_client;
        side.sums_up = gateway && self.settings.carries_costs;
    }
}

/// The verdict in companion mode: the decision is that of Envoy's tracer, so a threshold stays only
/// where it agrees with the flag, and none is ours.
#[cold]
#[inline(never)]
fn follow(request: &Request<'_>, head: &mut HeadVerdict) {
    let incoming = request.incoming;
    head.keep = request.accepted.is_sampled;
    head.reason = if head.keep {
        Reason::ParentSampled
    } else {
        Reason::NotSampled
    };
    let claimed = incoming.threshold().filter(|_| head.keep);
    head.threshold = claimed.filter(|threshold| threshold.keeps(head.randomness));
}
