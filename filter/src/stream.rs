//! One HTTP stream: reads the headers, applies three edits, and reports the end.

use std::cell::RefCell;
use std::rc::Rc;

use filter_core::counters::Counter;
use filter_core::headers::HeaderBlock;
use filter_core::reply::{HEADER, News};
use filter_core::{
    Denial, Details, Direction, Edit, Peer, Progress, Protocol, RequestInput, RequestState,
    ResponseInput, StreamEnd, TRACE_COST_STATE, Wanted,
};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel, MapType};

use crate::host;
use crate::returns;
use crate::root::Shared;

/// How many requests are checked for a traceparent that was overwritten after this filter: the
/// first ones of a configuration, then one in this many.
const OVERWRITE_CHECK_EVERY: u64 = 1024;

/// One part of a request (its beginning, its end) in this many is timed. Odd, so that both get their
/// turn: two looks at the clock are a tenth of what a request costs.
const TIMED_EVERY: u32 = 255;

/// Up to this size Envoy's size of the request body is taken as it is. It is the announced length
/// if there is one, so a larger one is compared with what came in.
const TRUSTED_LENGTH_BYTES: u64 = 64 << 10;

/// What the stream is at.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every stream is metered: a box would be one more allocation per request"
)]
enum Phase {
    /// No headers have come.
    Waiting,
    /// The engine left the request alone.
    Excluded,
    /// The request is metered.
    Metered(RequestState),
    /// The end was reported.
    Ended,
}

/// See the module documentation.
pub(crate) struct Stream {
    shared: Option<Rc<RefCell<Shared>>>,
    phase: Phase,
    /// Whether the request's headers were all of it, so that its body has no bytes.
    without_body: bool,
    /// Bytes of the response body so far.
    response_bytes: u64,
    /// Whether the response came to its end: what the filter has seen of it is all of it.
    complete: bool,
    /// Status of the response headers; read only in the upstream chain.
    response_status: Option<u16>,
    /// The answer to a request that is over budget, until it is sent.
    denial: Option<Denial>,
}

impl Stream {
    pub(crate) fn new(shared: Option<Rc<RefCell<Shared>>>) -> Self {
        Self {
            shared,
            phase: Phase::Waiting,
            without_body: false,
            response_bytes: 0,
            complete: false,
            response_status: None,
            denial: None,
        }
    }
}

/// The listener's direction (`xds/listener_direction`: 1 inbound, 2 outbound). It is not known
/// before the first request, and both listeners share a root context (observed on Envoy 1.40, though
/// its plugin key names the direction), so each request asks.
fn listener_direction() -> Direction {
    match host::unsigned_property("xds\0listener_direction") {
        Some(1) => Direction::Inbound,
        Some(2) => Direction::Outbound,
        _ => Direction::Auto,
    }
}

fn protocol() -> Option<Protocol> {
    Protocol::parse(&host::property("request\0protocol")?)
}

/// A header value that is a plain number.
fn number<N: std::str::FromStr>(value: Vec<u8>) -> Option<N> {
    std::str::from_utf8(&value).ok()?.parse().ok()
}

/// What a kept span asks for; header maps are gone outside `on_log`.
fn details(wanted: Wanted, in_log: bool) -> Details {
    let peer = |peer| match peer {
        Peer::Downstream => host::property("source\0address"),
        Peer::Upstream => host::property("upstream\0address"),
    };
    let user_agent = in_log && wanted.user_agent;
    Details {
        protocol: protocol(),
        peer: wanted.peer.and_then(peer),
        user_agent: user_agent
            .then(|| host::request_header("user-agent"))
            .flatten(),
    }
}

/// Runs a part of a request, and now and then takes the time.
fn timed(shared: &mut Shared, part: impl FnOnce(&mut Shared)) {
    shared.parts = shared.parts.wrapping_add(1);
    if !shared.parts.is_multiple_of(TIMED_EVERY) {
        return part(shared);
    }
    let start = host::now_unix_nanos();
    part(shared);
    let spent = host::now_unix_nanos().saturating_sub(start);
    shared.engine.count(Counter::SelfTimeNanos, spent);
    shared.engine.count(Counter::SelfTimeParts, 1);
}

fn apply(name: &str, edit: Edit<'_>) {
    match edit {
        Edit::Keep => {}
        Edit::Remove => host::remove_request_header(name),
        Edit::Set(value) => host::set_request_header(name, value),
    }
}

fn request_bytes() -> u64 {
    let size = host::unsigned_property("request\0size").unwrap_or(0);
    if size <= TRUSTED_LENGTH_BYTES {
        return size;
    }
    // A client may announce what it never sends; headers and body together is what came in.
    let arrived = host::unsigned_property("request\0total_size").unwrap_or(size);
    size.min(arrived)
}

fn response_code() -> Option<u16> {
    let code = host::unsigned_property("response\0code")?;
    u16::try_from(code).ok().filter(|code| *code != 0)
}

