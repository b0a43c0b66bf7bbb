//! A proxy in the test process: defines the host calls of the proxy-wasm ABI, records them, and
//! drives the real callbacks of the shipped module, under the names that they have before it is
//! trimmed. Each test thread has a VM and a host of its own.
//!
//! It behaves as Envoy 1.40 was observed to: header maps exist only in their phases, an unknown
//! property is `NotFound`, an unknown cluster `BadArgument`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_safety_doc,
    clippy::print_stderr,
    reason = "test code"
)]
#![allow(
    unsafe_code,
    reason = "the host's side of a foreign function interface"
)]
#![allow(dead_code, reason = "the whole interface of the host")]

pub(crate) mod calls;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Mutex;

pub(crate) const OK: u32 = 0;
pub(crate) const NOT_FOUND: u32 = 1;
pub(crate) const BAD_ARGUMENT: u32 = 2;
pub(crate) const CAS_MISMATCH: u32 = 8;
pub(crate) const INTERNAL_FAILURE: u32 = 10;

pub(crate) type Headers = Vec<(String, Vec<u8>)>;

/// An HTTP call that the module made.
#[derive(Debug, Clone)]
pub(crate) struct HttpCall {
    pub(crate) token: u32,
    pub(crate) cluster: String,
    pub(crate) headers: Headers,
    pub(crate) body: Vec<u8>,
    pub(crate) root: u32,
}

/// The host's state.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) now: u64,
    pub(crate) request_headers: Option<Headers>,
    pub(crate) response_headers: Option<Headers>,
    pub(crate) call_headers: Option<Headers>,
    pub(crate) call_body: Vec<u8>,
    pub(crate) properties: BTreeMap<String, Vec<u8>>,
    pub(crate) configuration: Vec<u8>,
    /// Names of the host calls, in order.
    pub(crate) calls: Vec<&'static str>,
    pub(crate) filter_state: BTreeMap<String, Vec<u8>>,
    pub(crate) shared: BTreeMap<String, Vec<u8>>,
    /// How often each shared value was set.
    pub(crate) versions: BTreeMap<String, u32>,
    pub(crate) metric_names: Vec<String>,
    pub(crate) metric_values: Vec<i64>,
    /// Answers of the module itself: HTTP status, gRPC status (-1 for none), body.
    pub(crate) local_replies: Vec<(u32, i32, String)>,
    pub(crate) logs: Vec<(u32, String)>,
    pub(crate) http_calls: Vec<HttpCall>,
    pub(crate) done: usize,
    /// What the host's `compress` answers; without it there is none.
    pub(crate) compressed: Option<Vec<u8>>,
    /// What it was asked to compress.
    pub(crate) compressions: Vec<Vec<u8>>,
    /// What `proxy_http_call` answers.
    pub(crate) dispatch_status: u32,
    /// Answers of further calls by name; a success otherwise.
    pub(crate) statuses: BTreeMap<&'static str, u32>,
    pub(crate) active_root: u32,
    next_token: u32,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::default();
}

/// Looks at or changes the host.
pub(crate) fn host<T>(action: impl FnOnce(&mut Host) -> T) -> T {
    HOST.with_borrow_mut(action)
}

impl Host {
    pub(crate) fn integer(&mut self, path: &str, value: i64) {
        let path = path.replace('/', "\0");
        self.properties.insert(path, value.to_le_bytes().to_vec());
    }

    pub(crate) fn text(&mut self, path: &str, value: &str) {
        let path = path.replace('/', "\0");
        self.properties.insert(path, value.as_bytes().to_vec());
    }

    pub(crate) fn metric(&self, name: &str) -> i64 {
        let name = format!("tracemeter_{name}");
        let at = self.metric_names.iter().position(|known| *known == name);
        self.metric_values[at.unwrap_or_else(|| panic!("no metric `{name}`"))]
    }
}

