//! The callbacks of streams, in place of those of the SDK.
//!
//! The tool that trims the module (`bin/trim_module`) gives them the names of the ABI:
//! `tracemeter_on_log` becomes `proxy_on_log`, and the SDK's function of that name is left out. What
//! concerns a root context is handed on to the SDK. There is no `proxy_on_delete` for the host to
//! call: it would follow `proxy_on_done` at once, for streams as for root contexts that are ready to
//! go, and ours always are.
//!
//! Numbers that are not known are ignored: the functions of the SDK would panic.

use proxy_wasm::types::Action;

use crate::vm::Live;
use crate::{host, raw, vm};

/// The SDK's functions of these names.
mod sdk {
    unsafe extern "C" {
        pub(super) safe fn proxy_on_context_create(context: u32, root: u32);
        pub(super) safe fn proxy_on_done(context: u32) -> bool;
        pub(super) safe fn proxy_on_delete(context: u32);
    }
}

const CONTINUE: u32 = Action::Continue as u32;

/// The host puts what it hands over into memory of the module.
#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_memory_allocate(size: usize) -> *mut u8 {
    raw::allocate(size)
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_context_create(context: u32, root: u32) {
    if root == 0 {
        return create_root(context);
    }
    let _ = vm::with(|vm| vm.open_stream(context, root));
}

#[cold]
#[inline(never)]
fn create_root(context: u32) {
    if vm::with(|vm| vm.open_root(context)) == Some(true) {
        sdk::proxy_on_context_create(context, 0);
    }
}

/// What a callback does with a stream that is known, given its two numbers; `true` stops the
/// request.
type Handler = fn(Live<'_>, u32, bool) -> bool;

/// Runs a handler. One function for all callbacks: what it does would else stand in each of them.
#[inline(never)]
fn run(context: u32, number: u32, end: u32, handler: Handler) -> bool {
    let stop = vm::with(|vm| match vm.stream(context) {
        Some(live) => handler(live, number, end != 0),
        None => false,
    });
    stop == Some(true)
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    let denied = run(context, count, end, |live, _, end| {
        live.stream.request_headers(live.shared, live.returns, end)
    });
    if denied {
        return deny(context);
    }
    CONTINUE
}

/// The answer passes through the callbacks of this stream.
#[cold]
#[inline(never)]
fn deny(context: u32) -> u32 {
    let denial = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream.denial(live.shared)
    });
    let Some(denial) = denial.flatten() else {
        return CONTINUE;
    };
    host::answer_over_budget(denial.grpc, &denial.message);
    Action::Pause as u32
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_headers(context: u32, count: u32, end: u32) -> u32 {
    run(context, count, end, |live, _, end| {
        live.stream.response_headers(live.shared, live.returns, end);
        false
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    run(context, size, end, |live, size, end| {
        live.stream.response_body(live.shared, size, end);
        false
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_trailers(context: u32, count: u32) -> u32 {
    run(context, count, 1, |live, _, _| {
        live.stream.response_trailers(live.shared, live.returns);
        false
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_log(context: u32) {
    run(context, 0, 0, |live, _, _| {
        live.stream.log(live.shared, live.returns);
        false
    });
}

/// As an upstream HTTP filter the module gets no `on_log`: each try ends here. The header maps are
/// gone by now, so nothing but properties may be asked for.
#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_done(context: u32) -> u32 {
    if vm::with(|vm| vm.close_stream(context)) == Some(false) {
        return end_root(context);
    }
    1
}

#[cold]
#[inline(never)]
fn end_root(context: u32) -> u32 {
    if vm::with(|vm| vm.is_root(context)) != Some(true) {
        return 1;
    }
    let done = sdk::proxy_on_done(context);
    if done {
        sdk::proxy_on_delete(context);
        let _ = vm::with(|vm| vm.close_root(context));
    }
    u32::from(done)
}
