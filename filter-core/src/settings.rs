//! The policy as this filter uses it: everything that can be worked out once per configuration.

use mesh_config::policy::{
    ChargeSide, Direction, Mode, ReturnDetail, SampledFlag, TraceIdTrust, TrustLevel,
};
use mesh_config::price::{OperationId, PriceBook};
use mesh_config::rule::{Attribute, Condition, glob_ignore_case};
use mesh_config::sampling::Sampler;
use mesh_config::{DataTag, Policy};

use crate::context::{Incoming, WriterSettings};
use crate::export::ExportSettings;
use crate::facts::MAX_KEPT;
use crate::headers::{RequestHeaders, host_of};
use crate::identity::Identity;
use crate::ledger::LedgerSettings;
use crate::rates::Rates;
use crate::redact::Redactor;
use crate::route::RouteSettings;
use crate::state::{Peer, Wanted};

/// What an incoming context may say at one listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boundary {
    /// One of us: everything counts.
    Trusted,
    /// Somebody outside: own members are dropped, the rest as the policy says.
    Edge(SampledFlag, TraceIdTrust),
}

/// The compiled policy. See the sections of `mesh-config` for what each option means.
#[derive(Debug)]
pub struct Settings {
    pub(crate) policy: Policy,
    pub(crate) sampler: Sampler,
    pub(crate) prices: PriceBook,
    operations: Vec<OperationId>,
    kept: Vec<Attribute>,
    /// Whether the policy names a tenant; then it is the first value that is kept.
    pub(crate) with_tenant: bool,
    /// Whether responses carry news, and so whether requests in flight are followed.
    pub(crate) has_return_channel: bool,
    /// Whether that news says what calls have cost.
    pub(crate) carries_costs: bool,
    /// Baggage keys that any condition asks for.
    pub(crate) baggage_keys: Vec<Box<str>>,
    /// Whether any condition asks for the HTTP version.
    pub(crate) needs_protocol: bool,
    pub(crate) redactor: Redactor,
}

impl Settings {
    /// Compiles a policy for one workload.
    #[must_use]
    pub fn new(policy: &Policy, identity: &Identity) -> Self {
        let sampler = Sampler::new(policy, &identity.service, &identity.environment);
        // A loaded policy has prices that were checked; a hand-made one falls back to the
        // specification's.
        let prices = policy.cost.price_book().unwrap_or_default();
        let (table, _) = prices.at(u64::MAX);
        let mappings = &policy.attributes.operation_type;
        let operations = mappings
            .iter()
            .map(|mapping| table.operation(&mapping.value))
            .collect();
        let tenant = &policy.attributes.tenant;
        let with_tenant = !(tenant.header.is_empty() && tenant.baggage.is_empty());
        let kept = kept_attributes(with_tenant, &sampler);
        let asked = asked_attributes(policy, &sampler);
        let needs_protocol = asked.contains(&&Attribute::NetworkProtocolVersion);
        let baggage_keys = baggage_keys(policy, &asked);
        let propagation = &policy.propagation;
        let carries = propagation.return_channel.carries;
        let owns_context = propagation.mode == Mode::Owner;
        Self {
            has_return_channel: carries != ReturnDetail::Off && owns_context,
            carries_costs: carries == ReturnDetail::Costs && owns_context,
            policy: policy.clone(),
            sampler,
            prices,
            operations,
            kept,
            with_tenant,
            needs_protocol,
            redactor: Redactor::new(policy),
            baggage_keys,
        }
    }

    /// What is read for a span that is kept.
    pub(crate) fn wanted(&self, direction: Direction) -> Wanted {
        let attributes = &self.policy.attributes;
        let peer = if direction == Direction::Outbound {
            Peer::Upstream
        } else {
            Peer::Downstream
        };
        Wanted {
            peer: attributes.network_peer.then_some(peer),
            user_agent: attributes.user_agent,
        }
    }

    pub(crate) fn boundary(&self, direction: Direction) -> Boundary {
        let trust = &self.policy.trust;
        let level = match direction {
            Direction::Auto | Direction::Inbound => trust.inbound,
            Direction::Outbound => trust.outbound,
            Direction::Gateway => trust.gateway,
        };
        match level {
            TrustLevel::Trusted => Boundary::Trusted,
            TrustLevel::Edge => Boundary::Edge(trust.sampled_flag, trust.trace_id),
        }
    }

