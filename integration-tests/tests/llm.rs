//! Calls to a language model through a real Envoy: JSON, and server-sent events that arrive in pieces
//! over time. What the provider's usage object says is what the span and the ledger say; the bytes
//! reach the application as they were sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use integration_tests::app::{Plan, Recorded};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::collector::{Collector, number};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::wait;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const POLICY: &str = "\
sampling:
  default_rate: 1.0
  priority_rules: []
  adaptive: { enabled: false }
attributes:
  llm:
    upstreams:
    - { host: api.openai.com, provider: openai }
    - { host: api.anthropic.com, provider: anthropic }
cost:
  llm:
  - { provider: openai, model: 'gpt-4o*', input_usd_per_million: 2.5, output_usd_per_million: 10, cached_usd_per_million: 1.25 }
  - { provider: anthropic, model: 'claude-*', input_usd_per_million: 3, output_usd_per_million: 15, cached_usd_per_million: 0.3 }
export: { ledger_interval: 1s }
";

const JSON: &str = r#"{"id":"1","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}"}}],
"usage":{"prompt_tokens":1000,"completion_tokens":200,"prompt_tokens_details":{"cached_tokens":400}}}"#;

/// In nano-USD: 600 x 2.5 + 400 x 1.25 + 200 x 10 dollars per million.
const JSON_NANOS: u64 = 4_000_000;

const EVENTS: [&str; 4] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":25,\"cache_read_input_tokens\":1000,\"output_tok",
    "ens\":1}}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"Hello \"}}\n\n",
    "event: message_delta\ndata: {\"type\":\"message_delta\",\"usage\":{\"output_",
    "tokens\":500}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

/// 25 x 3 + 1000 x 0.3 + 500 x 15 dollars per million.
const EVENTS_NANOS: u64 = 7_875_000;

/// A provider: answers by path, and compresses (so that nobody could read it) if asked to.
async fn provider() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let io = TokioIo::new(stream);
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(io, service_fn(answer)).await;
            });
        }
    });
    (address, server)
}

