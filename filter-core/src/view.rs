//! One request as the rule language sees it: at its headers, and at its end.

use mesh_config::money::NanoUsd;
use mesh_config::rule::{Attribute, Attributes, Known, Lookup, Measure, Measures, Value};
use mesh_config::{DataTag, policy::Direction};

use crate::context::Incoming;
use crate::facts::Facts;
use crate::headers::{RequestHeaders, host_of};
use crate::identity::Identity;
use crate::settings::Settings;
use crate::state::StreamEnd;

/// What is known of the end of a stream.
pub(crate) struct EndView<'v> {
    pub(crate) end: &'v StreamEnd,
    /// What is known of the whole trace's cost, where replies carry costs.
    pub(crate) trace_cost: Option<NanoUsd>,
    /// False while the response has only begun: what grows may still grow, and what is not known
    /// (an error in the trailers) is open.
    pub(crate) over: bool,
}

/// See the module documentation. What a phase does not know yet is `Unknown`, never false.
pub(crate) struct View<'v> {
    pub(crate) settings: &'v Settings,
    pub(crate) identity: &'v Identity,
    pub(crate) direction: Direction,
    pub(crate) facts: &'v Facts,
    /// Present while the headers are there.
    pub(crate) headers: Option<(&'v RequestHeaders<'v>, &'v Incoming<'v>)>,
    pub(crate) operation: Option<&'v str>,
    /// Error, human review, data class, duration and cost: of the path, and of this hop once it is
    /// known.
    pub(crate) measures: Measures,
    /// Present once the stream has ended.
    pub(crate) end: Option<EndView<'v>>,
}

fn text(bytes: &[u8]) -> Lookup<'_> {
    if bytes.is_empty() {
        Lookup::Absent
    } else {
        Lookup::Value(Value::Bytes(bytes))
    }
}

fn optional(bytes: Option<&[u8]>) -> Lookup<'_> {
    bytes.map_or(Lookup::Absent, |bytes| Lookup::Value(Value::Bytes(bytes)))
}

impl View<'_> {
    /// A value that only the headers hold: from them while they are there, later from what was
    /// kept of them for the rules.
    fn header_value(&self, attribute: &Attribute) -> Lookup<'_> {
        let Some((headers, incoming)) = self.headers else {
            return match self.settings.kept_index(attribute) {
                Some(index) => optional(self.facts.kept(index)),
                None => Lookup::Absent,
            };
        };
        optional(
            self.settings
                .read_header_value(attribute, headers, incoming),
        )
    }

    /// A value that only grows: a lower bound until the stream has ended.
    fn growing<'a>(&self, value: Value<'a>) -> Lookup<'a> {
        if self.end.as_ref().is_some_and(|end| end.over) {
            Lookup::Value(value)
        } else {
            Lookup::AtLeast(value)
        }
    }

    fn at_end<'a>(&self, read: impl FnOnce(&EndView<'_>) -> Option<Value<'a>>) -> Lookup<'a> {
        match &self.end {
            None => Lookup::Unknown,
            Some(end) => match read(end) {
                Some(value) => Lookup::Value(value),
                None if end.over => Lookup::Absent,
                None => Lookup::Unknown,
            },
        }
    }

    fn request_body_size(&self) -> Lookup<'_> {
        match &self.end {
            Some(end) => self.growing(Value::Number(end.end.request_bytes as f64)),
            None => match self.facts.content_length {
                Some(length) => Lookup::AtLeast(Value::Number(length as f64)),
                None => Lookup::Unknown,
            },
        }
    }
}

/// The direction's name in rules and attributes.
pub(crate) fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Auto | Direction::Inbound => "inbound",
        Direction::Outbound => "outbound",
        Direction::Gateway => "gateway",
    }
}

/// What is known of the measures at the request's headers.
pub(crate) fn measures_at_head(tag: DataTag, path_cost: NanoUsd) -> Measures {
    Measures {
        numbers: [0, 0, tag as u64, 0, path_cost.as_nanos()],
        known: [
            Known::Nothing,
            Known::Exactly,
            Known::AtLeast,
            Known::Nothing,
            Known::AtLeast,
        ],
    }
}

impl Attributes for View<'_> {
    fn measures(&self) -> Option<&Measures> {
        Some(&self.measures)
    }

    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let facts = self.facts;
        match attribute {
            Attribute::Error => self.measures.lookup(Measure::Error),
            Attribute::CostUsd => self.measures.lookup(Measure::Cost),
            Attribute::DurationMs => self.measures.lookup(Measure::Duration),
            Attribute::DataTag => self.measures.lookup(Measure::DataTag),
            Attribute::HitlRequired => self.measures.lookup(Measure::HitlRequired),
            Attribute::OperationType => text(self.operation.unwrap_or_default().as_bytes()),
            Attribute::ServiceName => text(self.identity.service.as_bytes()),
            Attribute::ServiceNamespace => text(self.identity.namespace.as_bytes()),
            Attribute::Environment => text(self.identity.environment.as_bytes()),
            Attribute::Direction => text(direction_name(self.direction).as_bytes()),
            Attribute::HttpRequestMethod => text(facts.method()),
            Attribute::HttpResponseStatusCode => self.at_end(|end| {
                end.end
                    .http_status
                    .map(|status| Value::Number(f64::from(status)))
            }),
            Attribute::HttpRoute => text(facts.route()),
            Attribute::UrlPath => text(facts.path()),
            Attribute::UrlScheme => text(facts.scheme()),
            Attribute::ServerAddress => text(host_of(facts.authority())),
            Attribute::RpcService => optional(facts.rpc_service()),
            Attribute::RpcMethod => optional(facts.rpc_method()),
            Attribute::RpcGrpcStatusCode => self.at_end(|end| {
                end.end
                    .grpc_status
                    .map(|status| Value::Number(f64::from(status)))
            }),
            Attribute::RequestBodySize => self.request_body_size(),
            Attribute::ResponseBodySize => self.at_end(|end| {
                end.over
                    .then_some(Value::Number(end.end.response_bytes as f64))
            }),
            Attribute::RequestHeader(_)
            | Attribute::Baggage(_)
            | Attribute::Tenant
            | Attribute::UrlQuery => self.header_value(attribute),
            Attribute::NetworkProtocolVersion => {
                optional(facts.protocol.map(|protocol| protocol.version().as_bytes()))
            }
            Attribute::Resource(key) => match self.identity.attribute(key) {
                Some(value) => Lookup::Value(Value::Bytes(value.as_bytes())),
                None => Lookup::Absent,
            },
            // Calls that go on after the response may add to it.
            Attribute::TraceCostUsd => {
                let known = self.end.as_ref().and_then(|end| end.trace_cost);
                known.map_or(Lookup::Unknown, |cost| Lookup::AtLeast(Value::Money(cost)))
            }
            Attribute::Span(_)
            | Attribute::TraceDurationMs
            | Attribute::TraceSpans
            | Attribute::TraceDepth => Lookup::Unknown,
        }
    }
}
