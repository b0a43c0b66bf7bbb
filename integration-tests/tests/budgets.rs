//! Budgets of the shipped module, deterministic: what one request executes and asks of the host,
//! bytes of the module and of what it sends, and memory that does not grow.
//!
//! `make bench` prints the table of budgets and measured values (`--nocapture`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test code"
)]

#[path = "budgets/count.rs"]
mod count;
#[path = "budgets/footprint.rs"]
mod footprint;
#[path = "budgets/host.rs"]
mod host;
#[path = "budgets/limits.rs"]
mod limits;

use host::{Exchange, Proxy, Taken};
use integration_tests::artefacts;
use limits::{
    BATCH_BYTES, CODE_BYTES, GROWTH_REQUESTS, MEMORY_PAGES, MODULE_BYTES, PER_REQUEST, PerRequest,
    SENT_SPAN_BYTES, SPAN_BYTES,
};

/// The specification's rules, as a mesh has them; the base rate is the case's.
const RULES: &str = r#"[
    {"name": "errors", "condition": "error = true", "sample_rate": 1.0},
    {"name": "high cost", "condition": "cost_usd > 0.01", "sample_rate": 1.0},
    {"name": "human review", "condition": "hitl_required = true", "sample_rate": 1.0},
    {"name": "personal data", "condition": "data_tag = PII", "sample_rate": 1.0},
    {"name": "slow", "condition": "duration_ms > 1000", "sample_rate": 0.5}]"#;

/// Requests before anything is counted: the first ones of a configuration are looked at more
/// closely, and maps and buffers find their size.
const WARM_UP: usize = 64;

/// Requests that are counted.
const COUNTED: u64 = 64;

/// A policy with a base rate; the rest is the default of the policy, but for `gzip`.
fn policy(rate: f64, gzip: bool) -> String {
    format!(
        r#"{{"sampling": {{"default_rate": {rate}, "priority_rules": {RULES},
            "low_volume": {{"traces_per_minute": 0}}}},
          "service": {{"name": "shop"}}, "export": {{"cluster": "collector", "gzip": {gzip}}}}}"#
    )
}

