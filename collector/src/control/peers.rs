//! Several collectors behind one address: one leader makes the table.
//!
//! Filters behind one address spread their deltas over the collectors, so none of them sees all
//! counts, and controllers that see different counts make different tables. Therefore one collector
//! leads: `control.leader` in the policy that all of them share. Every collector asks that address
//! who is there (`GET /v1/rates/table`); the one that finds itself leads, the others follow.
//!
//! * At the end of its window a follower posts its counts to the leader (`POST /v1/rates/window`);
//!   the leader waits [`grace`] for them, adds everybody's counts and makes the table. A report that
//!   is sent again replaces the first one. One that comes later is refused and its counts are lost
//!   for the rates (not for the ledger); its proxies then count as missing.
//! * A follower asks for the table every [`poll`], gives out the leader's bytes and keeps them in
//!   its data folder. So all collectors give the same answer, up to one poll apart.
//! * While the leader is away followers go on with its last table; when that was not confirmed for
//!   [`super::MAX_AGE_WINDOWS`] windows they answer 204, and filters go by themselves.
//!
//! # What it is not
//!
//! No election: another leader is a change of the policy. The leader's state is its own; a new one
//! learns within a few windows.
//!
//! Limits: [`MAX_REPORTS`] followers, a report has at most [`super::intake::MAX_KEYS`] keys.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use serde::{Deserialize, Serialize};

use super::intake::{MAX_KEYS, Window};
use super::table::{Key, Table};
use crate::client::Client;

/// Followers whose reports are taken.
const MAX_REPORTS: usize = 64;
/// Bytes of a report.
pub(super) const MAX_REPORT: usize = 16 << 20;
/// Proxies named in a report; the decisions of further ones count, but nobody misses them.
const MAX_NAMED: usize = 50_000;
/// Time for one request between collectors.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long the leader waits for reports after a window has ended.
pub(super) fn grace(interval: Duration) -> Duration {
    (interval / 10).clamp(Duration::from_millis(250), Duration::from_secs(3))
}

/// How often a follower asks for the table.
pub(super) fn poll(interval: Duration) -> Duration {
    (interval / 10).clamp(Duration::from_millis(200), Duration::from_secs(5))
}

/// What a collector is among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Role {
    /// The policy names no leader.
    #[default]
    Alone,
    /// The leader has not been reached since the start.
    Unknown,
    /// It makes the table.
    Leads,
    /// It gives out the leader's table.
    Follows,
}

impl Role {
    /// Every role, in the order of their discriminants.
    pub(crate) const ALL: [Self; 4] = [Self::Alone, Self::Unknown, Self::Leads, Self::Follows];

    /// The stable label.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Alone => "alone",
            Self::Unknown => "unknown",
            Self::Leads => "leads",
            Self::Follows => "follows",
        }
    }
}

/// A follower's window.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Report {
    /// Who sends it; new with every start.
    collector: String,
    /// Which window: its end divided by the interval.
    index: u64,
    from_ms: u64,
    until_ms: u64,
    counts: Vec<(String, String, u64)>,
    overflow: u64,
    late: u64,
    proxies: Vec<(u64, u64)>,
}

/// Which window ends at a time; ends are a little late, never early.
pub(super) fn index(until_ms: u64, interval_ms: u64) -> u64 {
    until_ms / interval_ms.max(1)
}

impl Report {
    /// The report of a window.
    pub(super) fn new(collector: &str, window: &Window, interval_ms: u64) -> Self {
        let counts = window.counts.iter().map(|(key, count)| {
            (
                key.service.as_ref().to_owned(),
                key.route.as_ref().to_owned(),
                *count,
            )
        });
        let proxies = window.proxies.iter().take(MAX_NAMED);
        Self {
            collector: collector.to_owned(),
            index: index(window.until_ms, interval_ms),
            from_ms: window.from_ms,
            until_ms: window.until_ms,
            counts: counts.collect(),
            overflow: window.overflow,
            late: window.late,
            proxies: proxies.map(|(id, decided)| (*id, *decided)).collect(),
        }
    }

