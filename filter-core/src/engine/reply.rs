//! The return channel at work: who may be told, who is believed, and what changes for a span.
//!
//! A request that crosses a proxy has one of two sides here, a gateway may have both:
//!
//! * **hearing**: the outbound side of a caller, and a gateway. It says in the context that leaves
//!   that it takes replies, takes the internal header away from the response, and believes it if the
//!   upstream is inside the mesh. An outbound call hands the news to the request that caused it
//!   ([`Letter`]); a gateway is that request itself.
//! * **answering**: the inbound side of a callee (and a gateway inside the mesh), if the caller is
//!   trusted and said that it takes replies. What an application puts into that header itself is
//!   removed, never passed on.
//!
//! What the caller's proxy sees by itself (a reset, a timeout, a body that is slow to its end) needs
//! no reply: it judges the same ending by its own rules.
//!
//! Not covered, by the nature of the thing: a status that comes in the trailers of HTTP/1.1, and the
//! cost that a hop adds after its response has begun (`cost.settle: response` leaves none).

use mesh_config::money::NanoUsd;
use mesh_config::policy::{Direction, Settle};
use mesh_config::sampling::Verdict;

use super::Engine;
use super::companion::decimal;
use super::finish::Ending;
use crate::counters::Counter;
use crate::ledger::Amounts;
use crate::reply::in_flight::{InFlight, Ticket};
use crate::reply::{Mark, News, Reply, ReplyText, earlier};
use crate::state::{RequestState, StreamEnd};
use w3c_traceparent_parser::{SpanId, TraceId};

/// Filter state of what a trace has cost, in US dollars; for access logs of a gateway.
pub const TRACE_COST_STATE: &str = "tracemeter.trace_cost_usd";

/// What one request holds for the return channel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side {
    /// Reads and removes the internal header of the response.
    pub(super) hears: bool,
    /// Believes what it hears.
    pub(super) believes: bool,
    /// Tells the caller's proxy.
    pub(super) answers: bool,
    /// Removes an internal header that the application set.
    pub(super) guards: bool,
    /// Tells the client.
    pub(super) tells_client: bool,
    /// Knows what the trace has cost: a gateway, where replies carry costs.
    pub(super) sums_up: bool,
    ticket: Option<Ticket>,
    /// What the last reply of the callee said, and what other workers have delivered.
    heard: News,
    posted: News,
    callee_charged: bool,
    /// Cost that was handed on already.
    delivered: NanoUsd,
    /// Own cost, once it is settled before the end of the stream.
    pub(super) settled: Option<NanoUsd>,
    /// Whether the allowance for client errors is used up, once it was asked.
    pub(super) flooded: Option<bool>,
}

impl Side {
    /// Of a request that has no part in the return channel.
    pub(crate) const NONE: Self = Self {
        hears: false,
        believes: false,
        answers: false,
        guards: false,
        tells_client: false,
        sums_up: false,
        ticket: None,
        heard: News::NOTHING,
        posted: News::NOTHING,
        callee_charged: false,
        delivered: NanoUsd::ZERO,
        settled: None,
        flooded: None,
    };

    /// Everything that is known of the calls below.
    pub(super) fn below(&self) -> News {
        let mut below = self.heard;
        below.add(self.posted);
        below
    }

    /// Whether a call below was kept for a reason that concerns this hop.
    pub(super) const fn has_mark(&self) -> bool {
        self.heard.mark.is_some() || self.posted.mark.is_some()
    }

    /// Whether the other side of the call has charged it.
    pub(crate) const fn callee_charged(&self) -> bool {
        self.callee_charged
    }
}

/// What has to be read of a response for [`Engine::response`]; each is a host call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct ResponseNeeds {
    /// The internal header, which then has to be removed.
    pub internal_header: bool,
    /// The status, and the time.
    pub status: bool,
    /// The announced length of the response's body, and the time.
    pub length: bool,
    /// What other workers may have posted, where there are any.
    pub mailbox: bool,
}

