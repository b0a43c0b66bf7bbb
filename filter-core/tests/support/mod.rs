//! What the tests of the engine share: a bench that drives requests through an [`Engine`], and
//! readers of what leaves it that share no code with the engine's writers.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code; each test binary uses a part"
)]

pub(crate) mod hostile;
pub(crate) mod replies;
pub(crate) mod spans;

use std::collections::BTreeMap;

use filter_core::counters::Metric;
use filter_core::export::{Outcome, Signal};
use filter_core::headers::HeaderBlock;
use filter_core::identity::Node;
use filter_core::{
    Details, Direction, Edit, Engine, Entropy, Protocol, RequestInput, RequestState, StreamEnd,
};
use mesh_config::Policy;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use w3c_traceparent_parser::TraceParent;

pub(crate) const MILLISECOND: u64 = 1_000_000;
pub(crate) const SECOND: u64 = 1_000_000_000;
/// 2026-11-21T00:00:00Z
pub(crate) const START: u64 = 1_795_219_200 * SECOND;

/// A trace whose randomness is 0xf0.. (kept at 10 %) and one whose is 0x10.. (dropped below 93 %).
pub(crate) const HIGH_TRACE: &str = "4bf92f3577b34da6a3f0000000000001";
pub(crate) const LOW_TRACE: &str = "4bf92f3577b34da6a310000000000001";
pub(crate) const CALLER: &str = "00f067aa0ba902b7";

/// A traceparent of version 00.
pub(crate) fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

/// Reproducible random numbers.
pub(crate) struct Seeded(pub(crate) fastrand::Rng);

impl Entropy for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

/// What left with one request.
#[derive(Debug)]
pub(crate) struct Left {
    pub(crate) state: RequestState,
    pub(crate) traceparent: Option<String>,
    /// The lines that the next hop sees; `None` when the header is not there.
    pub(crate) tracestate: Option<Vec<u8>>,
    pub(crate) baggage: Option<Vec<u8>>,
}

impl Left {
    pub(crate) fn parent(&self) -> TraceParent {
        TraceParent::parse(self.traceparent.as_ref().unwrap().as_bytes()).unwrap()
    }

    pub(crate) fn flags(&self) -> &str {
        &self.traceparent.as_ref().unwrap()[53..]
    }

    pub(crate) fn state(&self) -> &str {
        std::str::from_utf8(self.tracestate.as_deref().unwrap_or_default()).unwrap()
    }

    pub(crate) fn baggage(&self) -> &str {
        std::str::from_utf8(self.baggage.as_deref().unwrap_or_default()).unwrap()
    }

    /// The value of a tracestate member.
    pub(crate) fn member(&self, key: &str) -> Option<&str> {
        let mut members = self.state().split(',');
        members.find_map(|member| member.strip_prefix(key)?.strip_prefix('='))
    }

    pub(crate) fn th(&self) -> Option<&str> {
        let mut parts = self.member("ot")?.split(';');
        parts.find_map(|part| part.strip_prefix("th:"))
    }
}

/// An engine with its surroundings.
pub(crate) struct Bench {
    pub(crate) engine: Engine,
    pub(crate) entropy: Seeded,
    pub(crate) now: u64,
    pub(crate) direction: Direction,
    pub(crate) protocol: Option<Protocol>,
    /// Acknowledged deltas of the ledger.
    pub(crate) deltas: Vec<Vec<u8>>,
    counted: BTreeMap<String, u64>,
}

pub(crate) type Pairs<'a> = &'a [(&'a str, &'a str)];

/// The policy of a JSON document; `export` is on unless the document says otherwise.
pub(crate) fn policy(json: &str) -> Policy {
    let mut policy = Policy::from_json(json.as_bytes())
        .unwrap_or_else(|error| panic!("{error}"))
        .policy;
    if policy.export.cluster.is_empty() {
        policy.export.cluster = "collector".to_owned();
    }
    if policy.service.name.is_empty() {
        policy.service.name = "shop".to_owned();
    }
    policy
}

/// Nothing but the stated rate decides.
pub(crate) fn rate(rate: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":{rate},"low_volume":{{"traces_per_minute":0}},
            "error_classes":{{"rate":0}}}}}}"#
    )
}

impl Bench {
    pub(crate) fn new(json: &str) -> Self {
        Self::at(json, Direction::Inbound)
    }

    pub(crate) fn at(json: &str, direction: Direction) -> Self {
        Self {
            engine: Engine::new(&policy(json), &Node::default(), "worker-1"),
            entropy: Seeded(fastrand::Rng::with_seed(7)),
            now: START,
            direction,
            protocol: None,
            deltas: Vec::new(),
            counted: BTreeMap::new(),
        }
    }

