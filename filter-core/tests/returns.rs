//! The return channel in a mesh of engines: who keeps a span because of whom, what the root learns of
//! the trace's cost, and who is not believed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod support;

use filter_core::reply::in_flight::{Delivered, InFlight};
use filter_core::reply::{HEADER, Mark, News, Reply};
use filter_core::{Direction, Letter, RequestState, ResponseInput, StreamEnd};
use mesh_config::money::NanoUsd;
use support::spans::{double, hex, text};
use support::{Bench, LOW_TRACE, MILLISECOND, status_end, traceparent};

/// Nothing but errors is kept.
fn errors_only(carries: &str, further: &str) -> String {
    format!(
        r#"{{"sampling":{{"default_rate":0,"low_volume":{{"traces_per_minute":0}}}},
            "propagation":{{"return_channel":{{"carries":"{carries}"}}}}{further}}}"#
    )
}

/// One service of the mesh: what its proxy holds, and how its application behaves.
struct Service {
    inbound: Bench,
    outbound: Bench,
    in_flight: InFlight,
    status: u16,
    /// Whether a call that failed makes this service fail as well.
    swallows: bool,
    calls: Vec<usize>,
}

struct Mesh {
    services: Vec<Service>,
    now: u64,
}

/// What came back from a call, on the wire.
struct Answer {
    status: u16,
    header: Option<Vec<u8>>,
}

impl Mesh {
    /// Services by their calls; the first one is a gateway with the service behind it.
    fn new(policy: &str, calls: &[&[usize]]) -> Self {
        let service = |(index, calls): (usize, &&[usize])| {
            let direction = match index {
                0 => Direction::Gateway,
                _ => Direction::Inbound,
            };
            Service {
                inbound: Bench::at(policy, direction),
                outbound: Bench::at(policy, Direction::Outbound),
                in_flight: InFlight::new(64),
                status: 200,
                swallows: true,
                calls: calls.to_vec(),
            }
        };
        Self {
            services: calls.iter().enumerate().map(service).collect(),
            now: support::START,
        }
    }

    fn tick(&mut self) -> u64 {
        self.now += MILLISECOND;
        self.now
    }

    /// A request from outside through the gateway; `headers` came with it.
    fn request(&mut self, headers: &[(&str, &str)]) -> Answer {
        let owned = headers.iter();
        let owned = owned.map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
        self.serve(0, &owned.collect::<Vec<_>>())
    }

    fn serve(&mut self, index: usize, context: &[(String, Vec<u8>)]) -> Answer {
        let now = self.tick();
        let service = &mut self.services[index];
        service.inbound.now = now;
        let mut left = service.inbound.send(&lines(context)).unwrap();
        let engine = &mut service.inbound.engine;
        engine.track(&mut left.state, &mut service.in_flight);
        let forwarded = forwarded(&left);
        let calls = service.calls.clone();
        let mut failed = false;
        let mut upstream = None;
        for callee in calls {
            // A gateway passes its own request on; a service makes calls.
            let answer = if index == 0 {
                let answer = self.serve(callee, &forwarded);
                upstream = answer.header.clone();
                answer
            } else {
                self.call(index, callee, &forwarded)
            };
            failed |= answer.status >= 500;
        }
        let now = self.tick();
        let service = &mut self.services[index];
        let status = if failed && (!service.swallows || index == 0) {
            500
        } else {
            service.status
        };
        let state = &mut left.state;
        let header = respond(
            &mut service.inbound,
            state,
            &service.in_flight,
            now,
            status,
            upstream.as_deref(),
        )
        .0;
        let engine = &mut service.inbound.engine;
        engine.untrack(state, &mut service.in_flight, None);
        service.inbound.now = now;
        service.inbound.answer(left, status);
        Answer { status, header }
    }

    /// A call of a service through its outbound side.
    fn call(&mut self, caller: usize, callee: usize, context: &[(String, Vec<u8>)]) -> Answer {
        let now = self.tick();
        let service = &mut self.services[caller];
        service.outbound.now = now;
        let mut left = service.outbound.send(&lines(context)).unwrap();
        let context = forwarded(&left);
        let answer = self.serve(callee, &context);
        let now = self.tick();
        let service = &mut self.services[caller];
        let (none, letter) = respond(
            &mut service.outbound,
            &mut left.state,
            &service.in_flight,
            now,
            answer.status,
            answer.header.as_deref(),
        );
        assert!(none.is_none(), "a caller's side never answers");
        if let Some(letter) = letter {
            deliver(&mut service.in_flight, letter);
        }
        let end = StreamEnd {
            now_unix_nanos: now,
            ..status_end(answer.status)
        };
        let letter = service
            .outbound
            .engine
            .end(left.state, &end, |_| Default::default());
        if let Some(letter) = letter {
            deliver(&mut service.in_flight, letter);
        }
        Answer {
            status: answer.status,
            header: None,
        }
    }

