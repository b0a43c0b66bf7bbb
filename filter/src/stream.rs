//! One HTTP stream: reads the headers, applies three edits, and reports the end.

use std::cell::RefCell;
use std::rc::Rc;

use filter_core::counters::Counter;
use filter_core::headers::HeaderBlock;
use filter_core::{Details, Direction, Edit, Protocol, RequestInput, RequestState, StreamEnd};
use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::{Action, LogLevel};

use crate::host;
use crate::root::Shared;

/// How many requests are checked for a traceparent that was overwritten after this filter: the
/// first ones of a configuration, then one in this many.
const OVERWRITE_CHECK_EVERY: u64 = 1024;

/// See the module documentation.
pub(crate) struct Stream {
    shared: Option<Rc<RefCell<Shared>>>,
    state: Option<RequestState>,
    /// The engine left the request alone.
    excluded: bool,
}

impl Stream {
    pub(crate) fn new(shared: Option<Rc<RefCell<Shared>>>) -> Self {
        Self {
            shared,
            state: None,
            excluded: false,
        }
    }
}

/// The listener's direction (`xds/listener_direction`: 1 inbound, 2 outbound). It is not known
/// before the first request, and both listeners may share a root context.
fn listener_direction() -> Direction {
    match host::integer_property(&["xds", "listener_direction"]) {
        Some(1) => Direction::Inbound,
        Some(2) => Direction::Outbound,
        _ => Direction::Auto,
    }
}

fn apply(name: &str, edit: Edit<'_>) {
    match edit {
        Edit::Keep => {}
        Edit::Remove => host::remove_request_header(name),
        Edit::Set(value) => host::set_request_header(name, value),
    }
}

/// Integers of the stream's end: one host call each.
fn stream_end(state: &RequestState) -> StreamEnd {
    let unsigned = |path: &[&str]| host::integer_property(path).and_then(|n| u64::try_from(n).ok());
    let http_status = unsigned(&["response", "code"]).and_then(|code| u16::try_from(code).ok());
    let grpc = state.is_grpc();
    StreamEnd {
        now_unix_nanos: host::now_unix_nanos(),
        http_status: http_status.filter(|code| *code != 0),
        // For anything but gRPC Envoy maps the HTTP status to a number that means nothing.
        grpc_status: if grpc {
            unsigned(&["response", "grpc_status"]).and_then(|code| u32::try_from(code).ok())
        } else {
            None
        },
        response_flags: unsigned(&["response", "flags"]).unwrap_or(0),
        request_bytes: unsigned(&["request", "size"]).unwrap_or(0),
        response_bytes: unsigned(&["response", "size"]).unwrap_or(0),
    }
}

impl Stream {
    /// Envoy's own tracer writes traceparent after all filters. Who loses hours to that should be
    /// told, once.
    fn check_overwritten(shared: &mut Shared, state: &RequestState) {
        let Some(written) = state.written_traceparent() else {
            return;
        };
        if !shared
            .engine
            .should_check_overwriting(OVERWRITE_CHECK_EVERY)
        {
            return;
        }
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
                "tracemeter: another tracer overwrites traceparent after this filter: switch \
                 Envoy's tracing off, set `no_context_propagation` (Istio: \
                 `disableContextPropagation`), or use `propagation.mode: companion`",
            );
        }
    }
}

impl Context for Stream {}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        let Some(shared) = &self.shared else {
            return Action::Continue;
        };
        let Ok(mut shared) = shared.try_borrow_mut() else {
            return Action::Continue;
        };
        let Shared {
            engine, entropy, ..
        } = &mut *shared;
        let block = HeaderBlock::encode(&host::request_headers());
        let direction = if engine.needs_listener_direction() {
            listener_direction()
        } else {
            Direction::Auto
        };
        let input = RequestInput {
            headers: HeaderBlock::new(&block),
            now_unix_nanos: host::now_unix_nanos(),
            direction,
            protocol: if engine.needs_protocol() {
                protocol()
            } else {
                None
            },
        };
        let Some(state) = engine.request(&input, entropy) else {
            self.excluded = true;
            return Action::Continue;
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
        self.state = Some(state);
        Action::Continue
    }

    fn on_http_response_headers(&mut self, _count: usize, _end_of_stream: bool) -> Action {
        if let Some((name, value)) = self.state.as_ref().and_then(RequestState::explanation) {
            host::set_response_header(name, value.as_bytes());
        }
        Action::Continue
    }

    fn on_log(&mut self) {
        let Some(shared) = &self.shared else { return };
        let Ok(mut shared) = shared.try_borrow_mut() else {
            return;
        };
        // A malformed request ends here without having begun: it is counted all the same.
        let Some(state) = self.state.take() else {
            if self.excluded {
                shared.engine.end_excluded();
            } else {
                shared.engine.end_malformed();
            }
            return;
        };
        Self::check_overwritten(&mut shared, &state);
        let end = stream_end(&state);
        shared.engine.end(state, &end, || Details {
            protocol: protocol(),
        });
    }
}

fn protocol() -> Option<Protocol> {
    Protocol::parse(&host::property(&["request", "protocol"])?)
}
