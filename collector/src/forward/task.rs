//! The workers: take a batch when it is due, send it until it is settled.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mesh_config::policy::Forward;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::answer::Outcome;
use super::cursor::Cursor;
use super::queue::{Batch, Dropped, Queue};
use super::send::{ForwardError, Message, Sender};
use super::{DRAIN, MAX_PAUSE};

/// First pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// How often the place in the log is kept.
const KEEP: Duration = Duration::from_secs(1);

/// See the module's documentation.
pub(crate) struct Forwarder {
    /// What waits.
    pub(crate) queue: Arc<Queue>,
    settings: Forward,
    sender: Option<Arc<Sender>>,
    cursor: Cursor,
}

impl Forwarder {
    /// A forwarder as the policy says, going on where the last one ended.
    pub(crate) fn open(dir: &Path, settings: &Forward) -> Result<Self, ForwardError> {
        let mut cursor = Cursor::new(dir);
        let sender = match settings.endpoint.as_str() {
            "" => None,
            _ => Some(Arc::new(Sender::new(settings)?)),
        };
        let resume = sender.is_some().then(|| cursor.read());
        let limit = usize::try_from(settings.queue_bytes.bytes()).unwrap_or(usize::MAX);
        Ok(Self {
            queue: Arc::new(Queue::new(limit, resume)),
            settings: settings.clone(),
            sender,
            cursor,
        })
    }

    /// Forwards until `stop` says so and what waits then is sent, or [`DRAIN`] is over.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let mut workers = JoinSet::new();
        for _ in 0..self.settings.max_in_flight.max(1) {
            let worker = Worker {
                queue: self.queue.clone(),
                sender: sender.clone(),
                settings: self.settings.clone(),
                stop: stop.clone(),
            };
            workers.spawn(worker.run());
        }
        loop {
            tokio::select! {
                () = tokio::time::sleep(KEEP) => self.keep(),
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        let drained = async { while workers.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            let left = self.queue.status().unwrap_or_default().queue_spans;
            tracing::warn!(
                spans = left,
                "spans wait in the log to be forwarded after the next start"
            );
        }
        workers.abort_all();
        self.keep();
    }

    fn keep(&mut self) {
        if let Err(error) = self.cursor.write(self.queue.resume_at()) {
            // An older place: some requests are sent twice after a restart.
            tracing::warn!(%error, "cannot keep the place up to which spans were forwarded");
        }
    }
}

struct Worker {
    queue: Arc<Queue>,
    sender: Arc<Sender>,
    settings: Forward,
    stop: watch::Receiver<bool>,
}

impl Worker {
    async fn run(mut self) {
        while self.wait_for_batch().await {
            let bytes = usize::try_from(self.settings.batch_bytes.bytes()).unwrap_or(usize::MAX);
            if let Some(batch) = self.queue.take(bytes) {
                self.deliver(batch).await;
            }
        }
    }

    /// True when a batch is due; false when everything is sent and nothing more comes.
    async fn wait_for_batch(&mut self) -> bool {
        let full = usize::try_from(self.settings.batch_bytes.bytes()).unwrap_or(usize::MAX);
        loop {
            let stopping = *self.stop.borrow();
            let due_in = match self.queue.waiting() {
                Some((_, bytes)) if bytes >= full || stopping => return true,
                Some((since, _)) => match self.settings.linger.checked_sub(since.elapsed()) {
                    Some(left) if !left.is_zero() => left,
                    _ => return true,
                },
                None if stopping => return false,
                None => KEEP,
            };
            tokio::select! {
                () = tokio::time::sleep(due_in) => {}
                () = self.queue.pushed.notified() => {}
                _ = self.stop.wait_for(|stop| *stop), if !stopping => {}
            }
        }
    }

    async fn deliver(&self, batch: Batch) {
        let batch = Arc::new(batch);
        let (sender, encoding) = (self.sender.clone(), batch.clone());
        let encoded = tokio::task::spawn_blocking(move || sender.encode(&encoding)).await;
        let Ok(message) = encoded else {
            self.queue
                .end(&batch, Some((Dropped::Damaged, batch.spans())));
            return;
        };
        if message.damaged > 0 {
            tracing::error!(
                spans = message.damaged,
                "spans in the log cannot be forwarded"
            );
        }
        let end = self.settle(&batch, &message).await;
        self.queue.end(&batch, end);
    }

    /// Tries until the batch is taken, refused or given up.
    async fn settle(&self, batch: &Batch, message: &Message) -> Option<(Dropped, u64)> {
        let (start, mut pause) = (Instant::now(), FIRST_PAUSE);
        let spans = batch.spans();
        loop {
            let (wait, cause) = match self.sender.send(message).await {
                Outcome::Taken(0, _) if message.damaged > 0 => {
                    return Some((Dropped::Damaged, message.damaged));
                }
                Outcome::Taken(0, _) => return None,
                Outcome::Taken(rejected, cause) => {
                    tracing::warn!(rejected, cause, "the back end rejected spans");
                    return Some((Dropped::Rejected, rejected));
                }
                Outcome::Refused(cause) => {
                    tracing::error!(spans, cause, "the back end refused a batch");
                    return Some((Dropped::Refused, spans));
                }
                Outcome::Retry(wait, cause) => (wait.unwrap_or_else(|| jitter(pause)), cause),
            };
            let limit = self.settings.give_up_after;
            if !limit.is_zero() && start.elapsed() + wait > limit {
                tracing::error!(spans, cause, "gave up forwarding a batch");
                return Some((Dropped::GaveUp, spans));
            }
            tracing::warn!(
                cause,
                milliseconds = wait.as_millis() as u64,
                "forwarding waits"
            );
            self.queue.retried();
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// Between a half and the whole of a pause, so that workers do not come all at once.
fn jitter(pause: Duration) -> Duration {
    // Keyed by the operating system's entropy.
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + random / 2.0)
}
