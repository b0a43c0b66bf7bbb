//! Closing windows: the clock's side of control.
//!
//! Windows end at multiples of the interval since the epoch, so that all collectors agree on them.
//! The first one begins when the collector starts; one of less than half an interval is joined to
//! the next. Every window is counted as if it had the length of the interval.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_config::adaptive::{Summary, Window};
use tokio::sync::watch;

use super::peers::{self, Leader, Report, Role};
use super::table::{Key, Table};
use super::{Control, Inner, intake};

/// Longest sleep, so that a clock that was set is noticed.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        })
}

/// Closes one window after the other until `stop` says so.
pub(crate) async fn run(control: Arc<Control>, stop: watch::Receiver<bool>) {
    if !control.is_enabled() {
        return;
    }
    tokio::join!(
        close_windows(control.clone(), stop.clone()),
        follow(&control, stop)
    );
}

async fn close_windows(control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    loop {
        let end_ms = control.window_end_ms(control.intake.opened_ms());
        if !sleep_until(end_ms, &mut stop).await {
            return;
        }
        let window = control.intake.close(now_ms());
        match control.role() {
            Role::Alone => apply(&control, window, Vec::new()).await,
            Role::Leads => {
                let wait = peers::grace(control.interval);
                let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(0);
                if !sleep_until(now_ms() + wait_ms, &mut stop).await {
                    return;
                }
                let others = control.reports(window.until_ms);
                apply(&control, window, others).await;
            }
            Role::Follows => control.report(&window).await,
            // Nobody to tell; the next window is longer ago than this one.
            Role::Unknown => {}
        }
    }
}

async fn apply(control: &Arc<Control>, window: intake::Window, others: Vec<intake::Window>) {
    let control = control.clone();
    // The update sorts thousands of keys and the state is synced: not on the runtime.
    drop(tokio::task::spawn_blocking(move || control.update(&window, &others)).await);
}

/// Finds out who leads, and takes over the leader's table while it is another collector.
async fn follow(control: &Arc<Control>, mut stop: watch::Receiver<bool>) {
    let Some(link) = &control.leader else {
        return;
    };
    let poll = peers::poll(control.interval);
    loop {
        match link.ask().await {
            Ok(leader) => {
                let control = control.clone();
                drop(tokio::task::spawn_blocking(move || control.hear(leader)).await);
            }
            Err(cause) => control.miss(&cause),
        }
        tokio::select! {
            () = tokio::time::sleep(poll) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}

/// False when `stop` came first.
async fn sleep_until(end_ms: u64, stop: &mut watch::Receiver<bool>) -> bool {
    loop {
        let left = Duration::from_millis(end_ms.saturating_sub(now_ms()));
        if left.is_zero() {
            return true;
        }
        tokio::select! {
            () = tokio::time::sleep(left.min(MAX_SLEEP)) => {}
            _ = stop.wait_for(|stop| *stop) => return false,
        }
    }
}

impl Control {
    /// Takes what the leader says.
    fn hear(&self, leader: Leader) {
        let mut inner = self.lock();
        if leader.collector == self.name {
            if inner.role != Role::Leads {
                tracing::info!("this collector leads the rates");
            }
            inner.role = Role::Leads;
            return;
        }
        if inner.role != Role::Follows {
            tracing::info!(
                leader = leader.collector,
                "another collector leads the rates"
            );
        }
        inner.role = Role::Follows;
        inner.confirmed_ms = leader.confirmed_ms;
        let Some(table) = leader.table else {
            return;
        };
        if inner.table.as_deref() != Some(&table) {
            let version = table.version;
            tracing::info!(version, "took over the leader's table of rates");
            self.save(&mut inner, &table);
            inner.table = Some(Arc::new(table));
        }
    }

    /// Counts that the leader cannot be reached.
    fn miss(&self, cause: &str) {
        let mut inner = self.lock();
        inner.status.leader_failures += 1;
        tracing::warn!(cause, "cannot reach the leader of the rates");
    }

    /// Sends a window to the leader.
    async fn report(&self, window: &intake::Window) {
        let Some(link) = &self.leader else {
            return;
        };
        let report = Report::new(&self.name, window, self.interval_ms());
        if let Err(cause) = link.report(&report).await {
            let mut inner = self.lock();
            inner.status.unreported += 1;
            tracing::warn!(cause, "the leader of the rates did not get this window");
        }
    }

    /// Closes the window that ends now for followers; returns their counts.
    fn reports(&self, until_ms: u64) -> Vec<intake::Window> {
        let index = peers::index(until_ms, self.interval_ms());
        self.lock().reports.close(index)
    }

    fn save(&self, inner: &mut Inner, table: &Table) {
        if let Err(error) = self.store.save(&inner.controller, table) {
            // The next window tries again; a restart before would begin with the older state.
            inner.status.unsaved += 1;
            tracing::error!(%error, "cannot keep the state of control");
        }
    }

    /// When a window that began at `from_ms` ends.
    fn window_end_ms(&self, from_ms: u64) -> u64 {
        let interval_ms = self.interval_ms().max(1);
        let next = (from_ms / interval_ms + 1).saturating_mul(interval_ms);
        if next - from_ms >= interval_ms.div_ceil(2) {
            next
        } else {
            next.saturating_add(interval_ms)
        }
    }

    /// Takes a closed window and those of the followers: makes the next table and keeps it.
    pub(super) fn update(&self, window: &intake::Window, others: &[intake::Window]) {
        let interval_ms = self.interval_ms();
        let total = peers::sum(window, others, interval_ms);
        let mut inner = self.lock();
        let (reported, expected) = inner.coverage.take(&total.proxies);
        let counts: Vec<(Key, u64)> = total.counts.into_iter().collect();
        let input = Window {
            duration_ns: if window.is_plausible(interval_ms) {
                interval_ms.saturating_mul(1_000_000)
            } else {
                0
            },
            counts: &counts,
            overflow: total.overflow,
            reported,
            expected,
        };
        for (key, _) in &counts {
            inner.is_exempt(&key.service, &self.rules);
        }
        let inner = &mut *inner;
        let exempt = &inner.exempt;
        let summary = inner.controller.update(&input, &self.settings, |key| {
            exempt.get(&key.service).copied().unwrap_or(false)
        });
        inner.status.summary = summary;
        inner.status.proxies = (reported, expected);
        inner.status.late = inner.status.late.saturating_add(total.late);
        log(&summary, inner.controller.table().version());
        if let Some(held) = summary.held {
            if let Some(count) = inner.status.held.get_mut(held as usize) {
                *count += 1;
            }
            return;
        }
        inner.status.updates += 1;
        let table = Table::publish(&inner.controller, inner.table.as_deref(), window.until_ms);
        self.save(inner, &table);
        inner.confirmed_ms = window.until_ms;
        inner.table = Some(Arc::new(table));
    }
}

fn log(summary: &Summary, version: u64) {
    match summary.held {
        Some(held) => tracing::debug!(
            reason = held.as_str(),
            windows = summary.held_in_a_row,
            "rates are held"
        ),
        None => tracing::info!(
            version,
            observed_per_second = summary.observed_per_second,
            expected_per_second = summary.expected_per_second,
            level_per_second = summary.level_per_second,
            new_keys = summary.new_keys,
            "made a table of rates"
        ),
    }
}

#[cfg(test)]
mod tests;
