//! Host calls that the SDK offers only in a form that is too dear for every request, and the memory
//! that their answers come in.
//!
//! - All request headers: the SDK copies each name and value into an allocation of its own (about
//!   forty for a usual request) and panics on a status that it does not expect. Here the host's
//!   block is taken as it is; `filter-core` reads it in place.
//! - A property: the SDK takes the path as a vector and joins it anew for each call.
//! - The time: the SDK makes a calendar's time of it, which has to be undone.
//! - A header and a metric: the SDK panics on a status that it does not expect, with a message that
//!   takes code to put together.
//! - A foreign function: the SDK panics on a status that it does not expect, and a host without the
//!   function may answer any.
//!
//! Everything else goes through the SDK.

use std::alloc::{Layout, alloc, dealloc};
use std::ptr::null_mut;
use std::slice;

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
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        return_data: *mut *mut u8,
        return_size: *mut usize,
    ) -> u32;
    fn proxy_replace_header_map_value(
        map: u32,
        name: *const u8,
        name_size: usize,
        value: *const u8,
        value_size: usize,
    ) -> u32;
    fn proxy_remove_header_map_value(map: u32, name: *const u8, name_size: usize) -> u32;
    fn proxy_get_metric(id: u32, return_value: *mut u64) -> u32;
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

/// Memory for what the host hands over: the wrappers of the SDK, as [`take`] here, make a vector of
/// exactly this size of it. Null when there is none to be had; the host then refuses its call.
pub(crate) fn allocate(size: usize) -> *mut u8 {
    match Layout::array::<u8>(size) {
        // SAFETY: the layout is not empty.
        Ok(layout) if size > 0 => unsafe { alloc(layout) },
        _ => null_mut(),
    }
}

/// What the host fills in: where its answer is, and how long. It stays null where the host refuses.
#[derive(Clone, Copy)]
struct Answer {
    data: *mut u8,
    size: usize,
}

impl Answer {
    const NONE: Self = Self {
        data: null_mut(),
        size: 0,
    };

    /// Takes over the buffer that the host has filled; `None` when there is none.
    #[inline]
    fn take(self, status: u32) -> Option<Vec<u8>> {
        if status != OK || self.data.is_null() {
            return None;
        }
        // SAFETY: the host has got the buffer from `allocate`, with exactly this size, has filled
        // all of it, and gives it up with the call.
        Some(unsafe { Vec::from_raw_parts(self.data, self.size, self.size) })
    }

    /// Gives the buffer back, once.
    #[inline(never)]
    fn give_back(self) {
        if !self.data.is_null()
            && let Ok(layout) = Layout::array::<u8>(self.size)
        {
            // SAFETY: the buffer comes from `allocate`, with this size; nobody else has it.
            unsafe { dealloc(self.data, layout) };
        }
    }
}

/// Nanoseconds since the Unix epoch; 0 if the host has no clock.
pub(crate) fn now_unix_nanos() -> u64 {
    let mut now = 0;
    // SAFETY: the pointer is valid for writing during the call.
    unsafe { proxy_get_current_time_nanoseconds(&raw mut now) };
    // A host that refuses has not written anything.
    now
}

/// The encoded lines of a header map, in memory that the host has filled.
pub(crate) struct HeaderLines(Answer);

impl HeaderLines {
    /// The lines; nothing when the map was not there.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        let Answer { data, size } = self.0;
        if data.is_null() {
            return &[];
        }
        // SAFETY: the host has filled that many bytes of a buffer that is given back when this goes.
        unsafe { slice::from_raw_parts(data, size) }
    }
}

impl Drop for HeaderLines {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

/// The encoded lines of a header map; nothing when the map is not there in this phase.
pub(crate) fn header_lines(map: MapType) -> HeaderLines {
    let mut answer = Answer::NONE;
    // SAFETY: both pointers are valid for writing during the call. A host that refuses hands over
    // nothing.
    unsafe { proxy_get_header_map_pairs(map as u32, &raw mut answer.data, &raw mut answer.size) };
    HeaderLines(answer)
}

/// The first line of a header; `None` when there is none, or no such map in this phase.
pub(crate) fn header(map: MapType, name: &str) -> Option<Vec<u8>> {
    let mut answer = Answer::NONE;
    // SAFETY: the name lives through the call; both pointers are valid for writing during it.
    let status = unsafe {
        proxy_get_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            &raw mut answer.data,
            &raw mut answer.size,
        )
    };
    // An empty value comes without a buffer.
    if status == OK && answer.data.is_null() {
        return Some(Vec::new());
    }
    answer.take(status)
}

/// Sets a header to one line; the host refuses that outside the phase of its map.
pub(crate) fn set_header(map: MapType, name: &str, value: &[u8]) {
    // SAFETY: name and value live through the call.
    unsafe {
        proxy_replace_header_map_value(
            map as u32,
            name.as_ptr(),
            name.len(),
            value.as_ptr(),
            value.len(),
        );
    }
}

/// Removes all lines of a header; the host refuses that outside the phase of its map.
pub(crate) fn remove_header(map: MapType, name: &str) {
    // SAFETY: the name lives through the call.
    unsafe {
        proxy_remove_header_map_value(map as u32, name.as_ptr(), name.len());
    }
}

/// The value of a counter or gauge; the highest of all where the host refuses.
pub(crate) fn metric(id: u32) -> u64 {
    let mut value = u64::MAX;
    // SAFETY: the pointer is valid for writing during the call.
    unsafe { proxy_get_metric(id, &raw mut value) };
    value
}

/// A property by its path, whose parts are joined by NUL. An empty value is `None` as well.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    let mut answer = Answer::NONE;
    // SAFETY: the path lives through the call; both pointers are valid for writing during it.
    let status = unsafe {
        proxy_get_property(
            path.as_ptr(),
            path.len(),
            &raw mut answer.data,
            &raw mut answer.size,
        )
    };
    answer.take(status)
}

/// A property that is an integer; negative when it is not there.
#[inline(never)]
pub(crate) fn number(path: &str) -> i64 {
    let mut answer = Answer::NONE;
    // SAFETY: the path lives through the call; both pointers are valid for writing during it.
    let status = unsafe {
        proxy_get_property(
            path.as_ptr(),
            path.len(),
            &raw mut answer.data,
            &raw mut answer.size,
        )
    };
    let number = if status == OK && answer.size == size_of::<i64>() && !answer.data.is_null() {
        // SAFETY: the host has filled that many bytes.
        unsafe { answer.data.cast::<i64>().read_unaligned() }
    } else {
        -1
    };
    answer.give_back();
    number
}

/// Calls a function of the host that is not part of the ABI; `None` when it does not have it or
/// refuses.
pub(crate) fn foreign_function(name: &str, arguments: &[u8]) -> Option<Vec<u8>> {
    let mut answer = Answer::NONE;
    // SAFETY: name and arguments live through the call; both pointers are valid for writing during
    // it.
    let status = unsafe {
        proxy_call_foreign_function(
            name.as_ptr(),
            name.len(),
            arguments.as_ptr(),
            arguments.len(),
            &raw mut answer.data,
            &raw mut answer.size,
        )
    };
    answer.take(status)
}