/// How a stream ended of which nothing but the end was seen.
fn unseen_end() -> StreamEnd {
    StreamEnd {
        now_unix_nanos: host::now_unix_nanos(),
        http_status: response_code(),
        grpc_status: None,
        response_flags: host::unsigned_property("response\0flags").unwrap_or(0),
        request_bytes: request_bytes(),
        response_bytes: host::unsigned_property("response\0size").unwrap_or(0),
    }
}

/// Envoy's own tracer writes traceparent after all filters. Who loses hours to that should be told,
/// once.
fn check_overwritten(shared: &mut Shared, state: &RequestState) {
    if state.is_companion()
        || !shared
            .engine
            .should_check_overwriting(OVERWRITE_CHECK_EVERY)
    {
        return;
    }
    let Some(written) = state.written_traceparent() else {
        return;
    };
    let Some(left) = host::request_header("traceparent") else {
        return;
    };
    if left == written {
        return;
    }
    shared.engine.count(Counter::ContextOverwritten, 1);
    if !std::mem::replace(&mut shared.warned_of_overwriting, true) {
        host::log(
            LogLevel::Warn,
            "tracemeter: another tracer overwrites traceparent after this filter: switch Envoy's \
             tracing off, set `no_context_propagation` (Istio: `disableContextPropagation`), or \
             use `propagation.mode: companion`",
        );
    }
}

impl Stream {
    fn begin(&mut self, shared: &mut Shared) {
        let Shared {
            engine, entropy, ..
        } = shared;
        let block = host::request_headers();
        let input = RequestInput {
            headers: HeaderBlock::new(&block),
            now_unix_nanos: host::now_unix_nanos(),
            direction: if engine.needs_listener_direction() {
                listener_direction()
            } else {
                Direction::Auto
            },
            protocol: if engine.needs_protocol() {
                protocol()
            } else {
                None
            },
            in_flight: None,
        };
        let state = returns::with(|in_flight| {
            let in_flight = Some(&*in_flight);
            engine.request(&RequestInput { in_flight, ..input }, entropy)
        });
        let Some(mut state) = state.flatten() else {
            self.phase = Phase::Excluded;
            return;
        };
        let edits = engine.edits(&state);
        if let Some(traceparent) = &edits.traceparent {
            host::set_request_header("traceparent", traceparent);
        }
        apply("tracestate", edits.tracestate);
        apply("baggage", edits.baggage);
        if engine.is_companion() {
            for (name, value) in engine.filter_state_at_head(&state) {
                host::set_filter_state(name, &value);
            }
        }
        if engine.wants_plain_response(&state) {
            host::remove_request_header("accept-encoding");
        }
        returns::serve();
        let _ = returns::with(|in_flight| engine.track(&mut state, in_flight));
        self.denial = engine.denial(&state);
        self.phase = Phase::Metered(state);
    }

    /// Shows the beginning of the response, or its trailers, to the engine: a caller's proxy learns
    /// what happened below, a callee's proxy says it.
    fn watch_response(&mut self, shared: &mut Shared, map: MapType) {
        let Phase::Metered(state) = &mut self.phase else {
            return;
        };
        let engine = &mut shared.engine;
        let needs = engine.response_needs(state);
        let trailers = map == MapType::HttpResponseTrailers;
        let value = |name: &str| host::response_value(map, name);
        let internal = needs.internal_header.then(|| value(HEADER)).flatten();
        let of_headers = |needed: bool| needed && !trailers;
        let input = ResponseInput {
            now_unix_nanos: if needs.status || needs.length {
                host::now_unix_nanos()
            } else {
                0
            },
            http_status: of_headers(needs.status)
                .then(host::response_status)
                .flatten(),
            grpc_status: (needs.status && state.is_grpc())
                .then(|| value("grpc-status").and_then(number))
                .flatten(),
            announced_bytes: of_headers(needs.length)
                .then(|| value("content-length").and_then(number))
                .flatten()
                .unwrap_or(0),
            internal_header: internal.as_deref(),
            posted: if needs.mailbox {
                returns::posted(state)
            } else {
                News::default()
            },
        };
        let effects = returns::with(|in_flight| {
            if trailers {
                engine.response_trailers(state, &input, in_flight)
            } else {
                engine.response(state, &input, in_flight)
            }
        });
        let effects = effects.unwrap_or_default();
        match &effects.reply {
            Some(reply) => host::change_response(map, HEADER, Some(reply.as_bytes())),
            None if internal.is_some() => host::change_response(map, HEADER, None),
            None => {}
        }
        if let Some(value) = &effects.client {
            host::change_response(map, engine.client_header(), Some(value));
        }
        if let Some(cost) = &effects.trace_cost {
            host::set_filter_state(TRACE_COST_STATE, cost);
        }
        if let Some(letter) = effects.letter {
            returns::deliver(engine, letter);
        }
    }

    fn watches_response(&self) -> bool {
        matches!(&self.phase, Phase::Metered(state) if state.watches_response())
    }

