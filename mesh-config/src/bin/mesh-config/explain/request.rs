//! The request that the command line describes, as the rule language sees it.

use std::str::FromStr;

use mesh_config::money::NanoUsd;
use mesh_config::policy::{Direction, Policy};
use mesh_config::price::PriceTable;
use mesh_config::rule::{Attribute, Attributes, Lookup, Value};
use mesh_config::{DataTag, units};

use crate::args::Args;
use crate::output::Failure;

/// Names and values of one kind, such as headers.
type Pairs = Vec<(String, String)>;

/// A request.
pub(crate) struct Request {
    pub(crate) service: String,
    pub(crate) namespace: String,
    pub(crate) environment: String,
    pub(crate) direction: Direction,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    scheme: String,
    route: String,
    query: String,
    headers: Pairs,
    baggage: Pairs,
    resource: Pairs,
    grpc: Option<(String, String)>,
    tenant: Option<String>,
    pub(crate) operation: Option<(String, Option<usize>)>,
    pub(crate) data_tag: (DataTag, Option<usize>),
    pub(crate) hitl_required: bool,
    pub(crate) path_cost: NanoUsd,
    /// Own cost: the base price at first, exact when the end is known.
    pub(crate) own_cost: NanoUsd,
    pub(crate) request_bytes: Option<u64>,
    pub(crate) response_bytes: u64,
    status: Option<u16>,
    grpc_status: Option<u32>,
    pub(crate) duration_ns: Option<u64>,
    reset: bool,
    error: bool,
    has_end: bool,
}

fn read<T>(
    args: &Args,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Failure> {
    let Some(text) = args.value(name) else {
        return Ok(None);
    };
    let parsed = parse(text);
    parsed
        .map(Some)
        .ok_or_else(|| Failure::Usage(format!("value `{text}` of `--{name}` is not understood")))
}

fn number<T: FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn pairs(args: &Args, name: &str) -> Result<Pairs, Failure> {
    args.all(name)
        .map(|text| match text.split_once('=') {
            Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
            None => Err(Failure::Usage(format!(
                "value `{text}` of `--{name}` is not NAME=VALUE"
            ))),
        })
        .collect()
}

fn find<'a>(pairs: &'a Pairs, name: &str) -> Option<&'a str> {
    pairs
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

impl Request {
    /// Reads the options, then the attributes that the policy maps.
    pub(crate) fn read(args: &Args, policy: &Policy, prices: &PriceTable) -> Result<Self, Failure> {
        let mut request = Self::described(args, policy)?;
        request.map_attributes(args, policy)?;
        let operation = request
            .operation
            .as_ref()
            .map_or("", |(name, _)| name.as_str());
        let bytes = request
            .request_bytes
            .unwrap_or(0)
            .saturating_add(request.response_bytes);
        request.own_cost = if request.has_end {
            prices.cost(operation, request.duration_ns.unwrap_or(0), bytes)
        } else {
            prices.base(operation)
        };
        request.error = args.has("error")
            || policy.sampling.error_classes.is_error(
                request.status,
                request.grpc_status,
                request.reset,
            );
        Ok(request)
    }

    fn described(args: &Args, policy: &Policy) -> Result<Self, Failure> {
        let text = |name: &str, default: &str| args.value(name).unwrap_or(default).to_owned();
        let full_path = text("path", "/");
        let (path, query) = full_path.split_once('?').unwrap_or((&full_path, ""));
        let grpc = read(args, "grpc", |text| {
            text.trim_start_matches('/')
                .split_once('/')
                .map(|(service, method)| (service.to_owned(), method.to_owned()))
        })?;
        let namespace = text("namespace", &policy.service.namespace);
        let mut environment = text("environment", &policy.service.environment);
        if environment.is_empty() && policy.sampling.environments.get(&namespace).is_some() {
            environment.clone_from(&namespace);
        }
        let size = |name| {
            read(args, name, |text| {
                units::size(text).map(units::ByteSize::bytes)
            })
        };
        let duration = read(args, "duration", units::duration)?;
        let ends = ["status", "grpc-status", "duration", "response-bytes"];
        let has_end = ends.iter().any(|name| args.value(name).is_some())
            || args.has("reset")
            || args.has("error");
        Ok(Self {
            service: text("service", &policy.service.name),
            direction: read(args, "direction", Direction::parse)?
                .unwrap_or(policy.service.direction),
            method: text("method", if grpc.is_some() { "POST" } else { "GET" }),
            path: match &grpc {
                Some((service, method)) => format!("/{service}/{method}"),
                None => path.to_owned(),
            },
            query: query.to_owned(),
            host: text("host", ""),
            scheme: text("scheme", "http"),
            route: text("route", ""),
            headers: pairs(args, "header")?,
            baggage: pairs(args, "baggage")?,
            resource: pairs(args, "resource")?,
            path_cost: read(args, "path-cost", |text| {
                NanoUsd::parse_decimal(text.as_bytes()).ok()
            })?
            .unwrap_or(NanoUsd::ZERO),
            request_bytes: size("request-bytes")?,
            response_bytes: size("response-bytes")?.unwrap_or(0),
            status: read(args, "status", number)?,
            grpc_status: read(args, "grpc-status", number)?,
            duration_ns: duration.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)),
            reset: args.has("reset"),
            error: false,
            own_cost: NanoUsd::ZERO,
            operation: None,
            data_tag: (DataTag::ExportOk, None),
            hitl_required: false,
            tenant: None,
            namespace,
            environment,
            grpc,
            has_end,
        })
    }

    /// Operation type, then data class, then human review, as the filter reads them.
    fn map_attributes(&mut self, args: &Args, policy: &Policy) -> Result<(), Failure> {
        let attributes = &policy.attributes;
        let tenant = find(&self.headers, &attributes.tenant.header)
            .or_else(|| find(&self.baggage, &attributes.tenant.baggage));
        self.tenant = tenant.map(str::to_owned);
        let found = attributes.operation_of(&self.start());
        let found = found.map(|(index, name)| (name.to_owned(), Some(index)));
        self.operation = args
            .value("operation")
            .map(|name| (name.to_owned(), None))
            .or(found);
        let given = read(args, "data-tag", |text| DataTag::parse(text.as_bytes()))?;
        let given = (given.unwrap_or_default(), None);
        self.data_tag = match attributes.tag_of(&self.start()) {
            Some((index, tag)) if tag > given.0 => (tag, Some(index)),
            _ => given,
        };
        self.hitl_required = attributes.needs_human(&self.start());
        Ok(())
    }

    fn start(&self) -> View<'_> {
        View {
            request: self,
            at_end: false,
        }
    }

    /// Whether the end of the request is described.
    pub(crate) const fn has_end(&self) -> bool {
        self.has_end
    }
}

