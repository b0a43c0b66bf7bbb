//! Alerts: the policy's conditions on stored traces, told when they begin and when they end.
//!
//! Once a second the signals of the [assembly](crate::assembly) are taken in. What changed is
//! written to `alerts.json` first, then to the log and to the receivers (`alerts[].webhook`, or
//! `--alert-webhook` for alerts that name none), in the form of Alertmanager's
//! `POST /api/v2/alerts`. `/api/alerts` shows the state.
//!
//! # What survives what
//!
//! State, counts and what receivers have still to hear survive a restart; a trace an alert has
//! fired for does not fire again. After a crash, spans of the last second are counted when the
//! log is read back: those that arrived after the last look. A receiver may hear something twice,
//! with the same labels and the same start.

mod board;
mod file;
mod fired;
mod message;
mod outbox;
mod send;
mod show;
mod window;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::assembly::Until;
use crate::engine::now_ns;
use crate::policy::Rules;
use crate::server::App;
use crate::store::Store;
use board::{Board, Notice};
use outbox::Outbox;

/// How often signals are taken in.
const TICK: Duration = Duration::from_secs(1);
/// How often the outbox is looked at while something waits.
const SEND_EVERY: Duration = Duration::from_millis(250);
/// Log lines about single traces per look; what is beyond is one line.
const MAX_LINES: usize = 20;

struct Inner {
    board: Board,
    outbox: Outbox,
    /// True when there is something to save.
    is_changed: bool,
    counted: Until,
}

/// See the module's documentation.
pub(crate) struct Alerts {
    dir: PathBuf,
    /// For alerts that name no receiver; empty for none.
    webhook: String,
    inner: Mutex<Inner>,
    wake: Notify,
}

fn now() -> u64 {
    u64::try_from(now_ns()).unwrap_or(0)
}

impl Alerts {
    /// Reads what is remembered in `dir`; says what was counted.
    pub(crate) fn open(dir: &Path, rules: &Rules, webhook: &str) -> (Self, Until) {
        let now_ns = now();
        let saved = file::load(dir, now_ns);
        let counted = saved.counted;
        let inner = Inner {
            board: Board::new(
                rules.alerts().to_vec(),
                saved.alerts,
                now_ns / board::NS_PER_S,
            ),
            outbox: Outbox::new(saved.waiting),
            is_changed: false,
            counted,
        };
        let alerts = Self {
            dir: dir.to_owned(),
            webhook: webhook.to_owned(),
            inner: Mutex::new(inner),
            wake: Notify::new(),
        };
        (alerts, counted)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is complete before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in what the assembly has found. Blocks for a sync when something changed.
    pub(crate) fn look(&self, store: &Store) {
        let now_ns = now();
        let (signals, counted) = store.with_assembly(|assembly| assembly.look(now_ns));
        let mut guard = self.lock();
        let inner = &mut *guard;
        let (notices, is_changed) = inner.board.take(&signals, now_ns);
        inner.is_changed |= is_changed;
        inner.counted.arrived_ns = inner.counted.arrived_ns.max(counted.arrived_ns);
        inner.counted.judged_ns = inner.counted.judged_ns.max(counted.judged_ns);
        for notice in &notices {
            self.queue(inner, notice);
        }
        let saved = inner.is_changed.then(|| inner.save());
        drop(guard);
        if let Some(saved) = saved
            && let Err(error) = file::save(&self.dir, &saved)
        {
            // Tried again at the next change; until then a crash tells of alerts again.
            tracing::error!(%error, "cannot write the state of alerts");
        }
        self.log(&notices);
        self.wake.notify_one();
    }

    fn queue(&self, inner: &mut Inner, notice: &Notice) {
        let (Some(alert), Some(memory)) = (
            inner.board.alerts.get(notice.alert),
            inner.board.memory.get(notice.alert),
        ) else {
            return;
        };
        let address = if alert.webhook.is_empty() {
            self.webhook.as_str()
        } else {
            alert.webhook.as_str()
        };
        if address.is_empty() {
            return;
        }
        let element = message::element(alert, memory, notice);
        let lasts_ns = if notice.is_firing {
            notice.ends_ns.saturating_sub(now())
        } else {
            0
        };
        inner
            .outbox
            .push(address.to_owned(), element, lasts_ns / 1_000_000);
    }

    /// One line per beginning and end.
    fn log(&self, notices: &[Notice]) {
        let guard = self.lock();
        let new = notices.iter().filter(|notice| !notice.is_repeated);
        for notice in new.clone().take(MAX_LINES) {
            let Some(alert) = guard.board.alerts.get(notice.alert) else {
                continue;
            };
            let trace_id = notice.trace.map(|trace| format!("{trace:032x}"));
            tracing::warn!(
                alert = alert.name,
                severity = alert.severity.as_str(),
                trace_id,
                value = notice.value,
                threshold = alert.threshold,
                "{}: {}",
                if notice.is_firing {
                    "alert fires"
                } else {
                    "alert is resolved"
                },
                message::summary(alert, notice),
            );
        }
        let more = new.count().saturating_sub(MAX_LINES);
        if more > 0 {
            tracing::warn!(more, "more alerts changed in the same second");
        }
    }

    /// Sends what waits until nothing more can be sent now; true when something waits still.
    async fn send(&self) -> bool {
        loop {
            let batch = self.lock().outbox.next(now() / 1_000_000);
            let Some(batch) = batch else {
                return !self.lock().outbox.waiting().is_empty();
            };
            let outcome = send::send(&batch).await;
            let mut inner = self.lock();
            inner.outbox.answered(&batch, outcome, now() / 1_000_000);
            inner.is_changed |= outcome != outbox::Outcome::Failed;
        }
    }
}

impl Inner {
    /// What is to be written now.
    fn save(&mut self) -> file::Saved {
        self.is_changed = false;
        file::Saved::new(
            self.counted,
            self.board.memory.clone(),
            self.outbox.waiting().iter().cloned().collect(),
        )
    }
}

/// Looks every second until the task is ended.
pub(crate) async fn watch(app: std::sync::Arc<App>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let app = app.clone();
        // Writes a file: not on a worker of the runtime.
        let looked = tokio::task::spawn_blocking(move || app.alerts.look(app.engine.store()));
        if looked.await.is_err() {
            tracing::error!("alerts could not be looked at");
        }
    }
}

/// Tells receivers until the task is ended.
pub(crate) async fn tell(app: std::sync::Arc<App>) {
    loop {
        if app.alerts.send().await {
            tokio::time::sleep(SEND_EVERY).await;
        } else {
            app.alerts.wake.notified().await;
        }
    }
}
