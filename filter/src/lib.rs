//! The proxy-wasm shim: host calls in, effects out.
//!
//! What it is: the only crate that knows the proxy-wasm ABI. It reads bytes from Envoy, hands them
//! to `filter-core`, and applies what comes back: three headers, an export request, counters.
//! What it is not: a place for decisions. Anything that can be computed is in `filter-core`.
//!
//! Rules that keep a hostile byte or a bad option from taking the listener down:
//! - only the byte-wise host calls that return a `Result`, only in phases where they are valid;
//! - `on_configure` always returns true: a bad policy is counted and logged, the last good one or
//!   the defaults go on (a false return rejects the listener, even with `FAIL_OPEN`);
//! - nothing is sent from `on_log`: the answer would be lost; the root context sends on its tick;
//! - state belongs to a root context, not to the VM: during a reload two generations share a VM.
//!
//! Limits: one tick (1 s) of spans and counts is lost when Envoy is stopped, because a filter
//! cannot send anything at shutdown.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[expect(unsafe_code, reason = "a host calls functions by their names")]
mod callbacks;
mod entropy;
mod host;
#[expect(unsafe_code, reason = "an allocator hands out raw memory")]
#[cfg_attr(
    not(any(target_arch = "wasm32", test)),
    expect(dead_code, reason = "only the module has one thread")
)]
mod memory;
mod metrics;
mod node;
mod parcels;
mod rates;
#[expect(
    unsafe_code,
    reason = "host calls are foreign functions; the SDK's wrappers cost too much per request"
)]
mod raw;
mod returns;
mod root;
mod stream;
mod streams;
mod vm;

#[cfg(target_arch = "wasm32")]
#[global_allocator]
static MEMORY: memory::Pools = memory::Pools::new();

/// The entry point of the module, as the macro of the SDK defines it.
mod start {
    use proxy_wasm::types::LogLevel;

    proxy_wasm::main! {{
        proxy_wasm::set_log_level(LogLevel::Info);
        proxy_wasm::set_root_context(|id| Box::new(crate::root::Root::new(id)));
    }}
}