    /// How the stream ended. Each property is a host call, so only what the callbacks have not told
    /// already is asked for.
    fn stream_end(&self, grpc: bool) -> StreamEnd {
        let http_status = response_code();
        let success = self.complete && matches!(http_status, Some(200..=399));
        StreamEnd {
            now_unix_nanos: host::now_unix_nanos(),
            http_status,
            // For anything but gRPC Envoy maps the HTTP status to a number that means nothing.
            grpc_status: if grpc {
                host::unsigned_property("response\0grpc_status")
                    .and_then(|code| u32::try_from(code).ok())
            } else {
                None
            },
            // A response that came to its end without an error was neither reset nor timed out.
            response_flags: if success {
                0
            } else {
                host::unsigned_property("response\0flags").unwrap_or(0)
            },
            request_bytes: if self.without_body {
                0
            } else {
                request_bytes()
            },
            response_bytes: self.response_bytes,
        }
    }

    /// Reports the end, once. In the upstream chain (no `on_log` there) the status of a try that is
    /// retried is known only from its response headers.
    fn end(&mut self, shared: &mut Shared, in_log: bool) {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Metered(mut state) => {
                let engine = &mut shared.engine;
                let posted = engine.needs_mailbox_at_end(&state);
                let posted = posted.then(|| returns::collect(&state));
                let _ = returns::with(|in_flight| engine.untrack(&mut state, in_flight, posted));
                let mut end = self.stream_end(state.is_grpc());
                if in_log {
                    check_overwritten(shared, &state);
                } else {
                    shared.upstream_chain = true;
                    end.http_status = end.http_status.or(self.response_status);
                }
                let letter = shared
                    .engine
                    .end(state, &end, |wanted| details(wanted, in_log));
                if let Some(letter) = letter {
                    returns::deliver(&mut shared.engine, letter);
                }
            }
            Phase::Excluded => shared.engine.end_excluded(),
            // A malformed request ends without having begun: it is counted all the same.
            Phase::Waiting if in_log => {
                shared
                    .engine
                    .end_malformed(listener_direction(), &unseen_end());
            }
            Phase::Waiting | Phase::Ended => {}
        }
    }

    /// Runs `action` with what the root context shares, unless there is none.
    fn with_shared(&mut self, action: impl FnOnce(&mut Self, &mut Shared)) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        if let Ok(mut shared) = shared.try_borrow_mut() {
            action(self, &mut shared);
        }
    }

    /// The last byte of the response: in companion mode the final cost is put where Envoy's own span
    /// finds it.
    fn response_ended(&mut self) {
        self.complete = true;
        if !self.is_companion() {
            return;
        }
        self.with_shared(|stream, shared| {
            let Phase::Metered(state) = &stream.phase else {
                return;
            };
            let progress = Progress {
                now_unix_nanos: host::now_unix_nanos(),
                request_bytes: if stream.without_body {
                    0
                } else {
                    request_bytes()
                },
                response_bytes: stream.response_bytes,
            };
            let (name, value) = shared.engine.filter_state_at_end(state, &progress);
            host::set_filter_state(name, &value);
        });
    }

    fn is_companion(&self) -> bool {
        matches!(&self.phase, Phase::Metered(state) if state.is_companion())
    }
}

impl Context for Stream {
    /// As an upstream HTTP filter the module gets no `on_log`: each try ends here. The header maps
    /// are gone by now, so nothing but properties may be asked for.
    fn on_done(&mut self) -> bool {
        self.with_shared(|stream, shared| stream.end(shared, false));
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.without_body = end_of_stream;
        self.with_shared(|stream, shared| timed(shared, |shared| stream.begin(shared)));
        match self.denial.take() {
            Some(denial) => {
                host::answer_over_budget(denial.grpc, &denial.message);
                Action::Pause
            }
            None => Action::Continue,
        }
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        if let Phase::Metered(state) = &self.phase
            && let Some((name, value)) = state.explanation()
        {
            host::set_response_header(name, value.as_bytes());
        }
        self.with_shared(|stream, shared| {
            if shared.upstream_chain || shared.responses_to_look_at > 0 {
                shared.responses_to_look_at = shared.responses_to_look_at.saturating_sub(1);
                stream.response_status = host::response_status();
            }
        });
        if self.watches_response() {
            self.with_shared(|stream, shared| {
                stream.watch_response(shared, MapType::HttpResponseHeaders);
            });
        }
        if end_of_stream {
            self.response_ended();
        }
        Action::Continue
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.response_bytes = self.response_bytes.saturating_add(size as u64);
        if size > 0 && matches!(&self.phase, Phase::Metered(state) if state.reads_body()) {
            let part = host::response_body(size);
            self.with_shared(|stream, shared| {
                if let Phase::Metered(state) = &mut stream.phase {
                    shared.engine.response_body(state, &part);
                }
            });
        }
        if end_of_stream {
            self.response_ended();
        }
        Action::Continue
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        if self.watches_response() {
            self.with_shared(|stream, shared| {
                stream.watch_response(shared, MapType::HttpResponseTrailers);
            });
        }
        self.response_ended();
        Action::Continue
    }

    fn on_log(&mut self) {
        self.with_shared(|stream, shared| timed(shared, |shared| stream.end(shared, true)));
    }
}
