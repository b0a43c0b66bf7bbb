//! Closing windows: the clock's side of control.
//!
//! Windows end at multiples of the interval since the epoch, so that all collectors agree on them.
//! The first one begins when the collector starts; one of less than half an interval is joined to
//! the next. Every window is counted as if it had the length of the interval.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_config::adaptive::{Summary, Window};
use tokio::sync::watch;

use super::Control;
use super::intake::{self, Share};
use super::table::{Key, Table};

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
pub(crate) async fn run(control: Arc<Control>, mut stop: watch::Receiver<bool>) {
    if !control.is_enabled() {
        return;
    }
    loop {
        let end_ms = control.window_end_ms(control.intake.opened_ms());
        if !sleep_until(end_ms, &mut stop).await {
            return;
        }
        let window = control.intake.close(now_ms());
        let updating = control.clone();
        // The update sorts thousands of keys and the state is synced: not on the runtime.
        drop(tokio::task::spawn_blocking(move || updating.update(&window)).await);
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

    /// Takes a closed window: makes the next table and keeps it.
    pub(super) fn update(&self, window: &intake::Window) {
        let mut inner = self.lock();
        let counts = self.scaled(window);
        let (reported, expected) = inner.coverage.take(&window.proxies);
        let input = Window {
            // A clock that was set back or far ahead: the window says nothing.
            duration_ns: if self.is_plausible(window) {
                u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX)
            } else {
                0
            },
            counts: &counts.0,
            overflow: counts.1,
            reported,
            expected,
        };
        for (key, _) in &counts.0 {
            inner.is_exempt(&key.service, &self.rules);
        }
        let inner = &mut *inner;
        let exempt = &inner.exempt;
        let summary = inner.controller.update(&input, &self.settings, |key| {
            exempt.get(&key.service).copied().unwrap_or(false)
        });
        inner.status.summary = summary;
        inner.status.proxies = (reported, expected);
        inner.status.late = inner.status.late.saturating_add(window.late);
        log(&summary, inner.controller.table().version());
        if let Some(held) = summary.held {
            if let Some(count) = inner.status.held.get_mut(held as usize) {
                *count += 1;
            }
            return;
        }
        inner.status.updates += 1;
        let table = Table::publish(&inner.controller, inner.table.as_deref(), window.until_ms);
        if let Err(error) = self.store.save(&inner.controller, &table) {
            // The next window tries again; a restart before would begin with the older state.
            inner.status.unsaved += 1;
            tracing::error!(%error, "cannot keep the state of control");
        }
        inner.confirmed_ms = window.until_ms;
        inner.table = Some(Arc::new(table));
    }

    fn is_plausible(&self, window: &intake::Window) -> bool {
        let (length_ms, interval_ms) = (window.length_ms(), self.interval_ms());
        length_ms >= interval_ms / 4 && length_ms <= interval_ms.saturating_mul(2)
    }

    /// The counts as if the window had the interval's length, and the overflow.
    fn scaled(&self, window: &intake::Window) -> (Vec<(Key, u64)>, u64) {
        let share = Share {
            numerator: self.interval_ms(),
            denominator: window.length_ms().max(1),
        };
        let counts = window.counts.iter();
        let counts = counts.map(|(key, count)| (key.clone(), share.of(*count)));
        (counts.collect(), share.of(window.overflow))
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
