//! What a trace may still cost: given at a gateway, carried in baggage, taken off at each hop.
//!
//! Advisory unless the policy says `deny`: what a request will cost in the end is not known when it
//! begins, so each hop takes off what is known then, and calls under way at the same time do not see
//! each other. A request is over budget when its known cost is more than what is left, or when nothing
//! is left at all. Only inside the mesh: what an outside caller says is dropped with all internal
//! members.

use mesh_config::money::NanoUsd;
use mesh_config::policy::{Direction, OverBudget};
use mesh_config::sampling::Reason;

use super::Engine;
use crate::context::Incoming;
use crate::counters::Counter;
use crate::reply::in_flight::InFlight;
use crate::state::RequestState;
use crate::view::View;

/// The budget of the trace as one request sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BudgetState {
    /// What was left when the request came; `None` without a budget.
    pub(crate) left: Option<NanoUsd>,
    /// Whether the request is over it.
    pub(crate) exceeded: bool,
    /// Whether the request is answered by the proxy.
    pub(crate) denied: bool,
}

/// How a request over budget is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Whether the answer is a gRPC status (RESOURCE_EXHAUSTED) instead of HTTP 429.
    pub grpc: bool,
    /// The body, or the gRPC message.
    pub message: String,
}

impl RequestState {
    /// Whether the request has to be answered instead of being passed on: [`Engine::denial`] then
    /// says how.
    #[must_use]
    #[inline]
    pub fn is_denied(&self) -> bool {
        self.budget.denied
    }
}

impl Engine {
    /// The budget that the policy grants to a request.
    pub(super) fn granted(&self, view: &View<'_>) -> Option<NanoUsd> {
        let mut grants = self.settings.policy.cost.budget.grants.iter();
        grants
            .find(|grant| grant.when.eval(view).is_true())
            .map(|grant| grant.usd)
    }

    /// Judges a request by what is left and what it is known to cost; may keep its span, and a
    /// denied one does no work. `carried` is what the context says is left, or what the policy
    /// grants. Returns what was left when the request came.
    #[inline(never)]
    pub(super) fn judge_budget(
        &mut self,
        carried: NanoUsd,
        incoming: &Incoming<'_>,
        in_flight: Option<&InFlight>,
        state: &mut RequestState,
        known_cost: NanoUsd,
    ) -> NanoUsd {
        let parent = incoming.parent.valid();
        let spent = match (state.direction, in_flight, parent) {
            (Direction::Outbound, Some(in_flight), Some(parent)) => {
                let news = in_flight.of(parent.trace_id, parent.parent_id);
                news.map_or(NanoUsd::ZERO, |news| news.cost)
            }
            _ => NanoUsd::ZERO,
        };
        let left = carried.saturating_sub(spent);
        let exceeded = left.is_zero() || left < known_cost;
        let action = self.settings.policy.cost.budget.over_budget;
        let denied = exceeded && action == OverBudget::Deny && self.settings.owns_context();
        if exceeded {
            self.counters.bump(Counter::BudgetExceeded);
            if denied {
                self.counters.bump(Counter::BudgetDenied);
                state.charged = false;
            }
            let head = &mut state.head;
            if action != OverBudget::Record && !head.keep {
                // Kept for a reason, not by a rate: no threshold.
                (head.keep, head.threshold) = (true, None);
                (head.reason, head.rule) = (Reason::OverBudget, None);
                self.counters.bump(Counter::Promoted);
                self.counters.reason(Reason::OverBudget);
            }
        }
        state.budget = BudgetState {
            left: Some(left),
            exceeded,
            denied,
        };
        left
    }

    /// How the request has to be answered instead of being passed on, if it is over budget and the
    /// policy denies that.
    #[must_use]
    pub fn denial(&self, state: &RequestState) -> Option<Denial> {
        let left = state.budget.left.filter(|_| state.budget.denied)?;
        let mut digits = [0; 24];
        let left = String::from_utf8_lossy(left.write_decimal(&mut digits)).into_owned();
        let trace = state.trace_id;
        Some(Denial {
            grpc: state.is_grpc(),
            message: format!("the budget of trace `{trace}` is used up: `{left}` USD are left"),
        })
    }
}
