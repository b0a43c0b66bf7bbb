//! The host calls.

use filter_core::headers::HeaderBlock;

use super::{BAD_ARGUMENT, CAS_MISMATCH, Headers, Host, HttpCall, NOT_FOUND, OK, give, host};

/// Records a call and answers with its set status, or with what `action` says.
fn call(name: &'static str, action: impl FnOnce(&mut Host) -> u32) -> u32 {
    host(|host| {
        host.calls.push(name);
        match host.statuses.get(name) {
            Some(status) => *status,
            None => action(host),
        }
    })
}

unsafe fn bytes<'a>(data: *const u8, size: usize) -> &'a [u8] {
    if size == 0 {
        return &[];
    }
    // SAFETY: the module passes a slice.
    unsafe { std::slice::from_raw_parts(data, size) }
}

unsafe fn text(data: *const u8, size: usize) -> String {
    // SAFETY: as above.
    String::from_utf8(unsafe { bytes(data, size) }.to_vec()).expect("names are UTF-8")
}

fn map(host: &mut Host, number: u32) -> Option<&mut Headers> {
    match number {
        0 => host.request_headers.as_mut(),
        2 => host.response_headers.as_mut(),
        // no trailers
        3 => None,
        6 => host.call_headers.as_mut(),
        other => panic!("header map {other}"),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_log(level: u32, data: *const u8, size: usize) -> u32 {
    // SAFETY: the module passes a slice.
    let message = unsafe { text(data, size) };
    eprintln!("module log {level}: {message}");
    call("log", |host| {
        host.logs.push((level, message));
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_log_level(level: *mut u32) -> u32 {
    // SAFETY: the module passes a valid pointer.
    unsafe { *level = 2 };
    OK
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_current_time_nanoseconds(time: *mut u64) -> u32 {
    call("get_current_time", |host| {
        // SAFETY: the module passes a valid pointer.
        unsafe { *time = host.now };
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_tick_period_milliseconds(_period: u32) -> u32 {
    call("set_tick_period", |_| OK)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_buffer_bytes(
    buffer: u32,
    _start: usize,
    _max: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    let content = host(|host| match buffer {
        4 => host.call_body.clone(),
        7 => host.configuration.clone(),
        other => panic!("buffer {other}"),
    });
    call("get_buffer", |_| {
        give(&content, data, size);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_pairs(
    number: u32,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    call("get_header_map_pairs", |host| match map(host, number) {
        Some(lines) => {
            give(&HeaderBlock::encode(lines), data, size);
            OK
        }
        None => BAD_ARGUMENT,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_header_map_value(
    number: u32,
    name: *const u8,
    name_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module passes a slice.
    let name = unsafe { text(name, name_size) };
    call("get_header_map_value", |host| {
        let Some(lines) = map(host, number) else {
            return BAD_ARGUMENT;
        };
        match lines.iter().find(|(line, _)| *line == name) {
            Some((_, value)) => {
                give(value, data, size);
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_replace_header_map_value(
    number: u32,
    name: *const u8,
    name_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    // SAFETY: the module passes slices.
    let (name, value) = unsafe { (text(name, name_size), bytes(value, value_size).to_vec()) };
    assert!(
        !value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)),
        "Envoy answers 503"
    );
    call("set_header_map_value", |host| {
        let Some(lines) = map(host, number) else {
            return BAD_ARGUMENT;
        };
        lines.retain(|(line, _)| *line != name);
        lines.push((name, value));
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_remove_header_map_value(
    number: u32,
    name: *const u8,
    name_size: usize,
) -> u32 {
    // SAFETY: the module passes a slice.
    let name = unsafe { text(name, name_size) };
    call("remove_header_map_value", |host| {
        let Some(lines) = map(host, number) else {
            return BAD_ARGUMENT;
        };
        lines.retain(|(line, _)| *line != name);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_property(
    path: *const u8,
    path_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module passes a slice.
    let path = unsafe { text(path, path_size) };
    call("get_property", |host| match host.properties.get(&path) {
        Some(value) => {
            give(value, data, size);
            OK
        }
        None => NOT_FOUND,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_property(
    path: *const u8,
    path_size: usize,
    value: *const u8,
    value_size: usize,
) -> u32 {
    // SAFETY: the module passes slices.
    let (path, value) = unsafe { (text(path, path_size), bytes(value, value_size).to_vec()) };
    call("set_property", |host| {
        host.filter_state.insert(path, value);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_shared_data(
    key: *const u8,
    key_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
    cas: *mut u32,
) -> u32 {
    // SAFETY: the module passes a slice.
    let key = unsafe { text(key, key_size) };
    call("get_shared_data", |host| match host.shared.get(&key) {
        Some(value) => {
            give(value, data, size);
            let version = host.versions.get(&key).copied().unwrap_or(0);
            // SAFETY: the module passes a valid pointer.
            unsafe { *cas = version };
            OK
        }
        None => NOT_FOUND,
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_shared_data(
    key: *const u8,
    key_size: usize,
    value: *const u8,
    value_size: usize,
    cas: u32,
) -> u32 {
    // SAFETY: the module passes slices.
    let (key, value) = unsafe { (text(key, key_size), bytes(value, value_size).to_vec()) };
    call("set_shared_data", |host| {
        let version = host.versions.entry(key.clone()).or_default();
        if cas != 0 && cas != *version {
            return CAS_MISMATCH;
        }
        *version += 1;
        host.shared.insert(key, value);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_http_call(
    cluster: *const u8,
    cluster_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: *const u8,
    body_size: usize,
    _trailers: *const u8,
    _trailers_size: usize,
    _timeout_milliseconds: u32,
    token: *mut u32,
) -> u32 {
    // SAFETY: the module passes slices.
    let (cluster, headers, body) = unsafe {
        let block = HeaderBlock::new(bytes(headers, headers_size));
        let lines = block.lines().map(|(name, value)| {
            (
                String::from_utf8(name.to_vec()).expect("UTF-8"),
                value.to_vec(),
            )
        });
        let lines: Headers = lines.collect();
        (
            text(cluster, cluster_size),
            lines,
            bytes(body, body_size).to_vec(),
        )
    };
    call("http_call", |host| {
        if host.dispatch_status != OK {
            return host.dispatch_status;
        }
        host.next_token += 1;
        // SAFETY: the module passes a valid pointer.
        unsafe { *token = host.next_token };
        host.http_calls.push(HttpCall {
            token: host.next_token,
            cluster,
            headers,
            body,
            root: host.active_root,
        });
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_define_metric(
    _kind: u32,
    name: *const u8,
    name_size: usize,
    id: *mut u32,
) -> u32 {
    // SAFETY: the module passes a slice.
    let name = unsafe { text(name, name_size) };
    call("define_metric", |host| {
        let known = host.metric_names.iter().position(|known| *known == name);
        let at = known.unwrap_or_else(|| {
            host.metric_names.push(name);
            host.metric_values.push(0);
            host.metric_names.len() - 1
        });
        // SAFETY: the module passes a valid pointer.
        unsafe { *id = at as u32 };
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_increment_metric(id: u32, offset: i64) -> u32 {
    call("increment_metric", |host| {
        match host.metric_values.get_mut(id as usize) {
            Some(value) => {
                *value += offset;
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_send_local_response(
    status: u32,
    _details: *const u8,
    _details_size: usize,
    body: *const u8,
    body_size: usize,
    _headers: *const u8,
    _headers_size: usize,
    grpc_status: i32,
) -> u32 {
    // SAFETY: the module passes slices.
    let body = unsafe { text(body, body_size) };
    call("send_local_response", |host| {
        host.local_replies.push((status, grpc_status, body));
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_get_metric(id: u32, value: *mut u64) -> u32 {
    call("get_metric", |host| {
        match host.metric_values.get(id as usize) {
            Some(known) => {
                // SAFETY: the module passes a valid pointer.
                unsafe { *value = *known as u64 };
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_record_metric(id: u32, value: u64) -> u32 {
    call("record_metric", |host| {
        match host.metric_values.get_mut(id as usize) {
            Some(held) => {
                *held = value as i64;
                OK
            }
            None => NOT_FOUND,
        }
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_call_foreign_function(
    name: *const u8,
    name_size: usize,
    arguments: *const u8,
    arguments_size: usize,
    data: *mut *mut u8,
    size: *mut usize,
) -> u32 {
    // SAFETY: the module passes slices.
    let (name, arguments) = unsafe {
        (
            text(name, name_size),
            bytes(arguments, arguments_size).to_vec(),
        )
    };
    call("call_foreign_function", |host| {
        assert_eq!(name, "compress");
        let Some(zlib) = &host.compressed else {
            return NOT_FOUND;
        };
        host.compressions.push(arguments);
        give(zlib, data, size);
        OK
    })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn proxy_set_effective_context(_context: u32) -> u32 {
    OK
}

/// Host calls of the SDK that the filter has no use for: the shipped module does not import them.
macro_rules! unused {
    ($($name:ident)+) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name() -> u32 {
                std::process::abort()
            }
        )+
    };
}

unused! {
    proxy_add_header_map_value proxy_close_stream
    proxy_continue_stream proxy_dequeue_shared_queue proxy_done proxy_enqueue_shared_queue
    proxy_get_status proxy_grpc_call proxy_grpc_cancel proxy_grpc_close proxy_grpc_send
    proxy_grpc_stream proxy_register_shared_queue proxy_resolve_shared_queue
    proxy_set_buffer_bytes proxy_set_header_map_pairs
}