    /// A plain GET with further headers.
    pub(crate) fn get(&mut self, path: &str, further: Pairs<'_>) -> Left {
        let mut lines = vec![
            (":method", "GET"),
            (":path", path),
            (":authority", "shop:8080"),
            (":scheme", "http"),
        ];
        lines.extend_from_slice(further);
        self.send(&lines).expect("metered")
    }

    pub(crate) fn send<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &mut self,
        lines: &[(N, V)],
    ) -> Option<Left> {
        let block = HeaderBlock::encode(lines);
        let input = RequestInput {
            headers: HeaderBlock::new(&block),
            now_unix_nanos: self.now,
            direction: self.direction,
            protocol: self.protocol,
            in_flight: None,
        };
        let state = self.engine.request(&input, &mut self.entropy)?;
        let edits = self.engine.edits(&state);
        let apply = |name: &str, edit: Edit<'_>| match edit {
            Edit::Keep => joined(lines, name),
            Edit::Remove => None,
            Edit::Set(value) => Some(value.to_vec()),
        };
        let text = |bytes: [u8; 55]| String::from_utf8(bytes.to_vec()).unwrap();
        Some(Left {
            traceparent: edits.traceparent.map(text),
            tracestate: apply("tracestate", edits.tracestate),
            baggage: apply("baggage", edits.baggage),
            state,
        })
    }

    /// Ends a request after some milliseconds.
    pub(crate) fn end(&mut self, left: Left, milliseconds: u64, end: StreamEnd) {
        self.now += milliseconds * MILLISECOND;
        let end = StreamEnd {
            now_unix_nanos: self.now,
            ..end
        };
        let details = |wanted: filter_core::Wanted| Details {
            protocol: Some(Protocol::Http2),
            peer: wanted.peer.map(|_| b"10.0.0.7:4711".to_vec()),
            user_agent: wanted.user_agent.then(|| b"curl/8 al@example.com".to_vec()),
        };
        self.engine.end(left.state, &end, details);
    }

    /// Ends a request with an HTTP status.
    pub(crate) fn answer(&mut self, left: Left, status: u16) {
        self.end(left, 5, status_end(status));
    }

    /// One request and its end.
    pub(crate) fn exchange(&mut self, path: &str, further: Pairs<'_>, status: u16) {
        let left = self.get(path, further);
        self.answer(left, status);
    }

    /// All batches that the exporter gives out after the linger time, acknowledged. Counts that
    /// are due go along.
    pub(crate) fn batches(&mut self) -> Vec<ExportTraceServiceRequest> {
        self.now += 2 * SECOND;
        let mut batches = Vec::new();
        while let Some(dispatch) = self.engine.poll_export(self.now) {
            match dispatch.signal {
                Signal::Traces => {
                    batches.push(ExportTraceServiceRequest::decode(&dispatch.body[..]).unwrap());
                }
                Signal::Metrics => self.deltas.push(dispatch.body),
            }
            self.engine
                .export_outcome(dispatch.id, Outcome::Accepted, self.now, 0);
        }
        batches
    }

    /// The spans of all batches.
    pub(crate) fn spans(&mut self) -> Vec<Span> {
        let batches = self.batches();
        let resources = batches.into_iter().flat_map(|batch| batch.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }

    /// The only span so far.
    pub(crate) fn span(&mut self) -> Span {
        let mut spans = self.spans();
        assert_eq!(spans.len(), 1, "{spans:#?}");
        spans.remove(0)
    }

    /// A counter or a reason by its metric name without prefix and `_total`.
    pub(crate) fn count(&mut self, name: &str) -> u64 {
        let counted = &mut self.counted;
        self.engine.counters().drain(|_, metric: Metric, value| {
            *counted.entry(metric.name()).or_default() += value;
        });
        let full = format!("tracemeter_{name}_total");
        assert!(
            Metric::all().any(|metric| metric.name() == full),
            "no metric `{full}`"
        );
        counted.get(&full).copied().unwrap_or(0)
    }
}

pub(crate) fn status_end(status: u16) -> StreamEnd {
    StreamEnd {
        http_status: Some(status),
        ..StreamEnd::default()
    }
}

/// All lines of a name as one list.
fn joined<N: AsRef<[u8]>, V: AsRef<[u8]>>(lines: &[(N, V)], name: &str) -> Option<Vec<u8>> {
    let values = lines
        .iter()
        .filter(|(line, _)| line.as_ref() == name.as_bytes());
    let values: Vec<&[u8]> = values.map(|(_, value)| value.as_ref()).collect();
    (!values.is_empty()).then(|| values.join(&b','))
}
