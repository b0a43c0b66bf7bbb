//! Trust boundaries: what an incoming context may say at each kind of listener, and what may leave
//! the mesh.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test code"
)]

mod support;

use filter_core::Direction;
use filter_core::identity::Node;
use support::{Bench, CALLER, HIGH_TRACE, LOW_TRACE, policy, spans, traceparent};

fn edge(flag: &str, id: &str, rate: &str) -> Bench {
    let json = format!(
        r#"{{"trust":{{"sampled_flag":"{flag}","trace_id":"{id}"}},"sampling":{{
            "default_rate":{rate},"low_volume":{{"traces_per_minute":0}},
            "error_classes":{{"rate":0}}}}}}"#
    );
    Bench::at(&json, Direction::Gateway)
}

#[test]
fn what_the_sampled_flag_means_by_boundary_and_option() {
    // (boundary option or "trusted", flag in, trace, local rate, flag out)
    let table = [
        ("trusted", "01", LOW_TRACE, "0", "01"),
        ("trusted", "00", HIGH_TRACE, "0", "00"),
        ("trusted", "00", HIGH_TRACE, "0.5", "01"),
        // clamp: it counts only where our own rate keeps the trace as well
        ("clamp", "01", LOW_TRACE, "0.1", "00"),
        ("clamp", "01", HIGH_TRACE, "0.1", "01"),
        ("clamp", "01", HIGH_TRACE, "0", "00"),
        // a forged 00 does not hide a trace
        ("clamp", "00", HIGH_TRACE, "0.5", "01"),
        ("ignore", "01", LOW_TRACE, "0.1", "00"),
        ("ignore", "00", HIGH_TRACE, "0.5", "01"),
        ("accept", "01", LOW_TRACE, "0", "01"),
        ("accept", "00", HIGH_TRACE, "0", "00"),
        ("accept", "00", HIGH_TRACE, "0.5", "01"),
    ];
    for (option, flag, trace, rate, wanted) in table {
        let mut bench = match option {
            "trusted" => Bench::new(&support::rate(rate)),
            option => edge(option, "keep", rate),
        };
        let left = bench.get("/", &[("traceparent", &traceparent(trace, flag))]);
        assert_eq!(left.flags(), wanted, "{option} {flag} {trace} {rate}");
        assert_eq!(left.parent().trace_id.to_string(), trace);
    }
}

#[test]
fn an_outside_threshold_is_never_believed() {
    for option in ["clamp", "ignore", "accept"] {
        let incoming = traceparent(HIGH_TRACE, "01");
        let headers = [
            ("traceparent", incoming.as_str()),
            ("tracestate", "ot=th:0,a=1"),
        ];
        let left = edge(option, "keep", "0.5").get("/", &headers);
        let wanted = if option == "accept" { None } else { Some("8") };
        assert_eq!(left.th(), wanted, "{option}: {}", left.state());
        assert!(left.state().ends_with("a=1"));
    }
}

#[test]
fn a_restart_links_to_the_outside_context_and_keeps_baggage_only() {
    for (flag, rate, out) in [("01", "1", "03"), ("01", "0", "02"), ("00", "1", "03")] {
        let mut bench = edge("accept", "restart", rate);
        let incoming = traceparent(HIGH_TRACE, flag);
        let headers = [
            ("traceparent", incoming.as_str()),
            ("tracestate", "a=1,ot=th:8;rv:ffffffffffffff"),
            ("baggage", "user=1"),
        ];
        let left = bench.get("/", &headers);
        assert_ne!(left.parent().trace_id.to_string(), HIGH_TRACE);
        assert_eq!(left.flags(), out);
        assert!(!left.state().contains("a=1") && !left.state().contains("rv:"));
        assert!(left.baggage().starts_with("user=1,"));
        assert_eq!(
            (
                bench.count("traces_started"),
                bench.count("traces_continued")
            ),
            (1, 0)
        );
        bench.answer(left, 200);
        if rate == "1" {
            let span = bench.span();
            assert_eq!(span.parent_span_id, [0; 0]);
            let link = &span.links[0];
            assert_eq!(spans::hex(&link.trace_id), HIGH_TRACE);
            assert_eq!(spans::hex(&link.span_id), CALLER);
            let flags = u32::from_str_radix(flag, 16).unwrap();
            assert_eq!(link.flags, 0x300 | flags);
        }
    }
}

