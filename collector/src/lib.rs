//! The collector: takes OTLP traces, stores them before it acknowledges them, and answers what
//! they cost, by trace, service and data class, over SQL.
//!
//! One binary, one data folder, no other server. The way of a request:
//!
//! [`server`] (caps, transports) -> [`otlp`] (bytes to checked rows) -> [`engine`] (log, one
//! sync per group of requests, then visible) -> [`store`] (rows in memory, later Parquet
//! partitions) -> [`query`] (SQL) -> [`page`]. Beside it, [`control`] turns the ledgers' counts into
//! the rates that filters ask for.
//!
//! # What it is not
//!
//! It keeps what it receives and nothing else: traces dropped at the edge are not here. It has
//! no users and no TLS; put it behind something that has.
//!
//! # Limits
//!
//! Every buffer is bounded, and every module's header names its bounds and what happens there.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod alerts;
mod assembly;
mod cli;
mod client;
mod control;
mod engine;
mod forward;
mod memory;
mod metrics;
mod otlp;
mod page;
mod places;
mod policy;
mod query;
mod retention;
mod s3;
mod serve;
mod server;
mod sql;
mod store;
#[cfg(test)]
mod testing;
mod wal;

pub use cli::run;