    /// Reasons of the spans of a proxy: its serving side, and its calling side.
    fn reasons(&mut self, index: usize) -> (Vec<String>, Vec<String>) {
        let reasons = |bench: &mut Bench| {
            let spans = bench.spans();
            let reasons = spans
                .iter()
                .map(|span| text(span, "sampling.reason").unwrap());
            reasons.map(str::to_owned).collect()
        };
        let service = &mut self.services[index];
        service.inbound.now = self.now;
        service.outbound.now = self.now;
        (
            reasons(&mut service.inbound),
            reasons(&mut service.outbound),
        )
    }
}

fn deliver(in_flight: &mut InFlight, letter: Letter) {
    let told = in_flight.deliver(letter.trace_id, letter.parent_id, letter.news);
    assert_eq!(told, Delivered::Cause);
}

/// The response header phase: the header that leaves, and the letter.
fn respond(
    bench: &mut Bench,
    state: &mut RequestState,
    in_flight: &InFlight,
    now: u64,
    status: u16,
    header: Option<&[u8]>,
) -> (Option<Vec<u8>>, Option<Letter>) {
    let needs = bench.engine.response_needs(state);
    let input = ResponseInput {
        now_unix_nanos: now,
        http_status: needs.status.then_some(status),
        internal_header: header.filter(|_| needs.internal_header),
        ..ResponseInput::default()
    };
    let effects = bench.engine.response(state, &input, in_flight);
    let reply = effects.reply.map(|reply| reply.as_bytes().to_vec());
    (reply, effects.letter)
}

fn lines(context: &[(String, Vec<u8>)]) -> Vec<(&str, &[u8])> {
    let mut lines: Vec<(&str, &[u8])> = vec![
        (":method", b"GET"),
        (":path", b"/"),
        (":authority", b"shop:8080"),
        (":scheme", b"http"),
    ];
    let context = context.iter();
    lines.extend(context.map(|(name, value)| (name.as_str(), value.as_slice())));
    lines
}

/// What an application forwards.
fn forwarded(left: &support::Left) -> Vec<(String, Vec<u8>)> {
    let mut context = Vec::new();
    if let Some(parent) = &left.traceparent {
        context.push(("traceparent".to_owned(), parent.clone().into_bytes()));
    }
    if let Some(state) = &left.tracestate {
        context.push(("tracestate".to_owned(), state.clone()));
    }
    if let Some(baggage) = &left.baggage {
        context.push(("baggage".to_owned(), baggage.clone()));
    }
    context
}

/// gateway -> 1 -> 2 -> 3, and 1 -> 4.
const CHAIN: [&[usize]; 5] = [&[1], &[2, 4], &[3], &[], &[]];

#[test]
fn every_caller_of_an_error_keeps_its_spans_though_nobody_else_failed() {
    let mut mesh = Mesh::new(&errors_only("marks", ""), &CHAIN);
    mesh.services[3].status = 503;
    let answer = mesh.request(&[]);
    assert_eq!(
        answer.status, 200,
        "the caller of the failed one swallowed it"
    );
    assert!(answer.header.is_none(), "nothing leaves the mesh");
    let one = |reason: &str| vec![reason.to_owned()];
    assert_eq!(mesh.reasons(3), (one("error"), vec![]));
    assert_eq!(mesh.reasons(2), (one("descendant"), one("error")));
    assert_eq!(mesh.reasons(1), (one("descendant"), one("descendant")));
    assert_eq!(mesh.reasons(0), (one("descendant"), vec![]));
    assert_eq!(mesh.reasons(4), (vec![], vec![]), "not an ancestor");
}

