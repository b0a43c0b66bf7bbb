//! Section `propagation.return_channel`: what a response tells the caller's proxy.

use crate::choice::choice;
use crate::rule::Condition;
use crate::section::section;

choice! {
    /// What a response carries back.
    ReturnDetail {
        /// nothing
        Off = "off",
        /// that a hop further down keeps its span for a reason that concerns the whole path (an
        /// error, slow, expensive, a data class, human review): every caller keeps its own span too
        Marks = "marks",
        /// the marks, and with each response what the call and everything below it has cost
        Costs = "costs",
    }
}

section! {
    /// What a response tells the caller's proxy, in one internal header that the caller's proxy
    /// takes away. Only in owner mode, and only between proxies that both have it on.
    ReturnChannel {
        /// What a response carries back.
        carries: ReturnDetail = ReturnDetail::Marks;
        /// Requests in flight, per worker of the proxy, that can be told what happened to the calls
        /// they caused; above it the oldest are forgotten, and counted.
        in_flight: u32 = 4096, in 64..=65536;
        /// Whether news reaches a request that another worker of the proxy serves.
        across_workers: bool = true;
        /// At a gateway: name of a response header that tells the client what its trace has cost and
        /// why it is kept; empty means none.
        client_header: String = String::new();
        /// Which requests may have that header.
        client_header_when: Condition = Condition::never();
    }
}
