//! The engine: one request in, header edits and a state out; the state and the end in, at most one
//! span out. Ties the modules of this crate together and owns everything that lives longer than a
//! request.

mod accept;
mod begin;
pub(crate) mod budget;
pub mod companion;
mod finish;
pub(crate) mod llm;
mod outlet;
mod rating;
pub(crate) mod reply;

use mesh_config::Policy;
use mesh_config::policy::Direction;

use crate::context::Writer;
use crate::counters::{Counter, Counters};
use crate::export::{Dispatch, Outcome};
use crate::facts::Protocol;
use crate::headers::HeaderBlock;
use crate::identity::{Identity, Node};
use crate::parcels::{self, Parcels};
use crate::per_minute::PerMinute;
use crate::rates::Rates;
use crate::redact::Tenants;
use crate::reply::in_flight::InFlight;
use crate::route::{CappedNames, Routes};
use crate::settings::Settings;
use crate::state::{Came, RequestState};
use outlet::Outlet;

/// Requests of a configuration of which every one is checked for an overwritten traceparent.
const OVERWRITE_CHECK_FIRST: u64 = 32;

/// Called hosts that have a number, for the ledger; further ones take longer to count.
const MAX_PEERS: usize = 1024;

/// One request as it reaches the filter.
#[derive(Debug, Clone, Copy)]
pub struct RequestInput<'a> {
    /// Header lines in order, names in lower case.
    pub headers: HeaderBlock<'a>,
    /// Unix nanoseconds.
    pub now_unix_nanos: u64,
    /// The listener's direction, as far as it is known; the policy's wins.
    pub direction: Direction,
    /// HTTP version, where [`Engine::needs_protocol`] asks for it.
    pub protocol: Option<Protocol>,
    /// Requests in flight on this worker, for what their calls have cost so far.
    pub in_flight: Option<&'a InFlight>,
}

/// What happens to one header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edit<'e> {
    /// It stays as it is.
    Keep,
    /// All of its lines go.
    Remove,
    /// One line replaces all of its lines.
    Set(&'e [u8]),
}

/// The edits of one request.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct HeaderEdits<'e> {
    /// The new traceparent; `None` leaves the header to Envoy's own tracer (companion mode).
    pub traceparent: Option<[u8; 55]>,
    /// The tracestate. In companion mode it lasts only where the filter stands behind Envoy's
    /// tracer, as an upstream filter.
    pub tracestate: Edit<'e>,
    /// The baggage.
    pub baggage: Edit<'e>,
}

/// See the module documentation.
#[derive(Debug)]
pub struct Engine {
    settings: Settings,
    identity: Identity,
    gateway: bool,
    writer: Writer,
    routes: Routes,
    tenants: Tenants,
    /// Called hosts, numbered.
    peers: CappedNames,
    low_volume: PerMinute,
    /// Present where the adaptive rates have a say.
    rates: Option<Rates>,
    client_errors: PerMinute,
    outlet: Outlet,
    /// Those of earlier policies that still hold something, the oldest first.
    draining: Vec<Outlet>,
    /// What VMs before this one have left.
    parcels: Parcels,
    /// How many were taken over: their numbers tell their requests apart.
    outlets: u64,
    counters: Counters,
    overwrite_checks: u64,
}

impl Engine {
    /// An engine for a policy, on the proxy `node`; `instance` names this worker.
    #[must_use]
    pub fn new(policy: &Policy, node: &Node, instance: &str) -> Self {
        let service = &policy.service;
        let identity = Identity::new(
            &service.name,
            &service.namespace,
            &service.environment,
            node,
            instance,
        );
        let settings = Settings::new(policy, &identity);
        let sampling = &policy.sampling;
        let max_routes = sampling.low_volume.max_routes as usize;
        Self {
            gateway: node.is_gateway(),
            writer: Writer::new(settings.writer()),
            routes: Routes::new(settings.routes()),
            tenants: Tenants::new(policy),
            peers: CappedNames::new(MAX_PEERS),
            rates: settings.rates(&identity),
            low_volume: PerMinute::new(sampling.low_volume.traces_per_minute, max_routes),
            client_errors: PerMinute::new(sampling.error_flood.kept_per_minute, max_routes),
            outlet: Outlet::new(&settings, &identity),
            draining: Vec::new(),
            parcels: Parcels::default(),
            outlets: 0,
            counters: Counters::default(),
            overwrite_checks: 0,
            settings,
            identity,
        }
    }

    /// Takes over what an engine of an earlier policy still holds: its spans, and the counts of its
    /// ledger and of its metrics. Answers to its requests may be lost with the root context that
    /// made them, so they are made again; all that is taken over has one more byte limit.
    pub fn take_over(&mut self, mut previous: Self) {
        self.counters.absorb(&mut previous.counters);
        previous.settle_decided();
        if let (Some(rates), Some(previous)) = (&mut self.rates, previous.rates.take()) {
            rates.take_over(previous);
        }
        self.parcels.take_over(previous.parcels);
        let taken = previous.draining.into_iter().chain([previous.outlet]);
        for mut outlet in taken.filter(|outlet| !outlet.is_drained()) {
            self.outlets += 1;
            outlet.close(self.outlets);
            self.draining.push(outlet);
        }
        let mut free = self.settings.export().queue_bytes;
        for outlet in self.draining.iter_mut().rev() {
            outlet.exporter.shrink(free, &mut self.counters);
            free = free.saturating_sub(outlet.exporter.buffered_bytes());
        }
    }

