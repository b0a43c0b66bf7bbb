//! Generated header sets that hurt naive code.
//!
//! [`accepted`] makes what Envoy lets through to filters: any byte from 0x20 (and tab) without
//! 0x7f, at most 60 KiB and 100 lines. [`refused`] makes raw requests of which Envoy refuses most.

use fastrand::Rng;
use integration_tests::headers::HeaderLines;
use integration_tests::raw;

/// Below Envoy's 60 KiB for all headers together.
const MOST_BYTES: usize = 50 * 1024;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SPAN: &str = "00f067aa0ba902b7";

/// One header set that reaches the filter.
pub(crate) fn accepted(random: &mut Rng) -> HeaderLines {
    let mut lines = HeaderLines::new();
    for _ in 0..weighted(random, &[(1, 0), (8, 1), (2, 2), (1, 5)]) {
        lines.push("traceparent", parent(random));
    }
    for _ in 0..weighted(random, &[(2, 0), (5, 1), (3, 3), (1, 20)]) {
        lines.push("tracestate", state(random));
    }
    for _ in 0..weighted(random, &[(3, 0), (5, 1), (2, 3), (1, 20)]) {
        lines.push("baggage", baggage(random));
    }
    if random.u8(..) < 64 {
        lines.push("x-noise", bytes(random, 200));
    }
    if random.u8(..) == 0 {
        let name = ["traceparent", "tracestate", "baggage", "x-huge"][random.usize(..4)];
        lines.push(name, huge(random, name));
    }
    capped(lines)
}

/// Leaves out the lines with which the set would be too large for Envoy.
fn capped(lines: HeaderLines) -> HeaderLines {
    let mut kept = HeaderLines::new();
    let mut total = 0;
    for (name, value) in lines.iter() {
        total += name.len() + value.len() + 8;
        if total < MOST_BYTES {
            // HTTP removes outer white space anyway, and HTTP/2 forbids it.
            kept.push(name, value.trim_ascii());
        }
    }
    kept
}

fn parent(random: &mut Rng) -> Vec<u8> {
    let good = format!("00-{TRACE}-{SPAN}-01");
    match random.u8(0..12) {
        0..3 => good.into_bytes(),
        3..6 => mutated(random, good.into_bytes()),
        6 => bytes(random, 80),
        7 => format!("00-{}-{SPAN}-01", "0".repeat(32)).into_bytes(),
        8 => good.to_uppercase().into_bytes(),
        9 => format!(
            "{:02x}-{TRACE}-{SPAN}-{:02x}-more",
            random.u8(..),
            random.u8(..)
        )
        .into_bytes(),
        10 => format!("{good},{good}").into_bytes(),
        _ => format!("{good}%0d%0ax-injected: 1").into_bytes(),
    }
}

fn state(random: &mut Rng) -> Vec<u8> {
    match random.u8(0..10) {
        0 => Vec::new(),
        1 => list(random, 33, 40),
        2 => bytes(random, 300),
        3 => {
            let good = list(random, 1, 8);
            mutated(random, good)
        }
        4 => {
            let key = ["cost_usd", "data_tag", "ot", "tracemeter"][random.usize(..4)];
            [key.as_bytes(), b"=", &hostile_value(random)].concat()
        }
        5 => {
            let value = hostile_value(random);
            [
                &list(random, 0, 5)[..],
                b",cost_usd=",
                &value,
                b",data_tag=",
                &value,
            ]
            .concat()
        }
        6 => b",,, ,\t,".to_vec(),
        7 => [vec![b'k'; random.usize(250..262)], b"=v".to_vec()].concat(),
        _ => list(random, 1, 32),
    }
}

fn baggage(random: &mut Rng) -> Vec<u8> {
    match random.u8(0..8) {
        0 => Vec::new(),
        1 => list(random, 60, 180),
        2 => bytes(random, 400),
        3 => [&b"cost_usd="[..], &hostile_value(random), b";p=1,data_tag="].concat(),
        4 => b"k=%0d%0ax-injected:%201,%zz=%,=,;;,a;b;c=d".to_vec(),
        5 => [b"k=".to_vec(), vec![b'v'; random.usize(8_000..8_400)]].concat(),
        _ => list(random, 1, 20),
    }
}

