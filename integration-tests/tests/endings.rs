//! How a stream can end on a real Envoy, and what the span and the counts say of each ending.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::ports::spare_port;
use integration_tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

mod receiver;
use receiver::{Receiver, Span};

const KEEP_ALL: &str = "sampling: { default_rate: 1 }\n\
    attributes: { network_peer: true, user_agent: true }\nexport: { ledger_interval: 1s }\n";
const LIMIT: Duration = Duration::from_secs(60);

/// An upstream that answers each path in a bad way of its own.
async fn upstream() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    (address, server)
}

async fn serve(mut stream: TcpStream) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await {
            Ok(0) | Err(_) => return,
            Ok(count) => head.extend_from_slice(&bytes[..count]),
        }
    }
    let answer: &[u8] = match head.split(|byte| *byte == b' ').nth(1).unwrap() {
        b"/partial" => b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n0123456789",
        b"/garbage" => b"this is no HTTP\r\n\r\n",
        b"/silent" | b"/slow" => {
            tokio::time::sleep(LIMIT).await;
            return;
        }
        b"/good" => b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        path @ (b"/socket" | b"/closing-socket") => {
            let _ = stream.write_all(SWITCHING).await;
            return socket(&mut stream, path == b"/closing-socket").await;
        }
        _ => b"",
    };
    let _ = stream.write_all(answer).await;
    // Dropped here: the connection closes.
}

/// An answer to a WebSocket's handshake, as far as a proxy looks at it.
const SWITCHING: &[u8] =
    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// Sends back what comes; ends after the first message or with its client.
async fn socket(stream: &mut TcpStream, closes: bool) {
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        if stream.write_all(&bytes[..count]).await.is_err() || closes {
            return;
        }
    }
}

async fn sidecar(upstream: SocketAddr, receiver: &Receiver) -> Envoy {
    let mesh = Mesh::new(KEEP_ALL, receiver.address()).unwrap();
    let proxy = Proxy {
        service: "shop".to_owned(),
        upstream: Some(upstream),
        workers: 4,
        ..Proxy::default()
    };
    mesh.proxy(&proxy).await.unwrap()
}

