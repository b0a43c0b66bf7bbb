//! What the benchmark sends: spans of a shop's mesh that repeat as little as real ones do.
//!
//! A body is encoded once, with marks where ids and times go; sending it costs a few patched bytes
//! per span. Names, routes and hosts come from a mesh of twelve services; paths, sizes, costs,
//! users' addresses, query texts and the trace state's randomness differ from span to span.

use fastrand::Rng;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message as _;

/// Spans of one body.
pub(crate) const SPANS: usize = 500;

/// The services; a trace enters at the first and goes down the list.
pub(crate) const SERVICES: [&str; 12] = [
    "gateway",
    "checkout",
    "cart",
    "catalog",
    "payment",
    "orders",
    "users",
    "search",
    "shipping",
    "inventory",
    "recommendation",
    "mail",
];
pub(crate) const ROUTES: [&str; 6] = [
    "/api/v1/{tenant}/items/{id}",
    "/api/v1/{tenant}/orders",
    "/api/v1/orders/{id}/lines",
    "/internal/price",
    "/internal/stock/{sku}",
    "/healthz",
];
const OPERATIONS: [&str; 5] = [
    "api_call",
    "database_query",
    "cache_lookup",
    "llm_call",
    "storage",
];
const AGENTS: [&str; 4] = [
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_1 like Mac OS X) AppleWebKit/605.1.15 Version/19.1",
    "okhttp/4.12.0",
    "Go-http-client/2.0",
];

const TRACE_MARK: [u8; 8] = *b"TRACEm\xf1\x07";
const SPAN_MARK: [u8; 4] = *b"SPm\xf3";
const TIME_MARK: u64 = 0x7e57_71ed;

/// An encoded request and the places to patch.
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    traces: Vec<(usize, u64)>,
    spans: Vec<(usize, u64)>,
    /// Place and microseconds before the base time.
    times: Vec<(usize, u64)>,
}