/// How a response begins (or, where its trailers have come, ends).
#[derive(Debug, Clone, Copy, Default)]
pub struct ResponseInput<'r> {
    /// Unix nanoseconds; 0 where neither status nor length are needed.
    pub now_unix_nanos: u64,
    /// HTTP status.
    pub http_status: Option<u16>,
    /// gRPC status of a gRPC request, once it is known.
    pub grpc_status: Option<u32>,
    /// Announced length of the body.
    pub announced_bytes: u64,
    /// The internal header.
    pub internal_header: Option<&'r [u8]>,
    /// What other workers have posted.
    pub posted: News,
}

/// News for the request that caused a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Letter {
    /// The trace of both.
    pub trace_id: TraceId,
    /// Span id of the request that caused the call, as the call names it.
    pub parent_id: SpanId,
    /// What is new.
    pub news: News,
}

/// What follows from a response.
#[derive(Debug, Default)]
#[must_use]
pub struct ResponseEffects {
    /// The internal header to set.
    pub reply: Option<ReplyText>,
    /// What to tell the request that caused this call.
    pub letter: Option<Letter>,
    /// Value of the header for the client; its name is [`Engine::client_header`].
    pub client: Option<Vec<u8>>,
    /// At a gateway: what the trace has cost, as the filter state [`TRACE_COST_STATE`].
    pub trace_cost: Option<Vec<u8>>,
}

impl RequestState {
    /// Whether the response has to be shown to [`Engine::response`].
    #[must_use]
    pub fn watches_response(&self) -> bool {
        let side = &self.side;
        side.hears || side.answers || side.guards
    }
}

impl Engine {
    /// Whether this request's proxy says that it takes replies.
    pub(super) fn takes_replies(&self, direction: Direction, with_own_members: bool) -> bool {
        let hearing = matches!(direction, Direction::Outbound | Direction::Gateway);
        hearing && with_own_members && self.settings.has_return_channel
    }

    /// Registers a request that may cause calls. Call it once, after [`Engine::edits`].
    pub fn track(&mut self, state: &mut RequestState, in_flight: &mut InFlight) {
        let causes = state.direction != Direction::Outbound && !state.side.hears;
        if !causes || !self.settings.has_return_channel {
            return;
        }
        let (ticket, forgotten) = in_flight.open(state.trace_id, state.span_id);
        if forgotten {
            self.counters.bump(Counter::ReturnForgotten);
        }
        state.side.ticket = Some(ticket);
    }

    /// Requests that may be in flight and be told of their calls.
    #[must_use]
    pub fn max_in_flight(&self) -> usize {
        self.settings.policy.propagation.return_channel.in_flight as usize
    }

    /// Whether news goes to requests that other workers of the proxy serve.
    #[must_use]
    pub fn reaches_other_workers(&self) -> bool {
        let channel = &self.settings.policy.propagation.return_channel;
        channel.across_workers && self.settings.has_return_channel
    }

    /// What has to be read of the response to this request. `news` is what this worker knows.
    pub fn response_needs(&self, state: &RequestState) -> ResponseNeeds {
        let side = &state.side;
        ResponseNeeds {
            internal_header: side.hears || side.guards,
            status: side.answers || side.tells_client || side.sums_up,
            length: self.settles_early(state),
            mailbox: side.answers && self.reaches_other_workers(),
        }
    }

    /// Name of the header for clients.
    #[must_use]
    pub fn client_header(&self) -> &str {
        &self
            .settings
            .policy
            .propagation
            .return_channel
            .client_header
    }

    fn settles_early(&self, state: &RequestState) -> bool {
        // What a language model costs is known only from the end of its response.
        state.charged && state.llm.is_none() && self.settings.policy.cost.settle == Settle::Response
    }

