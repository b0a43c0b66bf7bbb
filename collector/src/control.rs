//! Control: how many traces the whole mesh keeps.
//!
//! Filters count the traces that they decide at their root, kept or not, and send the counts in
//! their ledger deltas (`tracemeter.traces.decided`). Here they are added up by service and route
//! over windows of `sampling.adaptive.adjustment_interval`, aligned to the clock; after each window
//! the policy crate's controller makes a table of thresholds, and filters ask for their service's
//! part of it.
//!
//! * [`intake`]: what was counted in the open window, and by how many proxies.
//! * [`coverage`]: how many proxies should have reported.
//! * [`table`]: the published table and its answers to filters.
//! * [`task`]: closes windows, runs the controller, keeps its state.
//! * [`peers`]: one leader among several collectors.
//! * [`state`]: the state in the data folder.
//! * [`answers`]: the HTTP side, for filters and (Jaeger remote sampling) for SDKs.
//!
//! # What it is not
//!
//! It decides no trace, and no trace waits for it. Filters that send no decisions are held to
//! nothing: without any decision in a window the table stays as it is.
//!
//! # When there is no table
//!
//! Before the first window has ended, or when nobody confirmed the table for [`MAX_AGE_WINDOWS`]
//! windows (a restart after a long pause), the answer is 204, and filters go by themselves.

mod answers;
mod coverage;
mod intake;
mod peers;
mod state;
mod table;
mod task;

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mesh_config::adaptive::{Controller, Held, Settings, Summary};
use mesh_config::sampling::Sampler;

use crate::client::Client;
use crate::policy::Rules;

pub(crate) use answers::{leader_table, rates, report, sampling};
pub(crate) use intake::Intake;
pub(crate) use task::{now_ms, run};

pub(crate) use peers::Role;

use peers::{Link, Reports};
use state::{Loaded, Store};
use table::{Key, Table};

/// Windows after which a table that nobody confirmed is no longer given out.
const MAX_AGE_WINDOWS: u32 = 10;
/// Services whose exemption is remembered; above it all are judged again.
const MAX_SERVICES: usize = 10_000;

/// What control shows of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Windows that made a table.
    pub(crate) updates: u64,
    /// Windows that were held, in the order of [`Held::ALL`].
    pub(crate) held: [u64; Held::ALL.len()],
    /// What it is among several collectors.
    pub(crate) role: Role,
    /// Times that the leader could not be reached.
    pub(crate) leader_failures: u64,
    /// Reports of other collectors that were refused.
    pub(crate) reports_refused: u64,
    /// Windows that the leader did not get.
    pub(crate) unreported: u64,
    /// Decisions that came too late for their window.
    pub(crate) late: u64,
    /// Version of the table.
    pub(crate) version: u64,
    /// Traces per second that the policy asks for.
    pub(crate) target_per_second: f64,
    /// States that could not be read at start.
    pub(crate) damaged: u64,
    /// States that could not be written.
    pub(crate) unsaved: u64,
    /// What the last window said.
    pub(crate) summary: Summary,
    /// Services and routes with estimates.
    pub(crate) keys: usize,
    /// Proxies that reported in the last window, and that should have.
    pub(crate) proxies: (u32, u32),
}

struct Inner {
    controller: Controller<Key>,
    /// The table, and when it was last confirmed by a window.
    table: Option<Arc<Table>>,
    confirmed_ms: u64,
    exempt: BTreeMap<Arc<str>, bool>,
    coverage: coverage::Coverage,
    role: Role,
    reports: Reports,
    status: Status,
}

/// See the module's documentation.
pub(crate) struct Control {
    /// What the open window has counted.
    pub(crate) intake: Arc<Intake>,
    rules: Arc<Rules>,
    settings: Settings,
    interval: Duration,
    /// New with every start: who finds its own name at the leader's address leads.
    name: String,
    leader: Option<Link>,
    store: Store,
    inner: Mutex<Inner>,
}

