//! The plan of retention, carried out: steps in the data folder at once, transfers from and to
//! other places in the background.
//!
//! A transfer is a task of the async runtime; the compactor, who owns the catalog, takes its
//! outcome and makes it true. While a partition is under way nothing else touches it. An object is
//! in the catalog's garbage before its upload begins, so a crash at any point ends in one of two
//! ways: the catalog names the object, or the next start deletes it.
//!
//! A place that fails is left alone for [`FIRST_PAUSE`], then twice as long each time, up to
//! [`LONGEST_PAUSE`]; everything else goes on.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::compactor::Failure;
use super::retain;
use crate::metrics::Metrics;
use crate::places::{self, Places};
use crate::policy::Rules;
use crate::store::Store;
use crate::store::catalog::{Catalog, Meta, Partition, Remote};
use crate::store::retention::{Action, plan};
use crate::wal::fs::RealFs;

/// Steps in the folder at a time: what waits for compaction must not wait long.
const AT_A_TIME: usize = 8;
/// Transfers at a time.
const TRANSFERS: usize = 2;
/// How often outcomes are looked at.
pub(super) const SOON: Duration = Duration::from_millis(200);
/// Objects of one round of deletions.
const DELETIONS: usize = 100;
/// Pause after a failure of a place.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause after failures of a place.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// The outcome of a transfer.
enum Done {
    Moved(Remote, String, Result<(), String>),
    Fetched(Remote, String, (PathBuf, u64), Result<(), String>),
    Deleted(Vec<Remote>, Option<(String, String)>),
}

/// See the module's documentation.
pub(super) struct Tiers {
    pub(super) places: Arc<Places>,
    runtime: Option<Handle>,
    /// Stems of partitions under way.
    busy: HashSet<String>,
    deleting: bool,
    paused: HashMap<String, (Instant, Duration)>,
    done: (Sender<Done>, Receiver<Done>),
}

/// What a step works on.
pub(super) struct Work<'a> {
    pub(super) catalog: &'a mut Catalog<RealFs>,
    pub(super) root: &'a Path,
    pub(super) store: &'a Store,
    pub(super) rules: &'a Rules,
    pub(super) metrics: &'a Metrics,
}

impl Work<'_> {
    fn partition(&self, stem: &str) -> Option<Arc<Partition>> {
        let mut partitions = self.catalog.partitions().iter();
        partitions.find(|part| part.meta.stem == stem).cloned()
    }
}

impl Tiers {
    /// Without a runtime nothing is transferred.
    pub(super) fn new(places: Arc<Places>, runtime: Option<Handle>) -> Self {
        Self {
            places,
            runtime,
            busy: HashSet::new(),
            deleting: false,
            paused: HashMap::new(),
            done: channel(),
        }
    }

    /// When there may be something to do again; `None` unless soon.
    pub(super) fn again(&self) -> Option<Duration> {
        if self.deleting || !self.busy.is_empty() {
            return Some(SOON);
        }
        let now = Instant::now();
        let ends = self.paused.values().map(|(until, _)| *until);
        ends.min()
            .map(|end| end.saturating_duration_since(now).max(SOON))
    }

    /// True when a partition may not be touched.
    pub(super) fn holds(&self, meta: &Meta) -> bool {
        self.busy.contains(&meta.stem)
    }

    /// Does what the plan says, as far as it can be done now; returns how many partitions were
    /// rewritten, moved or removed.
    pub(super) fn step(&mut self, work: &mut Work<'_>) -> Result<usize, Failure> {
        let mut steps = self.finish(work)?;
        let now_ns = retain::now_ns();
        let planned: Vec<(String, Action)> = {
            let metas = work.catalog.partitions().iter().map(|part| &part.meta);
            let planned = plan(metas, work.rules.storage(), &*self.places, now_ns).into_iter();
            planned
                .filter(|(meta, _)| !self.busy.contains(&meta.stem))
                .map(|(meta, action)| (meta.stem.clone(), action))
                .collect()
        };
        let mut here = 0;
        for (stem, action) in planned {
            let Some(partition) = work.partition(&stem) else {
                continue;
            };
            match (action, partition.meta.remote()) {
                (Action::Move { place }, _) => self.upload(work, &partition, place)?,
                (Action::Sweep { boundary_s }, Some(object)) => {
                    self.fetch(work, &partition, object, boundary_s);
                }
                _ if here >= AT_A_TIME => {}
                (Action::Sweep { boundary_s }, None) => {
                    let spans = partition.spans();
                    let at = (&mut *work.catalog, work.root);
                    let from = (spans.as_path(), boundary_s);
                    retain::sweep(at, work.store, work.rules, &partition, from)?;
                    here += 1;
                }
                (Action::Expire, _) => {
                    retain::expire(work.catalog, work.store, &partition)?;
                    here += 1;
                }
            }
        }
        steps += here;
        self.delete(work);
        Ok(steps)
    }

    fn is_paused(&self, place: &str) -> bool {
        let now = Instant::now();
        self.paused
            .get(place)
            .is_some_and(|(until, _)| *until > now)
    }

    fn note(&mut self, place: &str, metrics: &Metrics, failure: Option<&str>) {
        let Some(message) = failure else {
            self.paused.remove(place);
            return;
        };
        metrics.tier_failures.add(1);
        let pause = self
            .paused
            .get(place)
            .map_or(FIRST_PAUSE, |(_, pause)| (*pause * 2).min(LONGEST_PAUSE));
        let again_s = pause.as_secs();
        tracing::error!(place, again_s, message, "tier transfer failed");
        self.paused
            .insert(place.to_owned(), (Instant::now() + pause, pause));
    }

