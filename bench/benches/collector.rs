//! What the collector does with real-looking spans: taken, stored, found again.
//!
//! `cargo bench -p bench --bench collector` (`-- --quick`, or `-- --spans N` for another number).
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::unreachable,
    clippy::indexing_slicing
)]

#[path = "collector/ledger.rs"]
mod ledger;
#[path = "collector/load.rs"]
mod load;
#[path = "collector/shape.rs"]
mod shape;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    if let Some(address) = after("--load") {
        let sent = load::run(&load::Load {
            address: address.parse().unwrap(),
            spans: after("--spans").map_or(1_000_000, |text| text.parse().unwrap()),
            connections: 8,
            day: arguments.iter().any(|argument| argument == "--day"),
        });
        println!(
            "{} spans of {} B in {:.2} s: {:.0} spans/s acknowledged, {} refusals",
            sent.spans,
            sent.bytes / sent.spans,
            sent.seconds,
            sent.spans as f64 / sent.seconds,
            sent.refusals
        );
    }
}
