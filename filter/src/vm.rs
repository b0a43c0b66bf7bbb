//! What one VM holds: an engine for each root context, the streams, and the return channel.
//!
//! Root contexts go through the dispatcher of the SDK, streams do not (`callbacks.rs`): its tables
//! of boxed contexts were an eighth of the code that a request runs through, and code that does not
//! fit the processor's caches is most of what a request costs (docs/performance.md).
//!
//! Nothing here may panic or trust the host's numbers: a trap takes the VM down with all of its
//! streams. A callback that comes while another one is at work finds [`with`] closed and does
//! nothing; Envoy makes none (it puts its own answers off until the callback is over).

use std::cell::RefCell;

use filter_core::Engine;
use filter_core::counters::Counter;

use crate::entropy::HostEntropy;
use crate::host;
use crate::returns::Returns;
use crate::stream::Stream;
use crate::streams::Streams;

/// One part of a request (its beginning, its end) in this many is timed. Odd, so that both get their
/// turn: two looks at the clock are a tenth of what a request costs.
const TIMED_EVERY: u32 = 255;

/// What a root context shares with its streams.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    pub(crate) entropy: HostEntropy,
    /// Whether the overwritten-context warning was logged: once is help, once per request is not.
    pub(crate) warned_of_overwriting: bool,
    /// Parts of requests since one was timed.
    pub(crate) parts: u32,
    /// Whether the module was seen to stand in an upstream filter chain.
    pub(crate) upstream_chain: bool,
    /// Responses of which the status is still to be read, until it is known where the module stands.
    pub(crate) responses_to_look_at: u32,
}

impl Shared {
    /// The time, if the part of a request that begins now is one of those that are timed; else 0.
    pub(crate) fn start_timer(&mut self) -> u64 {
        self.parts = self.parts.wrapping_add(1);
        if self.parts < TIMED_EVERY {
            return 0;
        }
        self.parts = 0;
        host::now_unix_nanos()
    }

    /// Counts the time since [`Shared::start_timer`].
    pub(crate) fn stop_timer(&mut self, started: u64) {
        if started != 0 {
            self.count_time(started);
        }
    }

    #[cold]
    #[inline(never)]
    fn count_time(&mut self, started: u64) {
        let spent = host::now_unix_nanos().saturating_sub(started);
        self.engine.count(Counter::SelfTimeNanos, spent);
        self.engine.count(Counter::SelfTimeParts, 1);
    }
}

/// A root context that the host has created.
struct Root {
    id: u32,
    /// Absent until it has a configuration.
    shared: Option<Box<Shared>>,
}

/// See the module documentation.
pub(crate) struct Vm {
    roots: Vec<Root>,
    streams: Streams,
    pub(crate) returns: Returns,
}

/// A stream at work, and what it works with.
pub(crate) struct Live<'v> {
    pub(crate) stream: &'v mut Stream,
    pub(crate) shared: &'v mut Shared,
    pub(crate) returns: &'v mut Returns,
}

/// The VM of this module.
#[cfg(target_arch = "wasm32")]
fn vm() -> &'static RefCell<Vm> {
    /// There is one thread; the standard library's way to say so goes through a table of functions.
    struct OneThread(RefCell<Vm>);

    // SAFETY: a module of WASI preview 1 has one thread.
    #[expect(unsafe_code, reason = "as the safety comment says")]
    unsafe impl Sync for OneThread {}

    static VM: OneThread = OneThread(RefCell::new(Vm::new()));
    &VM.0
}

/// The VM of this thread: each test has one of its own.
#[cfg(not(target_arch = "wasm32"))]
fn vm() -> &'static RefCell<Vm> {
    thread_local! {
        static VM: &'static RefCell<Vm> = Box::leak(Box::new(RefCell::new(Vm::new())));
    }
    VM.with(|vm| *vm)
}

/// Runs `action` with what the VM holds; not when that is at work already.
#[inline]
pub(crate) fn with<R>(action: impl FnOnce(&mut Vm) -> R) -> Option<R> {
    vm().try_borrow_mut().ok().map(|mut vm| action(&mut vm))
}

impl Vm {
    const fn new() -> Self {
        Self {
            roots: Vec::new(),
            streams: Streams::new(),
            returns: Returns::new(),
        }
    }

    /// Takes in a root context; false when there is one of that number.
    pub(crate) fn open_root(&mut self, id: u32) -> bool {
        if self.is_root(id) {
            return false;
        }
        self.roots.push(Root { id, shared: None });
        true
    }

    pub(crate) fn is_root(&self, id: u32) -> bool {
        self.roots.iter().any(|root| root.id == id)
    }

    /// Forgets a root context. What it shares has been taken out by then.
    pub(crate) fn close_root(&mut self, id: u32) {
        self.roots.retain(|root| root.id != id);
    }

    /// What a root context shares, if it has a configuration.
    pub(crate) fn shared(&mut self, root: u32) -> Option<&mut Shared> {
        shared_of(&mut self.roots, root)
    }

    /// What a root context will share; streams that begin from now on are served by it.
    pub(crate) fn serve(&mut self, root: u32, shared: Shared) {
        if let Some(root) = self.roots.iter_mut().find(|known| known.id == root) {
            root.shared = Some(Box::new(shared));
        }
    }

    /// Takes out what a root context shares: streams that it still has are left alone.
    pub(crate) fn retire(&mut self, root: u32) -> Option<Shared> {
        let root = self.roots.iter_mut().find(|known| known.id == root)?;
        root.shared.take().map(|shared| *shared)
    }

    /// Takes in a stream of a root context; one of an unknown root context will be left alone.
    pub(crate) fn open_stream(&mut self, id: u32, root: u32) {
        self.streams.open(id, root);
    }

    /// The stream of this number, if it and its root context are known.
    pub(crate) fn stream(&mut self, id: u32) -> Option<Live<'_>> {
        let stream = self.streams.find(id)?;
        let shared = shared_of(&mut self.roots, stream.root)?;
        Some(Live {
            stream,
            shared,
            returns: &mut self.returns,
        })
    }

    /// Ends and forgets a stream; false when there is none of that number.
    pub(crate) fn close_stream(&mut self, id: u32) -> bool {
        let Some(place) = self.streams.take(id) else {
            return false;
        };
        if let Some(shared) = shared_of(&mut self.roots, place.stream.root) {
            place.stream.done(shared, &mut self.returns);
        }
        self.streams.close(place);
        true
    }
}

/// What a root context shares, if it has a configuration.
#[inline(never)]
fn shared_of(roots: &mut [Root], id: u32) -> Option<&mut Shared> {
    let root = roots.iter_mut().find(|root| root.id == id)?;
    root.shared.as_deref_mut()
}
