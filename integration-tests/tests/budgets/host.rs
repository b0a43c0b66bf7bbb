//! A proxy around the shipped module that counts (see `count.rs`) what a request executes, and how
//! often it calls the host.
//!
//! It answers as Envoy 1.40 was observed to; what the module must not need is a trap.

use std::collections::BTreeMap;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::ZlibEncoder;
use wasmi::{
    Caller, Engine, Error, Extern, ExternType, Func, Instance, Linker, Memory, Module, Store, Val,
};

use crate::count::{COUNTER, RUNS, Stretch, counting};

pub(crate) type Headers = Vec<(String, Vec<u8>)>;

const OK: i32 = 0;
const NOT_FOUND: i32 = 1;
const BAD_ARGUMENT: i32 = 2;

/// Log level of a message that no case may cause.
const LOG_ERROR: i32 = 4;

/// 2026-11-21T00:00:00Z
pub(crate) const NOW: u64 = 1_795_219_200_000_000_000;

const ROOT: i32 = 1;

/// What the host knows.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) now: u64,
    configuration: Vec<u8>,
    request: Option<Headers>,
    response: Option<Headers>,
    answer: Option<Headers>,
    properties: BTreeMap<&'static str, Vec<u8>>,
    /// Host calls since the last look.
    calls: u64,
    /// Token, headers and body of the HTTP calls since the last look.
    sent: Vec<(i32, String, Vec<u8>)>,
    tokens: i32,
    metrics: i32,
    random: u64,
}

/// What something took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) instructions: u64,
    pub(crate) host_calls: u64,
}

/// The module in its proxy.
pub(crate) struct Proxy {
    store: Store<World>,
    instance: Instance,
    streams: i32,
    pub(crate) stretches: Vec<Stretch>,
}

/// One request of a case.
pub(crate) struct Exchange<'a> {
    pub(crate) headers: &'a [(&'a str, &'a [u8])],
    pub(crate) status: u16,
}

fn memory(caller: &Caller<'_, World>) -> Memory {
    caller
        .get_export("memory")
        .and_then(Extern::into_memory)
        .unwrap()
}

fn read(caller: &Caller<'_, World>, at: i32, size: i32) -> Vec<u8> {
    let mut bytes = vec![0; size as usize];
    memory(caller)
        .read(caller, at as usize, &mut bytes)
        .unwrap();
    bytes
}

fn write(caller: &mut Caller<'_, World>, at: i32, bytes: &[u8]) {
    memory(caller).write(caller, at as usize, bytes).unwrap();
}

/// The module's own callback in place of the SDK's, as long as it has not got its name.
fn before_trimming(name: &str) -> String {
    name.replace("proxy_on_", "tracemeter_on_")
}

/// Puts `bytes` into memory of the module's own allocator, as a host does.
fn give(caller: &mut Caller<'_, World>, bytes: &[u8], data: i32, size: i32) -> i32 {
    let mut at = [Val::I32(0)];
    if !bytes.is_empty() {
        let name = "proxy_on_memory_allocate";
        let own = caller.get_export(&before_trimming(name));
        let allocate = own.or_else(|| caller.get_export(name));
        let allocate = allocate.and_then(Extern::into_func).unwrap();
        let length = [Val::I32(bytes.len() as i32)];
        allocate.call(&mut *caller, &length, &mut at).unwrap();
    }
    let at = at[0].i32().unwrap();
    write(caller, at, bytes);
    write(caller, data, &at.to_le_bytes());
    write(caller, size, &(bytes.len() as u32).to_le_bytes());
    OK
}

/// The pairs encoding of the ABI.
fn encode(lines: &Headers) -> Vec<u8> {
    let number = |length: usize| (length as u32).to_le_bytes();
    let mut block = number(lines.len()).to_vec();
    for (name, value) in lines {
        block.extend(number(name.len()));
        block.extend(number(value.len()));
    }
    for (name, value) in lines {
        for text in [name.as_bytes(), value] {
            block.extend(text);
            block.push(0);
        }
    }
    block
}