    fn ready(&self, place: &str) -> Option<Handle> {
        let is_free = self.busy.len() < TRANSFERS && !self.is_paused(place);
        self.runtime.clone().filter(|_| is_free)
    }

    fn upload(
        &mut self,
        work: &mut Work<'_>,
        partition: &Arc<Partition>,
        place: String,
    ) -> Result<(), Failure> {
        let Some(runtime) = self.ready(&place) else {
            return Ok(());
        };
        let stem = partition.meta.stem.clone();
        let moved = Meta {
            place: Some(place),
            ..partition.meta.clone()
        };
        let Some(object) = moved.remote() else {
            return Ok(());
        };
        work.catalog.intend(object.clone())?;
        self.busy.insert(stem.clone());
        let (done, file) = (self.done.0.clone(), partition.spans());
        let store = self.places.open(&object.place);
        // The file stays while somebody holds the partition.
        let held = partition.clone();
        runtime.spawn(async move {
            let result = match store {
                Ok(store) => places::upload(&*store, &object, &file)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            drop(held);
            // The compactor has ended: the next start goes on.
            drop(done.send(Done::Moved(object, stem, result)));
        });
        Ok(())
    }

    fn fetch(
        &mut self,
        work: &Work<'_>,
        partition: &Arc<Partition>,
        object: Remote,
        boundary_s: u64,
    ) {
        let Some(runtime) = self.ready(&object.place) else {
            return;
        };
        let stem = partition.meta.stem.clone();
        self.busy.insert(stem.clone());
        // Not named by the catalog: a left-over is removed at the next start.
        let file = work.root.join(format!("{stem}.fetched"));
        let done = self.done.0.clone();
        let store = self.places.open(&object.place);
        runtime.spawn(async move {
            let result = match store {
                Ok(store) => places::download(&*store, &object, &file)
                    .await
                    .map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            drop(done.send(Done::Fetched(object, stem, (file, boundary_s), result)));
        });
    }

    fn delete(&mut self, work: &Work<'_>) {
        let Some(runtime) = self.runtime.clone().filter(|_| !self.deleting) else {
            return;
        };
        let mut objects = work.catalog.garbage();
        objects.retain(|object| {
            // An upload that is under way is in the garbage, too.
            let stem = object.path.strip_suffix(".spans.parquet");
            let is_under_way = stem.is_some_and(|stem| self.busy.contains(stem));
            !is_under_way && !self.is_paused(&object.place)
        });
        objects.truncate(DELETIONS);
        if objects.is_empty() {
            return;
        }
        self.deleting = true;
        let (done, places) = (self.done.0.clone(), self.places.clone());
        runtime.spawn(async move {
            let mut deleted = Vec::new();
            let mut failed = None;
            for object in objects {
                let result = match places.open(&object.place) {
                    Ok(store) => places::delete(&*store, &object)
                        .await
                        .map_err(|error| error.to_string()),
                    Err(error) => Err(error.to_string()),
                };
                match result {
                    Ok(()) => deleted.push(object),
                    Err(message) => {
                        failed = Some((object.place, message));
                        break;
                    }
                }
            }
            drop(done.send(Done::Deleted(deleted, failed)));
        });
    }

    /// Takes the outcomes of transfers.
    fn finish(&mut self, work: &mut Work<'_>) -> Result<usize, Failure> {
        let mut finished = 0;
        while let Ok(done) = self.done.1.try_recv() {
            match done {
                Done::Moved(object, stem, result) => {
                    self.busy.remove(&stem);
                    let failure = result.err();
                    self.note(&object.place, work.metrics, failure.as_deref());
                    if failure.is_none() {
                        moved(work, object, &stem)?;
                        finished += 1;
                    }
                }
                Done::Fetched(object, stem, (file, boundary_s), result) => {
                    self.busy.remove(&stem);
                    let failure = result.err();
                    self.note(&object.place, work.metrics, failure.as_deref());
                    if failure.is_none()
                        && let Some(partition) = work.partition(&stem)
                    {
                        let at = (&mut *work.catalog, work.root);
                        let from = (file.as_path(), boundary_s);
                        retain::sweep(at, work.store, work.rules, &partition, from)?;
                        finished += 1;
                    }
                    // Of no use any more; one that stays is removed at the next start.
                    drop(std::fs::remove_file(file));
                }
                Done::Deleted(objects, failed) => {
                    self.deleting = false;
                    work.catalog.forget(&objects)?;
                    work.metrics.tier_deletes.add(objects.len() as u64);
                    if let Some((place, message)) = failed {
                        self.note(&place, work.metrics, Some(&message));
                    }
                }
            }
        }
        Ok(finished)
    }
}

/// The spans of a partition are in their place: the catalog says so from now on.
fn moved(work: &mut Work<'_>, object: Remote, stem: &str) -> Result<(), Failure> {
    let Some(partition) = work.partition(stem) else {
        return Ok(());
    };
    let place = object.place;
    tracing::info!(partition = stem, place, "moved to its tier");
    let meta = Meta {
        place: Some(place),
        ..partition.meta.clone()
    };
    work.catalog.replace_partitions(&[partition], vec![meta])?;
    work.store
        .set_partitions(work.catalog.partitions().to_vec());
    work.metrics.tier_moves.add(1);
    Ok(())
}