/// A body in parts, as they are sent.
struct Parts(mpsc::Receiver<&'static str>);

impl Body for Parts {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let part = self.0.poll_recv(context);
        part.map(|part| part.map(|part| Ok(Frame::data(Bytes::from_static(part.as_bytes())))))
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Parts>, Infallible> {
    let (sender, body) = mpsc::channel(1);
    let events = request.uri().path().ends_with("/messages");
    let compresses = request.headers().contains_key("accept-encoding");
    tokio::spawn(async move {
        let parts: Vec<&'static str> = match (compresses, events) {
            (true, _) => vec!["not readable"],
            (false, true) => EVENTS.to_vec(),
            (false, false) => vec![JSON],
        };
        for part in parts {
            if sender.send(part).await.is_err() {
                return;
            }
            // Tokens come as they are made: each part is a read of its own for the proxy.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let kind = if events {
        "text/event-stream"
    } else {
        "application/json"
    };
    Ok(Response::builder()
        .header("content-type", kind)
        .body(Parts(body))
        .unwrap())
}

struct Setup {
    client: Client,
    _proxy: Envoy,
    collector: Collector,
    provider: JoinHandle<()>,
}

impl Setup {
    async fn start() -> Self {
        let collector = Collector::start(Some(POLICY)).await.unwrap();
        let mesh = Mesh::new(POLICY, collector.http()).unwrap();
        let (at, provider) = provider().await;
        let proxy = Proxy {
            service: "agent".to_owned(),
            outbound: true,
            routes: vec![
                ("api.openai.com".to_owned(), at),
                ("api.anthropic.com".to_owned(), at),
            ],
            ..Proxy::default()
        };
        let proxy = mesh.proxy(&proxy).await.unwrap();
        Self {
            client: Client::new(proxy.listener("outbound").unwrap()),
            _proxy: proxy,
            collector,
            provider,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_json_and_streamed_answers_are_priced_and_the_bytes_untouched() {
    let setup = Setup::start().await;
    let mut wanted = 0;
    let mut calls = 0_u64;
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let events = EVENTS.concat();
        let cases = [
            ("api.openai.com", "/v1/chat/completions", JSON, JSON_NANOS),
            ("api.anthropic.com", "/v1/messages", &events, EVENTS_NANOS),
        ];
        for (host, path, body, nanos) in cases {
            let headers = HeaderLines::from([("accept-encoding", "gzip, br")]);
            let call = Call::new(protocol, host, path)
                .body_of(321)
                .headers(headers);
            let reply = setup.client.send(call).await.unwrap();
            assert_eq!(reply.status, 200);
            assert_eq!(reply.body, body.as_bytes(), "{protocol:?} {host}");
            wanted += nanos;
            calls += 1;
        }
    }

    let query = "SELECT COUNT(*) FROM spans WHERE cost_source = 'token_price'";
    let limit = Duration::from_secs(60);
    let spans = setup
        .collector
        .wait_for_number(query, limit, |count| count >= calls as f64);
    spans.await.unwrap();
    let rows = setup
        .collector
        .sql("SELECT service_name, cost_usd, attributes FROM spans ORDER BY cost_usd")
        .await
        .unwrap();
    assert_eq!(rows.len() as u64, calls);
    let cheap = &rows[0];
    let dear = &rows[3];
    for (row, nanos, model, input, output) in [
        (cheap, JSON_NANOS, "gpt-4o-2024-08-06", 1000, 200),
        (dear, EVENTS_NANOS, "claude-sonnet-4-5", 1025, 500),
    ] {
        let cost = number(&row["cost_usd"]).unwrap();
        assert_eq!((cost * 1e9).round() as u64, nanos, "{row:?}");
        let attributes = row["attributes"].to_string();
        for text in [model, &input.to_string(), &output.to_string()] {
            assert!(attributes.contains(text), "`{text}` in {attributes}");
        }
    }

    let exact = wait::until("the ledger has the same cost", limit, async || {
        let query = "SELECT SUM(cost_usd) * 1000000000 AS nanos FROM cost_by_service";
        let rows = setup.collector.sql(query).await?;
        let nanos = rows.first().and_then(|row| number(&row["nanos"]));
        Ok(nanos.filter(|nanos| nanos.round() as u64 == wanted))
    });
    exact.await.unwrap();
    setup.provider.abort();
}

/// A budget is granted at the ingress and used up two hops later: the proxy answers, in the caller's
/// protocol, and the application is not asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_without_budget_is_denied_before_it_reaches_the_service() {
    let policy = "\
sampling: { default_rate: 0, low_volume: { traces_per_minute: 0 } }
cost:
  budget:
    over_budget: deny
    grants: [{ when: \"url.path starts_with '/'\", usd: 0.000015 }]
";
    let collector = Collector::start(Some(policy)).await.unwrap();
    let mesh = Mesh::new(policy, collector.http()).unwrap();
    let answer = |_: &Recorded| Plan::default();
    let service = mesh.service("service", &[], answer).await.unwrap();
    let routes = [("service", service.inbound)];
    let ingress = mesh.ingress(&routes).await.unwrap();
    let client = Client::new(ingress.listener("ingress").unwrap());
    // The ingress takes its 0.00001 off; 0.000005 are left for a request that costs 0.00001.
    for protocol in Protocol::ALL {
        let reply = client
            .send(Call::new(protocol, "service", "/order"))
            .await
            .unwrap();
        let expected = if protocol == Protocol::Grpc {
            (200, Some(8))
        } else {
            (429, None)
        };
        assert_eq!((reply.status, reply.grpc_status), expected, "{reply:?}");
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            text.contains("is used up: `0.000005` USD are left"),
            "{text}"
        );
    }
    assert_eq!(service.app.served(), 0);
    // Both proxies keep the span: the callee for the budget, the ingress because of it.
    let query = "SELECT COUNT(*) FROM spans";
    let limit = Duration::from_secs(60);
    let spans = collector.wait_for_number(query, limit, |count| count >= 6.0);
    spans.await.unwrap();
    let rows = collector
        .sql("SELECT sampling_reason, COUNT(*) AS n FROM spans GROUP BY 1 ORDER BY 1")
        .await
        .unwrap();
    let reasons: Vec<&str> = rows
        .iter()
        .filter_map(|row| row["sampling_reason"].as_str())
        .collect();
    assert!(reasons.contains(&"over_budget"), "{rows:?}");
}
