//! Nanoseconds per evaluation of the specification's five rules, and of a verdict with them.
//!
//! `cargo bench -p bench --bench rules`. Every variant takes its turn in short slices, in a new
//! order each round; printed are the median over the slices and allocations per evaluation. It
//! fails only if an evaluation allocates.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing
)]

#[path = "parser/allocations.rs"]
mod allocations;

use std::hint::black_box;
use std::time::Instant;

use mesh_config::money::NanoUsd;
use mesh_config::rule::{Attribute, Attributes, Condition, Lookup, Value};
use mesh_config::sampling::Sampler;
use mesh_config::{DataTag, Policy};

const ROUNDS: usize = 301;
/// Evaluations per slice: about 0.1 ms.
const CALLS: usize = 4096;
const RULES: &str = include_str!("../../mesh-config/tests/spec/sampling_rules.yaml");

/// What a filter knows: fields, no maps.
struct Request {
    ended: bool,
    error: bool,
    cost: NanoUsd,
    duration_ns: u64,
    tag: DataTag,
    hitl: bool,
    path: &'static [u8],
}

impl Attributes for Request {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        match attribute {
            Attribute::Error if self.ended => Lookup::Value(Value::Bool(self.error)),
            Attribute::CostUsd if self.ended => Lookup::Value(Value::Money(self.cost)),
            Attribute::CostUsd => Lookup::AtLeast(Value::Money(self.cost)),
            Attribute::DurationMs if self.ended => Lookup::Value(Value::Nanos(self.duration_ns)),
            Attribute::DataTag if self.ended => Lookup::Value(Value::Tag(self.tag)),
            Attribute::DataTag => Lookup::AtLeast(Value::Tag(self.tag)),
            Attribute::HitlRequired => Lookup::Value(Value::Bool(self.hitl)),
            Attribute::UrlPath => Lookup::Value(Value::Bytes(self.path)),
            _ => Lookup::Unknown,
        }
    }
}

/// Requests of which few meet a rule, as in real traffic.
fn requests(ended: bool) -> Vec<Request> {
    let mut rng = fastrand::Rng::with_seed(3);
    (0..64)
        .map(|_| Request {
            ended,
            error: rng.u8(..) < 3,
            cost: NanoUsd::from_nanos(rng.u64(0..12_000_000)),
            duration_ns: rng.u64(0..1_100_000_000),
            tag: if rng.u8(..) < 10 {
                DataTag::Pii
            } else {
                DataTag::ExportOk
            },
            hitl: rng.u8(..) < 3,
            path: [b"/".as_slice(), b"/checkout/42", b"/users/42/orders"][rng.usize(0..3)],
        })
        .collect()
}

/// Name, and one evaluation of the request with this index.
type Variant = (String, Box<dyn Fn(usize) -> u32>);

fn variants() -> Vec<Variant> {
    let policy = Policy::from_yaml(RULES, "sampling_rules.yaml")
        .unwrap()
        .policy;
    let mut variants: Vec<Variant> = Vec::new();
    let mut add = |name: &str, condition: Condition, ended: bool| {
        let requests = requests(ended);
        let run = move |index: usize| u32::from(condition.eval(&requests[index & 63]).is_true());
        variants.push((name.to_owned(), Box::new(run)));
    };
    for rule in &policy.sampling.priority_rules {
        add(rule.condition.source(), rule.condition.clone(), true);
    }
    let own = "url.path = \"/checkout/*\" and (cost_usd > 0.01 or not data_tag = EXPORT_OK)";
    add(own, Condition::parse(own).unwrap(), true);
    let sampler = Sampler::new(&policy, "checkout", "production");
    for (name, ended) in [
        ("verdict at the head (5 rules + errors)", false),
        ("verdict at the end", true),
    ] {
        let (sampler, requests) = (sampler.clone(), requests(ended));
        let run = move |index: usize| {
            let request = &requests[index & 63];
            let verdict = if ended {
                sampler.end(request)
            } else {
                sampler.head(request, None)
            };
            u32::from(verdict.pending) + verdict.reason.index() as u32
        };
        variants.push((name.to_owned(), Box::new(run)));
    }
    variants
}

fn main() {
    let variants = variants();
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 31 } else { ROUNDS };
    let mut slices = vec![Vec::with_capacity(rounds); variants.len()];
    let mut order: Vec<usize> = (0..variants.len()).collect();
    let mut rng = fastrand::Rng::with_seed(1);
    for _ in 0..rounds {
        rng.shuffle(&mut order);
        for &variant in &order {
            let start = Instant::now();
            for call in 0..CALLS {
                black_box((variants[variant].1)(black_box(call)));
            }
            slices[variant].push(start.elapsed().as_nanos() as f64 / CALLS as f64);
        }
    }
    let mut allocating = Vec::new();
    println!("{:>9}  {:>6}  evaluation", "ns", "allocs");
    for ((name, run), mut slices) in variants.iter().zip(slices) {
        slices.sort_by(f64::total_cmp);
        let before = allocations::count();
        for call in 0..CALLS {
            black_box(run(black_box(call)));
        }
        let allocated = allocations::count() - before;
        println!(
            "{:>9.1}  {:>6}  {name}",
            slices[slices.len() / 2],
            allocated
        );
        if allocated > 0 {
            allocating.push(name);
        }
    }
    assert!(
        allocating.is_empty(),
        "these must not allocate: {allocating:?}"
    );
}