#[test]
fn a_promoted_ancestor_says_why_and_claims_no_probability() {
    let mut mesh = Mesh::new(&errors_only("marks", ""), &CHAIN);
    mesh.services[3].status = 500;
    let _ = mesh.request(&[]);
    let span = mesh.services[0].inbound.span();
    assert_eq!(text(&span, "sampling.descendant_reason"), Some("error"));
    assert_eq!(text(&span, "sampling.threshold"), None);
    assert!(!span.trace_state.contains("th:"), "{}", span.trace_state);
    assert_eq!(double(&span, "cost_usd.subtree"), None, "marks only");
    assert_eq!(mesh.services[0].inbound.count("promoted"), 1);
    assert_eq!(mesh.services[0].inbound.count("reason_descendant"), 1);
    assert_eq!(mesh.services[1].inbound.count("return_marks"), 1);
}

#[test]
fn switched_off_nothing_is_announced_told_or_promoted() {
    let mut mesh = Mesh::new(&errors_only("off", ""), &CHAIN);
    mesh.services[3].status = 500;
    let _ = mesh.request(&[]);
    assert_eq!(mesh.reasons(3).0, ["error"]);
    assert_eq!(mesh.reasons(2), (vec![], vec!["error".to_owned()]));
    assert_eq!(mesh.reasons(0), (vec![], vec![]));
    let mut outbound = Bench::at(&errors_only("off", ""), Direction::Outbound);
    assert_eq!(outbound.get("/", &[]).member("tm"), None);
}

#[test]
fn an_error_free_request_sends_no_header_with_marks_only() {
    let mut mesh = Mesh::new(&errors_only("marks", ""), &CHAIN);
    let _ = mesh.request(&[]);
    for index in 0..CHAIN.len() {
        assert_eq!(mesh.reasons(index), (vec![], vec![]));
        assert_eq!(mesh.services[index].inbound.count("return_marks"), 0);
    }
}

/// The whole trace's cost as the ledgers of all proxies have it: spans of all hops are kept here.
#[test]
fn the_gateway_knows_the_cost_of_the_trace_to_the_nano_dollar() {
    let policy = r#"{"sampling":{"default_rate":1},"cost":{"settle":"response"},
        "propagation":{"return_channel":{"carries":"costs"}}}"#;
    let mut mesh = Mesh::new(policy, &CHAIN);
    let answer = mesh.request(&[]);
    assert!(answer.header.is_none());
    let mut sum = 0.0;
    let mut subtree = 0.0;
    for service in &mut mesh.services {
        for bench in [&mut service.inbound, &mut service.outbound] {
            for span in bench.spans() {
                sum += double(&span, "cost_usd").unwrap();
                if span.parent_span_id.is_empty() {
                    subtree = double(&span, "cost_usd.subtree").unwrap();
                }
            }
        }
    }
    assert!(sum > 0.000_05, "five hops charge: {sum}");
    assert!((sum - subtree).abs() < 1e-12, "{sum} {subtree}");
    let gateway = &mut mesh.services[0].inbound;
    assert_eq!(gateway.count("edge_traces"), 1);
    let nanos = gateway.count("edge_trace_cost_nanousd");
    assert_eq!(nanos, (sum * 1e9).round() as u64);
}

/// Any tree, any errors: an ancestor of an error always has its spans, and whoever has spans is an
/// error or an ancestor of one.
#[test]
fn in_any_mesh_exactly_the_errors_and_their_ancestors_keep_spans() {
    let mut rng = fastrand::Rng::with_seed(21);
    for _ in 0..300 {
        let count = rng.usize(2..12);
        let mut calls: Vec<Vec<usize>> = vec![Vec::new(); count];
        calls[0].push(1);
        for callee in 2..count {
            calls[rng.usize(1..callee)].push(callee);
        }
        let borrowed: Vec<&[usize]> = calls.iter().map(Vec::as_slice).collect();
        let carries = *rng.choice(["marks", "costs"].iter()).unwrap();
        let mut mesh = Mesh::new(&errors_only(carries, ""), &borrowed);
        for service in &mut mesh.services[1..] {
            service.status = if rng.u8(0..5) == 0 { 500 } else { 200 };
        }
        let _ = mesh.request(&[]);
        let mut bad: Vec<bool> = mesh.services.iter().map(|it| it.status == 500).collect();
        for caller in (0..count).rev() {
            bad[caller] |= calls[caller].iter().any(|callee| bad[*callee]);
        }
        for index in 0..count {
            let (serving, calling) = mesh.reasons(index);
            assert_eq!(serving.len(), usize::from(bad[index]), "{index} {calls:?}");
            let to_bad = calls[index].iter().filter(|callee| bad[**callee]).count();
            let expected = if index == 0 { 0 } else { to_bad };
            assert_eq!(calling.len(), expected, "{index} {calls:?}");
        }
    }
}

