//! `collector retention plan`: what expires when. Reads a data folder, changes nothing.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use thiserror::Error;

use crate::engine::now_ns;
use crate::policy::{PolicyError, Rules};
use crate::store::catalog::{Catalog, CatalogError, Meta};
use crate::store::retention::{age_s, boundaries, is_due};
use crate::wal::fs::RealFs;

/// Options of `retention`.
#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    #[command(subcommand)]
    command: RetentionCommand,
}

#[derive(Debug, Subcommand)]
enum RetentionCommand {
    /// Lists partitions and when something leaves them next.
    Plan(PlanArgs),
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// Data folder.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Policy with tiers and classes (YAML).
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
}

/// Why there is no plan.
#[derive(Debug, Error)]
pub(crate) enum RetentionError {
    /// The policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The plan cannot be written.
    #[error("cannot write the plan: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints the plan to standard output.
pub(crate) fn run(args: RetentionArgs) -> Result<(), RetentionError> {
    let RetentionCommand::Plan(args) = args.command;
    let rules = Rules::load(args.policy.as_deref())?;
    let catalog = Catalog::load(Arc::new(RealFs), &args.data)?;
    let now_ns = now_ns();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<38} {:>10} {:>10} {:>12} {:>9}  next",
        "partition", "spans", "ledger", "bytes", "age"
    )?;
    for partition in catalog.partitions() {
        let meta = &partition.meta;
        writeln!(
            out,
            "{:<38} {:>10} {:>10} {:>12} {:>9}  {}",
            meta.stem,
            meta.rows,
            meta.ledger,
            meta.bytes,
            span(age_s(meta, now_ns)),
            next(meta, &rules, now_ns)
        )?;
    }
    Ok(())
}

fn next(meta: &Meta, rules: &Rules, now_ns: i64) -> String {
    let age = age_s(meta, now_ns);
    if is_due(meta, rules.storage(), now_ns) {
        return "due now".to_owned();
    }
    let next = boundaries(meta, rules.storage())
        .into_iter()
        .find(|boundary| *boundary > age);
    next.map_or_else(
        || "never".to_owned(),
        |boundary| format!("in {} (at age {})", span(boundary - age), span(boundary)),
    )
}

/// A time in the largest two units.
fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    if days > 0 {
        format!("{days}d{hours:02}h")
    } else {
        format!("{hours}h{minutes:02}m")
    }
}
