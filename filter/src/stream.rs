//! One HTTP stream: reads the headers, applies three edits, and reports the end.

use filter_core::counters::Counter;
use filter_core::headers::HeaderBlock;
use filter_core::reply::{HEADER, News};
use filter_core::{
    Denial, Details, Direction, Edit, Peer, Progress, Protocol, RequestInput, RequestState,
    ResponseInput, ResponseNeeds, StreamEnd, TRACE_COST_STATE, Wanted,
};
use proxy_wasm::types::{LogLevel, MapType};

use crate::host;
use crate::returns::Returns;
use crate::vm::Shared;

/// How many requests are checked for a traceparent that was overwritten after this filter: the
/// first ones of a configuration, then one in this many.
const OVERWRITE_CHECK_EVERY: u64 = 1024;

/// Up to this size Envoy's size of the request body is taken as it is. It is the announced length
/// if there is one, so a larger one is compared with what came in.
const TRUSTED_LENGTH_BYTES: u64 = 64 << 10;

/// What the stream is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No headers have come.
    Waiting,
    /// The headers have come, and the engine leaves the request alone.
    Excluded,
    /// The headers have come, and the request is metered.
    Metered,
    /// The end was reported.
    Ended,
}

/// See the module documentation.
pub(crate) struct Stream {
    /// The root context that it belongs to.
    pub(crate) root: u32,
    phase: Phase,
    /// Whether the request's headers were all of it, so that its body has no bytes.
    without_body: bool,
    /// Whether the response came to its end: what the filter has seen of it is all of it.
    complete: bool,
    /// Status of the response headers; read only in the upstream chain.
    response_status: Option<u16>,
    /// Bytes of the response body so far.
    response_bytes: u64,
    /// What the engine holds of a metered request; else empty.
    state: RequestState,
}

impl Stream {
    pub(crate) const fn new() -> Self {
        Self {
            root: 0,
            phase: Phase::Waiting,
            without_body: false,
            complete: false,
            response_status: None,
            response_bytes: 0,
            state: RequestState::EMPTY,
        }
    }

    /// Makes a used one ready for a stream of a root context.
    pub(crate) fn renew(&mut self, root: u32) {
        self.root = root;
        self.phase = Phase::Waiting;
        self.without_body = false;
        self.complete = false;
        self.response_status = None;
        self.response_bytes = 0;
    }

    /// Lets go of what is held for a request whose end did not come.
    pub(crate) fn clear(&mut self) {
        if self.phase == Phase::Metered {
            self.forget();
        }
    }

    /// Empties the state.
    #[inline(never)]
    fn forget(&mut self) {
        self.state = RequestState::EMPTY;
    }