    /// Takes the beginning of a response.
    pub fn response(
        &mut self,
        state: &mut RequestState,
        input: &ResponseInput<'_>,
        in_flight: &InFlight,
    ) -> ResponseEffects {
        let side = &state.side;
        let silent = !(side.hears || side.answers || side.tells_client || side.sums_up);
        if silent && input.internal_header.is_none() && !self.settles_early(state) {
            // There is nobody to tell, and nothing to say.
            return ResponseEffects::default();
        }
        let mut effects = self.learn(state, input);
        if self.settles_early(state) && state.side.settled.is_none() {
            state.side.settled = Some(self.cost_so_far(state, input));
        }
        let side = state.side;
        if side.answers || side.tells_client || side.sums_up {
            let news = self.subtree(state, input, in_flight);
            let cost = self.settings.carries_costs.then_some(news.cost);
            if side.answers {
                effects.reply = self.reply(state, news);
            }
            if side.tells_client {
                effects.client = Some(client_value(cost, news.mark));
            }
            if side.sums_up {
                effects.trace_cost = cost.map(decimal);
            }
        }
        effects
    }

    /// Takes the trailers of a response: the last word, where a status comes only there.
    pub fn response_trailers(
        &mut self,
        state: &mut RequestState,
        input: &ResponseInput<'_>,
        in_flight: &InFlight,
    ) -> ResponseEffects {
        let mut effects = self.learn(state, input);
        if state.side.answers {
            let news = self.subtree(state, input, in_flight);
            effects.reply = self.reply(state, news);
        }
        effects
    }

    /// Takes in what the callee and other workers say, and passes it on to the request that caused
    /// this call.
    fn learn(&mut self, state: &mut RequestState, input: &ResponseInput<'_>) -> ResponseEffects {
        self.hear(state, input.internal_header);
        state.side.posted = input.posted;
        ResponseEffects {
            letter: self.letter(state, None, NanoUsd::ZERO),
            ..ResponseEffects::default()
        }
    }

    /// What this hop and everything below it has cost, where replies carry costs.
    pub(super) fn subtree_cost(&self, state: &RequestState, own: NanoUsd) -> Option<NanoUsd> {
        let carried = self.settings.carries_costs;
        carried.then(|| state.side.below().cost.saturating_add(own))
    }

    /// Whether what other workers have posted may still keep the span of this request, which ends.
    #[must_use]
    pub fn needs_mailbox_at_end(&self, state: &RequestState) -> bool {
        let wanted = !state.head.keep || self.settings.carries_costs;
        wanted && state.side.ticket.is_some() && self.reaches_other_workers()
    }

    /// Takes a request out of the table; `posted` is what other workers have posted by now.
    pub fn untrack(
        &mut self,
        state: &mut RequestState,
        in_flight: &mut InFlight,
        posted: Option<News>,
    ) {
        if let Some(posted) = posted {
            state.side.posted = posted;
        }
        if let Some(ticket) = state.side.ticket.take() {
            state.side.heard = in_flight.close(ticket);
        }
    }

    /// Counts a letter that found nobody.
    pub fn count_undelivered(&mut self) {
        self.counters.bump(Counter::ReturnUndelivered);
    }

    /// Believes, refuses or ignores the internal header of a response.
    fn hear(&mut self, state: &mut RequestState, value: Option<&[u8]>) {
        let Some(value) = value else {
            return;
        };
        if !state.side.believes || !state.side.hears {
            self.counters.bump(Counter::ReturnRefused);
            return;
        }
        match Reply::parse(value) {
            Ok(reply) => {
                // Trailers repeat what the headers said and add to it.
                state.side.heard = reply.news;
                // A gateway charges a hop of its own.
                state.side.callee_charged |=
                    reply.charged && state.direction == Direction::Outbound;
            }
            Err(_) => self.counters.bump(Counter::ReturnInvalid),
        }
    }

    /// What the request that caused this call has not been told yet.
    pub(super) fn letter(
        &self,
        state: &mut RequestState,
        own_mark: Option<Mark>,
        own_cost: NanoUsd,
    ) -> Option<Letter> {
        let parent_id = state.parent_id?;
        if state.direction != Direction::Outbound || !self.settings.has_return_channel {
            return None;
        }
        let cost = if self.settings.carries_costs {
            state.side.heard.cost.saturating_add(own_cost)
        } else {
            NanoUsd::ZERO
        };
        let news = News {
            mark: earlier(state.side.heard.mark, own_mark),
            cost: cost.saturating_sub(state.side.delivered),
        };
        state.side.delivered = cost.max(state.side.delivered);
        (!news.is_empty()).then_some(Letter {
            trace_id: state.trace_id,
            parent_id,
            news,
        })
    }

