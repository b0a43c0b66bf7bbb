//! Calls to language models: which they are, what their tokens cost.
//!
//! The provider charges for tokens, and nobody meters a provider's side: such a call is charged at
//! the caller, whatever the policy says of other destinations. Without a readable usage object (a
//! compressed response, a stream that was cut, a provider that reports none) or without a price for
//! the model, the price of its operation type holds, and it is counted.

use mesh_config::money::NanoUsd;
use mesh_config::policy::Direction;
use mesh_config::price::TokenUse;
use mesh_config::rule::glob_ignore_case;

use super::Engine;
use crate::counters::Counter;
use crate::headers::host_of;
use crate::settings::Settings;
use crate::state::RequestState;
use crate::usage::UsageScanner;

/// A call to a language model in flight.
#[derive(Debug)]
pub(crate) struct LlmCall {
    /// Position of the upstream in the policy.
    upstream: usize,
    scanner: UsageScanner,
}

/// What a finished call has used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LlmUse<'c> {
    pub(crate) provider: &'c str,
    pub(crate) model: &'c [u8],
    pub(crate) tokens: Option<TokenUse>,
}

impl Engine {
    /// The call to a language model that a request is, if it is one.
    pub(super) fn llm_call(&self, direction: Direction, authority: &[u8]) -> Option<Box<LlmCall>> {
        let upstreams = &self.settings.policy.attributes.llm.upstreams;
        if upstreams.is_empty() || direction == Direction::Inbound || !self.settings.owns_context()
        {
            return None;
        }
        let host = host_of(authority);
        let upstream = upstreams
            .iter()
            .position(|upstream| glob_ignore_case(upstream.host.as_bytes(), host))?;
        Some(Box::new(LlmCall {
            upstream,
            scanner: UsageScanner::default(),
        }))
    }

    /// Whether `accept-encoding` has to go from a request, so that its response can be read.
    #[must_use]
    pub fn wants_plain_response(&self, state: &RequestState) -> bool {
        state.llm.is_some() && self.settings.policy.attributes.llm.plain_responses
    }

    /// Takes a part of the response's body, where [`RequestState::reads_body`] asks for it.
    pub fn response_body(&mut self, state: &mut RequestState, bytes: &[u8]) {
        if let Some(call) = &mut state.llm {
            call.scanner.feed(bytes);
        }
    }

    /// Counts how the metering of a call went.
    #[inline(never)]
    pub(super) fn count_llm(&mut self, state: &RequestState, now_unix_nanos: u64) {
        let priced = token_cost(&self.settings, state, now_unix_nanos).is_some();
        let Some(known) = used(&self.settings, state).map(|used| used.tokens.is_some()) else {
            return;
        };
        self.counters.bump(match (known, priced) {
            (true, true) => Counter::LlmMetered,
            (true, false) => Counter::LlmUnpriced,
            (false, _) => Counter::LlmUnread,
        });
    }
}

/// What a call has used so far.
pub(super) fn used<'c>(settings: &'c Settings, state: &'c RequestState) -> Option<LlmUse<'c>> {
    let call = state.llm.as_deref()?;
    let upstreams = &settings.policy.attributes.llm.upstreams;
    Some(LlmUse {
        provider: &upstreams.get(call.upstream)?.provider,
        model: call.scanner.model(),
        tokens: call.scanner.tokens(),
    })
}

/// What the tokens cost, if they are known and priced.
#[inline(never)]
pub(super) fn token_cost(
    settings: &Settings,
    state: &RequestState,
    now_unix_nanos: u64,
) -> Option<NanoUsd> {
    let used = used(settings, state)?;
    let tokens = used.tokens?;
    let (table, _) = settings.prices.at(now_unix_nanos);
    let price = table.token_price(used.provider.as_bytes(), used.model)?;
    Some(price.cost(tokens))
}

impl RequestState {
    /// Whether the response's body has to be shown to [`Engine::response_body`].
    #[must_use]
    pub fn reads_body(&self) -> bool {
        self.llm.is_some()
    }
}