    /// The state of a metered request.
    fn metered(&mut self) -> Option<&mut RequestState> {
        match self.phase {
            Phase::Metered => Some(&mut self.state),
            Phase::Waiting | Phase::Excluded | Phase::Ended => None,
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

fn apply(name: &str, edit: &Edit<'_>) {
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
    if !state.is_companion()
        && shared
            .engine
            .should_check_overwriting(OVERWRITE_CHECK_EVERY)
    {
        look_for_overwriting(shared, state);
    }
}

#[cold]
#[inline(never)]
fn look_for_overwriting(shared: &mut Shared, state: &RequestState) {
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

/// What a companion leaves for Envoy's own span.
#[cold]
#[inline(never)]
fn set_filter_state_at_head(shared: &Shared, state: &RequestState) {
    for (name, value) in shared.engine.filter_state_at_head(state) {
        host::set_filter_state(name, &value);
    }
}

/// Shows a part of the response of a language model to the engine.
#[cold]
#[inline(never)]
fn read_body(shared: &mut Shared, state: &mut RequestState, size: u32) {
    let part = host::response_body(size as usize);
    shared.engine.response_body(state, &part);
}

/// The end of a request that was malformed: it never began, and is counted all the same.
#[cold]
#[inline(never)]
fn end_malformed(shared: &mut Shared) {
    let end = unseen_end();
    shared.engine.end_malformed(listener_direction(), &end);
}

impl Stream {
    /// The request's headers. True: it has to be answered instead of being passed on.
    pub(crate) fn request_headers(
        &mut self,
        shared: &mut Shared,
        returns: &mut Returns,
        end_of_stream: bool,
    ) -> bool {
        // A second time for one stream: the host never does so.
        self.clear();
        self.without_body = end_of_stream;
        let started = shared.start_timer();
        let denied = self.begin(shared, returns);
        shared.stop_timer(started);
        denied
    }

    /// How the request has to be answered.
    pub(crate) fn denial(&self, shared: &Shared) -> Option<Denial> {
        shared.engine.denial(&self.state)
    }

    fn begin(&mut self, shared: &mut Shared, returns: &mut Returns) -> bool {
        let engine = &mut shared.engine;
        let lines = host::request_headers();
        let input = RequestInput {
            headers: HeaderBlock::new(lines.as_bytes()),
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
            in_flight: Some(&returns.in_flight),
        };
        let state = &mut self.state;
        if !engine.request_in_place(&input, &mut shared.entropy, state) {
            self.phase = Phase::Excluded;
            return false;
        }
        self.phase = Phase::Metered;
        let edits = engine.edits(state);
        if let Some(traceparent) = &edits.traceparent {
            host::set_request_header("traceparent", traceparent);
        }
        apply("tracestate", &edits.tracestate);
        apply("baggage", &edits.baggage);
        if engine.wants_plain_response(state) {
            host::remove_request_header("accept-encoding");
        }
        returns.serve();
        engine.track(state, &mut returns.in_flight);
        if state.is_companion() {
            set_filter_state_at_head(shared, state);
        }
        state.is_denied()
    }

    pub(crate) fn response_headers(
        &mut self,
        shared: &mut Shared,
        returns: &mut Returns,
        end_of_stream: bool,
    ) {
        if shared.upstream_chain || shared.responses_to_look_at > 0 {
            self.read_status(shared);
        }
        self.watch_response(shared, returns, MapType::HttpResponseHeaders);
        if end_of_stream {
            self.response_ended(shared);
        }
    }

    #[cold]
    #[inline(never)]
    fn read_status(&mut self, shared: &mut Shared) {
        shared.responses_to_look_at = shared.responses_to_look_at.saturating_sub(1);
        self.response_status = host::response_status();
    }

    /// Shows the beginning of the response, or its trailers, to the engine: a caller's proxy learns
    /// what happened below, a callee's proxy says it.
    fn watch_response(&mut self, shared: &mut Shared, returns: &mut Returns, map: MapType) {
        let Some(state) = self.metered() else {
            return;
        };
        let at_head = map == MapType::HttpResponseHeaders;
        if at_head && let Some((name, value)) = state.explanation() {
            host::set_response_header(name, value.as_bytes());
        }
        if !state.watches_response() {
            return;
        }
        let needs = shared.engine.response_needs(state);
        let internal = if needs.internal_header {
            host::response_value(map, HEADER)
        } else {
            None
        };
        let nothing_to_say = !(needs.status || needs.length || needs.mailbox);
        if at_head && nothing_to_say && internal.is_none() {
            return;
        }
        answer(shared, returns, state, map, needs, internal);
    }

    pub(crate) fn response_body(&mut self, shared: &mut Shared, size: u32, end_of_stream: bool) {
        self.response_bytes = self.response_bytes.wrapping_add(u64::from(size));
        if size > 0
            && let Some(state) = self.metered()
            && state.reads_body()
        {
            read_body(shared, state, size);
        }
        if end_of_stream {
            self.response_ended(shared);
        }
    }

    pub(crate) fn response_trailers(&mut self, shared: &mut Shared, returns: &mut Returns) {
        self.watch_response(shared, returns, MapType::HttpResponseTrailers);
        self.response_ended(shared);
    }

    /// The last byte of the response: in companion mode the final cost is put where Envoy's own span
    /// finds it.
    fn response_ended(&mut self, shared: &mut Shared) {
        self.complete = true;
        if self.metered().is_some_and(|state| state.is_companion()) {
            self.set_filter_state_at_end(shared);
        }
    }

    #[cold]
    #[inline(never)]
    fn set_filter_state_at_end(&self, shared: &mut Shared) {
        let progress = Progress {
            now_unix_nanos: host::now_unix_nanos(),
            request_bytes: if self.without_body {
                0
            } else {
                request_bytes()
            },
            response_bytes: self.response_bytes,
        };
        let (name, value) = shared.engine.filter_state_at_end(&self.state, &progress);
        host::set_filter_state(name, &value);
    }

    /// How the stream ended. Each property is a host call, so only what the callbacks have not told
    /// already is asked for.
    fn stream_end(&self) -> StreamEnd {
        let http_status = response_code();
        let success = self.complete && matches!(http_status, Some(200..=399));
        StreamEnd {
            now_unix_nanos: host::now_unix_nanos(),
            http_status,
            // For anything but gRPC Envoy maps the HTTP status to a number that means nothing.
            grpc_status: if self.state.is_grpc() {
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

    /// The end, as far as the host tells it.
    pub(crate) fn log(&mut self, shared: &mut Shared, returns: &mut Returns) {
        let started = shared.start_timer();
        self.end(shared, returns, true);
        shared.stop_timer(started);
    }

    /// The end in any case.
    pub(crate) fn done(&mut self, shared: &mut Shared, returns: &mut Returns) {
        if self.phase != Phase::Ended {
            self.end(shared, returns, false);
        }
    }

    /// Reports the end, once. In the upstream chain (no `on_log` there) the status of a try that is
    /// retried is known only from its response headers.
    fn end(&mut self, shared: &mut Shared, returns: &mut Returns, in_log: bool) {
        let phase = std::mem::replace(&mut self.phase, Phase::Ended);
        match phase {
            Phase::Metered => {}
            Phase::Excluded => return shared.engine.end_excluded(),
            Phase::Waiting if in_log => return end_malformed(shared),
            Phase::Waiting | Phase::Ended => return,
        }
        let engine = &mut shared.engine;
        let posted = engine.needs_mailbox_at_end(&self.state);
        let posted = posted.then(|| returns.collect(&self.state));
        engine.untrack(&mut self.state, &mut returns.in_flight, posted);
        let mut end = self.stream_end();
        if in_log {
            check_overwritten(shared, &self.state);
        } else {
            shared.upstream_chain = true;
            end.http_status = end.http_status.or(self.response_status);
        }
        let details = |wanted| details(wanted, in_log);
        let letter = shared.engine.end_in_place(&mut self.state, &end, details);
        self.forget();
        if let Some(letter) = letter {
            returns.deliver(&mut shared.engine, letter);
        }
    }
}

/// Takes what a response, or its trailers, says, and says what is to be said.
#[inline(never)]
fn answer(
    shared: &mut Shared,
    returns: &mut Returns,
    state: &mut RequestState,
    map: MapType,
    needs: ResponseNeeds,
    internal: Option<Vec<u8>>,
) {
    let engine = &mut shared.engine;
    let trailers = map == MapType::HttpResponseTrailers;
    let value = |name: &str| host::response_value(map, name);
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
            returns.posted(state)
        } else {
            News::default()
        },
    };
    let effects = if trailers {
        engine.response_trailers(state, &input, &returns.in_flight)
    } else {
        engine.response(state, &input, &returns.in_flight)
    };
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
        returns.deliver(engine, letter);
    }
}
