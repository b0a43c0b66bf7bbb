//! Section `cost.budget`: what a trace may cost.

use crate::choice::choice;
use crate::money::NanoUsd;
use crate::rule::Condition;
use crate::section::section;

choice! {
    /// What happens to a request for which nothing is left.
    OverBudget {
        /// it is counted, and its span, if kept, says so
        Record = "record",
        /// it is counted, and its span is kept
        Keep = "keep",
        /// it is answered with 429 (gRPC: RESOURCE_EXHAUSTED) before it reaches the service, and
        /// its span is kept
        Deny = "deny",
    }
}

section! {
    /// What a trace may cost. A gateway gives the budget, baggage carries what is left of it, and
    /// each hop takes off what its request is known to cost. Calls of one request see what earlier
    /// ones have cost where `propagation.return_channel` carries costs; calls at the same time do
    /// not see each other.
    Budget {
        /// Budgets of requests that enter at a gateway: the first condition that holds counts. None
        /// means that nothing has a budget.
        grants: Vec<BudgetGrant> = Vec::new();
        /// What happens to a request for which nothing is left.
        over_budget: OverBudget = OverBudget::Record;
    }
}

section! {
    /// The budget of the traces that some requests start.
    BudgetGrant {
        /// Which requests.
        when: Condition = Condition::never(), @required;
        /// What their traces may cost.
        usd: NanoUsd = NanoUsd::ZERO, @required;
    }
}
