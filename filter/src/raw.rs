//! Four host calls that the SDK offers only in a form that is too dear for every request.
//!
//! - All request headers: the SDK copies each name and value into an allocation of its own (about
//!   forty for a usual request) and panics on a status that it does not expect. Here the host's
//!   block is taken as it is; `filter-core` reads it in place.
//! - A property: the SDK takes the path as a vector and joins it anew for each call.
//! - The time: the SDK makes a calendar's time of it, which has to be undone.
//! - A foreign function: the SDK panics on a status that it does not expect, and a host without the
//!   function may answer any.
//!
//! Everything else goes through the SDK.

use std::ptr::null_mut;

use proxy_wasm::types::MapType;

/// `WasmResult::Ok` of the ABI.
const OK: u32 = 0;

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_get_current_time_nanoseconds(return_time: *mut u64) -> u32;
    fn proxy_get_header_map_pairs(
        map: u32,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        name_size: usize,
        arguments: *const u8,
        arguments_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_get_property(
        path: *const u8,
        path_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
}

/// Takes over a buffer that the host has filled; `None` when there is none.
fn take(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> Option<Vec<u8>> {
    let mut data: *mut u8 = null_mut();
    let mut size = 0;
    let status = call(&raw mut data, &raw mut size);
    if status != OK || data.is_null() {
        return None;
    }
    // SAFETY: the host has got the buffer from `proxy_on_memory_allocate` of the SDK, which gives
    // out boxed slices of exactly this size, has filled all of it, and gives it up with this call.
    Some(unsafe { Vec::from_raw_parts(data, size, size) })
}

/// Nanoseconds since the Unix epoch; 0 if the host has no clock.
pub(crate) fn now_unix_nanos() -> u64 {
    let mut now = 0;
    // SAFETY: the pointer is valid for writing during the call.
    let status = unsafe { proxy_get_current_time_nanoseconds(&raw mut now) };
    if status == OK { now } else { 0 }
}

/// The encoded lines of a header map; nothing when the map is not there in this phase.
pub(crate) fn header_block(map: MapType) -> Vec<u8> {
    // SAFETY: both pointers are valid for writing during the call.
    let block = take(|data, size| unsafe { proxy_get_header_map_pairs(map as u32, data, size) });
    block.unwrap_or_default()
}

/// A property by its path, whose parts are joined by NUL. An empty value is `None` as well.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    // SAFETY: the path lives through the call; both pointers are valid for writing during it.
    take(|data, size| unsafe { proxy_get_property(path.as_ptr(), path.len(), data, size) })
}

/// Calls a function of the host that is not part of the ABI; `None` when it does not have it or
/// refuses.
pub(crate) fn foreign_function(name: &str, arguments: &[u8]) -> Option<Vec<u8>> {
    // SAFETY: name and arguments live through the call; both pointers are valid for writing during
    // it.
    take(|data, size| unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            data,
            size,
        )
    })
}
