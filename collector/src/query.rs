//! SQL over a snapshot of the store.
//!
//! Tables: `spans` and `trace_metadata`, each the union of rows in memory and partitions, and the
//! views over the ledger (see `views.rs`).
//! Only queries are accepted (SELECT, WITH, VALUES, EXPLAIN, SHOW); there is no statement that
//! writes, reads other files or changes settings.
//!
//! # Limits
//!
//! Rows and bytes of the answer ([`Limits::rows`], [`Limits::bytes`]: the answer is cut and says
//! so), time ([`Limits::time`]), memory of all queries together ([`Limits::memory`]), queries at
//! a time ([`Limits::concurrent`]) and length of the text ([`Limits::text`]). What is kept between
//! queries is bounded by [`Limits::cache`] and [`Limits::footers`]. Beyond them a query
//! fails with an error that names the limit.

mod adapt;
mod cache;
mod histogram;
mod merge_joins;
mod output;
mod session;
mod stored;
mod tables;
mod timed;
mod trace;
mod views;

#[cfg(test)]
mod cache_tests;
#[cfg(test)]
mod counts_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod slt;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trace_tests;

pub(crate) use output::{Format, render};
pub(crate) use session::{Answer, Limits, QueryEngine, QueryError};