    /// Whether this filter writes all three headers, or only baggage beside Envoy's own tracer.
    pub(crate) fn owns_context(&self) -> bool {
        self.policy.propagation.mode == Mode::Owner
    }

    /// Whether this hop charges a request to `authority`: a call crosses two proxies and must be
    /// charged once.
    pub(crate) fn charges(&self, direction: Direction, authority: &[u8]) -> bool {
        let outbound = direction == Direction::Outbound;
        match self.policy.cost.charge {
            ChargeSide::Client => outbound || direction == Direction::Gateway,
            ChargeSide::Server if !outbound => true,
            ChargeSide::Server => {
                let listed = &self.policy.cost.unmetered_destinations;
                let host = host_of(authority);
                listed
                    .iter()
                    .any(|pattern| glob_ignore_case(pattern.as_bytes(), host))
            }
        }
    }

    /// Whether own members must not leave with a request to `authority`.
    pub(crate) fn strips(&self, direction: Direction, authority: &[u8]) -> bool {
        direction == Direction::Outbound && self.policy.trust.egress.strips(authority)
    }

    /// The id and the name of the operation type of a mapping.
    pub(crate) fn operation(&self, mapping: Option<u16>) -> (OperationId, Option<&str>) {
        let Some(index) = mapping.map(usize::from) else {
            return (OperationId::UNKNOWN, None);
        };
        let id = self
            .operations
            .get(index)
            .copied()
            .unwrap_or(OperationId::UNKNOWN);
        let mapping = self.policy.attributes.operation_type.get(index);
        (id, mapping.map(|mapping| mapping.value.as_str()))
    }

    /// The strictest class if data is unclassified, by the policy's `strict` option.
    pub(crate) fn default_tag(&self) -> DataTag {
        if self.policy.classification.strict {
            DataTag::Sensitive
        } else {
            DataTag::ExportOk
        }
    }

    pub(crate) fn writer(&self) -> WriterSettings {
        let propagation = &self.policy.propagation;
        let carries = |key: &str| propagation.baggage.iter().any(|listed| listed == key);
        WriterSettings {
            form: propagation.tracestate,
            state_limit_bytes: propagation.tracestate_max_bytes as usize,
            baggage_limit_bytes: propagation.baggage_max_bytes as usize,
            baggage_cost: carries(crate::context::COST_KEY),
            baggage_tag: carries(crate::context::TAG_KEY),
        }
    }

    pub(crate) fn export(&self) -> ExportSettings {
        let export = &self.policy.export;
        ExportSettings {
            enabled: !export.cluster.is_empty() && self.owns_context(),
            batch_spans: export.batch_spans as usize,
            linger_nanos: nanos(export.linger),
            queue_bytes: export.queue_bytes.as_usize(),
            max_in_flight: export.max_in_flight as usize,
            timeout_nanos: nanos(export.timeout),
        }
    }

    pub(crate) fn ledger(&self) -> LedgerSettings {
        let export = &self.policy.export;
        LedgerSettings {
            enabled: !export.cluster.is_empty(),
            max_keys: export.ledger_keys as usize,
            interval_nanos: nanos(export.ledger_interval),
            timeout_nanos: nanos(export.timeout),
        }
    }

    /// The adaptive rates, where they have a say: Envoy's own tracer decides by its own.
    pub(crate) fn rates(&self, identity: &Identity) -> Option<Rates> {
        let used = self.sampler.is_adaptive() && self.owns_context();
        used.then(|| Rates::new(&self.policy, &identity.service))
    }

    pub(crate) fn routes(&self) -> RouteSettings {
        let attributes = &self.policy.attributes;
        RouteSettings {
            templates: attributes.routes.clone(),
            collapse_identifiers: attributes.collapse_identifiers,
            max_routes: attributes.max_routes as usize,
            redactor: self.redactor.clone(),
        }
    }

