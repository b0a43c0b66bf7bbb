//! The root context: one per worker and configuration. It owns the engine, ticks, and exports.

use std::cell::RefCell;
use std::time::Duration;

use filter_core::counters::Counter;
use filter_core::export::{Outcome, Signal};
use filter_core::{Engine, Entropy, gzip};
use mesh_config::Policy;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, RootContext};
use proxy_wasm::types::LogLevel;

use crate::entropy::HostEntropy;
use crate::host::{self, DispatchError};
use crate::metrics::Metrics;
use crate::node;
use crate::parcels;
use crate::rates;
use crate::vm::{self, Shared, Vm};

/// How often batches are looked at and counters are flushed. It bounds what a stopped proxy loses.
const TICK: Duration = Duration::from_secs(1);

/// How many responses of a configuration show whether it stands in an upstream chain.
const RESPONSES_TO_LOOK_AT: u32 = 32;

/// Longest configuration that is remembered in case its successor is refused.
const REMEMBERED_BYTES: usize = 1 << 20;

thread_local! {
    /// Engines of root contexts that are gone, by their key, until a successor takes them over. A
    /// root context cannot wait itself: once it is replaced, the host forgets its calls as soon as
    /// another one of the same configuration is replaced. Both ends of a reload share this VM.
    static LEGACY: RefCell<Vec<(String, Engine)>> = const { RefCell::new(Vec::new()) };

    /// Keys of the root contexts of this VM that live: one that ends without another of its key
    /// leaves what it holds to another VM.
    static LIVING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What a call to the collector carries.
#[derive(Debug, Clone, Copy)]
enum Call {
    /// The export request of this id.
    Export(u64),
    /// The request for the adaptive rates.
    Rates,
}

/// See the module documentation.
pub(crate) struct Root {
    /// Its number; what it shares with its streams stands under it in the [`Vm`].
    id: u32,
    metrics: Option<Metrics>,
    cluster: String,
    /// Headers of every export request, `:path` left out.
    headers: Vec<(String, String)>,
    traces_path: String,
    metrics_path: String,
    timeout: Duration,
    /// Whether bodies are compressed where that makes them smaller.
    gzip: bool,
    /// Host call tokens and what they carry, at most as many as are in flight.
    calls: Vec<(u32, Call)>,
    /// Plugin name and root id: what successors of this root context have in common with it.
    key: String,
    /// Whether it stands among the living.
    is_living: bool,
}

impl Root {
    pub(crate) fn new(id: u32) -> Self {
        Self {
            id,
            metrics: None,
            cluster: String::new(),
            headers: Vec::new(),
            traces_path: String::new(),
            metrics_path: String::new(),
            timeout: Duration::from_secs(5),
            gzip: false,
            calls: Vec::new(),
            key: String::new(),
            is_living: false,
        }
    }

    /// Puts a policy into force. The engine of an earlier policy keeps its buffered spans.
    fn apply(&mut self, vm: &mut Vm, policy: &Policy, config_errors: u64) {
        let mut entropy = HostEntropy::new();
        let instance = format!("{:016x}", entropy.next_u64());
        let mut engine = Engine::new(policy, &node::read(), &instance);
        engine.count(Counter::ConfigErrors, config_errors);
        vm.returns.configure(&engine);
        self.cluster.clone_from(&policy.export.cluster);
        self.timeout = policy.export.timeout;
        self.gzip = policy.export.gzip;
        self.headers = export_headers(policy);
        self.traces_path.clone_from(&policy.export.path);
        self.metrics_path.clone_from(&policy.export.metrics_path);
        match vm.shared(self.id) {
            Some(shared) => {
                let previous = std::mem::replace(&mut shared.engine, engine);
                shared.engine.take_over(previous);
            }
            None => vm.serve(
                self.id,
                Shared {
                    engine,
                    entropy,
                    warned_of_overwriting: false,
                    parts: 0,
                    upstream_chain: false,
                    responses_to_look_at: RESPONSES_TO_LOOK_AT,
                },
            ),
        }
    }

    /// Counts a refused policy and goes on with the one before it. A changed configuration makes a
    /// new root context, so the one before it is what the proxy remembers, not what this holds.
    fn refuse(&mut self, vm: &mut Vm, why: &str) {
        let last_good = host::shared_value(&last_good_key(&self.key));
        let last_good = last_good.and_then(|bytes| Policy::from_json(&bytes).ok());
        let shared = vm.shared(self.id);
        let kept = match (&shared, &last_good) {
            (None, None) => "the defaults",
            _ => "the last good policy",
        };
        let message = ["tracemeter: configuration refused, ", kept, " go on: ", why].concat();
        host::log(LogLevel::Error, &message);
        if let Some(shared) = shared {
            shared.engine.count(Counter::ConfigErrors, 1);
        } else {
            let policy = last_good.map_or_else(Policy::default, |loaded| loaded.policy);
            self.apply(vm, &policy, 1);
        }
    }

    /// Takes over what replaced root contexts of the same plugin have left.
    fn inherit(&self, shared: &mut Shared) {
        LEGACY.with_borrow_mut(|legacy| {
            while let Some(index) = legacy.iter().position(|(key, _)| *key == self.key) {
                let (_, engine) = legacy.swap_remove(index);
                shared.engine.take_over(engine);
            }
        });
    }

    /// What is done once per tick.
    fn work(&mut self, shared: &mut Shared) -> Option<()> {
        let now = host::now_unix_nanos();
        self.inherit(shared);
        parcels::take(&mut shared.engine, &self.key);
        let refused = shared.entropy.take_failures();
        shared.engine.count(Counter::EntropyFallback, refused);
        shared.engine.tick(now);
        self.export(shared, now);
        let asked = rates::ask(shared, &self.cluster, &self.headers, self.timeout, now);
        self.calls.extend(asked.map(|token| (token, Call::Rates)));
        if let Some(metrics) = &mut self.metrics {
            let queue_bytes = shared.engine.buffered_bytes();
            metrics.flush(shared.engine.counters(), queue_bytes);
            metrics.rates_version(shared.engine.rates_version());
        }
        Some(())
    }

    fn export(&mut self, shared: &mut Shared, now: u64) {
        while let Some(dispatch) = shared.engine.poll_export(now) {
            let path = match dispatch.signal {
                Signal::Metrics => &self.metrics_path,
                Signal::Traces => &self.traces_path,
            };
            let fixed = self.headers.iter();
            let fixed = fixed.map(|(name, value)| (name.as_str(), value.as_str()));
            let headers = fixed.chain([(":path", path.as_str())]);
            let mut headers: Vec<(&str, &str)> = headers.collect();
            let plain = dispatch.body;
            let smaller = if self.gzip { compressed(&plain) } else { None };
            if smaller.is_some() {
                headers.push(("content-encoding", "gzip"));
            }
            let body = smaller.as_ref().unwrap_or(&plain);
            for (counter, bytes) in [
                (Counter::ExportBytes, body.len()),
                (Counter::ExportPlainBytes, plain.len()),
            ] {
                shared.engine.count(counter, bytes as u64);
            }
            match host::dispatch(&self.cluster, headers, Some(body), self.timeout) {
                Ok(token) => self.calls.push((token, Call::Export(dispatch.id))),
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

/// A body as gzip, where that is worth it and the host can do it.
fn compressed(plain: &[u8]) -> Option<Vec<u8>> {
    if plain.len() < gzip::MIN_BYTES {
        return None;
    }
    gzip::from_zlib(plain, &host::compress(plain)?)
}

/// Headers of every export request (OTLP/HTTP, binary protobuf), `:path` left out.
fn export_headers(policy: &Policy) -> Vec<(String, String)> {
    let export = &policy.export;
    let fixed = [
        (":method", "POST"),
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
        .map(|(name, value)| (name.to_owned(), value.expose().to_owned()));
    own.chain(further).collect()
}

impl Context for Root {
    fn on_http_call_response(
        &mut self,
        token: u32,
        _headers: usize,
        body: usize,
        _trailers: usize,
    ) {
        let Some(index) = self.calls.iter().position(|(known, _)| *known == token) else {
            return;
        };
        let (_, call) = self.calls.swap_remove(index);
        let number = |name| {
            let value = host::call_response_header(name)?;
            std::str::from_utf8(&value).ok()?.parse::<u64>().ok()
        };
        let status = number(":status").and_then(|status| u16::try_from(status).ok());
        let now = host::now_unix_nanos();
        let _ = vm::with(|vm| {
            let shared = vm.shared(self.id)?;
            match call {
                Call::Export(id) => {
                    let outcome = Outcome::from_status(status.unwrap_or(0), number("retry-after"));
                    let entropy = shared.entropy.next_u64();
                    shared.engine.export_outcome(id, outcome, now, entropy);
                    // What waits goes out as soon as there is room: a tick alone would bound the
                    // throughput.
                    if outcome == Outcome::Accepted {
                        self.export(shared, now);
                    }
                }
                Call::Rates => rates::answered(shared, status.unwrap_or(0), body, now),
            }
            Some(())
        });
    }

    /// A newer configuration took this one's place and no request of it is left: what it still
    /// holds goes to its successor. (When Envoy stops, nothing is sent any more in any case.)
    fn on_done(&mut self) -> bool {
        if std::mem::take(&mut self.is_living) {
            LIVING.with_borrow_mut(|living| {
                let own = living.iter().position(|key| *key == self.key);
                own.map(|index| living.swap_remove(index));
            });
        }
        let retired = vm::with(|vm| vm.retire(self.id));
        let Some(Shared { mut engine, .. }) = retired.flatten() else {
            return true;
        };
        if let Some(metrics) = &mut self.metrics {
            metrics.flush(engine.counters(), 0);
        }
        if engine.is_drained() {
            return true;
        }
        if !LIVING.with_borrow(|living| living.contains(&self.key)) {
            parcels::leave(&mut engine, &self.key);
            if let Some(metrics) = &mut self.metrics {
                metrics.flush(engine.counters(), 0);
            }
            return true;
        }
        LEGACY.with_borrow_mut(|legacy| {
            let same = legacy.iter().position(|(key, _)| *key == self.key);
            if let Some(index) = same {
                let (_, earlier) = legacy.swap_remove(index);
                engine.take_over(earlier);
            }
            legacy.push((self.key.clone(), engine));
        });
        true
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = if size == 0 {
            Vec::new()
        } else {
            plugin_configuration(size)
        };
        let (name, root_id) = ("plugin_name", "plugin_root_id");
        self.key = [
            &host::text_property(name),
            "/",
            &host::text_property(root_id),
        ]
        .concat();
        if !std::mem::replace(&mut self.is_living, true) {
            LIVING.with_borrow_mut(|living| living.push(self.key.clone()));
            parcels::prepare(&self.key);
        }
        let policy = Policy::from_json(&bytes);
        let _ = vm::with(|vm| match policy {
            Ok(loaded) => {
                for warning in &loaded.warnings {
                    let message = ["tracemeter: configuration: ", &warning.to_string()].concat();
                    host::log(LogLevel::Warn, &message);
                }
                if bytes.len() <= REMEMBERED_BYTES {
                    host::set_shared_value(&last_good_key(&self.key), &bytes);
                }
                self.apply(vm, &loaded.policy, 0);
            }
            Err(diagnostics) => self.refuse(vm, &diagnostics.to_string()),
        });
        if self.metrics.is_none() {
            self.metrics = Some(Metrics::define());
        }
        let _ = hostcalls::set_tick_period(TICK);
        true
    }

    fn on_tick(&mut self) {
        let _ = vm::with(|vm| self.work(vm.shared(self.id)?));
    }
}

/// Under which name the last accepted configuration of this plugin is shared.
fn last_good_key(key: &str) -> String {
    ["tracemeter.last_good/", key].concat()
}

fn plugin_configuration(size: usize) -> Vec<u8> {
    use proxy_wasm::types::BufferType;
    hostcalls::get_buffer(BufferType::PluginConfiguration, 0, size)
        .ok()
        .flatten()
        .unwrap_or_default()
}
