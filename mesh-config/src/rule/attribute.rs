//! The attributes of the rule language: names, types, and when their value is known.

/// When a value is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// When the request's headers have arrived.
    Request,
    /// When the response has ended.
    StreamEnd,
    /// When the collector has the trace.
    Trace,
}

impl Phase {
    /// Every phase in the order of time.
    pub const ALL: [Self; 3] = [Self::Request, Self::StreamEnd, Self::Trace];

    /// Name for explanations.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::StreamEnd => "stream_end",
            Self::Trace => "trace",
        }
    }
}

/// What kind of value an attribute has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A data class.
    Class,
    /// A duration; plain numbers are milliseconds.
    Duration,
    /// US dollars.
    Money,
    /// A number.
    Number,
    /// A size in bytes.
    Size,
    /// A string.
    Text,
    /// Whatever the value in the condition looks like.
    Any,
}

impl Kind {
    /// What to write, for messages and the reference.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Bool => "`true` or `false`",
            Self::Class => "one of `EXPORT_OK`, `SENSITIVE`, `PII`",
            Self::Duration => "a duration such as `250ms` or `1s`",
            Self::Money => "an amount in US dollars such as `0.01`",
            Self::Number => "a number",
            Self::Size => "a size such as `10MiB`",
            Self::Text => "a string",
            Self::Any => "a string, number, `true` or `false`",
        }
    }
}

/// One line of the table of attributes.
#[derive(Clone, Copy, Debug)]
pub struct KnownAttribute {
    /// Its name in conditions.
    pub name: &'static str,
    /// Other names that mean the same.
    pub aliases: &'static [&'static str],
    /// What kind of value it has.
    pub kind: Kind,
    /// When the value is final.
    pub phase: Phase,
    /// Reference text.
    pub doc: &'static str,
}

macro_rules! attributes {
    ($($variant:ident = $name:literal $([$($alias:literal),+])?, $kind:ident, $phase:ident, $doc:literal;)+) => {
        /// Something that a condition can ask for.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Attribute {
            $( #[doc = $doc] $variant, )+
            /// A request header; the name is lower case.
            RequestHeader(Box<str>),
            /// A baggage value, percent-decoded.
            Baggage(Box<str>),
            /// A resource attribute of the proxy's workload or of the application.
            Resource(Box<str>),
            /// Any other attribute of a span: only the collector knows it.
            Span(Box<str>),
        }

        /// The attributes with a fixed name.
        pub const KNOWN: &[KnownAttribute] = &[
            $( KnownAttribute {
                name: $name,
                aliases: &[$($($alias),+)?],
                kind: Kind::$kind,
                phase: Phase::$phase,
                doc: $doc,
            }, )+
        ];

        /// Every fixed name and alias, without the reference texts: the filter needs only these.
        pub(super) const NAMES: &[&str] = &[$( $name, $($($alias,)+)? )+];

        impl Attribute {
            fn fixed(name: &str) -> Option<Self> {
                match name {
                    $( $name $($(| $alias)+)? => Some(Self::$variant), )+
                    _ => None,
                }
            }

            /// What kind of value it has.
            pub fn kind(&self) -> Kind {
                match self {
                    $( Self::$variant => Kind::$kind, )+
                    Self::RequestHeader(_) | Self::Baggage(_) | Self::Resource(_) | Self::Span(_) => Kind::Any,
                }
            }

            /// When its value is final.
            pub fn phase(&self) -> Phase {
                match self {
                    $( Self::$variant => Phase::$phase, )+
                    Self::RequestHeader(_) | Self::Baggage(_) | Self::Resource(_) => Phase::Request,
                    Self::Span(_) => Phase::Trace,
                }
            }
        }

        impl std::fmt::Display for Attribute {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self {
                    $( Self::$variant => f.write_str($name), )+
                    Self::RequestHeader(name) => write!(f, "request.header[{}]", Quoted(name)),
                    Self::Baggage(name) => write!(f, "baggage[{}]", Quoted(name)),
                    Self::Resource(name) => write!(f, "resource[{}]", Quoted(name)),
                    Self::Span(name) if is_plain_span(name) => f.write_str(name),
                    Self::Span(name) => write!(f, "span[{}]", Quoted(name)),
                }
            }
        }
    };
}