#[test]
fn a_rate_that_keeps_more_further_down_marks_nobody() {
    let mut mesh = Mesh::new(&errors_only("marks", ""), &CHAIN);
    mesh.services[3].inbound = Bench::at(&support::rate("1"), Direction::Inbound);
    let _ = mesh.request(&[]);
    assert_eq!(mesh.reasons(3).0, ["default_rate"]);
    assert_eq!(mesh.reasons(2), (vec![], vec![]));
}

#[test]
fn a_rule_about_the_data_class_marks_the_path() {
    let rule =
        r#","attributes":{"data_tag":[{"when":"http.request.method = 'GET'","value":"PII"}]}"#;
    let json = format!(
        r#"{{"sampling":{{"default_rate":0,"low_volume":{{"traces_per_minute":0}},
            "priority_rules":[{{"name":"pii","condition":"data_tag = 'PII'","sample_rate":1}}]}}{rule}}}"#
    );
    let mut mesh = Mesh::new(&errors_only("marks", ""), &CHAIN);
    mesh.services[3].inbound = Bench::at(&json, Direction::Inbound);
    let _ = mesh.request(&[]);
    assert_eq!(mesh.reasons(3).0, ["data_class"]);
    let gateway = mesh.services[0].inbound.span();
    assert_eq!(
        text(&gateway, "sampling.descendant_reason"),
        Some("data_class")
    );
}

/// One call of an outbound side to `host`, which answers with this internal header.
fn hear(host: &str, header: &[u8]) -> (Bench, Option<Letter>) {
    let mut bench = Bench::at(&errors_only("costs", ""), Direction::Outbound);
    let incoming = traceparent(LOW_TRACE, "00");
    let mut left = bench
        .send(&[
            (":method", "GET"),
            (":path", "/"),
            (":authority", host),
            ("traceparent", incoming.as_str()),
        ])
        .unwrap();
    let in_flight = InFlight::new(1);
    let now = bench.now;
    let state = &mut left.state;
    let (_, letter) = respond(&mut bench, state, &in_flight, now, 200, Some(header));
    bench.answer(left, 200);
    (bench, letter)
}

fn forged() -> Vec<u8> {
    let news = News {
        mark: Some(Mark::Error),
        cost: NanoUsd::from_nanos(1_000_000_000),
    };
    let reply = Reply {
        news,
        charged: true,
    };
    reply.write().as_bytes().to_vec()
}

#[test]
fn a_host_outside_the_mesh_is_not_believed_and_one_inside_is() {
    let (mut bench, letter) = hear("api.example.com", &forged());
    assert_eq!(letter, None);
    assert_eq!(bench.count("return_refused"), 1);
    assert!(bench.spans().is_empty());

    let (mut bench, letter) = hear("orders.shop.svc", &forged());
    let letter = letter.unwrap();
    assert_eq!(letter.news.mark, Some(Mark::Error));
    assert_eq!(letter.news.cost.as_nanos(), 1_000_000_000);
    assert_eq!(bench.count("return_refused"), 0);
    let span = bench.span();
    assert_eq!(text(&span, "sampling.reason"), Some("descendant"));
    assert_eq!(hex(&span.trace_id), LOW_TRACE);
}

#[test]
fn a_header_that_cannot_be_read_is_counted_and_changes_nothing() {
    let (mut bench, letter) = hear("orders.shop.svc", b"1-e-c-xyz");
    assert_eq!(letter, None);
    assert_eq!(bench.count("return_invalid"), 1);
    assert!(bench.spans().is_empty());
}

/// The serving side, whose application answers with the internal header itself.
#[test]
fn what_an_application_forges_is_refused_and_never_passed_on() {
    for announced in [false, true] {
        let mut bench = Bench::at(&errors_only("costs", ""), Direction::Inbound);
        let incoming = traceparent(LOW_TRACE, "00");
        let state = if announced { "tm=r:1" } else { "a=1" };
        let headers = [("traceparent", incoming.as_str()), ("tracestate", state)];
        let mut left = bench.get("/", &headers);
        assert_eq!(left.member("tm"), None, "the application does not see it");
        let in_flight = InFlight::new(1);
        let (now, forged) = (bench.now, forged());
        let (reply, _) = respond(
            &mut bench,
            &mut left.state,
            &in_flight,
            now,
            200,
            Some(&forged),
        );
        assert_eq!(reply.is_some(), announced, "{HEADER} only to who takes it");
        if let Some(reply) = reply {
            let reply = Reply::parse(&reply).unwrap();
            assert_eq!(reply.news.mark, None);
            assert_eq!(reply.news.cost.as_nanos(), 10_000, "the own cost alone");
        }
        bench.answer(left, 200);
        assert_eq!(bench.count("return_refused"), 1);
        assert!(bench.spans().is_empty());
    }
}