    /// This hop and everything below it, as far as it is known when the response begins.
    fn subtree(
        &mut self,
        state: &mut RequestState,
        input: &ResponseInput<'_>,
        in_flight: &InFlight,
    ) -> News {
        let mut news = state.side.below();
        if let Some(ticket) = state.side.ticket {
            news.add(in_flight.news(ticket));
        }
        let own = match state.side.settled {
            Some(settled) => settled,
            None => self.cost_so_far(state, input),
        };
        let below = news.cost;
        news.add(News {
            mark: self.own_mark(state, input, own, below),
            cost: own,
        });
        if !self.settings.carries_costs {
            news.cost = NanoUsd::ZERO;
        }
        news
    }

    /// What is known of the whole trace's cost: the path to here, this hop and everything below.
    pub(super) fn trace_cost(
        &self,
        state: &RequestState,
        own: NanoUsd,
        below: NanoUsd,
    ) -> Option<NanoUsd> {
        let carried = self.settings.carries_costs;
        carried.then(|| state.path_cost.saturating_add(own).saturating_add(below))
    }

    fn cost_so_far(&self, state: &RequestState, input: &ResponseInput<'_>) -> NanoUsd {
        let request_bytes = state.facts.content_length.unwrap_or(0);
        let bytes = request_bytes.saturating_add(input.announced_bytes);
        self.own_cost(state, input.now_unix_nanos, bytes)
    }

    /// Why the span of this hop is kept already, if it is for a reason that concerns the path.
    fn own_mark(
        &mut self,
        state: &mut RequestState,
        input: &ResponseInput<'_>,
        cost: NanoUsd,
        below: NanoUsd,
    ) -> Option<Mark> {
        let end = StreamEnd {
            now_unix_nanos: input.now_unix_nanos,
            http_status: input.http_status,
            grpc_status: input.grpc_status,
            request_bytes: state.facts.content_length.unwrap_or(0),
            ..StreamEnd::default()
        };
        let errors = &self.settings.policy.sampling.error_classes;
        let error = errors.is_error(end.http_status, end.grpc_status, false);
        let ending = Ending {
            end: &end,
            reset: false,
            amounts: Amounts {
                error,
                cost,
                request_bytes: end.request_bytes,
                response_bytes: end.response_bytes,
                duration_nanos: end.now_unix_nanos.saturating_sub(state.start_unix_nanos),
            },
            trace_cost: self.trace_cost(state, cost, below),
            over: false,
        };
        let mut verdict = Verdict::NOTHING;
        self.verdict_at_end(state, &ending, &mut verdict);
        let randomness = state.head.randomness;
        let by_end = verdict.threshold.is_some_and(|th| th.keeps(randomness));
        earlier(
            state.head_mark(),
            by_end.then(|| mark_of(&verdict)).flatten(),
        )
    }

    fn reply(&mut self, state: &RequestState, news: News) -> Option<ReplyText> {
        if news.mark.is_some() {
            self.counters.bump(Counter::ReturnMarks);
        }
        let worth_it = news.mark.is_some() || self.settings.carries_costs;
        worth_it.then(|| {
            let charged = state.charged;
            Reply { news, charged }.write()
        })
    }
}

/// The mark of a verdict that keeps.
pub(super) const fn mark_of(verdict: &Verdict) -> Option<Mark> {
    Mark::of(verdict.reason)
}

/// What a client is told: `cost_usd=0.00012;keep=error`, each part only if it is known.
fn client_value(cost: Option<NanoUsd>, mark: Option<Mark>) -> Vec<u8> {
    let mut value = Vec::new();
    if let Some(cost) = cost {
        value.extend_from_slice(b"cost_usd=");
        value.extend_from_slice(&decimal(cost));
    }
    if !value.is_empty() {
        value.push(b';');
    }
    value.extend_from_slice(b"keep=");
    let reason = mark.map_or("none", |mark| mark.reason().as_str());
    value.extend_from_slice(reason.as_bytes());
    value
}