impl Control {
    /// Reads the state back from the data folder, if there is one.
    pub(crate) fn open(
        data: &Path,
        rules: &Arc<Rules>,
        now_ms: u64,
    ) -> Result<Self, rustls::Error> {
        let policy = rules.policy();
        let adaptive = &policy.sampling.adaptive;
        let settings = Settings::from(&policy.sampling);
        let store = Store::new(data);
        let mut status = Status::default();
        let loaded = match store.load() {
            Loaded::Absent => None,
            Loaded::State(state) => Some(*state),
            Loaded::Damaged(cause) => {
                tracing::error!(cause, "control starts anew: its state cannot be read");
                status.damaged = 1;
                None
            }
        };
        let (controller, table) = match loaded.filter(|_| adaptive.enabled) {
            Some((controller, table)) => (controller, Some(Arc::new(table))),
            None => (Controller::new(&settings), None),
        };
        let confirmed_ms = table.as_ref().map_or(0, |table| table.made_ms);
        let leader = match policy.control.leader.as_str() {
            "" => None,
            url => Some(Link::new(Client::http1()?, url)),
        };
        let role = match leader {
            Some(_) => Role::Unknown,
            None => Role::Alone,
        };
        // Keyed by the operating system's entropy; it need not be secret.
        let name = format!("{:016x}", RandomState::new().hash_one(now_ms));
        Ok(Self {
            intake: Arc::new(Intake::new(
                adaptive.enabled,
                policy.export.ledger_interval,
                now_ms,
            )),
            rules: rules.clone(),
            settings,
            interval: adaptive.adjustment_interval,
            name,
            leader,
            store,
            inner: Mutex::new(Inner {
                controller,
                table,
                confirmed_ms,
                exempt: BTreeMap::new(),
                coverage: coverage::Coverage::default(),
                role,
                reports: Reports::default(),
                status,
            }),
        })
    }

    /// What it is among several collectors.
    fn role(&self) -> Role {
        self.lock().role
    }

    /// Whether the policy lets rates follow the traffic.
    pub(crate) fn is_enabled(&self) -> bool {
        self.rules.policy().sampling.adaptive.enabled
    }

    /// What control shows of itself.
    pub(crate) fn status(&self) -> Status {
        let inner = self.lock();
        Status {
            version: inner.table.as_ref().map_or(0, |table| table.version),
            role: inner.role,
            keys: inner.controller.tracked_keys(),
            target_per_second: self.settings.target_per_second,
            ..inner.status.clone()
        }
    }

    /// The table in force, if it is young enough to be given out.
    pub(crate) fn table(&self, now_ms: u64) -> Option<Arc<Table>> {
        let inner = self.lock();
        let max_age_ms = self.interval_ms().saturating_mul(MAX_AGE_WINDOWS.into());
        let age_ms = now_ms.saturating_sub(inner.confirmed_ms);
        inner.table.clone().filter(|_| age_ms <= max_age_ms)
    }

    /// Whether the rates of a service follow the traffic.
    pub(crate) fn is_adaptive(&self, service: &str) -> bool {
        let mut inner = self.lock();
        !inner.is_exempt(service, &self.rules)
    }

    fn interval_ms(&self) -> u64 {
        u64::try_from(self.interval.as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Updates are done on copies and swapped in; a panic elsewhere leaves a whole state.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether the policy keeps a service out of the controller's hands.
    fn is_exempt(&mut self, service: &str, rules: &Rules) -> bool {
        if let Some(exempt) = self.exempt.get(service) {
            return *exempt;
        }
        let policy = rules.policy();
        let exempt = !Sampler::new(policy, service, &policy.service.environment).is_adaptive();
        if self.exempt.len() >= MAX_SERVICES {
            self.exempt.clear();
        }
        self.exempt.insert(service.into(), exempt);
        exempt
    }
}