    /// Takes in what a VM before this one has left: see [`crate::parcels`].
    pub fn take_parcels(&mut self, bytes: &[u8]) {
        self.parcels.take_in(bytes, &mut self.counters);
    }

    /// Leaves all that waits for the collector to the VM after this one, behind what others have
    /// left in `out`. What finds no room is counted as dropped.
    pub fn leave_parcels(&mut self, now_unix_nanos: u64, out: &mut Vec<u8>) {
        self.settle_decided();
        let fresh = Outlet::new(&self.settings, &self.identity);
        let own = std::mem::replace(&mut self.outlet, fresh);
        let outlets = std::mem::take(&mut self.draining).into_iter().chain([own]);
        let mut all: Vec<_> = std::mem::take(&mut self.parcels).into_waiting().collect();
        for outlet in outlets {
            all.extend(outlet.into_parcels(now_unix_nanos));
        }
        let lost = parcels::pack(&all, out);
        self.counters.add(Counter::SpansDroppedQueueFull, lost);
    }

    /// Whether nothing waits for the collector any more.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        let settled = !self.rates.as_ref().is_some_and(Rates::has_unsent);
        let settled = settled && self.parcels.is_empty();
        settled && self.outlet.is_drained() && self.draining.iter().all(Outlet::is_drained)
    }

    /// Whether the listener's direction has to be read for each request: neither the policy nor
    /// the node says it.
    #[must_use]
    pub fn needs_listener_direction(&self) -> bool {
        !self.gateway && self.settings.policy.service.direction == Direction::Auto
    }

    /// Whether a condition asks for the HTTP version, so that it has to be read for each request.
    #[must_use]
    pub fn needs_protocol(&self) -> bool {
        self.settings.needs_protocol
    }

    fn direction(&self, listener: Direction) -> Direction {
        match self.settings.policy.service.direction {
            Direction::Auto if self.gateway => Direction::Gateway,
            Direction::Auto if listener == Direction::Auto => Direction::Inbound,
            Direction::Auto => listener,
            set => set,
        }
    }

    /// The header edits of the request whose state [`Engine::request`] has just returned.
    pub fn edits(&self, state: &RequestState) -> HeaderEdits<'_> {
        fn edit(value: &[u8], came: Came) -> Edit<'_> {
            match (value.is_empty(), came) {
                (_, Came::Same) | (true, Came::Absent) => Edit::Keep,
                (false, _) => Edit::Set(value),
                (true, Came::Other) => Edit::Remove,
            }
        }
        // Without a valid context a list would belong to no trace; Envoy's tracer begins it.
        let with_state = state.owns_context || state.parent_id.is_some();
        HeaderEdits {
            traceparent: state.written_traceparent(),
            tracestate: if with_state {
                edit(self.writer.tracestate(), state.tracestate)
            } else {
                Edit::Keep
            },
            baggage: edit(self.writer.baggage(), state.baggage),
        }
    }

    /// Beats the heart; call once per tick.
    pub fn tick(&mut self, now_unix_nanos: u64) {
        self.counters.bump(Counter::Heartbeat);
        self.settle_decided();
        if let Some(rates) = &mut self.rates {
            rates.tick(now_unix_nanos);
        }
        self.draining.retain(|outlet| !outlet.is_drained());
    }

    /// The next export request, until `None`. What earlier policies left goes first.
    pub fn poll_export(&mut self, now_unix_nanos: u64) -> Option<Dispatch> {
        let counters = &mut self.counters;
        let mut outlets = self.draining.iter_mut().chain([&mut self.outlet]);
        let found = outlets.find_map(|outlet| outlet.poll(now_unix_nanos, counters));
        found.or_else(|| self.parcels.poll(now_unix_nanos))
    }

    /// Takes the outcome of an export request; `entropy` is any random number. An unknown id is
    /// ignored.
    pub fn export_outcome(&mut self, id: u64, outcome: Outcome, now_unix_nanos: u64, entropy: u64) {
        let counters = &mut self.counters;
        if id & parcels::ID_BIT != 0 {
            let parcels = &mut self.parcels;
            return parcels.on_outcome(id, outcome, now_unix_nanos, entropy, counters);
        }
        for outlet in self.draining.iter_mut().chain([&mut self.outlet]) {
            outlet.on_outcome(id, outcome, now_unix_nanos, entropy, counters);
        }
    }

    /// Bytes of spans that wait for the collector.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        let outlets = self.draining.iter().chain([&self.outlet]);
        let spans: usize = outlets.map(|outlet| outlet.exporter.buffered_bytes()).sum();
        spans + self.parcels.bytes()
    }

    /// The counts since they were last drained.
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Counts what only the caller can see.
    pub fn count(&mut self, counter: Counter, count: u64) {
        self.counters.add(counter, count);
    }

    /// Whether this request should be checked for an overwritten traceparent: each of the first
    /// ones, then one in `every`.
    pub fn should_check_overwriting(&mut self, every: u64) -> bool {
        self.overwrite_checks = self.overwrite_checks.wrapping_add(1);
        self.overwrite_checks <= OVERWRITE_CHECK_FIRST
            || self.overwrite_checks.is_multiple_of(every.max(1))
    }
}