#[test]
fn nobody_outside_is_answered_whatever_he_says() {
    let mut gateway = Bench::at(&errors_only("costs", ""), Direction::Gateway);
    let incoming = traceparent(LOW_TRACE, "00");
    let headers = [("traceparent", incoming.as_str()), ("tracestate", "tm=r:1")];
    let mut left = gateway.get("/", &headers);
    let in_flight = InFlight::new(1);
    let now = gateway.now;
    let state = &mut left.state;
    let (reply, _) = respond(&mut gateway, state, &in_flight, now, 500, None);
    assert!(reply.is_none());
}

#[test]
fn a_call_that_the_callee_charged_is_not_charged_again() {
    let policy = r#","cost":{"unmetered_destinations":["shop"]}"#;
    for charged in [false, true] {
        let mut bench = Bench::at(&errors_only("costs", policy), Direction::Outbound);
        let incoming = traceparent(LOW_TRACE, "00");
        let mut left = bench.get("/", &[("traceparent", incoming.as_str())]);
        let cost = NanoUsd::from_nanos(7_000);
        let news = News { mark: None, cost };
        let header = Reply { news, charged }.write();
        let in_flight = InFlight::new(1);
        let (now, state) = (bench.now, &mut left.state);
        let header = Some(header.as_bytes());
        let (_, first) = respond(&mut bench, state, &in_flight, now, 200, header);
        assert_eq!(first.unwrap().news.cost.as_nanos(), 7_000);
        let end = StreamEnd {
            now_unix_nanos: now,
            ..status_end(200)
        };
        let second = bench.engine.end(left.state, &end, |_| Default::default());
        let own = second.map_or(0, |letter| letter.news.cost.as_nanos());
        assert_eq!(own, if charged { 0 } else { 10_000 });
    }
}

#[test]
fn a_rule_about_the_trace_cost_is_decided_where_the_replies_come_together() {
    let json = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0},
        "priority_rules":[{"name":"dear","condition":"trace.cost_usd > 0.000045","sample_rate":1}]},
        "propagation":{"return_channel":{"carries":"costs"}}}"#;
    let mut mesh = Mesh::new(json, &CHAIN);
    let _ = mesh.request(&[]);
    // Five metered hops of 0.00001 each: known where they come together, and not before.
    assert_eq!(mesh.reasons(0).0, ["expensive"]);
    assert_eq!(mesh.reasons(1).0, ["expensive"]);
    assert_eq!(mesh.reasons(2).0, [""; 0]);
    assert_eq!(mesh.reasons(3).0, [""; 0]);
}

#[test]
fn a_duration_so_far_is_a_lower_bound_and_promotes_nothing_too_early() {
    let json = r#"{"sampling":{"default_rate":0,"low_volume":{"traces_per_minute":0},
        "error_classes":{"rate":0},
        "priority_rules":[{"name":"quick","condition":"duration_ms < 1000","sample_rate":1}]}}"#;
    let mut mesh = Mesh::new(json, &CHAIN);
    let _ = mesh.request(&[]);
    // It makes no calls: an ended call is no lower bound any more.
    assert_eq!(mesh.services[3].inbound.count("return_marks"), 0);
    assert_eq!(
        mesh.reasons(3).0,
        ["slow"],
        "by its own end, without a mark"
    );
}

#[test]
fn whatever_stands_in_the_header_or_the_mailbox_does_no_harm() {
    let mut rng = fastrand::Rng::with_seed(13);
    let valid: &[&[u8]] = &[b"1-e-c-2710", b"1-0-0-0", b"1-s-0-ffffffffffffffff", b""];
    for valid in valid {
        support::replies::check(valid);
    }
    for _ in 0..500 {
        let mut data = valid[rng.usize(..valid.len())].to_vec();
        for _ in 0..rng.usize(0..8) {
            let at = rng.usize(..=data.len());
            data.insert(at, rng.u8(..));
        }
        support::replies::check(&data);
        let random: Vec<u8> = (0..rng.usize(0..600)).map(|_| rng.u8(..)).collect();
        support::replies::check(&random);
    }
}