    /// Where the value of an attribute was kept for the end of the stream.
    pub(crate) fn kept_index(&self, attribute: &Attribute) -> Option<usize> {
        self.kept.iter().position(|kept| kept == attribute)
    }

    /// The attributes whose values have to be kept until the end of the stream.
    pub(crate) fn kept(&self) -> &[Attribute] {
        &self.kept
    }

    /// Reads a value that only the request's headers hold.
    pub(crate) fn read_header_value<'r>(
        &self,
        attribute: &Attribute,
        headers: &RequestHeaders<'r>,
        incoming: &'r Incoming<'_>,
    ) -> Option<&'r [u8]> {
        match attribute {
            Attribute::RequestHeader(name) => headers.first(name),
            Attribute::Baggage(key) => incoming.baggage_value(key),
            Attribute::UrlQuery => headers.query(),
            Attribute::Tenant => {
                let tenant = &self.policy.attributes.tenant;
                let from_header = Some(tenant.header.as_str()).filter(|name| !name.is_empty());
                let from_baggage = Some(tenant.baggage.as_str()).filter(|key| !key.is_empty());
                let header = from_header.and_then(|name| headers.first(name));
                header.or_else(|| from_baggage.and_then(|key| incoming.baggage_value(key)))
            }
            _ => None,
        }
    }

    /// Whether a request is one that a filter's exporter makes: metering it would make the next
    /// one. Only for the paths of the collector, so that the name in `user-agent`, which anybody
    /// can send, is no way around metering.
    pub(crate) fn is_own_export(&self, headers: &RequestHeaders<'_>) -> bool {
        let export = &self.policy.export;
        let paths = [&export.path, &export.metrics_path, &export.rates_path];
        headers.user_agent().starts_with(USER_AGENT.as_bytes())
            && paths.iter().any(|path| path.as_bytes() == headers.path())
    }
}

fn nanos(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Beginning of the `user-agent` of every export request; the version follows.
pub const USER_AGENT: &str = "tracemeter/";

/// Every attribute that a condition of the policy asks for while the headers are there.
#[inline(never)]
fn asked_attributes<'p>(policy: &'p Policy, sampler: &'p Sampler) -> Vec<&'p Attribute> {
    let attributes = &policy.attributes;
    let conditions = (attributes
        .operation_type
        .iter()
        .map(|mapping| &mapping.when))
    .chain(attributes.data_tag.iter().map(|mapping| &mapping.when))
    .chain(&attributes.hitl_required)
    .chain([
        &policy.debug.explain_when,
        &policy.propagation.return_channel.client_header_when,
    ])
    .chain(policy.cost.budget.grants.iter().map(|grant| &grant.when));
    let mut asked: Vec<&Attribute> = conditions.flat_map(Condition::attributes).collect();
    asked.extend(sampler.head_attributes());
    asked.extend(sampler.end_attributes());
    asked
}

#[inline(never)]
fn baggage_keys(policy: &Policy, asked: &[&Attribute]) -> Vec<Box<str>> {
    let mut keys: Vec<Box<str>> = Vec::new();
    let tenant = Box::from(policy.attributes.tenant.baggage.as_str());
    let named = asked.iter().filter_map(|attribute| match attribute {
        Attribute::Baggage(key) => Some(key.clone()),
        _ => None,
    });
    for key in named.chain([tenant]).filter(|key| !key.is_empty()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// What end-of-stream rules and the ledger ask of the headers, which are gone by then.
#[inline(never)]
fn kept_attributes(with_tenant: bool, sampler: &Sampler) -> Vec<Attribute> {
    let from_headers = |attribute: &&Attribute| {
        matches!(
            attribute,
            Attribute::RequestHeader(_)
                | Attribute::Baggage(_)
                | Attribute::Tenant
                | Attribute::UrlQuery
        )
    };
    let mut kept = Vec::new();
    if with_tenant {
        kept.push(Attribute::Tenant);
    }
    let asked = sampler.end_attributes().iter().filter(from_headers);
    kept.extend(
        asked
            .filter(|&asked| !with_tenant || *asked != Attribute::Tenant)
            .cloned(),
    );
    kept.truncate(MAX_KEPT);
    kept
}
