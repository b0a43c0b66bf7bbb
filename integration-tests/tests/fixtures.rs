//! The fixtures themselves: an application and an Envoy without the filter. When these fail, no
//! other result of this crate means anything.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::raw::{self, RawConnection};

mod support;
use support::plain;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_answers_in_all_protocols_through_a_plain_envoy() {
    let app = App::start(|_| Plan {
        body_bytes: 7,
        ..Plan::default()
    })
    .await
    .unwrap();
    let mut envoy = Envoy::start("plain", &plain::without_filter(app.address()), 1)
        .await
        .unwrap();
    let client = Client::new(envoy.listener("inbound-0").unwrap());
    for protocol in Protocol::ALL {
        let headers = HeaderLines::from([
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "k=v"),
        ]);
        let call = Call::new(protocol, "some.host", "/path?q=1").headers(headers);
        let reply = client.send(call).await.unwrap();
        assert!(reply.is_ok(), "{reply:?}");
        assert_eq!(reply.body.len(), 7);
        let seen = app.take_recorded();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].protocol, protocol);
        assert_eq!(seen[0].headers.members("tracestate"), ["a=1", "b=2"]);
        assert_eq!(seen[0].headers.members("baggage"), ["k=v"]);
    }
    assert_eq!(
        envoy.stats().await.unwrap()["http.inbound.downstream_rq_2xx"],
        3
    );
    assert!(envoy.process().resident_kib().unwrap() > 10_000);
    envoy.stop().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_application_copies_only_the_three_headers_to_its_calls() {
    let callee = App::start(|_| Plan::default()).await.unwrap();
    let caller = App::start(|seen| Plan {
        calls: vec![Call::new(seen.protocol, "callee", "/next")],
        ..Plan::default()
    })
    .await
    .unwrap();
    caller.calls_through(callee.address());
    for protocol in Protocol::ALL {
        let headers = HeaderLines::from([
            ("traceparent", "00-x"),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "k=v"),
            ("x-secret", "stays"),
        ]);
        let call = Call::new(protocol, "caller", "/first").headers(headers);
        assert!(
            Client::new(caller.address())
                .send(call)
                .await
                .unwrap()
                .is_ok()
        );
        let seen = callee.take_recorded();
        assert_eq!(seen[0].protocol, protocol);
        assert_eq!(seen[0].headers.text("traceparent"), "00-x");
        assert_eq!(seen[0].headers.lines("tracestate").count(), 2);
        assert_eq!(seen[0].headers.text("baggage"), "k=v");
        assert_eq!(seen[0].headers.text("x-secret"), "");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_bytes_and_pipelined_requests_reach_the_application() {
    let app = App::start(|_| Plan {
        body_bytes: 3,
        ..Plan::default()
    })
    .await
    .unwrap();
    let envoy = Envoy::start("raw", &plain::without_filter(app.address()), 1)
        .await
        .unwrap();
    let mut connection = RawConnection::open(envoy.listener("inbound-0").unwrap())
        .await
        .unwrap();
    let request = raw::get("host", "/", &HeaderLines::new().with("baggage", b"k=\xff"));
    connection
        .send(&[request.clone(), request.clone()].concat())
        .await
        .unwrap();
    for _ in 0..2 {
        let reply = connection.reply().await.unwrap().unwrap();
        assert_eq!((reply.status, reply.body.len()), (200, 3));
    }
    let broken = connection
        .exchange(b"GET / HTTP/1.1\r\nhost: x\r\nbad: \x01\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(broken.status, 400);
    assert_eq!(
        app.recorded()[1].headers.joined("baggage").unwrap(),
        b"k=\xff"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_envoy_that_refuses_its_configuration_shows_why() {
    let error = Envoy::start("broken", "static_resources: { listeners: 7 }", 1)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("listeners"), "{error}");
}