async fn span_of(receiver: &Receiver, path: &str) -> Span {
    let wanted = |span: &Span| span.attribute("url.path") == path;
    receiver.wait_for(path, 1, wanted).await.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_bad_ending_of_an_upstream_has_its_error_type() {
    let receiver = Receiver::start().await;
    let (address, server) = upstream().await;
    let envoy = sidecar(address, &receiver).await;
    let client = Client::new(envoy.listener("inbound").unwrap());
    for (path, status, kinds) in [
        ("/reset", "503", &["connection_termination"][..]),
        ("/garbage", "502", &["protocol_error"]),
        (
            "/partial",
            "200",
            &["protocol_error", "connection_termination", "upstream_reset"],
        ),
    ] {
        let _ = client.send(Call::new(Protocol::Http1, "shop", path)).await;
        let span = span_of(&receiver, path).await;
        assert_eq!(
            span.attribute("http.response.status_code"),
            status,
            "{span:#?}"
        );
        assert!(kinds.contains(&span.attribute("error.type")), "{span:#?}");
        assert_eq!(span.attribute("network.peer.address"), "127.0.0.1");
        assert!(!span.attribute("network.peer.port").is_empty());
        assert_eq!(span.attribute("network.protocol.version"), "1.1");
    }
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_is_no_error_of_the_service_and_has_no_status() {
    let receiver = Receiver::start().await;
    let (address, server) = upstream().await;
    let envoy = sidecar(address, &receiver).await;
    let mut stream = TcpStream::connect(envoy.listener("inbound").unwrap())
        .await
        .unwrap();
    let request = b"GET /silent HTTP/1.1\r\nhost: shop\r\nuser-agent: probe al@example.com\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let arrived = wait::until("the request", LIMIT, async || {
        let begun = envoy.stat_sum("tracemeter_requests_total").await?;
        Ok((begun == 1).then_some(()))
    });
    arrived.await.unwrap();
    drop(stream);
    let span = span_of(&receiver, "/silent").await;
    assert_eq!(span.attribute("http.response.status_code"), "");
    assert_eq!(span.attribute("tracemeter.client_left"), "true");
    assert_eq!(span.attribute("error.type"), "");
    assert_eq!(span.attribute("user_agent.original"), "probe ***");
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_envoy_answers_itself_is_counted_whether_headers_came_or_not() {
    let receiver = Receiver::start().await;
    // Nobody listens there.
    let address = SocketAddr::from(([127, 0, 0, 1], spare_port()));
    let envoy = sidecar(address, &receiver).await;
    let inbound = envoy.listener("inbound").unwrap();
    let client = Client::new(inbound);
    let reply = client.send(Call::new(Protocol::Http1, "shop", "/refused"));
    assert_eq!(reply.await.unwrap().status, 503);
    let span = span_of(&receiver, "/refused").await;
    assert_eq!(span.attribute("error.type"), "connection_failure");
    for malformed in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(inbound).await.unwrap();
        stream.write_all(malformed).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let counted = wait::until("the malformed requests", LIMIT, async || {
        let malformed = envoy
            .stat_sum("tracemeter_requests_malformed_total")
            .await?;
        Ok((malformed == 3).then_some(()))
    });
    counted.await.unwrap();
    let all = wait::until("all in the ledger", LIMIT, async || {
        Ok((receiver.ledger().requests == 4).then_some(()))
    });
    all.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_failure_has_its_status_and_names() {
    let receiver = Receiver::start().await;
    let failing = App::start(|_| Plan {
        status: 500,
        ..Plan::default()
    });
    let app = failing.await.unwrap();
    let envoy = sidecar(app.address(), &receiver).await;
    let client = Client::new(envoy.listener("inbound").unwrap());
    let reply = client.send(Call::new(Protocol::Grpc, "shop", "")).await;
    let status = reply.unwrap().grpc_status.unwrap();
    assert_ne!(status, 0);
    let span = receiver.wait_for("the call", 1, |_| true).await.remove(0);
    let code = status.to_string();
    assert_eq!(span.attribute("rpc.grpc.status_code"), code);
    assert_eq!(span.attribute("http.response.status_code"), "200");
    assert_eq!(span.attribute("rpc.system"), "grpc");
    assert!(!span.attribute("rpc.method").is_empty());
    assert_eq!(span.attribute("error.type"), code, "{span:#?}");
    assert_eq!(span.attribute("network.protocol.version"), "2");
}

/// Prices without a share for time, so that each request of few bytes costs the same.
const PRICED: &str = "cost: { duration_factor_per_100ms: 0 }\n";
const PRICE_NANOS: u64 = 10_000;

/// A sidecar that also upgrades to WebSocket, ends CONNECT tunnels, and waits for `/slow` only
/// a little.
async fn upgrading_sidecar(upstream: SocketAddr, receiver: &Receiver) -> Envoy {
    let policy = format!("{KEEP_ALL}{PRICED}");
    let mesh = Mesh::new(&policy, receiver.address()).unwrap();
    let proxy = Proxy {
        service: "shop".to_owned(),
        upstream: Some(upstream),
        ..Proxy::default()
    };
    let plain = mesh.render(&proxy).unwrap();
    let filters = "          http_filters:\n";
    let upgrades =
        "          upgrade_configs: [{upgrade_type: websocket}, {upgrade_type: CONNECT}]\n";
    let route = "              - match: {prefix: \"/\"}\n";
    let tunnels = "              - match: {connect_matcher: {}}\n                \
         route: {cluster: \"application\", \
         upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}\n";
    let slow = "              - match: {path: \"/slow\"}\n                \
         route: {cluster: \"application\", timeout: 0.3s}\n";
    for anchor in [filters, route] {
        assert_eq!(plain.matches(anchor).count(), 1, "{plain}");
    }
    let config = plain
        .replace(filters, &format!("{upgrades}{filters}"))
        .replace(route, &format!("{tunnels}{slow}{route}"));
    Envoy::start("shop", &config, 1).await.unwrap()
}

/// Sends a last, ordinary request; then the ledger has exactly so many, at the policy's price each,
/// and there are as many spans.
async fn assert_counted(receiver: &Receiver, envoy: &Envoy, metered: u64) {
    let client = Client::new(envoy.listener("inbound").unwrap());
    let reply = client.send(Call::new(Protocol::Http1, "shop", "/good"));
    assert_eq!(reply.await.unwrap().status, 200);
    let span = span_of(receiver, "/good").await;
    assert_eq!(span.attribute("cost_usd"), "0.00001");
    let all = wait::until("all in the ledger", LIMIT, async || {
        let ledger = receiver.ledger();
        Ok((ledger.requests > metered).then_some(ledger))
    });
    let ledger = all.await.unwrap();
    assert_eq!(ledger.requests, metered + 1);
    assert_eq!(ledger.cost_nanos, (metered + 1) * PRICE_NANOS);
    assert_eq!(
        receiver.len() as u64,
        metered + 1,
        "{:#?}",
        receiver.spans()
    );
}

/// Reads so many bytes, or to the end.
async fn read(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut read = vec![0; count];
    let all = tokio::time::timeout(LIMIT, stream.read_exact(&mut read)).await;
    all.expect("an answer in time").unwrap();
    read
}

/// The head of an answer.
async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(read(stream, 1).await);
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_websocket_is_one_request_with_status_101_whoever_ends_it() {
    let receiver = Receiver::start().await;
    let (address, server) = upstream().await;
    let envoy = upgrading_sidecar(address, &receiver).await;
    for (path, client_left) in [("/socket", "true"), ("/closing-socket", "")] {
        let mut stream = TcpStream::connect(envoy.listener("inbound").unwrap())
            .await
            .unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(
            receiver
                .spans()
                .iter()
                .all(|span| span.attribute("url.path") != path)
        );
        stream.write_all(b"hello").await.unwrap();
        assert_eq!(read(&mut stream, 5).await, b"hello");
        if client_left.is_empty() {
            let rest = stream.read_to_end(&mut Vec::new()).await;
            assert_eq!(rest.unwrap(), 0, "the other end has closed");
        }
        drop(stream);
        let span = span_of(&receiver, path).await;
        assert_eq!(span.attribute("http.response.status_code"), "101");
        assert_eq!(span.attribute("error.type"), "", "{span:#?}");
        assert_eq!(span.attribute("tracemeter.client_left"), client_left);
        assert_eq!(span.attribute("cost_usd"), "0.00001");
    }
    assert_eq!(
        envoy
            .stat_sum("tracemeter_requests_error_total")
            .await
            .unwrap(),
        0
    );
    assert_counted(&receiver, &envoy, 2).await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_passes_unmetered() {
    let receiver = Receiver::start().await;
    let (address, server) = upstream().await;
    let envoy = upgrading_sidecar(address, &receiver).await;
    let mut stream = TcpStream::connect(envoy.listener("inbound").unwrap())
        .await
        .unwrap();
    stream
        .write_all(b"CONNECT shop:80 HTTP/1.1\r\nhost: shop:80\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    stream
        .write_all(b"GET /good HTTP/1.1\r\nhost: within\r\n\r\n")
        .await
        .unwrap();
    let head = read_head(&mut stream).await;
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(read(&mut stream, 2).await, b"ok");
    drop(stream);
    let ended = wait::until("the end of the tunnel", LIMIT, async || {
        let ended = envoy.stat_sum("tracemeter_requests_ended_total").await?;
        Ok((ended == 1).then_some(()))
    });
    ended.await.unwrap();
    let excluded = envoy.stat_sum("tracemeter_reason_excluded_total").await;
    assert_eq!(excluded.unwrap(), 1);
    assert_counted(&receiver, &envoy, 0).await;
    server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_that_times_out_is_one_error_of_the_kind_timeout() {
    let receiver = Receiver::start().await;
    let (address, server) = upstream().await;
    let envoy = upgrading_sidecar(address, &receiver).await;
    let client = Client::new(envoy.listener("inbound").unwrap());
    let reply = client.send(Call::new(Protocol::Http1, "shop", "/slow"));
    assert_eq!(reply.await.unwrap().status, 504);
    let span = span_of(&receiver, "/slow").await;
    assert_eq!(span.attribute("http.response.status_code"), "504");
    assert_eq!(span.attribute("error.type"), "timeout", "{span:#?}");
    assert_eq!(span.attribute("cost_usd"), "0.00001");
    assert_eq!(
        envoy
            .stat_sum("tracemeter_requests_error_total")
            .await
            .unwrap(),
        1
    );
    assert_counted(&receiver, &envoy, 1).await;
    server.abort();
}

/// A gRPC server that answers with headers alone.
async fn trailers_only() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let answer = |request: Request<Incoming>| async move {
        let good = request.uri().path() == "/good";
        let response = Response::builder();
        let response = if good {
            response
        } else {
            response
                .header("content-type", "application/grpc")
                .header("grpc-status", "5")
        };
        Ok::<_, Infallible>(response.body(Empty::<Bytes>::new()).unwrap())
    };
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let connection = builder.serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = connection.await;
            });
        }
    });
    (address, server)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grpc_answer_of_headers_alone_is_one_call_with_its_status() {
    let receiver = Receiver::start().await;
    let (address, server) = trailers_only().await;
    let envoy = upgrading_sidecar(address, &receiver).await;
    let client = Client::new(envoy.listener("inbound").unwrap());
    let mut call = Call::new(Protocol::Http2, "shop", "/store.Orders/Get");
    call.method = http::Method::POST;
    call.headers = HeaderLines::from([("content-type", "application/grpc"), ("te", "trailers")]);
    let reply = client.send(call).await.unwrap();
    // In the headers, as the server sent it: there were no trailers.
    assert_eq!(
        (reply.status, reply.headers.text("grpc-status").as_str()),
        (200, "5")
    );
    let span = span_of(&receiver, "/store.Orders/Get").await;
    assert_eq!(span.attribute("rpc.grpc.status_code"), "5", "{span:#?}");
    assert_eq!(span.attribute("http.response.status_code"), "200");
    assert_eq!(span.attribute("rpc.system"), "grpc");
    assert_eq!(span.attribute("rpc.service"), "store.Orders");
    assert_eq!(span.attribute("rpc.method"), "Get");
    // Whether a status is an error is the policy's to say; by default each but OK is.
    assert_eq!(span.attribute("error.type"), "5", "{span:#?}");
    assert_eq!(span.attribute("cost_usd"), "0.00001");
    assert_counted(&receiver, &envoy, 1).await;
    server.abort();
}
