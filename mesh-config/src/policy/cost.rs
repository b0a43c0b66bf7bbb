//! Section `cost`: what a request costs.

use super::Budget;
use crate::choice::choice;
use crate::decode::Table;
use crate::money::NanoUsd;
use crate::section::section;

choice! {
    /// Which side of a call is charged.
    ChargeSide {
        /// the callee's proxy; the caller's only for the unmetered destinations
        Server = "server",
        /// the caller's proxy
        Client = "client",
    }
}

choice! {
    /// Up to when time and bytes of a request count.
    Settle {
        /// the end of the stream
        End = "end",
        /// the beginning of the response: its time, the request's body and the announced length of
        /// the response; so what a response reports of its cost (`propagation.return_channel`) is
        /// final, to the nano-dollar
        Response = "response",
    }
}

/// The specification's price table.
fn specification_prices() -> Table<NanoUsd> {
    let prices = [
        ("api_call", 10_000),
        ("database_query", 20_000),
        ("ml_inference", 100_000),
        ("robot_actuation", 1_000_000),
        ("storage_read", 1_000),
        ("storage_write", 5_000),
    ];
    let pair = |(name, nanos): (&str, u64)| (name.to_owned(), NanoUsd::from_nanos(nanos));
    Table::new(prices.map(pair).into())
}

section! {
    /// What a request costs: base(operation) x (1 + ms / 100 x duration factor + bytes / 2^20 x
    /// size factor), in US dollars, exact to 10^-9.
    Cost {
        /// Version of the prices; it is stamped on every cost.
        version: String = crate::price::DEFAULT_VERSION.to_owned();
        /// Base price of operations that the table does not name.
        default_usd: NanoUsd = NanoUsd::from_nanos(10_000);
        /// Base price by operation type. The key `COSTS` at the top of a document is the same
        /// table.
        operations: Table<NanoUsd> = specification_prices();
        /// Added share of the base price per 100 ms.
        duration_factor_per_100ms: f64 = 0.1, in 0..=4000;
        /// Added share of the base price per MiB of request and response bodies.
        size_factor_per_mib: f64 = 0.01, in 0..=4000;
        /// Earlier and later price tables, chosen by the time of the span; the prices above hold
        /// where none of them does.
        versions: Vec<PriceVersion> = Vec::new();
        /// Which proxy charges a call, so that it is charged once.
        charge: ChargeSide = ChargeSide::Server;
        /// Up to when time and bytes of a request count.
        settle: Settle = Settle::End;
        /// Hosts without a proxy of their own (external services, stores); calls to them are
        /// charged at the caller. `*` matches any text.
        unmetered_destinations: Vec<String> = Vec::new();
        /// Token prices of language models.
        llm: Vec<TokenPrice> = Vec::new();
        /// What a trace may cost.
        budget: Budget = Budget::default();
    }
}

section! {
    /// A price table for a span of time.
    PriceVersion {
        /// Version that is stamped on costs of this table.
        version: String = String::new(), @required;
        /// First day, as `2026-01-31` in UTC.
        valid_from: String = String::new();
        /// First day on which the table no longer holds; empty means for ever.
        valid_until: String = String::new();
        /// Base price of operations that the table does not name.
        default_usd: NanoUsd = NanoUsd::from_nanos(10_000);
        /// Base price by operation type.
        operations: Table<NanoUsd> = specification_prices();
    }
}

section! {
    /// What the tokens of a language model cost.
    TokenPrice {
        /// Provider, as in `gen_ai.provider.name`, `gen_ai.system` or `provider`; `*` matches any
        /// text.
        provider: String = "*".to_owned();
        /// Model, as in `gen_ai.request.model` or `model`; `*` matches any text.
        model: String = String::new(), @required;
        /// Price of a million input tokens.
        input_usd_per_million: NanoUsd = NanoUsd::ZERO, @required;
        /// Price of a million output tokens.
        output_usd_per_million: NanoUsd = NanoUsd::ZERO, @required;
        /// Price of a million input tokens that the provider had cached; unset means the input
        /// price.
        cached_usd_per_million: Option<NanoUsd> = None;
    }
}