/// Fifteen headers as a browser and two hops make them.
const HEADERS: [(&str, &str); 19] = [
    (":authority", "shop.internal"),
    (":path", "/users/4711/orders?page=2"),
    (":method", "GET"),
    (":scheme", "http"),
    (
        "accept",
        "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    ),
    ("accept-encoding", "gzip, deflate, br"),
    ("accept-language", "en-US,en;q=0.5"),
    ("cache-control", "no-cache"),
    (
        "cookie",
        "session=3f1c9b7a2e5d4c6f8a0b1c2d3e4f5a6b; theme=dark; consent=1",
    ),
    ("origin", "https://shop.example"),
    (
        "referer",
        "https://shop.example/catalogue/page/7?sort=price",
    ),
    ("sec-fetch-dest", "document"),
    ("sec-fetch-mode", "navigate"),
    (
        "user-agent",
        "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    ),
    ("x-api-version", "2026-10-01"),
    ("x-tenant", "acme-industries"),
    ("x-forwarded-proto", "http"),
    ("x-request-id", "0a1b2c3d-0000-4000-8000-000000000000"),
    ("x-forwarded-for", "10.1.2.3"),
];

const CONTEXT: [(&str, &str); 3] = [
    (
        "traceparent",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
    ),
    ("tracestate", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"),
    ("baggage", "user=alice,region=eu-central-1,cost_usd=0.00002"),
];

/// Headers that cost the most a client can make them cost within common sense: lists at the limits
/// of the standards.
fn hostile() -> Vec<(String, String)> {
    let state = (0..32).map(|n| format!("k{n}=v{n}")).collect::<Vec<_>>();
    let baggage = (0..64)
        .map(|n| format!("key{n}=%41%42{n}"))
        .collect::<Vec<_>>();
    vec![
        (CONTEXT[0].0.to_owned(), CONTEXT[0].1.to_owned()),
        ("tracestate".to_owned(), state.join(",")),
        ("baggage".to_owned(), baggage.join(",")),
    ]
}

/// What a case sends, by its name in the budgets.
fn case(name: &str) -> (f64, Vec<(String, String)>, u16) {
    let context = || {
        let lines = CONTEXT.iter();
        lines
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    };
    match name {
        "unsampled" => (0.0, context(), 200),
        "sampled" => (1.0, context(), 200),
        "new trace" => (0.0, Vec::new(), 200),
        "kept as an error" => (0.0, context(), 503),
        "hostile headers" => (0.0, hostile(), 200),
        other => panic!("no case `{other}`"),
    }
}

fn lines(context: &[(String, String)]) -> Vec<(&str, &[u8])> {
    let context = context.iter();
    let context = context.map(|(name, value)| (name.as_str(), value.as_bytes()));
    let fixed = HEADERS.iter();
    let fixed = fixed.map(|(name, value)| (*name, value.as_bytes()));
    fixed.chain(context).collect()
}

fn module() -> Vec<u8> {
    std::fs::read(artefacts::module().unwrap()).unwrap()
}

/// Prints a line of the table; says whether the budget holds.
fn holds(what: &str, measured: u64, budget: u64) -> bool {
    let verdict = if measured <= budget { "" } else { "  EXCEEDED" };
    println!("{what:<44} {measured:>9}  of {budget:>9}{verdict}");
    measured <= budget
}

/// The proxy after the warm-up for a case, and a request of it.
fn warmed(module: &[u8], name: &str, mut request: impl FnMut(&mut Proxy, &Exchange<'_>)) {
    let (rate, context, status) = case(name);
    let mut proxy = Proxy::start(module, &policy(rate, true));
    let headers = lines(&context);
    let exchange = Exchange {
        headers: &headers,
        status,
    };
    for _ in 0..WARM_UP {
        proxy.exchange(&exchange);
    }
    request(&mut proxy, &exchange);
}

fn measure(module: &[u8], budget: &PerRequest) -> Taken {
    let mut sum = Taken::default();
    warmed(module, budget.case, |proxy, exchange| {
        for _ in 0..COUNTED {
            let taken = proxy.exchange(exchange);
            sum.instructions += taken.instructions;
            sum.host_calls += taken.host_calls;
        }
    });
    Taken {
        instructions: sum.instructions / COUNTED,
        // What comes once in many requests (random bytes in blocks) is not a call of each.
        host_calls: (sum.host_calls + COUNTED / 2) / COUNTED,
    }
}

#[test]
fn each_path_stays_within_its_instructions_and_host_calls() {
    let module = module();
    let mut within = true;
    for budget in &PER_REQUEST {
        let taken = measure(&module, budget);
        let name = |what: &str| format!("{what}, {}", budget.case);
        within &= holds(
            &name("instructions"),
            taken.instructions,
            budget.instructions,
        );
        within &= holds(&name("host calls"), taken.host_calls, budget.host_calls);
    }
    assert!(within, "see the table above; `budgets/limits.rs`");
}

/// What ran for one request of a case. Of a few requests that with the least code: some do what
/// comes once in many (random bytes in blocks).
fn footprint(module: &[u8], name: &str) -> footprint::Footprint {
    let mut least = None;
    warmed(module, name, |proxy, exchange| {
        proxy.runs();
        let each = (0..4).map(|_| {
            proxy.exchange(exchange);
            footprint::Footprint::new(&proxy.runs(), &proxy.stretches)
        });
        least = each.min_by_key(|footprint| footprint.code_bytes);
    });
    least.unwrap()
}

#[test]
fn each_path_stays_within_its_code() {
    let module = module();
    let within = PER_REQUEST.iter().map(|budget| {
        let measured = footprint(&module, budget.case).code_bytes;
        let name = format!("bytes of code that run, {}", budget.case);
        holds(&name, measured, budget.code_bytes)
    });
    assert!(!within.collect::<Vec<_>>().contains(&false));
}

/// Not a test, but where the bytes of the budget above are; `scripts/footprint.sh` runs it.
#[test]
#[ignore = "prints a table of a module that still has names"]
fn the_code_of_a_request_by_function() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("no `{name}`"));
    let module = std::fs::read(variable("FOOTPRINT_MODULE")).unwrap();
    footprint(&module, &variable("FOOTPRINT_CASE")).print(&module);
}

#[test]
fn the_same_request_takes_the_same_instructions_in_every_run() {
    let module = module();
    let first = measure(&module, &PER_REQUEST[0]);
    assert_eq!(first, measure(&module, &PER_REQUEST[0]));
    assert!(first.instructions > 1_000, "{first:?}: nothing was counted");
}

/// Bytes of all batches of `spans` spans, of traces of their own, as they are sent.
fn batches(module: &[u8], spans: u64, gzip: bool) -> u64 {
    let mut proxy = Proxy::start(module, &policy(1.0, gzip));
    for number in 0..spans {
        let (_, mut context, status) = case("sampled");
        context[0].1 = format!(
            "00-{:032x}-00f067aa0ba902b7-00",
            u128::from(number + 1) << 40
        );
        let headers = lines(&context);
        proxy.exchange(&Exchange {
            headers: &headers,
            status,
        });
    }
    // Beyond the linger time: what there is goes.
    let sent = [proxy.tick(1), proxy.tick(60)].concat();
    let traces = sent
        .iter()
        .filter(|(headers, _)| headers.contains("/v1/traces"));
    traces.map(|(_, body)| body.len() as u64).sum()
}

#[test]
fn spans_and_batches_stay_within_their_bytes() {
    let module = module();
    let (one, many) = (batches(&module, 1, false), batches(&module, 101, false));
    let span = (many - one) / 100;
    let compressed = batches(&module, 100, true) / 100;
    assert!(compressed > 0 && span > 0, "nothing was sent");
    let within = [
        holds("bytes of a span, encoded", span, SPAN_BYTES),
        holds("bytes of a batch beside its spans", one - span, BATCH_BYTES),
        holds(
            "bytes of a span sent, 100 to a batch",
            compressed,
            SENT_SPAN_BYTES,
        ),
    ];
    assert!(!within.contains(&false));
}

#[test]
fn memory_stops_growing() {
    let module = module();
    let mut proxy = Proxy::start(&module, &policy(0.01, true));
    let (_, context, status) = case("unsampled");
    let headers = lines(&context);
    let exchange = Exchange {
        headers: &headers,
        status,
    };
    let mut run = |requests: u32| {
        for number in 0..requests {
            proxy.exchange(&exchange);
            if number.is_multiple_of(500) {
                proxy.tick(1);
            }
        }
        proxy.memory_pages()
    };
    let settled = run(GROWTH_REQUESTS / 2);
    let later = run(GROWTH_REQUESTS / 2);
    assert_eq!(settled, later, "pages of memory");
    assert!(holds("pages of memory, 64 KiB each", later, MEMORY_PAGES));
}

/// Bytes of the code section.
fn code_bytes(module: &[u8]) -> u64 {
    const CODE: u8 = 10;
    let mut at = 8;
    loop {
        let section = module[at];
        let (mut length, mut shift) = (0_usize, 0);
        loop {
            at += 1;
            length |= usize::from(module[at] & 0x7f) << shift;
            shift += 7;
            if module[at] < 0x80 {
                break;
            }
        }
        at += 1;
        if section == CODE {
            return length as u64;
        }
        at += length;
    }
}

#[test]
fn the_module_stays_within_its_bytes() {
    let module = module();
    let within = [
        holds("bytes of the module", module.len() as u64, MODULE_BYTES),
        holds("bytes of its code", code_bytes(&module), CODE_BYTES),
    ];
    assert!(!within.contains(&false));
}
