//! What one request costs in the engine of the filter, native: from the header block to the edits,
//! and to the end of the stream. The ratio is to reading the header block alone.

use std::hint::black_box;
use std::time::Instant;

use filter_core::headers::{HeaderBlock, RequestHeaders};
use filter_core::identity::Node;
use filter_core::{Details, Direction, Engine, Entropy, RequestInput, StreamEnd};
use mesh_config::Policy;

/// Requests of one slice; slices of all variants take turns.
const SLICE: u32 = 2_000;
const SLICES: usize = 60;

struct Random(fastrand::Rng);

impl Entropy for Random {
    fn next_u64(&mut self) -> u64 {
        self.0.u64(..)
    }
}

/// Fifteen ordinary headers and a context.
fn request(flags: &str) -> Vec<u8> {
    let parent = format!("00-4bf92f3577b34da6a310000000000001-00f067aa0ba902b7-{flags}");
    HeaderBlock::encode(&[
        (":method", "GET"),
        (":path", "/api/orders/12345?page=2"),
        (":authority", "shop.svc:8080"),
        (":scheme", "http"),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64)"),
        ("accept", "text/html,application/xhtml+xml"),
        ("accept-encoding", "gzip, deflate"),
        ("accept-language", "en-US,en;q=0.5"),
        ("cache-control", "no-cache"),
        ("cookie", "session=0123456789abcdef0123456789abcdef"),
        ("referer", "https://shop.example.com/orders"),
        ("x-forwarded-for", "10.1.2.3"),
        ("x-forwarded-proto", "https"),
        ("x-request-id", "0a1b2c3d-0000-4000-8000-000000000000"),
        ("x-tenant", "acme"),
        ("traceparent", &parent),
        ("tracestate", "vendor=abc,other=def"),
        ("baggage", "user=alice,region=eu"),
    ])
}

/// A policy in full: mappings, rules and tenant.
const FULL: &str = r#"{"sampling":{"default_rate":0.01,"low_volume":{"traces_per_minute":0},
    "priority_rules":[
        {"name":"errors","condition":"error = true","sample_rate":1},
        {"name":"slow","condition":"duration_ms > 1000","sample_rate":0.5},
        {"name":"expensive","condition":"cost_usd > 0.01","sample_rate":1},
        {"name":"people","condition":"data_tag = PII","sample_rate":1}]},
    "attributes":{"tenant":{"header":"x-tenant"},
        "operation_type":[{"when":"url.path ^= \"/db\"","value":"database_query"},
            {"when":"url.path ^= \"/api\"","value":"api_call"}],
        "data_tag":[{"when":"url.path = \"/people/*\"","value":"PII"}]},
    "export":{"cluster":"collector"}}"#;

const PLAIN: &str = r#"{"sampling":{"default_rate":0.01,"low_volume":{"traces_per_minute":0}},
    "export":{"cluster":"collector"}}"#;

struct Variant {
    name: &'static str,
    engine: Option<Engine>,
    block: Vec<u8>,
    slices: Vec<f64>,
}

impl Variant {
    fn new(name: &'static str, policy: Option<&str>, flags: &str) -> Self {
        let engine = policy.and_then(|json| {
            let loaded = Policy::from_json(json.as_bytes()).ok()?;
            Some(Engine::new(&loaded.policy, &Node::default(), "bench"))
        });
        Self {
            name,
            engine,
            block: request(flags),
            slices: Vec::new(),
        }
    }

    fn run(&mut self, now: u64, entropy: &mut Random) {
        let started = Instant::now();
        for _ in 0..SLICE {
            let headers = HeaderBlock::new(black_box(&self.block));
            let Some(engine) = &mut self.engine else {
                black_box(RequestHeaders::new(headers));
                continue;
            };
            let input = RequestInput {
                headers,
                now_unix_nanos: now,
                direction: Direction::Inbound,
                protocol: None,
                in_flight: None,
            };
            if let Some(state) = engine.request(&input, entropy) {
                let _ = black_box(engine.edits(&state));
                let end = StreamEnd {
                    now_unix_nanos: now + 3_000_000,
                    http_status: Some(200),
                    ..StreamEnd::default()
                };
                engine.end(state, &end, |_| Details::default());
            }
        }
        let nanos = started.elapsed().as_nanos() as f64 / f64::from(SLICE);
        self.slices.push(nanos);
        if let Some(engine) = &mut self.engine {
            while let Some(dispatch) = engine.poll_export(now + 10_000_000_000) {
                let accepted = filter_core::export::Outcome::Accepted;
                engine.export_outcome(dispatch.id, accepted, now, 0);
            }
        }
    }

    fn median(&mut self) -> f64 {
        self.slices.sort_by(f64::total_cmp);
        self.slices
            .get(self.slices.len() / 2)
            .copied()
            .unwrap_or_default()
    }
}

#[expect(clippy::print_stdout, reason = "this is what the benchmark is for")]
fn main() {
    let mut entropy = Random(fastrand::Rng::with_seed(1));
    let mut variants = [
        Variant::new("header block alone", None, "00"),
        Variant::new("unsampled, default policy", Some(PLAIN), "00"),
        Variant::new("unsampled, full policy", Some(FULL), "00"),
        Variant::new("sampled, default policy", Some(PLAIN), "01"),
        Variant::new("sampled, full policy", Some(FULL), "01"),
    ];
    let mut now = 1_795_219_200_000_000_000;
    for _ in 0..SLICES {
        for variant in &mut variants {
            variant.run(now, &mut entropy);
        }
        now += 1_000_000_000;
    }
    let mut baseline = 0.0;
    for variant in &mut variants {
        let median = variant.median();
        if baseline == 0.0 {
            baseline = median;
        }
        println!(
            "{:<28} {median:7.0} ns  {:5.1}x",
            variant.name,
            median / baseline
        );
    }
}