impl Body {
    /// A body that is different for every `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        let bytes = encode(&mut Rng::with_seed(seed));
        let mut body = Self {
            bytes,
            traces: Vec::new(),
            spans: Vec::new(),
            times: Vec::new(),
        };
        let time_mark = (TIME_MARK as u32).to_le_bytes();
        for at in 0..body.bytes.len() {
            let rest = &body.bytes[at..];
            let after = |from: usize, len: usize| {
                let mut number = [0u8; 8];
                number[..len].copy_from_slice(&rest[from..from + len]);
                u64::from_le_bytes(number)
            };
            if rest.starts_with(&TRACE_MARK) {
                body.traces.push((at, after(8, 8)));
            } else if rest.starts_with(&SPAN_MARK) {
                body.spans.push((at, after(4, 4)));
            } else if rest.starts_with(&time_mark) {
                let before = u32::from_le_bytes(body.bytes[at - 4..at].try_into().unwrap());
                body.times.push((at - 4, u64::from(before)));
            }
        }
        assert!(
            body.times.len() == 2 * SPANS && body.spans.len() > SPANS,
            "marks were lost"
        );
        body
    }

    /// Writes fresh ids and times; `number` must differ from patch to patch.
    pub(crate) fn patch(&mut self, number: u64, base_ns: u64) {
        for (at, index) in &self.traces {
            let high = mixed(number << 16 | index);
            let low = mixed(high ^ 0x5bd1_e995);
            self.bytes[*at..at + 8].copy_from_slice(&high.to_be_bytes());
            self.bytes[at + 8..at + 16].copy_from_slice(&low.to_be_bytes());
        }
        for (at, index) in &self.spans {
            let id = mixed(!(number << 16 | index));
            self.bytes[*at..at + 8].copy_from_slice(&id.to_be_bytes());
        }
        for (at, before_us) in &self.times {
            // Real clocks have nanoseconds that no compressor can guess.
            let noise = mixed(number ^ (*at as u64) << 32) % 1_000;
            let time = base_ns - before_us * 1_000 + noise;
            self.bytes[*at..at + 8].copy_from_slice(&time.to_le_bytes());
        }
    }

    /// The trace id that a patched body begins with.
    pub(crate) fn first_trace(&self) -> String {
        let at = self.traces[0].0;
        self.bytes[at..at + 16]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// SplitMix64's finaliser: a bijection, so different numbers stay different.
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

pub(crate) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

pub(crate) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

pub(crate) fn resource(service: &str, pod: u32) -> Resource {
    let attributes = vec![
        text("service.name", service),
        text("service.namespace", "shop"),
        text(
            "service.instance.id",
            format!("{service}-7d9f8b6c5d-{pod:05x}"),
        ),
        text("k8s.pod.name", format!("{service}-7d9f8b6c5d-{pod:05x}")),
        text("k8s.node.name", format!("node-{}", pod % 7)),
        text("cloud.region", "eu-central-1"),
    ];
    Resource {
        attributes,
        ..Resource::default()
    }
}

fn encode(random: &mut Rng) -> Vec<u8> {
    let mut by_service: Vec<Vec<Span>> = vec![Vec::new(); SERVICES.len()];
    let (mut trace, mut span) = (0u64, 0usize);
    while span < SPANS {
        let len = random.usize(1..=14).min(SPANS - span);
        // Times of a trace lie within each other, within the last minute.
        let start = random.u64(1_000_000..60_000_000);
        let randomness = random.u64(0..1 << 56);
        let mut cost = 0.0;
        for index in 0..len {
            let parent = (index > 0).then(|| span + random.usize(0..index));
            let place = Place {
                trace,
                span: span + index,
                parent,
                start,
                randomness,
            };
            let service = if index == 0 {
                0
            } else {
                random.usize(1..SERVICES.len())
            };
            by_service[service].push(one(random, service, &place, &mut cost));
        }
        span += len;
        trace += 1;
    }
    let groups = by_service
        .into_iter()
        .enumerate()
        .filter(|(_, spans)| !spans.is_empty());
    let resource_spans = groups
        .map(|(service, spans)| ResourceSpans {
            resource: Some(resource(SERVICES[service], random.u32(0..20))),
            scope_spans: vec![ScopeSpans {
                scope: Some(InstrumentationScope {
                    name: "shop.http".into(),
                    ..Default::default()
                }),
                spans,
                ..ScopeSpans::default()
            }],
            ..ResourceSpans::default()
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

/// Where a span stands.
struct Place {
    trace: u64,
    span: usize,
    parent: Option<usize>,
    /// Microseconds of the trace's start before the base time.
    start: u64,
    randomness: u64,
}

fn span_id(index: usize) -> Vec<u8> {
    [SPAN_MARK, (index as u32).to_le_bytes()].concat()
}

fn marked_time(before_us: u64) -> u64 {
    TIME_MARK << 32 | before_us
}

fn one(random: &mut Rng, service: usize, place: &Place, path_cost: &mut f64) -> Span {
    let route = ROUTES[random.usize(0..ROUTES.len())];
    // Log-normal enough: most are fast, a few are slow.
    let duration = (120.0 * (random.f64() * 6.0).exp()) as u64 % place.start;
    let start = place.start - random.u64(0..=(place.start - duration) / 50);
    let status = match random.u32(0..100) {
        0..=94 => 200,
        95..=97 => 404,
        _ => 503,
    };
    let cost = (random.f64() * 400.0).round() * 1e-7;
    *path_cost += cost;
    let path = route
        .replace(
            "{tenant}",
            ["acme", "globex", "initech"][random.usize(0..3)],
        )
        .replace("{id}", &random.u32(10_000..99_999_999).to_string())
        .replace("{sku}", &format!("{:08X}", random.u32(..)));
    let mut attributes = vec![
        text(
            "http.request.method",
            ["GET", "GET", "POST", "PUT"][random.usize(0..4)],
        ),
        text("http.route", route),
        text("url.path", path),
        attribute("http.response.status_code", Value::IntValue(status)),
        attribute(
            "http.response.body.size",
            Value::IntValue(random.i64(20..60_000)),
        ),
        text(
            "server.address",
            format!("{}.shop.svc.cluster.local", SERVICES[service]),
        ),
        text("user_agent.original", AGENTS[random.usize(0..AGENTS.len())]),
        attribute("cost_usd", Value::DoubleValue(cost)),
        text(
            "data_tag",
            ["EXPORT_OK", "EXPORT_OK", "EXPORT_OK", "SENSITIVE"][random.usize(0..4)],
        ),
        text(
            "operation_type",
            OPERATIONS[random.usize(0..OPERATIONS.len())],
        ),
    ];
    if random.u32(0..4) == 0 {
        let query = format!(
            "SELECT * FROM line WHERE order_id = {} AND lang = $1",
            random.u32(..)
        );
        attributes.push(text("db.query.text", query));
    }
    Span {
        trace_id: [TRACE_MARK, place.trace.to_le_bytes()].concat(),
        span_id: span_id(place.span),
        parent_span_id: place.parent.map(span_id).unwrap_or_default(),
        trace_state: format!(
            "cost_usd={path_cost:.7},data_tag=EXPORT_OK,ot=th:e66;rv:{:014x}",
            place.randomness
        ),
        name: format!("GET {route}"),
        kind: 2 + (place.span % 2) as i32,
        start_time_unix_nano: marked_time(start),
        end_time_unix_nano: marked_time(start - duration),
        attributes,
        status: (status >= 500).then(|| Status {
            code: 2,
            message: "upstream timed out".into(),
        }),
        ..Span::default()
    }
}