attributes! {
    Error = "error", Bool, StreamEnd,
        "Whether the request failed, by `sampling.error_classes`; in the collector, any span of the trace.";
    CostUsd = "cost_usd", Money, StreamEnd,
        "Cost so far: at request time what the path before this hop has cost, at the end with this hop's own cost, in the collector that of the whole trace. It only grows, so `cost_usd > 0.01` can hold early.";
    DurationMs = "duration_ms", Duration, StreamEnd,
        "Time from request headers to the end of the response; in the collector, of the whole trace.";
    DataTag = "data_tag", Class, StreamEnd,
        "Data class. It is only ever raised, so `data_tag = PII` can hold early.";
    HitlRequired = "hitl_required", Bool, Request,
        "Whether a human is involved, by `attributes.hitl_required`.";
    OperationType = "operation_type", Text, Request,
        "Operation type, by `attributes.operation_type`.";
    ServiceName = "service.name" ["service_name"], Text, Request, "The metered service.";
    ServiceNamespace = "service.namespace", Text, Request, "Its namespace.";
    Environment = "deployment.environment.name" ["environment"], Text, Request, "Its environment.";
    Direction = "direction", Text, Request, "`inbound`, `outbound` or `gateway`.";
    Tenant = "tenant", Text, Request, "Tenant, by `attributes.tenant`.";
    HttpRequestMethod = "http.request.method" ["http.method"], Text, Request, "HTTP method.";
    HttpResponseStatusCode = "http.response.status_code" ["http.status_code"], Number, StreamEnd,
        "HTTP status; absent when the client went away before there was one.";
    HttpRoute = "http.route", Text, Request, "Route template, by `attributes.routes`.";
    UrlPath = "url.path", Text, Request, "Path without the query.";
    UrlQuery = "url.query", Text, Request, "Query without the question mark.";
    UrlScheme = "url.scheme", Text, Request, "`http` or `https`.";
    ServerAddress = "server.address", Text, Request, "Host that the request is for, without port.";
    NetworkProtocolVersion = "network.protocol.version", Text, Request, "`1.1`, `2` or `3`.";
    RpcService = "rpc.service", Text, Request, "gRPC service, with its package; absent for other requests.";
    RpcMethod = "rpc.method", Text, Request, "gRPC method; absent for other requests.";
    RpcGrpcStatusCode = "rpc.grpc.status_code", Number, StreamEnd, "gRPC status; absent for other requests.";
    RequestBodySize = "http.request.body.size", Size, StreamEnd, "Bytes of the request body.";
    ResponseBodySize = "http.response.body.size", Size, StreamEnd, "Bytes of the response body.";
    TraceCostUsd = "trace.cost_usd", Money, Trace, "Cost of the whole trace.";
    TraceDurationMs = "trace.duration_ms", Duration, Trace, "Time from the first to the last moment of the trace.";
    TraceSpans = "trace.spans", Number, Trace, "Spans of the trace.";
    TraceDepth = "trace.depth", Number, Trace, "Longest chain of spans of the trace.";
}

/// A name in double quotes, as it is written in a condition.
struct Quoted<'a>(&'a str);

impl std::fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("\"")?;
        for found in self.0.chars() {
            if matches!(found, '"' | '\\') {
                f.write_str("\\")?;
            }
            write!(f, "{found}")?;
        }
        f.write_str("\"")
    }
}

/// Whether a bare name with a point in it reads back as this span attribute.
fn is_plain_span(name: &str) -> bool {
    name.contains('.')
        && name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        && Attribute::fixed(name).is_none()
        && name != "request.header"
}

impl Attribute {
    /// The attribute of a bare name; `None` when it has no point and is not known.
    pub fn named(name: &str) -> Option<Self> {
        if let Some(known) = Self::fixed(name) {
            return Some(known);
        }
        is_plain_span(name).then(|| Self::Span(name.into()))
    }

    /// The attribute `family["key"]`.
    pub(crate) fn keyed(family: &str, key: &str) -> Option<Self> {
        match family {
            "request.header" => Some(Self::RequestHeader(key.to_ascii_lowercase().into())),
            "baggage" => Some(Self::Baggage(key.into())),
            "resource" => Some(Self::Resource(key.into())),
            "span" => Some(Self::Span(key.into())),
            _ => None,
        }
    }

    /// Whether its value only grows while a request is under way: a lower bound is then enough
    /// for some comparisons.
    pub fn only_grows(&self) -> bool {
        matches!(
            self,
            Self::CostUsd
                | Self::DataTag
                | Self::DurationMs
                | Self::RequestBodySize
                | Self::ResponseBodySize
                | Self::TraceCostUsd
                | Self::TraceDurationMs
                | Self::TraceSpans
                | Self::TraceDepth
        )
    }
}
