//! What each application sees on the wire: client, ingress, sidecar, application, sidecar,
//! sidecar, application, over HTTP/1.1, HTTP/2 and gRPC.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::client::{Call, Protocol};
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Chain, SERVICE_A};
use integration_tests::raw::{self, RawConnection};

mod support;
use support::{
    CALLER_SPAN, CALLER_TRACE, KEEP_ALL, caller_context, cost_member, only, traceparent,
};

/// Foreign members with every kind of byte the standard allows in a value.
const FOREIGN: [&str; 3] = [
    "rojo=00f067aa0ba902b7",
    "fw529a3039@dt=a  b!\"#$%&'()*+-./:;<>?@[\\]^_`{|}~",
    "congo=t61",
];

fn foreign_context() -> HeaderLines {
    HeaderLines::new()
        .with("traceparent", caller_context())
        .with("tracestate", format!("{},{}", FOREIGN[0], FOREIGN[1]))
        .with("tracestate", FOREIGN[2])
        .with("baggage", "user=al%20ice;level=5")
        .with("baggage", "empty=,other=1")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_context_travels_through_all_hops_in_every_protocol() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    for protocol in Protocol::ALL {
        let call = Call::new(protocol, SERVICE_A, "/path").headers(foreign_context());
        let reply = chain.client.send(call).await.unwrap();
        assert!(reply.is_ok(), "{protocol:?}: {reply:?}");
        let at_a = only(chain.a.app.take_recorded());
        let at_b = only(chain.b.app.take_recorded());
        assert_eq!((at_a.protocol, at_b.protocol), (protocol, protocol));

        let (parent_a, parent_b) = (traceparent(&at_a.headers), traceparent(&at_b.headers));
        assert_eq!(parent_a.trace_id.to_string(), CALLER_TRACE);
        assert_eq!(parent_b.trace_id.to_string(), CALLER_TRACE);
        assert_ne!(parent_a.parent_id.to_string(), CALLER_SPAN);
        assert_ne!(parent_a.parent_id, parent_b.parent_id);
        assert!(parent_a.flags.is_sampled() && parent_b.flags.is_sampled());

        for headers in [&at_a.headers, &at_b.headers] {
            assert_eq!(headers.lines("tracestate").count(), 1, "{headers:?}");
            let members = headers.members("tracestate");
            let own = members.len() - FOREIGN.len();
            assert_eq!(members[own..], FOREIGN, "foreign members changed");
            assert!(members[0].starts_with("cost_usd="), "{members:?}");
            assert!(members[1].starts_with("data_tag="), "{members:?}");
            assert!(
                own == 2 || (own == 3 && members[2].starts_with("ot=")),
                "{members:?}"
            );

            let baggage = headers.members("baggage");
            assert_eq!(baggage[..3], ["user=al%20ice;level=5", "empty=", "other=1"]);
            assert_eq!(baggage.len(), 5, "{baggage:?}");
            assert_eq!(cost_member(&baggage), cost_member(&members));
            assert!(baggage.iter().any(|member| member.starts_with("data_tag=")));
        }
        let cost_at = |headers: &HeaderLines| cost_member(&headers.members("tracestate"));
        assert!(
            cost_at(&at_b.headers) > cost_at(&at_a.headers),
            "the cost must add up"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_without_context_starts_a_trace() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for protocol in Protocol::ALL {
        // State and baggage without a traceparent: the former is void, the latter passes on.
        let headers = HeaderLines::from([("tracestate", "rojo=1"), ("baggage", "k=v")]);
        let call = Call::new(protocol, SERVICE_A, "/path").headers(headers);
        assert!(chain.client.send(call).await.unwrap().is_ok());
        let at_a = only(chain.a.app.take_recorded());
        let at_b = only(chain.b.app.take_recorded());
        let (parent_a, parent_b) = (traceparent(&at_a.headers), traceparent(&at_b.headers));
        assert_eq!(parent_a.trace_id, parent_b.trace_id);
        assert_ne!(parent_a.parent_id, parent_b.parent_id);
        assert!(
            parent_a.flags.is_random(),
            "the id is random, so the flag says so"
        );
        assert!(
            seen.insert(parent_a.trace_id.to_string()),
            "two traces with one id"
        );
        for headers in [&at_a.headers, &at_b.headers] {
            assert!(!headers.text("tracestate").contains("rojo"), "{headers:?}");
            assert!(
                headers.members("baggage").contains(&"k=v".to_owned()),
                "{headers:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invalid_bytes_in_headers_get_200_and_so_does_the_next_request() {
    let chain = Chain::start(KEEP_ALL).await.unwrap();
    let mut connection = RawConnection::open(chain.ingress.listener("ingress").unwrap())
        .await
        .unwrap();
    let hostile: [(&str, &[u8]); 4] = [
        ("traceparent", b"00-\xff"),
        ("tracestate", b"\xff=\x80"),
        ("baggage", b"cost_usd=\xfe,\xff"),
        ("x-other", b"\xc3\x28"),
    ];
    for (name, value) in hostile {
        let request = raw::get(SERVICE_A, "/", &HeaderLines::new().with(name, value));
        assert_eq!(
            connection.exchange(&request).await.unwrap().status,
            200,
            "{name}"
        );
        traceparent(&only(chain.b.app.take_recorded()).headers);
        let good = raw::get(
            SERVICE_A,
            "/",
            &HeaderLines::new().with("traceparent", caller_context()),
        );
        assert_eq!(
            connection.exchange(&good).await.unwrap().status,
            200,
            "after {name}"
        );
        let next = traceparent(&only(chain.b.app.take_recorded()).headers);
        assert_eq!(next.trace_id.to_string(), CALLER_TRACE, "after {name}");
    }
    for proxy in chain.proxies() {
        assert_eq!(proxy.stat_sum("vm_reload").await.unwrap(), 0);
    }
}