#[test]
fn a_restart_of_an_invalid_context_has_nothing_to_link_to() {
    let mut bench = edge("clamp", "restart", "1");
    let left = bench.get("/", &[("traceparent", "invalid")]);
    assert_eq!(bench.count("traces_restarted"), 1);
    bench.answer(left, 200);
    assert!(bench.span().links.is_empty());
}

#[test]
fn own_members_from_outside_are_dropped_and_counted() {
    let incoming = traceparent(LOW_TRACE, "00");
    let cases: [&[(&str, &str)]; 4] = [
        &[("tracestate", "cost_usd=5,a=1,data_tag=PII")],
        &[("tracestate", "tm=c:5;d:PII,a=1")],
        &[("baggage", "cost_usd=5,user=1")],
        &[("baggage", "user=1,data_tag=PII")],
    ];
    for case in cases {
        let mut bench = edge("clamp", "keep", "0");
        let mut headers = vec![("traceparent", incoming.as_str())];
        headers.extend_from_slice(case);
        let left = bench.get("/", &headers);
        assert_eq!(left.member("cost_usd"), Some("0.00001"), "{case:?}");
        assert_eq!(left.member("data_tag"), Some("EXPORT_OK"), "{case:?}");
        // Ours: that replies are taken.
        assert_eq!(left.member("tm"), Some("r:1"), "{case:?}");
        assert!(
            left.baggage()
                .ends_with("cost_usd=0.00001,data_tag=EXPORT_OK")
        );
        assert_eq!(bench.count("untrusted_members_dropped"), 1, "{case:?}");
    }
    let mut bench = edge("clamp", "keep", "0");
    let foreign = [
        ("traceparent", incoming.as_str()),
        ("tracestate", "a=1"),
        ("baggage", "b=1"),
    ];
    let _ = bench.get("/", &foreign);
    assert_eq!(bench.count("untrusted_members_dropped"), 0);
}

