//! `mesh-config explain`: what a policy does with a request, and why. The same code as in the
//! filter decides: the sampler, the rules, the prices.

pub(crate) mod request;
mod text;

use mesh_config::Policy;
use mesh_config::policy::{Direction, SampledFlag, TrustLevel};
use mesh_config::price::PriceTable;
use mesh_config::sampling::{Randomness, Reason, Sampler, Threshold, Verdict};
use w3c_traceparent_parser::TraceId;

use self::request::{Request, View};
use crate::args::Args;
use crate::output::{self, Failure};

pub(crate) const HELP: &str = "\
usage: mesh-config explain [--policy FILE] [REQUEST OPTIONS]

Says what a policy does with a request: which rules match, which wait for what, the probability p,
the threshold T, the trace's randomness R, the verdict, the price.

the policy:
  --policy FILE             without it every default holds
  --service NAME --namespace NS --environment NAME
                            the service beside the proxy (default: what the policy says)
  --direction WORD          inbound (default), outbound or gateway
  --adaptive-rate RATE      what the adaptive controller says for this request

the request:
  --method GET --path / --host NAME --scheme http --route TEMPLATE
  --header NAME=VALUE --baggage KEY=VALUE --resource KEY=VALUE    repeatable
  --grpc SERVICE/METHOD     a gRPC call
  --operation WORD --data-tag WORD    instead of what the mappings say; the class can only be raised
  --path-cost USD           what the path before this hop has cost
  --request-bytes SIZE

its end (any of them; without them only the start is explained):
  --status CODE --grpc-status CODE --duration 120ms --response-bytes SIZE
  --reset                   the stream ended early
  --error                   it failed, whatever the status says

the trace:
  --trace-id HEX            32 digits; its last 14 are R
  --rv HEX                  R as 14 digits, where the trace carries one
  --parent-sampled          the caller sent the sampled flag
  --ids FILE                trace ids, one per line (`-` is standard input): prints one line per id,
                            `ID kept|dropped REASON`, and nothing else
";

pub(crate) const OPTIONS: &[&str] = &[
    "policy",
    "service",
    "namespace",
    "environment",
    "direction",
    "adaptive-rate",
    "method",
    "path",
    "host",
    "scheme",
    "route",
    "header",
    "baggage",
    "resource",
    "grpc",
    "operation",
    "data-tag",
    "path-cost",
    "request-bytes",
    "status",
    "grpc-status",
    "duration",
    "response-bytes",
    "trace-id",
    "rv",
    "ids",
];

pub(crate) const SWITCHES: &[&str] = &["reset", "error", "parent-sampled"];

/// Everything there is to say about one request.
pub(crate) struct Explanation<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) request: &'a Request,
    pub(crate) prices: &'a PriceTable,
    pub(crate) head: Verdict,
    pub(crate) end: Option<Verdict>,
    pub(crate) parent_keeps: bool,
}

/// What becomes of one trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) kept: bool,
    pub(crate) reason: Reason,
    /// Decided when the response ended.
    pub(crate) late: bool,
}

impl Explanation<'_> {
    /// The verdict for a trace with this randomness.
    pub(crate) fn outcome(&self, randomness: Randomness) -> Outcome {
        let keeps = |verdict: &Verdict| verdict.threshold.is_some_and(|t| t.keeps(randomness));
        if keeps(&self.head) {
            return Outcome {
                kept: true,
                reason: self.head.reason,
                late: false,
            };
        }
        if self.parent_keeps {
            return Outcome {
                kept: true,
                reason: Reason::ParentSampled,
                late: false,
            };
        }
        match self.end.filter(keeps) {
            Some(end) => Outcome {
                kept: true,
                reason: end.reason,
                late: true,
            },
            None if self.head.threshold.is_none() => Outcome {
                kept: false,
                reason: Reason::RateZero,
                late: false,
            },
            None => Outcome {
                kept: false,
                reason: Reason::NotSampled,
                late: false,
            },
        }
    }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.no_rest()?;
    let policy = output::load_quietly(args.value("policy"))?;
    let book = policy.cost.price_book();
    let book = book.map_err(|error| Failure::Usage(format!("prices are refused: {error}")))?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |since| {
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    });
    let (prices, _) = book.at(now);
    let request = Request::read(args, &policy, prices)?;
    let sampler = Sampler::new(&policy, &request.service, &request.environment);
    let adaptive = args.value("adaptive-rate").map(rate).transpose()?.flatten();
    let view = |at_end| View {
        request: &request,
        at_end,
    };
    let explanation = Explanation {
        policy: &policy,
        request: &request,
        prices,
        head: sampler.head(&view(false), adaptive),
        end: request.has_end().then(|| sampler.end(&view(true))),
        parent_keeps: args.has("parent-sampled") && believes_flag(&policy, request.direction),
    };
    if let Some(path) = args.value("ids") {
        return each_id(&explanation, &output::read(path)?);
    }
    let randomness = randomness(args)?;
    output::print(&text::write(&explanation, &sampler, randomness))
}

/// Whether the caller's sampled flag keeps a trace by itself.
fn believes_flag(policy: &Policy, direction: Direction) -> bool {
    let level = match direction {
        Direction::Auto | Direction::Inbound => policy.trust.inbound,
        Direction::Outbound => policy.trust.outbound,
        Direction::Gateway => policy.trust.gateway,
    };
    level == TrustLevel::Trusted || policy.trust.sampled_flag == SampledFlag::Accept
}

fn rate(text: &str) -> Result<Option<Threshold>, Failure> {
    let rate = text
        .parse::<f64>()
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate));
    let rate = rate.ok_or_else(|| Failure::Usage(format!("rate `{text}` is not from 0 to 1")))?;
    Ok(Threshold::from_probability(rate))
}

fn trace_id(text: &str) -> Result<Randomness, Failure> {
    TraceId::from_hex(text.as_bytes())
        .map(Randomness::from_trace_id)
        .map_err(|_| {
            Failure::Usage(format!(
                "`{text}` is not a trace id of 32 lower-case hex digits"
            ))
        })
}

fn randomness(args: &Args) -> Result<Option<Randomness>, Failure> {
    if let Some(text) = args.value("rv") {
        let parsed = Randomness::parse(text.as_bytes());
        return parsed
            .map(Some)
            .map_err(|_| Failure::Usage(format!("`{text}` is not 14 lower-case hex digits")));
    }
    args.value("trace-id").map(trace_id).transpose()
}

fn each_id(explanation: &Explanation<'_>, ids: &str) -> Result<(), Failure> {
    let mut out = String::new();
    for id in ids.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let outcome = explanation.outcome(trace_id(id)?);
        let word = if outcome.kept { "kept" } else { "dropped" };
        out.push_str(&format!("{id} {word} {}\n", outcome.reason));
    }
    output::print(&out)
}