    fn into_window(self) -> Window {
        let mut window = Window {
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            overflow: self.overflow,
            late: self.late,
            proxies: self.proxies.into_iter().take(MAX_NAMED).collect(),
            ..Window::default()
        };
        for (service, route, count) in self.counts {
            window.add(&service, &route, count, MAX_KEYS);
        }
        window
    }
}

/// Reports that wait for their window's end at the leader.
#[derive(Debug, Default)]
pub(super) struct Reports {
    /// Windows up to this one are closed.
    closed: u64,
    waiting: BTreeMap<(u64, String), Window>,
}

impl Reports {
    /// Takes a report; false when its window is closed, or there are too many.
    pub(super) fn take(&mut self, report: Report) -> bool {
        let key = (report.index, report.collector.clone());
        // Followers end their windows with the leader's; a far future is a clock gone wrong.
        let is_open = report.index > self.closed && report.index <= self.closed.saturating_add(3);
        let has_room = self.waiting.len() < MAX_REPORTS || self.waiting.contains_key(&key);
        if (self.closed > 0 && !is_open) || !has_room {
            return false;
        }
        self.waiting.insert(key, report.into_window());
        true
    }

    /// Closes a window and hands out its reports.
    pub(super) fn close(&mut self, index: u64) -> Vec<Window> {
        self.closed = index;
        let later = self
            .waiting
            .split_off(&(index.saturating_add(1), String::new()));
        let due = std::mem::replace(&mut self.waiting, later);
        let now = due.into_iter().filter(|((of, _), _)| *of == index);
        now.map(|(_, window)| window).collect()
    }
}

/// What the leader says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Leader {
    /// The leader's own name, new with every start; who finds its own name leads.
    pub(super) collector: String,
    /// When a window last confirmed the table.
    pub(super) confirmed_ms: u64,
    /// The table.
    pub(super) table: Option<Table>,
}

/// How a follower reaches the leader.
#[derive(Debug)]
pub(super) struct Link {
    client: Client,
    url: String,
}

impl Link {
    /// A link to `url`, which the policy has checked.
    pub(super) fn new(client: Client, url: &str) -> Self {
        Self {
            client,
            url: url.trim_end_matches('/').to_owned(),
        }
    }

    /// Asks for the table.
    pub(super) async fn ask(&self) -> Result<Leader, String> {
        let request = Request::get(format!("{}/v1/rates/table", self.url));
        let request = request
            .body(Full::default())
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request, TIMEOUT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status != StatusCode::OK {
            return Err(format!("the leader answered {}", answer.status));
        }
        serde_json::from_slice(&answer.body).map_err(|error| error.to_string())
    }

    /// Sends a window's counts.
    pub(super) async fn report(&self, report: &Report) -> Result<(), String> {
        let body = serde_json::to_vec(report).map_err(|error| error.to_string())?;
        let request = Request::post(format!("{}/v1/rates/window", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| error.to_string())?;
        let answer = self.client.send(request, TIMEOUT).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            Ok(())
        } else {
            Err(format!("the leader answered {}", answer.status))
        }
    }
}

/// Adds up the windows of all collectors, each as if it had the length of the interval.
pub(super) fn sum(own: &Window, others: &[Window], interval_ms: u64) -> Window {
    let mut total = Window {
        from_ms: own.from_ms,
        until_ms: own.until_ms,
        ..Window::default()
    };
    for window in std::iter::once(own).chain(others) {
        if !window.is_plausible(interval_ms) {
            continue;
        }
        let share = window.share(interval_ms);
        total.overflow = total.overflow.saturating_add(share.of(window.overflow));
        total.late = total.late.saturating_add(window.late);
        for (Key { service, route }, count) in &window.counts {
            total.add(service, route, share.of(*count), MAX_KEYS * 8);
        }
        for (proxy, decided) in &window.proxies {
            let slot = total.proxies.entry(*proxy).or_default();
            *slot = slot.saturating_add(*decided);
        }
    }
    total
}
