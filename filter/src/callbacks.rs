//! The callbacks of streams, in place of those of the SDK.
//!
//! The tool that trims the module (`bin/trim_module`) gives them the names of the ABI:
//! `tracemeter_on_log` becomes `proxy_on_log`, and the SDK's function of that name is left out. What
//! concerns a root context is handed on to the SDK. There is no `proxy_on_delete` for the host to
//! call: it would follow `proxy_on_done` at once, for streams as for root contexts that are ready to
//! go, and ours always are.
//!
//! Numbers that are not known are ignored: the functions of the SDK would panic.

use proxy_wasm::types::{Action, MapType};

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

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_request_headers(context: u32, _count: u32, end: u32) -> u32 {
    let denial = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream
            .request_headers(live.shared, live.returns, end != 0)
    });
    match denial.flatten() {
        // Only now: the answer passes through this stream.
        Some(denial) => {
            host::answer_over_budget(denial.grpc, &denial.message);
            Action::Pause as u32
        }
        None => CONTINUE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_headers(context: u32, _count: u32, end: u32) -> u32 {
    let _ = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream
            .response_headers(live.shared, live.returns, end != 0);
        Some(())
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    let _ = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream.response_body(live.shared, size, end != 0);
        Some(())
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_response_trailers(context: u32, _count: u32) -> u32 {
    let _ = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream
            .watch_response(live.shared, live.returns, MapType::HttpResponseTrailers);
        live.stream.response_ended(live.shared);
        Some(())
    });
    CONTINUE
}

#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_log(context: u32) {
    let _ = vm::with(|vm| {
        let live = vm.stream(context)?;
        live.stream.log(live.shared, live.returns);
        Some(())
    });
}

/// As an upstream HTTP filter the module gets no `on_log`: each try ends here. The header maps are
/// gone by now, so nothing but properties may be asked for.
#[unsafe(no_mangle)]
extern "C" fn tracemeter_on_done(context: u32) -> u32 {
    let known = vm::with(|vm| {
        if let Some(live) = vm.stream(context) {
            live.stream.done(live.shared, live.returns);
        }
        vm.close_stream(context)
    });
    if known == Some(true) {
        return 1;
    }
    end_root(context)
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
