//! The answers of OTLP: partial success and `google.rpc.Status`, as protobuf or JSON.
//!
//! Both messages are a handful of fields, so they are written by hand.

use super::any;

/// Most bytes of a message to a client; the rest is cut.
const MESSAGE_BYTES: usize = 1_024;

/// `ExportTraceServiceResponse`, and the one for metrics, which has the same shape; empty when nothing was refused.
pub(crate) fn partial_success(rejected: u64, message: &str) -> Vec<u8> {
    if rejected == 0 {
        return Vec::new();
    }
    let mut inner = Vec::with_capacity(64);
    inner.push(0x08);
    put_varint(&mut inner, rejected);
    put_bytes(&mut inner, 0x12, cut(message).as_bytes());
    let mut reply = Vec::with_capacity(inner.len() + 4);
    put_bytes(&mut reply, 0x0a, &inner);
    reply
}

/// The same as JSON; `items` names what was refused.
pub(crate) fn partial_success_json(items: &str, rejected: u64, message: &str) -> String {
    if rejected == 0 {
        return "{}".to_owned();
    }
    // 64 bit integers are text in protobuf's JSON mapping.
    let mut out = format!("{{\"partialSuccess\":{{\"{items}\":\"{rejected}\",\"errorMessage\":");
    any::write_string(cut(message), &mut out);
    out.push_str("}}");
    out
}

/// `google.rpc.Status`, with a `RetryInfo` detail when the client should come back.
pub(crate) fn status(code: u8, message: &str, retry_after_s: Option<u32>) -> Vec<u8> {
    let mut out = vec![0x08, code];
    put_bytes(&mut out, 0x12, cut(message).as_bytes());
    if let Some(seconds) = retry_after_s {
        // RetryInfo { retry_delay: Duration { seconds } } inside google.protobuf.Any.
        let mut duration = vec![0x08];
        put_varint(&mut duration, u64::from(seconds));
        let mut info = Vec::new();
        put_bytes(&mut info, 0x0a, &duration);
        let mut any = Vec::new();
        put_bytes(&mut any, 0x0a, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes(&mut any, 0x12, &info);
        put_bytes(&mut out, 0x1a, &any);
    }
    out
}

/// The same status as JSON (without details).
pub(crate) fn status_json(code: u8, message: &str) -> String {
    let mut out = format!("{{\"code\":{code},\"message\":");
    any::write_string(cut(message), &mut out);
    out.push('}');
    out
}

fn cut(message: &str) -> &str {
    message
        .get(..message.floor_char_boundary(MESSAGE_BYTES))
        .unwrap_or(message)
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

fn put_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
