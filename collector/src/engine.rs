//! The engine: log, store and catalog under two threads.
//!
//! The *committer* owns the log. It takes all requests that wait, writes them as one group,
//! syncs once, adds the rows to the store and answers. So what a client was told is stored is
//! durable and visible to the next query.
//!
//! The *compactor* owns the catalog. It turns sealed generations into partitions, oldest
//! first, and tells the committer which log segments may go.
//!
//! Neither waits for the other; what waits is bounded by [`QUEUE`], by the bytes in flight
//! (the server's budget) and by the store's `hot_bytes`.

mod commit;
mod compactor;
mod failing;
mod merge;
#[cfg(test)]
mod multiply;
mod recall;
mod recover;
mod retain;
mod tiers;
#[cfg(test)]
mod weigh;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use datafusion::arrow::error::ArrowError;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::assembly::Until;
use crate::control::Intake;
use crate::forward::Queue;
use crate::metrics::Metrics;
use crate::otlp::batch::SpanBatch;
use crate::otlp::metrics::LedgerBatch;
use crate::places::{Places, environment};
use crate::policy::Rules;
use crate::store::catalog::CatalogError;
use crate::store::{Inserted, Settings, Store};
use crate::wal::record::Record;

pub(crate) use recover::read_only;
pub(crate) use retain::now_ns;

/// Requests that may wait for the log.
const QUEUE: usize = 4_096;

/// Why the data folder cannot be opened.
#[derive(Debug, Error)]
pub(crate) enum OpenError {
    /// The file system failed.
    #[error("cannot open data folder `{path}`: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Another process has it.
    #[error("data folder `{0}` is in use by another process")]
    Locked(PathBuf),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Rows could not be rebuilt.
    #[error("cannot rebuild rows: {0}")]
    Rows(#[from] ArrowError),
    /// A tier's address cannot be used.
    #[error("trace_storage: {0}")]
    Place(#[from] crate::s3::AddressError),
    /// A partition could not be written during recovery.
    #[error(transparent)]
    Compact(#[from] crate::store::compact::CompactError),
}

/// Why a request was not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub(crate) enum AppendError {
    /// The queue is full.
    #[error("too many requests are waiting for the log")]
    QueueFull,
    /// Rows in memory wait for compaction.
    #[error("rows in memory wait for compaction")]
    HotFull,
    /// The log could not be written.
    #[error("the log cannot be written")]
    Storage,
    /// The collector is shutting down.
    #[error("shutting down")]
    Closed,
}

/// What a request holds, decoded.
#[derive(Debug)]
pub(crate) enum Rows {
    /// Spans.
    Spans(Box<SpanBatch>),
    /// Deltas of the ledger.
    Ledger(LedgerBatch),
}

/// A request for the committer.
struct Append {
    record: Record,
    rows: Rows,
    reply: oneshot::Sender<Result<Inserted, AppendError>>,
}

enum Command {
    Append(Box<Append>),
    Compacted(u64),
    Tick,
}

/// Who else sees what was stored, in the committer, after it is durable: so exactly what was
/// acknowledged, each request once.
#[derive(Debug, Clone)]
pub(crate) struct Taps {
    /// Decisions counted by filters.
    pub(crate) rates: Arc<Intake>,
    /// Spans for another back end.
    pub(crate) forward: Arc<Queue>,
}

/// Handles to the running threads.
pub(crate) struct Engine {
    store: Arc<Store>,
    poisoned: Arc<AtomicBool>,
    failing: Arc<failing::Failing>,
    closing: Arc<AtomicBool>,
    sender: Mutex<Option<mpsc::Sender<Command>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    _lock: std::fs::File,
}

impl Engine {
    /// Opens a data folder, recovers what the log holds, and starts the threads. What arrived
    /// until `counted` was counted by alerts before.
    pub(crate) fn open(
        dir: &Path,
        settings: Settings,
        rules: &Arc<Rules>,
        counted: Until,
        metrics: &Arc<Metrics>,
        taps: Taps,
    ) -> Result<Self, OpenError> {
        let lock = recover::lock(dir)?;
        let recovered = recover::recover(dir, settings, rules, counted, (metrics, &taps.forward))?;
        let store = Arc::new(recovered.store);
        let places = Places::of(rules.storage(), recovered.catalog.folder(), environment)?;
        let places = Arc::new(places);
        store.set_places(places.clone());
        let poisoned = Arc::new(AtomicBool::new(false));
        let closing = Arc::new(AtomicBool::new(false));
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (sealed_sender, sealed_receiver) = std::sync::mpsc::channel();
        for sealed in recovered.waiting {
            // The receiver is alive: it is moved into the thread below.
            drop(sealed_sender.send(sealed));
        }
        let failing = Arc::new(failing::Failing::new(dir));
        let committer = commit::Committer {
            log: recovered.log,
            store: store.clone(),
            metrics: metrics.clone(),
            poisoned: poisoned.clone(),
            sealed: sealed_sender,
            taps,
            failing: failing.clone(),
            retained: recovered.retained,
        };
        let compactor = compactor::Compactor {
            catalog: recovered.catalog,
            root: dir.join(crate::store::catalog::PARTS),
            store: store.clone(),
            metrics: metrics.clone(),
            closing: closing.clone(),
            committer: sender.downgrade(),
            rules: rules.clone(),
            tiers: tiers::Tiers::new(places, tokio::runtime::Handle::try_current().ok()),
        };
        let threads = vec![
            spawn("committer", move || committer.run(receiver), dir)?,
            spawn("compactor", move || compactor.run(&sealed_receiver), dir)?,
        ];
        Ok(Self {
            store,
            poisoned,
            failing,
            closing,
            sender: Mutex::new(Some(sender)),
            threads: Mutex::new(threads),
            _lock: lock,
        })
    }

    fn sender(&self) -> Option<mpsc::Sender<Command>> {
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Stores a request; returns when it is durable and visible.
    pub(crate) async fn append(&self, record: Record, rows: Rows) -> Result<Inserted, AppendError> {
        if self.store.is_full() {
            return Err(AppendError::HotFull);
        }
        let sender = self.sender().ok_or(AppendError::Closed)?;
        let (reply, answer) = oneshot::channel();
        sender
            .try_send(Command::Append(Box::new(Append {
                record,
                rows,
                reply,
            })))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => AppendError::QueueFull,
                mpsc::error::TrySendError::Closed(_) => AppendError::Closed,
            })?;
        answer.await.unwrap_or(Err(AppendError::Storage))
    }

    /// Lets the committer look at the age of the open generation.
    pub(crate) fn tick(&self) {
        if let Some(sender) = self.sender() {
            // A full queue means that the committer is awake anyway.
            drop(sender.try_send(Command::Tick));
        }
    }

    /// The rows.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// True while the log cannot be written (a full disk, most likely).
    pub(crate) fn is_failing(&self) -> bool {
        self.failing.is_set()
    }

    /// Requests that wait for the log, and how many may.
    pub(crate) fn queue(&self) -> (usize, usize) {
        let free = self.sender().map_or(QUEUE, |sender| sender.capacity());
        (QUEUE.saturating_sub(free), QUEUE)
    }

    /// True when the log takes no more records.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    /// Stops taking requests, finishes those that wait, and ends the threads. Rows stay in the
    /// log; the next start reads them back.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let threads =
            std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            // A panic was logged by the panic hook; there is nothing left to save.
            drop(thread.join());
        }
    }
}

fn spawn(
    name: &str,
    body: impl FnOnce() + Send + 'static,
    dir: &Path,
) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map_err(|source| OpenError::Io {
            path: dir.to_owned(),
            source,
        })
}
