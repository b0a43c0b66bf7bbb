//! Spans at rest: hot rows in memory (backed by the log), older ones in Parquet partitions.
//!
//! # Life of a span
//!
//! log segment *n* (durable) -> rows of generation *n* in memory -> partition files
//! `parts/<day>/<n>.spans.parquet`, `<n>.traces.parquet`, `<n>.ids` (where a trace is) and
//! `<n>.sums.parquet` (what the spans add up to) -> the catalog names them and says
//! that everything through *n* is compacted -> segment *n* is removed.
//!
//! One generation belongs to one log segment. It is sealed when it holds
//! [`Settings::generation_bytes`], or is older than [`Settings::generation_age`], or its
//! segment is full; then it is compacted, oldest first. The catalog is replaced atomically
//! and is the only truth about partitions, so a crash at any point either repeats a compaction
//! or finds it done: files that the catalog does not name are removed at start.
//!
//! # Exactness
//!
//! `trace_metadata` is the sum of additive parts. A part says what one request added to one
//! trace on one day; parts travel with the spans they count (same generation, same partition),
//! so a late span re-opens a sum without rewriting anything, and expiry removes both.
//!
//! # Memory
//!
//! At most [`Settings::hot_bytes`] of rows are held; when compaction cannot keep up, requests
//! are refused with a retry hint ([`Store::is_full`]).

pub(crate) mod assembled;
pub(crate) mod catalog;
pub(crate) mod columns;
pub(crate) mod compact;
pub(crate) mod costs;
pub(crate) mod dedup;
pub(crate) mod estimates;
pub(crate) mod generation;
pub(crate) mod hot;
pub(crate) mod hot_ledger;
pub(crate) mod ids;
pub(crate) mod instances;
pub(crate) mod layout;
pub(crate) mod ledger;
pub(crate) mod lookup;
pub(crate) mod parts;
pub(crate) mod retention;
pub(crate) mod stream;
pub(crate) mod sums;
pub(crate) mod sweep;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod weight_tests;

pub(crate) use hot::{Inserted, Kinds, Settings, Snapshot, Store};
