//! `collector retention plan`: what expires when. Reads a data folder, changes nothing.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use mesh_config::policy::{Tier as TierPolicy, TraceStorage};
use thiserror::Error;

use crate::engine::now_ns;
use crate::places::{Places, environment};
use crate::policy::{PolicyError, Rules};
use crate::s3::AddressError;
use crate::store::catalog::{Catalog, CatalogError, Meta};
use crate::store::retention::{Action, Tier, age_s, boundaries, plan};
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
    /// A tier's address cannot be used.
    #[error("trace_storage: {0}")]
    Place(#[from] AddressError),
    /// The plan cannot be written.
    #[error("cannot write the plan: {0}")]
    Output(#[from] std::io::Error),
}

/// Prints the plan to standard output.
pub(crate) fn run(args: RetentionArgs) -> Result<(), RetentionError> {
    let RetentionCommand::Plan(args) = args.command;
    let rules = Rules::load(args.policy.as_deref())?;
    let catalog = Catalog::load(Arc::new(RealFs), &args.data)?;
    let places = Places::of(rules.storage(), catalog.folder(), environment)?;
    let now_ns = now_ns();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:<38} {:>10} {:>10} {:>12} {:>9} {:<5} {:<6}  next",
        "partition", "spans", "ledger", "bytes", "age", "tier", "place"
    )?;
    for partition in catalog.partitions() {
        let meta = &partition.meta;
        let age = age_s(meta, now_ns);
        let scheme = meta
            .place
            .as_deref()
            .and_then(|place| place.split(':').next());
        writeln!(
            out,
            "{:<38} {:>10} {:>10} {:>12} {:>9} {:<5} {:<6}  {}",
            meta.stem,
            meta.rows,
            meta.ledger,
            meta.bytes,
            span(age),
            Tier::at(age, rules.storage()).as_str(),
            scheme.unwrap_or("folder"),
            next(meta, &rules, &places, now_ns)
        )?;
    }
    for object in catalog.garbage() {
        writeln!(
            out,
            "{:<38} to be deleted from {}",
            object.path, object.place
        )?;
    }
    Ok(())
}

fn next(meta: &Meta, rules: &Rules, places: &Places, now_ns: i64) -> String {
    let storage = rules.storage();
    let planned = plan([meta].into_iter(), storage, places, now_ns);
    match planned.into_iter().next().map(|(_, action)| action) {
        Some(Action::Expire) => return "due now: all of it expires".to_owned(),
        Some(Action::Sweep { boundary_s }) => {
            let what = leaves(meta, storage, boundary_s);
            return format!("due now: {what} (at age {})", span(boundary_s));
        }
        Some(Action::Move { place }) => return format!("due now: spans move to {place}"),
        None => {}
    }
    let age = age_s(meta, now_ns);
    let next = boundaries(meta, storage)
        .into_iter()
        .find(|boundary| *boundary > age);
    next.map_or_else(
        || "never".to_owned(),
        |boundary| {
            let what = leaves(meta, storage, boundary);
            format!(
                "in {}: {what} (at age {})",
                span(boundary - age),
                span(boundary)
            )
        },
    )
}

/// What goes at a boundary, in words.
fn leaves(meta: &Meta, storage: &TraceStorage, boundary_s: u64) -> String {
    let mut what = Vec::new();
    let percent = |tier: &TierPolicy| format!("{}%", tier.sampling.get() * 100.0);
    if meta.rows > 0 {
        if boundary_s == storage.hot.duration.as_secs() {
            what.push(format!("traces outside warm's {}", percent(&storage.warm)));
        }
        if boundary_s == storage.warm.duration.as_secs() {
            what.push(format!("traces outside cold's {}", percent(&storage.cold)));
        }
        if boundary_s == storage.cold.duration.as_secs() {
            what.push("cold traces".to_owned());
        }
        if boundary_s == storage.errors.as_secs() {
            what.push("error traces".to_owned());
        }
        let capped = meta.retention_days.iter();
        for days in capped.filter(|days| u64::from(**days) * 86_400 == boundary_s) {
            what.push(format!("traces of a class with {days} days"));
        }
    }
    if meta.ledger > 0 && boundary_s == storage.aggregates.as_secs() {
        what.push("counts".to_owned());
    }
    format!("{} leave", what.join(", "))
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
