//! The shipped module itself: what it asks of a host, and what a host may call. How large it is and
//! what a request costs: `budgets.rs`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeSet;
use std::fs;

use integration_tests::artefacts;

/// Host functions that the module may import. `proxy_*` are those of the SDK's dispatcher, callback
/// traits and host calls; of WASI only the clock, random numbers, and what the standard library
/// needs to start and to end with a message.
const IMPORTS: [&str; 42] = [
    "env.proxy_add_header_map_value",
    "env.proxy_call_foreign_function",
    "env.proxy_close_stream",
    "env.proxy_continue_stream",
    "env.proxy_define_metric",
    "env.proxy_dequeue_shared_queue",
    "env.proxy_done",
    "env.proxy_enqueue_shared_queue",
    "env.proxy_get_buffer_bytes",
    "env.proxy_get_current_time_nanoseconds",
    "env.proxy_get_header_map_pairs",
    "env.proxy_get_header_map_value",
    "env.proxy_get_metric",
    "env.proxy_get_property",
    "env.proxy_get_shared_data",
    "env.proxy_get_status",
    "env.proxy_grpc_call",
    "env.proxy_grpc_cancel",
    "env.proxy_grpc_close",
    "env.proxy_grpc_send",
    "env.proxy_grpc_stream",
    "env.proxy_http_call",
    "env.proxy_increment_metric",
    "env.proxy_log",
    "env.proxy_record_metric",
    "env.proxy_register_shared_queue",
    "env.proxy_remove_header_map_value",
    "env.proxy_replace_header_map_value",
    "env.proxy_resolve_shared_queue",
    "env.proxy_send_local_response",
    "env.proxy_set_buffer_bytes",
    "env.proxy_set_effective_context",
    "env.proxy_set_header_map_pairs",
    "env.proxy_set_property",
    "env.proxy_set_shared_data",
    "env.proxy_set_tick_period_milliseconds",
    "wasi_snapshot_preview1.clock_time_get",
    "wasi_snapshot_preview1.environ_get",
    "wasi_snapshot_preview1.environ_sizes_get",
    "wasi_snapshot_preview1.fd_write",
    "wasi_snapshot_preview1.proc_exit",
    "wasi_snapshot_preview1.random_get",
];

/// What the module exports, exactly: a host calls every callback that it finds.
const EXPORTS: [&str; 15] = [
    "_initialize",
    "memory",
    "proxy_abi_version_0_2_1",
    "proxy_on_configure",
    "proxy_on_context_create",
    "proxy_on_done",
    "proxy_on_http_call_response",
    "proxy_on_log",
    "proxy_on_memory_allocate",
    "proxy_on_request_headers",
    "proxy_on_response_body",
    "proxy_on_response_headers",
    "proxy_on_response_trailers",
    "proxy_on_tick",
    "proxy_on_vm_start",
];

const IMPORT_SECTION: u8 = 2;
const EXPORT_SECTION: u8 = 7;

/// A position in the module.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn leb(&mut self) -> usize {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return value;
            }
            shift += 7;
        }
    }

    fn name(&mut self) -> &'a str {
        let length = self.leb();
        std::str::from_utf8(self.take(length)).unwrap()
    }
}

fn module() -> Vec<u8> {
    fs::read(artefacts::module().unwrap()).unwrap()
}

fn section(module: &[u8], wanted: u8) -> &[u8] {
    let mut reader = Reader(module);
    assert_eq!(reader.take(8), b"\0asm\x01\0\0\0");
    while !reader.0.is_empty() {
        let number = reader.byte();
        let length = reader.leb();
        let content = reader.take(length);
        if number == wanted {
            return content;
        }
    }
    panic!("no section {wanted}")
}

#[test]
fn the_module_imports_nothing_but_what_is_listed() {
    let module = module();
    let mut reader = Reader(section(&module, IMPORT_SECTION));
    let allowed = BTreeSet::from(IMPORTS);
    for _ in 0..reader.leb() {
        let import = format!("{}.{}", reader.name(), reader.name());
        assert_eq!(reader.byte(), 0, "`{import}` is not a function");
        reader.leb();
        assert!(allowed.contains(import.as_str()), "stray import `{import}`");
    }
}

#[test]
fn the_module_exports_only_the_callbacks_it_implements() {
    let module = module();
    let mut reader = Reader(section(&module, EXPORT_SECTION));
    let mut exports = BTreeSet::new();
    for _ in 0..reader.leb() {
        exports.insert(reader.name());
        reader.byte();
        reader.leb();
    }
    assert_eq!(exports, BTreeSet::from(EXPORTS));
}

#[test]
fn the_module_carries_no_names_or_debug_information() {
    let module = module();
    for name in [&b".debug_info"[..], b".debug_str"] {
        assert!(!module.windows(name.len()).any(|window| window == name));
    }
}
