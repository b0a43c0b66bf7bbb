//! The contestants, in groups; the first of a group is its baseline.

use std::hint::black_box;

use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use w3c_traceparent_parser::TraceParent;
use w3c_traceparent_parser::baggage::Baggage;
use w3c_traceparent_parser::otel::OtState;
use w3c_traceparent_parser::tracestate::{Member, TraceState};

use crate::hand_written;

pub(crate) struct Variant {
    pub(crate) name: &'static str,
    pub(crate) is_ours: bool,
    pub(crate) run: fn(&Inputs, u64),
}

pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) variants: Vec<Variant>,
}

/// Headers of different requests, in the forms that the libraries take.
pub(crate) struct Inputs {
    headers: Vec<Headers>,
    maps: Vec<http_0_1::HeaderMap>,
    parsed: Vec<TraceParent>,
}

struct Headers {
    traceparent: String,
    tracestate: Option<String>,
    baggage: String,
}

impl Extractor for Headers {
    fn get(&self, key: &str) -> Option<&str> {
        match key {
            "traceparent" => Some(&self.traceparent),
            "tracestate" => self.tracestate.as_deref(),
            "baggage" => Some(&self.baggage),
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent", "tracestate", "baggage"]
    }
}

/// The same request without its `tracestate`, for the comparison of one header.
struct OnlyTraceparent<'h>(&'h Headers);

impl Extractor for OnlyTraceparent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.0.traceparent.as_str())
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

impl Inputs {
    pub(crate) fn new(count: usize, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let headers: Vec<Headers> = (0..count)
            .map(|_| Headers {
                traceparent: format!(
                    "00-{:032x}-{:016x}-{:02x}",
                    rng.u128(1..),
                    rng.u64(1..),
                    rng.u8(..4)
                ),
                tracestate: Some(format!(
                    "ot=th:c;rv:{:014x},rojo={:016x},congo=t61rcWkgMzE",
                    rng.u64(..) >> 8,
                    rng.u64(..)
                )),
                baggage: format!(
                    "userId=u{},tenant=acme%20inc,region=eu-west-1;ttl=3",
                    rng.u32(..)
                ),
            })
            .collect();
        let maps = headers
            .iter()
            .map(|headers| {
                let mut map = http_0_1::HeaderMap::new();
                map.insert("traceparent", headers.traceparent.parse().unwrap());
                map
            })
            .collect();
        let parsed = headers
            .iter()
            .map(|headers| TraceParent::parse(headers.traceparent.as_bytes()).unwrap())
            .collect();
        Self {
            headers,
            maps,
            parsed,
        }
    }
}

/// Calls the body with one item after the other.
fn each<T, R>(items: &[T], calls: u64, mut body: impl FnMut(&T) -> R) {
    for item in items.iter().cycle().take(calls as usize) {
        black_box(body(black_box(item)));
    }
}

const fn ours(name: &'static str, run: fn(&Inputs, u64)) -> Variant {
    let is_ours = true;
    Variant { name, is_ours, run }
}

const fn other(name: &'static str, run: fn(&Inputs, u64)) -> Variant {
    let is_ours = false;
    Variant { name, is_ours, run }
}

pub(crate) fn groups() -> Vec<Group> {
    vec![
        Group {
            name: "read traceparent",
            variants: read_traceparent(),
        },
        Group {
            name: "write traceparent",
            variants: write_traceparent(),
        },
        Group {
            name: "read traceparent and tracestate of 3 members",
            variants: read_context(),
        },
        Group {
            name: "rewrite tracestate: 3 members in, own one to the front",
            variants: vec![ours("w3c-traceparent-parser", |inputs, calls| {
                each(&inputs.headers, calls, rewrite_tracestate);
            })],
        },
        Group {
            name: "read baggage of 3 members",
            variants: read_baggage(),
        },
    ]
}

fn read_traceparent() -> Vec<Variant> {
    vec![
        other("hand-written, branch-free, 55 bytes", |inputs, calls| {
            each(&inputs.headers, calls, |headers| {
                hand_written::read(headers.traceparent.as_bytes())
            });
        }),
        ours("w3c-traceparent-parser", |inputs, calls| {
            each(&inputs.headers, calls, |headers| {
                TraceParent::parse(headers.traceparent.as_bytes())
            });
        }),
        other("traceparent 0.0.3", |inputs, calls| {
            each(&inputs.headers, calls, |headers| {
                traceparent::parse(&headers.traceparent).unwrap()
            });
        }),
        other("trace-context 0.1.0 (also draws an id)", |inputs, calls| {
            each(&inputs.maps, calls, |map| {
                trace_context::TraceContext::extract(map).unwrap()
            });
        }),
        other("opentelemetry_sdk 0.33", |inputs, calls| {
            let propagator = TraceContextPropagator::new();
            let root = opentelemetry::Context::new();
            each(&inputs.headers, calls, |headers| {
                propagator.extract_with_context(&root, &OnlyTraceparent(headers))
            });
        }),
    ]
}

fn write_traceparent() -> Vec<Variant> {
    vec![
        ours("w3c-traceparent-parser", |inputs, calls| {
            let mut out = [0; 55];
            each(&inputs.parsed, calls, |parsed| {
                parsed.write(&mut out);
                black_box(&out);
            });
        }),
        other("std::fmt into a buffer", |inputs, calls| {
            use std::io::Write;
            let mut out = [0; 55];
            each(&inputs.parsed, calls, |parsed| {
                let (trace, span) = (parsed.trace_id.to_u128(), parsed.parent_id.to_u64());
                let flags = parsed.flags.bits();
                write!(&mut out[..], "00-{trace:032x}-{span:016x}-{flags:02x}").unwrap();
                black_box(&out);
            });
        }),
    ]
}

fn read_context() -> Vec<Variant> {
    vec![
        ours("w3c-traceparent-parser", |inputs, calls| {
            each(&inputs.headers, calls, |headers| {
                let state = headers.tracestate.as_deref().unwrap_or_default();
                black_box(TraceState::parse(state.as_bytes()).is_ok());
                TraceParent::parse(headers.traceparent.as_bytes())
            });
        }),
        other("opentelemetry_sdk 0.33", |inputs, calls| {
            let propagator = TraceContextPropagator::new();
            let root = opentelemetry::Context::new();
            each(&inputs.headers, calls, |headers| {
                let context = propagator.extract_with_context(&root, headers);
                assert!(context.span().span_context().is_valid());
            });
        }),
    ]
}

fn rewrite_tracestate(headers: &Headers) -> usize {
    let line = headers.tracestate.as_deref().unwrap_or_default();
    let state = TraceState::parse(line.as_bytes()).unwrap();
    let ot = OtState::parse(state.get(b"ot").unwrap_or_default());
    let (mut value, mut out) = ([0; 256], [0; 512]);
    let len = ot.write(None, ot.randomness(), &mut value).unwrap();
    let own = [Member::new(b"ot", &value[..len])];
    let written = state.write_with(&own, &[], 512, &mut out).unwrap();
    black_box(&out);
    written.len
}

fn read_baggage() -> Vec<Variant> {
    vec![
        ours("w3c-traceparent-parser", |inputs, calls| {
            each(&inputs.headers, calls, |headers| {
                let baggage = Baggage::parse(headers.baggage.as_bytes());
                baggage.get(b"region").map(|member| member.value.len())
            });
        }),
        other("opentelemetry_sdk 0.33", |inputs, calls| {
            let propagator = BaggagePropagator::new();
            let root = opentelemetry::Context::new();
            each(&inputs.headers, calls, |headers| {
                propagator.extract_with_context(&root, headers)
            });
        }),
    ]
}
