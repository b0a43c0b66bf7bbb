//! What is read of a header block, whole or damaged.

use super::*;

fn block(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    HeaderBlock::encode(pairs)
}

#[test]
fn a_block_yields_its_lines_and_a_damaged_one_those_before_the_damage() {
    let whole = block(&[(":path", b"/"), ("x", b""), ("", b"\xff")]);
    fn lines(bytes: &[u8]) -> usize {
        HeaderBlock::new(bytes).lines().count()
    }
    let read: Vec<_> = HeaderBlock::new(&whole).lines().collect();
    assert_eq!(
        read,
        [(&b":path"[..], &b"/"[..]), (b"x", b""), (b"", b"\xff")]
    );
    assert_eq!(lines(b""), 0);
    for cut in 0..whole.len() {
        assert!(lines(&whole[..cut]) < 3);
    }
    for lie in 0..whole.len() {
        let mut block = whole.clone();
        block[lie] = 0xff;
        assert!(lines(&block) <= 3);
    }
}

#[test]
fn repeated_lines_keep_their_order_and_are_counted() {
    let block = block(&[
        ("tracestate", b"a=1"),
        ("traceparent", b"x"),
        ("tracestate", b"b=2"),
        ("traceparent", b"y"),
        ("tracestate", b"c=3"),
    ]);
    let headers = RequestHeaders::new(HeaderBlock::new(&block));
    let read: Vec<_> = headers.tracestate().iter().collect();
    assert_eq!(read, [b"a=1", b"b=2", b"c=3"]);
    assert_eq!(headers.traceparent().first(), b"x");
    assert_eq!(headers.traceparent().len(), 2);
    assert!(headers.baggage().is_empty());
    for name in ["tracestate", "traceparent"] {
        assert!(headers.first(name).is_some());
    }
    assert_eq!(headers.first("baggage"), None);
}

#[test]
fn every_known_name_is_found_and_no_other() {
    for (index, name) in NAMES.iter().enumerate() {
        assert_eq!(known(name), Some(index));
        assert!(LENGTHS >> name.len() & 1 != 0);
        let other = [&name[1..], b"x"].concat();
        assert_eq!(known(&other), None);
    }
    assert_eq!(NAMES[Known::ContentLength as usize], b"content-length");
    for name in [
        &b""[..],
        b"x",
        b"referer",
        b"sec-fetch-dest",
        b"x-forwarded-proto",
    ] {
        assert_eq!(known(name), None);
    }
}

#[test]
fn path_and_host_lose_query_and_port() {
    let block = block(&[(":path", b"/pay?card=1"), (":authority", b"pay.svc:8080")]);
    let headers = RequestHeaders::new(HeaderBlock::new(&block));
    assert_eq!(headers.path(), b"/pay");
    assert_eq!(headers.host(), b"pay.svc");
    assert_eq!(host_of(b"[::1]:80"), b"[::1]");
    assert_eq!(host_of(b"[::1]"), b"[::1]");
    assert_eq!(host_of(b"pay"), b"pay");
    assert_eq!(host_of(b""), b"");
    assert_eq!(port_of(b"pay:80"), Some(80));
    assert_eq!(port_of(b"[::1]:80"), Some(80));
    for none in [&b"pay"[..], b"pay:", b"pay:x", b"pay:99999", b"[::1]"] {
        assert_eq!(port_of(none), None);
    }
}

#[test]
fn only_real_grpc_content_types_are_grpc() {
    for (value, wanted) in [
        ("application/grpc", true),
        ("application/grpc+proto", true),
        ("application/grpc; charset=utf-8", true),
        ("application/grpc-web", false),
        ("application/json", false),
        ("", false),
    ] {
        let block = block(&[("content-type", value.as_bytes())]);
        let headers = RequestHeaders::new(HeaderBlock::new(&block));
        assert_eq!(headers.is_grpc(), wanted, "{value}");
    }
}

#[test]
fn a_content_length_that_is_no_number_is_ignored() {
    for (value, wanted) in [
        ("12", Some(12)),
        ("-1", None),
        ("99999999999999999999", None),
        ("", None),
    ] {
        let block = block(&[("content-length", value.as_bytes())]);
        let headers = RequestHeaders::new(HeaderBlock::new(&block));
        assert_eq!(headers.content_length(), wanted);
    }
}