#[test]
fn gateways_are_edges_and_sidecars_are_trusted_unless_the_policy_says_otherwise() {
    let incoming = traceparent(LOW_TRACE, "00");
    let headers = [
        ("traceparent", incoming.as_str()),
        ("tracestate", "cost_usd=5"),
    ];
    let cost = |direction, json: &str| {
        let left = Bench::at(json, direction).get("/", &headers);
        left.member("cost_usd").unwrap().to_owned()
    };
    assert_eq!(cost(Direction::Inbound, "{}"), "5.00001");
    assert_eq!(
        cost(Direction::Outbound, "{}"),
        "5",
        "charged by the callee"
    );
    assert_eq!(cost(Direction::Gateway, "{}"), "0.00001");
    assert_eq!(
        cost(Direction::Auto, "{}"),
        "5.00001",
        "no direction is inbound"
    );
    assert_eq!(
        cost(Direction::Inbound, r#"{"trust":{"inbound":"edge"}}"#),
        "0.00001"
    );
    assert_eq!(
        cost(Direction::Gateway, r#"{"trust":{"gateway":"trusted"}}"#),
        "5.00001"
    );
    let outbound_edge = r#"{"trust":{"outbound":"edge"}}"#;
    assert_eq!(cost(Direction::Outbound, outbound_edge), "0");
    let fixed = r#"{"service":{"direction":"gateway"}}"#;
    assert_eq!(
        cost(Direction::Inbound, fixed),
        "0.00001",
        "the policy's direction wins"
    );
}

#[test]
fn an_istio_gateway_is_known_by_its_node() {
    let node = Node {
        id: "router~10.0.0.1~gateway.istio-system~cluster.local".to_owned(),
        ..Node::default()
    };
    let mut bench = Bench::at("{}", Direction::Outbound);
    bench.engine = filter_core::Engine::new(&policy("{}"), &node, "i");
    assert!(!bench.engine.needs_listener_direction());
    let incoming = traceparent(LOW_TRACE, "00");
    let left = bench.get(
        "/",
        &[("traceparent", &incoming), ("tracestate", "cost_usd=5")],
    );
    assert_eq!(left.member("cost_usd"), Some("0.00001"));
}

#[test]
fn own_members_leave_only_to_hosts_inside_the_mesh_and_to_allowed_ones() {
    let table = [
        ("pay", true),
        ("pay:8080", true),
        ("pay.shop.svc", true),
        ("pay.shop.svc.cluster.local:80", true),
        ("PAY.SHOP.SVC", true),
        ("10.1.2.3:8080", true),
        ("127.0.0.1", true),
        ("[::1]:80", true),
        ("api.example.com", false),
        ("api.example.com:443", false),
        ("8.8.8.8", false),
        ("[2001:db8::1]:443", false),
        ("partner.example.org", true),
        ("", false),
    ];
    let json = r#"{"trust":{"egress":{"allow":["*.example.org"]}},
        "sampling":{"default_rate":1}}"#;
    for (host, inside) in table {
        let mut bench = Bench::at(json, Direction::Outbound);
        let incoming = traceparent(HIGH_TRACE, "01");
        let lines = [
            (":method", "GET"),
            (":path", "/"),
            (":authority", host),
            ("traceparent", incoming.as_str()),
            ("tracestate", "a=1,cost_usd=5,data_tag=PII,tm=c:1,ot=th:0"),
            ("baggage", "user=1,cost_usd=5,data_tag=PII"),
        ];
        let left = bench.send(&lines).unwrap();
        let (state, baggage) = if inside {
            (
                "cost_usd=5,data_tag=PII,tm=r:1,a=1,ot=th:0",
                "user=1,cost_usd=5,data_tag=PII",
            )
        } else {
            ("a=1,ot=th:0", "user=1")
        };
        assert_eq!((left.state(), left.baggage()), (state, baggage), "`{host}`");
        assert_eq!(
            bench.count("egress_stripped"),
            u64::from(!inside),
            "`{host}`"
        );
    }
}

#[test]
fn stripping_can_be_switched_off_and_never_happens_on_the_way_in() {
    let off = r#"{"trust":{"egress":{"strip":false}}}"#;
    let lines = [
        (":method", "GET"),
        (":path", "/"),
        (":authority", "api.example.com"),
    ];
    let cases = [
        (off, Direction::Outbound),
        ("{}", Direction::Inbound),
        ("{}", Direction::Gateway),
    ];
    for (json, direction) in cases {
        let left = Bench::at(json, direction).send(&lines).unwrap();
        assert!(left.member("cost_usd").is_some(), "{json} {direction:?}");
    }
    let stripped = Bench::at("{}", Direction::Outbound).send(&lines).unwrap();
    let keys = |list: &str| list.contains("cost_usd") || list.contains("data_tag");
    assert!(!keys(stripped.state()));
    assert_eq!(stripped.baggage, None, "no empty baggage is sent");
}

#[test]
fn requests_of_an_exporter_and_tunnels_are_left_alone() {
    let mut bench = Bench::new("{}");
    let export = |path, agent| {
        vec![
            (":method", "POST"),
            (":path", path),
            (":authority", "tracemeter-collector"),
            ("user-agent", agent),
        ]
    };
    for path in ["/v1/traces", "/v1/metrics", "/v1/rates", "/v1/rates?etag=1"] {
        assert!(
            bench.send(&export(path, "tracemeter/0.1.0")).is_none(),
            "{path}"
        );
    }
    let connect = [(":method", "CONNECT"), (":authority", "example.com:443")];
    assert!(bench.send(&connect).is_none());
    assert_eq!(bench.count("reason_excluded"), 5);
    // Neither the name alone nor the path alone is a way around metering.
    assert!(bench.send(&export("/pay", "tracemeter/0.1.0")).is_some());
    assert!(bench.send(&export("/v1/traces", "curl/8")).is_some());
    bench.engine.end_excluded();
    assert_eq!(
        (bench.count("requests"), bench.count("requests_ended")),
        (7, 1)
    );
    assert!(bench.spans().is_empty());
}
