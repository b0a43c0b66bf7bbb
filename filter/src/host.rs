//! The host calls the filter makes, each one byte-wise and fallible, with Envoy's encodings.
//!
//! Integers come as eight little-endian bytes; a property that Envoy does not know in this phase
//! is `None` (absence is information: a missing response code means that the client went away).

use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, GrpcStatusCode, LogLevel, MapType, Status};

use crate::raw::{self, HeaderLines};

/// Nanoseconds since the Unix epoch; 0 if the host has no clock.
pub(crate) fn now_unix_nanos() -> u64 {
    raw::now_unix_nanos()
}

/// All request header lines as one encoded block; only in the request header phase and `on_log`.
pub(crate) fn request_headers() -> HeaderLines {
    raw::header_lines(MapType::HttpRequestHeaders)
}

/// The first line of one request header; valid in the request header phase and in `on_log`.
pub(crate) fn request_header(name: &str) -> Option<Vec<u8>> {
    raw::header(MapType::HttpRequestHeaders, name)
}

/// Replaces all lines of a request header by one; only in the request header phase. The value must
/// not hold CR, LF or NUL: Envoy would answer 503.
pub(crate) fn set_request_header(name: &str, value: &[u8]) {
    raw::set_header(MapType::HttpRequestHeaders, name, value);
}

/// Removes all lines of a request header; only in the request header phase.
pub(crate) fn remove_request_header(name: &str) {
    raw::remove_header(MapType::HttpRequestHeaders, name);
}

/// Sets a response header; only in the response header phase.
pub(crate) fn set_response_header(name: &str, value: &[u8]) {
    raw::set_header(MapType::HttpResponseHeaders, name, value);
}

/// The first line of a header or trailer of the response, in the phase of that map.
pub(crate) fn response_value(map: MapType, name: &str) -> Option<Vec<u8>> {
    raw::header(map, name)
}

/// Sets or removes a header or trailer of the response, in the phase of that map.
pub(crate) fn change_response(map: MapType, name: &str, value: Option<&[u8]>) {
    match value {
        Some(value) => raw::set_header(map, name, value),
        None => raw::remove_header(map, name),
    }
}

/// Answers a request instead of passing it on: HTTP 429, or RESOURCE_EXHAUSTED; only in the request
/// header phase, which then has to stop.
pub(crate) fn answer_over_budget(grpc: bool, message: &str) {
    let _ = if grpc {
        hostcalls::send_grpc_response(GrpcStatusCode::ResourceExhausted, Some(message), vec![])
    } else {
        let headers = vec![("content-type", "text/plain")];
        hostcalls::send_http_response(429, headers, Some(message.as_bytes()))
    };
}

/// A part of the response's body; only in its phase, at most `size` bytes.
pub(crate) fn response_body(size: usize) -> Vec<u8> {
    let part = hostcalls::get_buffer(BufferType::HttpResponseBody, 0, size);
    part.ok().flatten().unwrap_or_default()
}

/// HTTP status of the response headers; only in their phase.
pub(crate) fn response_status() -> Option<u16> {
    let value = raw::header(MapType::HttpResponseHeaders, ":status")?;
    std::str::from_utf8(&value).ok()?.parse().ok()
}

/// A property as bytes; the parts of its path are joined by NUL.
pub(crate) fn property(path: &str) -> Option<Vec<u8>> {
    raw::property(path)
}

/// A property as text; absent when it is not UTF-8.
pub(crate) fn text_property(path: &str) -> String {
    property(path)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_default()
}

/// A non-negative integer property.
pub(crate) fn unsigned_property(path: &str) -> Option<u64> {
    u64::try_from(raw::number(path)).ok()
}

/// The value of a counter or gauge of the proxy; the highest of all where it is not known.
pub(crate) fn metric(id: u32) -> u64 {
    raw::metric(id)
}

/// A value shared by all VMs of this VM id in the proxy.
pub(crate) fn shared_value(key: &str) -> Option<Vec<u8>> {
    let (value, _) = hostcalls::get_shared_data(key).ok()?;
    value
}

/// Whether a value is shared under this key, be it empty.
pub(crate) fn has_shared_value(key: &str) -> bool {
    matches!(
        hostcalls::get_shared_data(key),
        Ok((_, Some(_)) | (Some(_), _))
    )
}

/// A shared value with its version, for [`replace_shared_value`].
pub(crate) fn shared_value_versioned(key: &str) -> (Option<Vec<u8>>, Option<u32>) {
    hostcalls::get_shared_data(key).unwrap_or_default()
}

/// Replaces a shared value unless somebody else has changed it since. Without a version it is set in
/// any case.
pub(crate) fn replace_shared_value(key: &str, value: &[u8], version: Option<u32>) -> bool {
    hostcalls::set_shared_data(key, Some(value), version).is_ok()
}

/// Sets a value shared by all VMs of this VM id in the proxy. It outlives a VM that traps.
pub(crate) fn set_shared_value(key: &str, value: &[u8]) {
    let _ = hostcalls::set_shared_data(key, Some(value), None);
}

/// Sets filter state `wasm.<name>`, readable by access logs and span tags.
pub(crate) fn set_filter_state(name: &str, value: &[u8]) {
    let _ = hostcalls::set_property(vec![name], Some(value));
}

/// Logs a line; callers make sure that nothing a client sends is in it.
pub(crate) fn log(level: LogLevel, message: &str) {
    let _ = hostcalls::log(level, message);
}

/// The zlib form of some bytes by Envoy's own zlib; `None` on a host that cannot do it.
pub(crate) fn compress(bytes: &[u8]) -> Option<Vec<u8>> {
    raw::foreign_function("compress", bytes)
}

/// Why an export request was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DispatchError {
    /// Envoy does not know the cluster (yet).
    NoCluster,
    /// Envoy's limits for this cluster are reached.
    Overloaded,
}

/// Sends a request to the collector; only from the root context.
pub(crate) fn dispatch(
    cluster: &str,
    headers: Vec<(&str, &str)>,
    body: Option<&[u8]>,
    timeout: Duration,
) -> Result<u32, DispatchError> {
    match hostcalls::dispatch_http_call(cluster, headers, body, vec![], timeout) {
        Ok(token) => Ok(token),
        Err(Status::BadArgument) => Err(DispatchError::NoCluster),
        Err(_) => Err(DispatchError::Overloaded),
    }
}

/// The body of the answer to a call; only in its callback.
pub(crate) fn call_response_body(size: usize) -> Option<Vec<u8>> {
    hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, size)
        .ok()
        .flatten()
}

/// A header of the answer to an export request; only in its callback.
pub(crate) fn call_response_header(name: &str) -> Option<Vec<u8>> {
    raw::header(MapType::HttpCallResponseHeaders, name)
}