unsafe extern "C" {
    fn _initialize();
    fn tracemeter_on_memory_allocate(size: usize) -> *mut u8;
    fn tracemeter_on_context_create(context: u32, root: u32);
    fn proxy_on_vm_start(root: u32, size: usize) -> bool;
    fn proxy_on_configure(root: u32, size: usize) -> bool;
    fn proxy_on_tick(root: u32);
    fn tracemeter_on_request_headers(context: u32, count: usize, end: bool) -> u32;
    fn tracemeter_on_response_headers(context: u32, count: usize, end: bool) -> u32;
    fn tracemeter_on_response_body(context: u32, size: usize, end: bool) -> u32;
    fn tracemeter_on_response_trailers(context: u32, count: usize) -> u32;
    fn proxy_on_http_call_response(root: u32, token: u32, headers: usize, body: usize, t: usize);
    fn tracemeter_on_log(context: u32);
    fn tracemeter_on_done(context: u32) -> u32;
}

/// The SDK sets its logger and panic hook once per process, unguarded.
static START: Mutex<()> = Mutex::new(());

/// 2026-11-21T00:00:00Z
pub(crate) const NOW: u64 = 1_795_219_200_000_000_000;

/// A root context, as a configuration of a listener makes it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Root(pub(crate) u32);

/// A module that has started with a configuration; the root context has the number 1.
pub(crate) fn start(configuration: &str) -> Root {
    {
        let _guard = START
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // SAFETY: the module's entry point, called once per thread before everything else.
        unsafe { _initialize() };
    }
    host(|host| {
        host.now = NOW;
        host.integer("xds/listener_direction", 1);
        host.text("xds/node/cluster", "shop");
        host.text("plugin_name", "tracemeter");
    });
    Root::configured(1, configuration)
}

impl Root {
    /// A further root context that gets no configuration.
    pub(crate) fn created(number: u32) -> Self {
        // SAFETY: a callback of the module.
        unsafe { tracemeter_on_context_create(number, 0) };
        Self(number)
    }

    /// A further root context of the same VM with another configuration.
    pub(crate) fn configured(number: u32, configuration: &str) -> Self {
        host(|host| {
            host.configuration = configuration.as_bytes().to_vec();
            host.active_root = number;
        });
        // SAFETY: callbacks of the module, in the order in which a host calls them.
        unsafe {
            tracemeter_on_context_create(number, 0);
            assert!(proxy_on_vm_start(number, 0));
            assert!(
                proxy_on_configure(number, configuration.len()),
                "a false answer would take the listener down"
            );
        }
        Self(number)
    }

    pub(crate) fn tick(self, seconds: u64) {
        host(|host| {
            host.now += seconds * 1_000_000_000;
            host.active_root = self.0;
        });
        // SAFETY: a callback of the module.
        unsafe { proxy_on_tick(self.0) };
    }

    /// Answers an HTTP call of the module.
    pub(crate) fn answer(self, call: &HttpCall, headers: &[(&str, &str)]) {
        self.answer_with(call, headers, b"");
    }

    /// The same with a body.
    pub(crate) fn answer_with(self, call: &HttpCall, headers: &[(&str, &str)], body: &[u8]) {
        let lines = headers.iter();
        let lines = lines.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        host(|host| {
            host.call_headers = Some(lines.collect());
            host.call_body = body.to_vec();
            host.active_root = self.0;
        });
        // SAFETY: a callback of the module with the token of its own call.
        unsafe { proxy_on_http_call_response(self.0, call.token, headers.len(), body.len(), 0) };
        host(|host| host.call_headers = None);
    }

    pub(crate) fn on_done(self) -> bool {
        host(|host| host.active_root = self.0);
        // SAFETY: a callback of the module.
        unsafe { tracemeter_on_done(self.0) == 1 }
    }

    /// Begins a stream; its context has the number `context`.
    pub(crate) fn stream(self, context: u32) -> Stream {
        // SAFETY: a callback of the module.
        unsafe { tracemeter_on_context_create(context, self.0) };
        Stream(context)
    }
}