/// What Envoy's foreign function `compress` makes.
fn zlib(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn map(world: &mut World, number: i32) -> Option<&mut Headers> {
    match number {
        0 => world.request.as_mut(),
        2 => world.response.as_mut(),
        6 => world.answer.as_mut(),
        _ => None,
    }
}

/// One host call.
#[expect(clippy::too_many_lines, reason = "a table of the host's functions")]
fn call(caller: &mut Caller<'_, World>, name: &str, p: &[i32]) -> Result<i32, Error> {
    caller.data_mut().calls += 1;
    let status = match name {
        "proxy_get_current_time_nanoseconds" => {
            let now = caller.data().now.to_le_bytes();
            write(caller, p[0], &now);
            OK
        }
        "proxy_get_buffer_bytes" => {
            let bytes = caller.data().configuration.clone();
            give(caller, &bytes, p[3], p[4])
        }
        "proxy_get_header_map_pairs" => match map(caller.data_mut(), p[0]).map(|map| encode(map)) {
            Some(block) => give(caller, &block, p[1], p[2]),
            None => BAD_ARGUMENT,
        },
        "proxy_get_header_map_value" => {
            let name = String::from_utf8(read(caller, p[1], p[2])).unwrap();
            let Some(lines) = map(caller.data_mut(), p[0]) else {
                return Ok(BAD_ARGUMENT);
            };
            match lines.iter().find(|(line, _)| *line == name).cloned() {
                Some((_, value)) => give(caller, &value, p[3], p[4]),
                None => NOT_FOUND,
            }
        }
        "proxy_replace_header_map_value" | "proxy_remove_header_map_value" => {
            let line = String::from_utf8(read(caller, p[1], p[2])).unwrap();
            let removes = name == "proxy_remove_header_map_value";
            let value = (!removes).then(|| read(caller, p[3], p[4]));
            let Some(lines) = map(caller.data_mut(), p[0]) else {
                return Ok(BAD_ARGUMENT);
            };
            lines.retain(|(known, _)| *known != line);
            lines.extend(value.map(|value| (line, value)));
            OK
        }
        "proxy_get_property" => {
            let path = String::from_utf8(read(caller, p[0], p[1])).unwrap();
            let path = path.replace('\0', "/");
            match caller.data().properties.get(path.as_str()).cloned() {
                Some(value) => give(caller, &value, p[2], p[3]),
                None => NOT_FOUND,
            }
        }
        "proxy_get_shared_data" => NOT_FOUND,
        "proxy_define_metric" => {
            caller.data_mut().metrics += 1;
            let id = caller.data().metrics.to_le_bytes();
            write(caller, p[3], &id);
            OK
        }
        "proxy_get_metric" => {
            write(caller, p[1], &[0; 8]);
            OK
        }
        "proxy_call_foreign_function" => {
            let function = String::from_utf8(read(caller, p[0], p[1])).unwrap();
            if function != "compress" {
                return Ok(NOT_FOUND);
            }
            let compressed = zlib(&read(caller, p[2], p[3]));
            give(caller, &compressed, p[4], p[5])
        }
        "proxy_http_call" => {
            let (headers, body) = (read(caller, p[2], p[3]), read(caller, p[4], p[5]));
            let world = caller.data_mut();
            world.tokens += 1;
            let token = world.tokens;
            let headers = String::from_utf8_lossy(&headers).into_owned();
            world.sent.push((token, headers, body));
            write(caller, p[9], &token.to_le_bytes());
            OK
        }
        "proxy_log" => {
            let message = String::from_utf8(read(caller, p[1], p[2])).unwrap();
            if p[0] >= LOG_ERROR {
                return Err(Error::new(format!("the module logs: {message}")));
            }
            OK
        }
        "clock_time_get" => {
            let now = caller.data().now.to_le_bytes();
            write(caller, p[2], &now);
            OK
        }
        "environ_sizes_get" => {
            write(caller, p[0], &[0; 4]);
            write(caller, p[1], &[0; 4]);
            OK
        }
        "random_get" => {
            // The same numbers in every run: budgets are deterministic.
            let mut rng = fastrand::Rng::with_seed(caller.data().random);
            caller.data_mut().random += 1;
            let mut bytes = vec![0; p[1] as usize];
            rng.fill(&mut bytes);
            write(caller, p[0], &bytes);
            OK
        }
        "environ_get"
        | "proxy_increment_metric"
        | "proxy_record_metric"
        | "proxy_set_effective_context"
        | "proxy_set_property"
        | "proxy_set_shared_data"
        | "proxy_set_tick_period_milliseconds" => OK,
        // A panic cannot cross the interpreter.
        other => return Err(Error::new(format!("the module calls `{other}`"))),
    };
    Ok(status)
}

fn link(linker: &mut Linker<World>, module: &Module) {
    for import in module.imports() {
        let ExternType::Func(kind) = import.ty().clone() else {
            panic!("`{}` is not a function", import.name());
        };
        let name = import.name().to_owned();
        let answer = move |mut caller: Caller<'_, World>,
                           parameters: &[Val],
                           results: &mut [Val]|
              -> Result<(), Error> {
            // 64-bit parameters are metric offsets and clock precision: nobody looks at them.
            let numbers: Vec<i32> = parameters.iter().map(|p| p.i32().unwrap_or(0)).collect();
            let status = call(&mut caller, &name, &numbers)?;
            if let Some(result) = results.first_mut() {
                *result = Val::I32(status);
            }
            Ok(())
        };
        linker
            .func_new(import.module(), import.name(), kind, answer)
            .unwrap();
    }
}

impl Proxy {
    /// The module, started with a policy (JSON).
    pub(crate) fn start(module: &[u8], policy: &str) -> Self {
        let engine = Engine::default();
        let (counted, stretches) = counting(module);
        let module = Module::new(&engine, counted).unwrap();
        let mut linker = Linker::new(&engine);
        link(&mut linker, &module);
        let mut world = World {
            now: NOW,
            configuration: policy.as_bytes().to_vec(),
            ..World::default()
        };
        for (path, text) in [("xds/node/cluster", "shop"), ("plugin_name", "tracemeter")] {
            world.properties.insert(path, text.as_bytes().to_vec());
        }
        let mut store = Store::new(&engine, world);
        let instance = linker.instantiate_and_start(&mut store, &module).unwrap();
        let mut proxy = Self {
            store,
            instance,
            streams: ROOT,
            stretches,
        };
        proxy.integer("xds/listener_direction", 1);
        proxy.callback("_initialize", &[]);
        proxy.callback("proxy_on_context_create", &[ROOT, 0]);
        assert_eq!(proxy.callback("proxy_on_vm_start", &[ROOT, 0]), 1);
        let size = policy.len() as i32;
        assert_eq!(proxy.callback("proxy_on_configure", &[ROOT, size]), 1);
        proxy
    }

    fn integer(&mut self, path: &'static str, value: i64) {
        let bytes = value.to_le_bytes().to_vec();
        self.store.data_mut().properties.insert(path, bytes);
    }

    /// Calls a callback if the module has it, as a host does.
    fn callback(&mut self, name: &str, parameters: &[i32]) -> i32 {
        let own = self.instance.get_func(&self.store, &before_trimming(name));
        let Some(function) = own.or_else(|| self.instance.get_func(&self.store, name)) else {
            return 0;
        };
        let parameters: Vec<Val> = parameters.iter().map(|value| Val::I32(*value)).collect();
        let mut results = vec![Val::I32(0); results(&self.store, function)];
        function
            .call(&mut self.store, &parameters, &mut results)
            .unwrap();
        results.first().and_then(Val::i32).unwrap_or(0)
    }

    /// Operators executed so far.
    fn executed(&self) -> u64 {
        let counter = self.instance.get_global(&self.store, COUNTER).unwrap();
        counter.get(&self.store).i64().unwrap() as u64
    }

    /// How often each stretch ran since the last look.
    pub(crate) fn runs(&mut self) -> Vec<u32> {
        let memory = self.instance.get_memory(&self.store, RUNS).unwrap();
        let numbers = memory.data_mut(&mut self.store);
        let numbers = &mut numbers[..4 * self.stretches.len()];
        let runs = numbers.as_chunks().0.iter();
        let runs = runs.map(|bytes| u32::from_le_bytes(*bytes)).collect();
        numbers.fill(0);
        runs
    }

    /// One whole request with its phases as Envoy makes them, HTTP/1.1 without a request body.
    pub(crate) fn exchange(&mut self, exchange: &Exchange<'_>) -> Taken {
        self.store.data_mut().calls = 0;
        let before = self.executed();
        self.streams += 1;
        let stream = self.streams;
        self.callback("proxy_on_context_create", &[stream, ROOT]);
        let lines = exchange.headers.iter();
        let lines = lines.map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let world = self.store.data_mut();
        world.request = Some(lines.collect());
        let count = exchange.headers.len() as i32;
        self.callback("proxy_on_request_headers", &[stream, count, 1]);
        let world = self.store.data_mut();
        world.now += 2_500_000;
        let request = world.request.take();
        let status = exchange.status.to_string().into_bytes();
        world.response = Some(vec![(":status".to_owned(), status)]);
        self.callback("proxy_on_response_headers", &[stream, 1, 0]);
        self.callback("proxy_on_response_body", &[stream, 512, 0]);
        self.callback("proxy_on_response_body", &[stream, 0, 1]);
        self.integer("response/code", i64::from(exchange.status));
        self.integer("response/flags", 0);
        self.integer("response/size", 512);
        self.integer("request/size", 0);
        let world = self.store.data_mut();
        world
            .properties
            .insert("request/protocol", b"HTTP/1.1".to_vec());
        world.request = request;
        self.callback("proxy_on_log", &[stream]);
        let world = self.store.data_mut();
        (world.request, world.response) = (None, None);
        self.callback("proxy_on_done", &[stream]);
        Taken {
            instructions: self.executed() - before,
            host_calls: self.store.data().calls,
        }
    }

    /// A tick, `seconds` later; what it sent is taken out, as (headers, body).
    pub(crate) fn tick(&mut self, seconds: u64) -> Vec<(String, Vec<u8>)> {
        self.store.data_mut().now += seconds * 1_000_000_000;
        self.callback("proxy_on_tick", &[ROOT]);
        let sent = std::mem::take(&mut self.store.data_mut().sent);
        for (token, ..) in &sent {
            self.answer(*token);
        }
        let sent = sent.into_iter();
        sent.map(|(_, headers, body)| (headers, body)).collect()
    }

    /// The collector accepts.
    fn answer(&mut self, token: i32) {
        let headers = vec![(":status".to_owned(), b"200".to_vec())];
        self.store.data_mut().answer = Some(headers);
        self.callback("proxy_on_http_call_response", &[ROOT, token, 1, 0, 0]);
        self.store.data_mut().answer = None;
    }

    /// Pages of the module's memory, 64 KiB each.
    pub(crate) fn memory_pages(&self) -> u64 {
        let memory = self.instance.get_memory(&self.store, "memory").unwrap();
        memory.size(&self.store)
    }
}

fn results(store: &Store<World>, function: Func) -> usize {
    function.ty(store).results().len()
}