/// The request at its start or at its end.
pub(crate) struct View<'a> {
    pub(crate) request: &'a Request,
    pub(crate) at_end: bool,
}

fn text(value: &str) -> Lookup<'_> {
    if value.is_empty() {
        Lookup::Absent
    } else {
        Lookup::Value(Value::Bytes(value.as_bytes()))
    }
}

impl View<'_> {
    fn growing<'a>(&self, value: Value<'a>) -> Lookup<'a> {
        if self.at_end {
            Lookup::Value(value)
        } else {
            Lookup::AtLeast(value)
        }
    }

    fn at_end<'a>(&self, value: Option<Value<'a>>) -> Lookup<'a> {
        match (self.at_end, value) {
            (false, _) => Lookup::Unknown,
            (true, None) => Lookup::Absent,
            (true, Some(value)) => Lookup::Value(value),
        }
    }
}

impl Attributes for View<'_> {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let request = self.request;
        let grpc = request.grpc.as_ref();
        match attribute {
            Attribute::Error => self.at_end(Some(Value::Bool(request.error))),
            Attribute::CostUsd => self.growing(Value::Money(
                request.path_cost.saturating_add(request.own_cost),
            )),
            Attribute::DurationMs => {
                self.at_end(Some(Value::Nanos(request.duration_ns.unwrap_or(0))))
            }
            Attribute::DataTag => self.growing(Value::Tag(request.data_tag.0)),
            Attribute::HitlRequired => Lookup::Value(Value::Bool(request.hitl_required)),
            Attribute::OperationType => {
                text(request.operation.as_ref().map_or("", |(name, _)| name))
            }
            Attribute::ServiceName => text(&request.service),
            Attribute::ServiceNamespace => text(&request.namespace),
            Attribute::Environment => text(&request.environment),
            Attribute::Direction => text(match request.direction {
                Direction::Auto => "inbound",
                other => other.as_str(),
            }),
            Attribute::Tenant => text(request.tenant.as_deref().unwrap_or_default()),
            Attribute::HttpRequestMethod => text(&request.method),
            Attribute::HttpResponseStatusCode => {
                self.at_end(request.status.map(|code| Value::Number(code.into())))
            }
            Attribute::HttpRoute => text(if request.route.is_empty() {
                &request.path
            } else {
                &request.route
            }),
            Attribute::UrlPath => text(&request.path),
            Attribute::UrlQuery => text(&request.query),
            Attribute::UrlScheme => text(&request.scheme),
            Attribute::ServerAddress => text(&request.host),
            Attribute::NetworkProtocolVersion => text(if grpc.is_some() { "2" } else { "1.1" }),
            Attribute::RpcService => text(grpc.map_or("", |(service, _)| service)),
            Attribute::RpcMethod => text(grpc.map_or("", |(_, method)| method)),
            Attribute::RpcGrpcStatusCode => {
                self.at_end(request.grpc_status.map(|code| Value::Number(code.into())))
            }
            Attribute::RequestBodySize => match request.request_bytes {
                Some(bytes) => self.growing(Value::Number(bytes as f64)),
                None => self.at_end(Some(Value::Number(0.0))),
            },
            Attribute::ResponseBodySize => {
                self.at_end(Some(Value::Number(request.response_bytes as f64)))
            }
            Attribute::RequestHeader(name) => {
                text(find(&request.headers, name).unwrap_or_default())
            }
            Attribute::Baggage(key) => text(find(&request.baggage, key).unwrap_or_default()),
            Attribute::Resource(key) => text(find(&request.resource, key).unwrap_or_default()),
            Attribute::Span(_)
            | Attribute::TraceCostUsd
            | Attribute::TraceDurationMs
            | Attribute::TraceSpans
            | Attribute::TraceDepth => Lookup::Unknown,
        }
    }
}
