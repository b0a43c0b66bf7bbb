//! How a stream can end on a real Envoy, and what the span and the counts say of each ending.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::net::SocketAddr;
use std::time::Duration;

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::wait;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

mod receiver;
use receiver::{Receiver, Span};

const KEEP_ALL: &str = "sampling: { default_rate: 1 }\n\
    attributes: { network_peer: true, user_agent: true }\nexport: { ledger_interval: 1s }\n";
const LIMIT: Duration = Duration::from_secs(30);

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
        b"/silent" => {
            tokio::time::sleep(LIMIT).await;
            return;
        }
        _ => b"",
    };
    let _ = stream.write_all(answer).await;
    // Dropped here: the connection closes.
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
    // Nobody listens there any more.
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = dead.local_addr().unwrap();
    drop(dead);
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
