//! The root context: one per worker and configuration. It owns the engine, ticks, and exports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use filter_core::counters::Counter;
use filter_core::export::Outcome;
use filter_core::{Engine, Entropy};
use mesh_config::Policy;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{ContextType, LogLevel};

use crate::entropy::HostEntropy;
use crate::host::{self, DispatchError};
use crate::metrics::Metrics;
use crate::node;
use crate::stream::Stream;

/// How often batches are looked at and counters are flushed. It bounds what a stopped proxy loses.
const TICK: Duration = Duration::from_secs(1);

/// What a root context shares with its streams. Callbacks of one VM never run at the same time.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) entropy: HostEntropy,
    /// Whether the overwritten-context warning was logged: once is help, once per request is not.
    pub(crate) warned_of_overwriting: bool,
}

/// See the module documentation.
pub(crate) struct Root {
    shared: Option<Rc<RefCell<Shared>>>,
    metrics: Option<Metrics>,
    cluster: String,
    headers: Vec<(String, String)>,
    timeout: Duration,
    /// Host call token -> export request.
    calls: BTreeMap<u32, u64>,
}

impl Root {
    pub(crate) fn new() -> Self {
        Self {
            shared: None,
            metrics: None,
            cluster: String::new(),
            headers: Vec::new(),
            timeout: Duration::from_secs(5),
            calls: BTreeMap::new(),
        }
    }

    /// Puts a policy into force. The engine of an earlier policy keeps its buffered spans.
    fn apply(&mut self, policy: &Policy, config_errors: u64) {
        let mut entropy = HostEntropy::new();
        let instance = format!("{:016x}", entropy.next_u64());
        let engine = Engine::new(policy, &node::read(), &instance);
        self.cluster.clone_from(&policy.export.cluster);
        self.timeout = policy.export.timeout;
        self.headers = export_headers(policy);
        match &self.shared {
            Some(shared) => {
                if let Ok(mut shared) = shared.try_borrow_mut() {
                    let previous = std::mem::replace(&mut shared.engine, engine);
                    shared.engine.take_over(previous);
                }
            }
            None => {
                let shared = Shared {
                    engine,
                    entropy,
                    warned_of_overwriting: false,
                };
                self.shared = Some(Rc::new(RefCell::new(shared)));
            }
        }
        if let Some(shared) = &self.shared
            && let Ok(mut shared) = shared.try_borrow_mut()
        {
            shared.engine.count(Counter::ConfigErrors, config_errors);
        }
    }

    fn export(&mut self, shared: &mut Shared, now: u64) {
        while let Some(dispatch) = shared.engine.poll_export(now) {
            let headers: Vec<(&str, &str)> = self
                .headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            match host::dispatch(&self.cluster, headers, &dispatch.body, self.timeout) {
                Ok(token) => {
                    self.calls.insert(token, dispatch.id);
                }
                Err(error) => {
                    let outcome = match error {
                        DispatchError::NoCluster => Outcome::NoCluster,
                        DispatchError::Overloaded => Outcome::Retry { after_nanos: None },
                    };
                    let entropy = shared.entropy.next_u64();
                    shared
                        .engine
                        .export_outcome(dispatch.id, outcome, now, entropy);
                }
            }
        }
    }
}

/// Headers of every export request (OTLP/HTTP, binary protobuf).
fn export_headers(policy: &Policy) -> Vec<(String, String)> {
    let export = &policy.export;
    let fixed = [
        (":method", "POST"),
        (":path", export.path.as_str()),
        (":authority", export.authority.as_str()),
        ("content-type", "application/x-protobuf"),
        (
            "user-agent",
            concat!("tracemeter/", env!("CARGO_PKG_VERSION")),
        ),
    ];
    let own = fixed
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let further = export
        .headers
        .iter()
        .map(|(name, value)| (name.to_owned(), value.clone()));
    own.chain(further).collect()
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        _headers: usize,
        _body: usize,
        _trailers: usize,
    ) {
        let Some(id) = self.calls.remove(&token) else {
            return;
        };
        let number = |name| {
            let value = host::call_response_header(name)?;
            std::str::from_utf8(&value).ok()?.parse::<u64>().ok()
        };
        let status = number(":status")
            .and_then(|status| u16::try_from(status).ok())
            .unwrap_or(0);
        let outcome = Outcome::from_status(status, number("retry-after"));
        let now = host::now_unix_nanos();
        let Some(shared) = &self.shared else { return };
        if let Ok(mut shared) = shared.try_borrow_mut() {
            let entropy = shared.entropy.next_u64();
            shared.engine.export_outcome(id, outcome, now, entropy);
        }
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = if size == 0 {
            Vec::new()
        } else {
            plugin_configuration(size)
        };
        match Policy::from_json(&bytes) {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    host::log(
                        LogLevel::Warn,
                        &format!("tracemeter: configuration: {warning}"),
                    );
                }
                self.apply(&loaded.policy, 0);
            }
            Err(diagnostics) => {
                let kept = if self.shared.is_some() {
                    "the last good policy"
                } else {
                    "the defaults"
                };
                host::log(
                    LogLevel::Error,
                    &format!("tracemeter: configuration refused, {kept} go on: {diagnostics}"),
                );
                if let Some(shared) = &self.shared {
                    if let Ok(mut shared) = shared.try_borrow_mut() {
                        shared.engine.count(Counter::ConfigErrors, 1);
                    }
                } else {
                    self.apply(&Policy::default(), 1);
                }
            }
        }
        if self.metrics.is_none() {
            self.metrics = Some(Metrics::define());
        }
        let _ = hostcalls::set_tick_period(TICK);
        true
    }

    fn on_tick(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let Ok(mut shared) = shared.try_borrow_mut() else {
            return;
        };
        let now = host::now_unix_nanos();
        let refused = shared.entropy.take_failures();
        shared.engine.count(Counter::EntropyFallback, refused);
        shared.engine.tick(now);
        self.export(&mut shared, now);
        if let Some(metrics) = &mut self.metrics {
            let queue_bytes = shared.engine.buffered_bytes();
            metrics.flush(shared.engine.counters(), queue_bytes);
        }
    }

    fn create_http_context(&self, _context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(self.shared.clone())))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn plugin_configuration(size: usize) -> Vec<u8> {
    use proxy_wasm::types::BufferType;
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size)
        .ok()
        .flatten()
        .unwrap_or_default()
}