/// HTTP calls made since the last look.
pub(crate) fn http_calls() -> Vec<HttpCall> {
    host(|host| std::mem::take(&mut host.http_calls))
}

/// Host calls made since the last look.
pub(crate) fn calls() -> Vec<&'static str> {
    host(|host| std::mem::take(&mut host.calls))
}

/// An HTTP stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stream(pub(crate) u32);

impl Stream {
    /// The request header phase of a request without a body; the headers stay for `on_log` as they
    /// are left.
    pub(crate) fn request<V: AsRef<[u8]>>(self, lines: &[(&str, V)]) -> Headers {
        self.request_headers(lines, true)
    }

    /// The same for a request of which a body follows.
    pub(crate) fn request_with_body<V: AsRef<[u8]>>(self, lines: &[(&str, V)]) -> Headers {
        self.request_headers(lines, false)
    }

    fn request_headers<V: AsRef<[u8]>>(self, lines: &[(&str, V)], end: bool) -> Headers {
        let lines = lines.iter();
        let lines = lines.map(|(name, value)| ((*name).to_owned(), value.as_ref().to_vec()));
        host(|host| host.request_headers = Some(lines.collect()));
        let count = host(|host| host.request_headers.as_ref().unwrap().len());
        // SAFETY: a callback of the module.
        let action = unsafe { tracemeter_on_request_headers(self.0, count, end) };
        let replied = host(|host| !host.local_replies.is_empty());
        assert_eq!(action, u32::from(replied), "a request never waits");
        host(|host| host.request_headers.clone().unwrap())
    }

    pub(crate) fn response_headers(self, end: bool) {
        let kept = host(|host| {
            let status = (":status".to_owned(), b"200".to_vec());
            host.response_headers = Some(vec![status]);
            host.request_headers.take()
        });
        // SAFETY: a callback of the module.
        assert_eq!(unsafe { tracemeter_on_response_headers(self.0, 1, end) }, 0);
        host(|host| host.request_headers = kept);
    }

    /// The response header phase with further lines; the lines as they are left.
    pub(crate) fn response(self, lines: &[(&str, &str)], end: bool) -> Headers {
        let lines = lines.iter();
        let lines = lines.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        let kept = host(|host| {
            host.response_headers = Some(lines.collect());
            host.request_headers.take()
        });
        // SAFETY: a callback of the module.
        assert_eq!(unsafe { tracemeter_on_response_headers(self.0, 1, end) }, 0);
        host(|host| host.request_headers = kept);
        host(|host| host.response_headers.clone().unwrap())
    }

    pub(crate) fn response_body(self, size: usize, end: bool) {
        // SAFETY: a callback of the module.
        assert_eq!(unsafe { tracemeter_on_response_body(self.0, size, end) }, 0);
    }

    pub(crate) fn response_trailers(self) {
        // SAFETY: a callback of the module.
        assert_eq!(unsafe { tracemeter_on_response_trailers(self.0, 1) }, 0);
    }

    /// `on_log`, then `on_done` (no maps any more), then the end of the context.
    pub(crate) fn log(self) {
        // SAFETY: a callback of the module.
        unsafe { tracemeter_on_log(self.0) };
        self.finish();
    }

    /// The end without `on_log`: what the upstream chain sees.
    pub(crate) fn finish(self) {
        host(|host| {
            host.request_headers = None;
            host.response_headers = None;
        });
        // SAFETY: a callback of the module.
        assert_eq!(unsafe { tracemeter_on_done(self.0) }, 1);
    }
}

/// A buffer that the module owns from now on.
pub(crate) fn give(bytes: &[u8], data: *mut *mut u8, size: *mut usize) {
    // SAFETY: the module's allocator gives `len` writable bytes; both results are valid pointers.
    unsafe {
        if bytes.is_empty() {
            *data = std::ptr::null_mut();
        } else {
            *data = tracemeter_on_memory_allocate(bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), *data, bytes.len());
        }
        *size = bytes.len();
    }
}