fn hostile_value(random: &mut Rng) -> Vec<u8> {
    const VALUES: [&[u8]; 18] = [
        b"-1",
        b"1e999",
        b"NaN",
        b"99999999999999999999999999",
        b"0.0000000000000000001",
        b"1%0d%0ax-injected: 1",
        b"\xff\xfe",
        b"PII;EXPORT_OK",
        b"pii",
        b"",
        b"th:",
        b"th:zz;rv:00",
        b"th:0;rv:ffffffffffffff",
        b"rv:00000000000000;th:fffffffffffffff",
        b"th:0;th:8;rv:0",
        b"c:1;t:PII;c:",
        b"18446744073709551616",
        b"1.",
    ];
    VALUES[random.usize(..VALUES.len())].to_vec()
}

fn list(random: &mut Rng, from: usize, to: usize) -> Vec<u8> {
    let count = random.usize(from..=to);
    let member = |number: usize| format!("k{number}=v{}", number * 7);
    (0..count)
        .map(member)
        .collect::<Vec<_>>()
        .join(",")
        .into_bytes()
}

fn huge(random: &mut Rng, name: &str) -> Vec<u8> {
    let length = random.usize(8_000..45_000);
    match name {
        "tracestate" | "baggage" => {
            let mut value = Vec::with_capacity(length + 8);
            while value.len() < length {
                value.extend_from_slice(b"key=value,");
            }
            value
        }
        _ => vec![b'a'; length],
    }
}

/// Replaces, inserts or removes up to three bytes.
fn mutated(random: &mut Rng, mut value: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.u8(1..4) {
        let at = random.usize(..value.len().max(1));
        match random.u8(0..3) {
            0 if at < value.len() => value[at] = byte(random),
            1 if at < value.len() => _ = value.remove(at),
            _ => value.insert(at.min(value.len()), byte(random)),
        }
    }
    value
}

fn bytes(random: &mut Rng, most: usize) -> Vec<u8> {
    let length = random.usize(..most);
    (0..length).map(|_| byte(random)).collect()
}

/// Any byte that is allowed in a header value.
fn byte(random: &mut Rng) -> u8 {
    match random.u8(..) {
        0x7f | 0..0x20 => b'\t',
        other => other,
    }
}

/// A raw request of the kind Envoy refuses: control characters, too many or too large headers,
/// broken names and lines.
pub(crate) fn refused(random: &mut Rng) -> Vec<u8> {
    let name = ["traceparent", "tracestate", "baggage"][random.usize(..3)];
    let with =
        |name: &str, value: &[u8]| raw::get("target", "/", &HeaderLines::new().with(name, value));
    match random.u8(0..7) {
        0 => {
            let control = [0, 1, 7, 8, 11, 12, 27, 31, 127][random.usize(..9)];
            with(name, &[b"00-".as_slice(), &[control], b"x"].concat())
        }
        1 => with(name, &vec![b'a'; 62 * 1024]),
        2 => {
            let many = (0..120).fold(HeaderLines::new(), |lines, _| lines.with(name, "a=1"));
            raw::get("target", "/", &many)
        }
        3 => with("trace\u{e9}parent", b"x"),
        4 => with("trace parent", b"x"),
        5 => with(name, b"x\ry"),
        _ => [
            b"GET / HTTP/1.1\r\nhost: target\r\n",
            name.as_bytes(),
            b"\r\n\r\n",
        ]
        .concat(),
    }
}

fn weighted(random: &mut Rng, choices: &[(u32, usize)]) -> usize {
    let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut drawn = random.u32(..total);
    for (weight, value) in choices {
        if drawn < *weight {
            return *value;
        }
        drawn -= weight;
    }
    0
}
