//! docs/debugging.md does what it says: its policy, its curl line, its access-log recipe and its
//! grep are taken from the page as they stand and run.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeSet;
use std::process::Command;

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Client, Protocol};
use integration_tests::envoy::Envoy;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy};
use integration_tests::raw::RawConnection;
use integration_tests::wait::{self, PATIENCE};

mod support;
use support::{CALLER_TRACE, caller_context, traceparent};

/// Half of the traces, nothing else decides.
const HALF: &str = "\
sampling:
  default_rate: 0.5
  priority_rules: []
  low_volume: { traces_per_minute: 0 }
";

fn page() -> String {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/debugging.md");
    std::fs::read_to_string(file).unwrap()
}

/// The fenced block of the page that begins with this line.
fn recipe(first: &str) -> String {
    let page = page();
    let mut blocks = page
        .split("```yaml\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap());
    let found = blocks.find(|block| block.starts_with(first));
    found
        .unwrap_or_else(|| panic!("no recipe `{first}`"))
        .to_owned()
}

/// The indented block of the page in which a line begins with this text.
fn command(start: &str) -> String {
    let page = page();
    let mut blocks = page.split("\n\n").filter(|block| block.starts_with("    "));
    let begins = |block: &&str| {
        block
            .lines()
            .any(|line| line.trim_start().starts_with(start))
    };
    blocks
        .find(begins)
        .unwrap_or_else(|| panic!("no block with `{start}`"))
        .to_owned()
}

/// A sidecar as `mesh-config` renders it, with the access log of the page on every listener.
async fn logging_sidecar(app: &App) -> Envoy {
    let receiver = App::start(|_| Plan::default()).await.unwrap();
    let mesh = Mesh::new(HALF, receiver.address()).unwrap();
    let proxy = Proxy {
        service: "logged".to_owned(),
        upstream: Some(app.address()),
        outbound: true,
        routes: vec![("known".to_owned(), app.address())],
        ..Proxy::default()
    };
    let rendered = mesh.render(&proxy).unwrap();
    let indent = "          ";
    let lines = recipe("access_log:");
    let lines: String = lines
        .lines()
        .map(|line| format!("{indent}{line}\n"))
        .collect();
    let anchor = format!("{indent}http_filters:\n");
    assert_eq!(rendered.matches(&anchor).count(), 2, "{rendered}");
    let config = rendered.replace(&anchor, &format!("{lines}{anchor}"));
    Envoy::start("logged", &config, 1).await.unwrap()
}

/// The access-log lines, once there are so many.
async fn logged(envoy: &mut Envoy, count: usize) -> Vec<String> {
    wait::until("the access log to be flushed", PATIENCE, async || {
        let output = envoy.process().output();
        let lines = output.lines().filter(|line| line.contains(" trace_id="));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        Ok((lines.len() >= count).then_some(lines))
    })
    .await
    .unwrap()
}

fn field<'l>(line: &'l str, key: &str) -> &'l str {
    let mut words = line.split(' ');
    let found = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no `{key}` in `{line}`"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_access_log_line_carries_the_trace_id_sampled_or_not() {
    const EACH: usize = 40;
    let app = App::start(|_| Plan::default()).await.unwrap();
    let mut envoy = logging_sidecar(&app).await;
    let inbound = Client::new(envoy.listener("inbound").unwrap());
    let outbound = Client::new(envoy.listener("outbound").unwrap());
    for _ in 0..EACH {
        for protocol in Protocol::ALL {
            let call = Call::new(protocol, "known", "/");
            assert!(inbound.send(call.clone()).await.unwrap().is_ok());
            assert!(outbound.send(call).await.unwrap().is_ok());
        }
    }
    let recorded = app.take_recorded();
    let seen: BTreeSet<String> = recorded
        .iter()
        .map(|request| request.headers.text("traceparent"))
        .collect();
    let count = 2 * EACH * Protocol::ALL.len();
    assert_eq!(seen.len(), count);

    // Proxy and page agree with the application, line for line, and both decisions are there.
    let lines = logged(&mut envoy, count).await;
    let in_log: BTreeSet<String> = lines
        .iter()
        .map(|line| field(line, "traceparent").to_owned())
        .collect();
    assert_eq!(in_log, seen);
    for line in &lines {
        assert_eq!(
            field(line, "trace_id"),
            &field(line, "traceparent")[3..35],
            "{line}"
        );
    }
    let sampled = recorded
        .iter()
        .filter(|r| traceparent(&r.headers).flags.is_sampled())
        .count();
    println!("{count} lines, {sampled} of sampled requests");
    assert!(
        sampled > count / 5 && sampled < count * 4 / 5,
        "{sampled} of {count}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_never_reach_the_application_are_logged_with_their_trace_too() {
    let app = App::start(|_| Plan::default()).await.unwrap();
    let mut envoy = logging_sidecar(&app).await;
    let outbound = Client::new(envoy.listener("outbound").unwrap());
    // No route: Envoy answers itself.
    let headers = HeaderLines::new().with("traceparent", caller_context());
    let call = Call::new(Protocol::Http1, "unknown.host", "/").headers(headers);
    assert_eq!(outbound.send(call).await.unwrap().status, 404);
    // An invalid context: a new trace.
    let headers = HeaderLines::new().with("traceparent", "00-zz");
    let call = Call::new(Protocol::Http1, "unknown.host", "/").headers(headers);
    assert_eq!(outbound.send(call).await.unwrap().status, 404);
    // What the codec refuses has no trace at all.
    let mut raw = RawConnection::open(envoy.listener("inbound").unwrap())
        .await
        .unwrap();
    let reply = raw
        .exchange(b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n")
        .await
        .unwrap();
    assert_eq!(reply.status, 400);

    let lines = logged(&mut envoy, 3).await;
    assert_eq!(field(&lines[0], "trace_id"), CALLER_TRACE);
    assert_eq!(field(&lines[1], "trace_id").len(), 32);
    assert_ne!(field(&lines[1], "trace_id"), CALLER_TRACE);
    assert_eq!(field(&lines[2], "trace_id"), "-");

    // The grep of the page finds the one line.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("access.log"), envoy.process().output()).unwrap();
    let output = Command::new("bash")
        .args(["-c", &command("grep")])
        .env("TRACE_ID", CALLER_TRACE)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), lines[0]);
}

/// A sidecar of the application under this policy.
async fn sidecar(app: &App, policy: &str) -> Envoy {
    let receiver = App::start(|_| Plan::default()).await.unwrap();
    let mesh = Mesh::new(policy, receiver.address()).unwrap();
    let proxy = Proxy {
        service: "service".to_owned(),
        upstream: Some(app.address()),
        ..Proxy::default()
    };
    mesh.proxy(&proxy).await.unwrap()
}

/// Runs the curl of the page with `host service` standing for this listener; its whole output.
fn curl(envoy: &Envoy) -> String {
    let inbound = envoy.listener("inbound").unwrap();
    let script = format!(
        "curl() {{ command curl --silent --max-time 20 --connect-to service:80:{inbound} \"$@\"; }}\n{}",
        command("curl")
    );
    let output = Command::new("bash").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}\n{text}");
    text
}

/// An explanation with its span id masked and its line breaks undone.
fn normal(explanation: &str) -> String {
    let one_line = explanation.split_whitespace().collect::<Vec<_>>().join(" ");
    let (before, after) = one_line.split_once("span_id=").unwrap();
    assert!(
        after[..16].bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{one_line}"
    );
    format!("{before}span_id=*{}", &after[16..])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_curl_line_of_the_page_gives_the_output_of_the_page() {
    let app = App::start(|_| Plan::default()).await.unwrap();
    let envoy = sidecar(&app, &recipe("debug:")).await;
    let output = curl(&envoy);
    let header = "x-tracemeter-explain: ";
    let got = output
        .lines()
        .find_map(|line| line.strip_prefix("< ")?.strip_prefix(header));
    let got = got.unwrap_or_else(|| panic!("no explanation:\n{output}"));
    let documented = command(header.trim());
    let documented = documented.trim().strip_prefix(header).unwrap();
    assert_eq!(normal(got), normal(documented));

    // What it says is what the application saw.
    let headers = app.take_recorded().remove(0).headers;
    let parent = traceparent(&headers);
    assert!(got.contains(&format!(
        "trace_id={}; span_id={};",
        parent.trace_id, parent.parent_id
    )));
    assert_eq!(headers.members("tracestate")[0], "cost_usd=0.00101");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_explain_header_needs_leave_and_a_request_for_it() {
    let app = App::start(|_| Plan::default()).await.unwrap();
    let allowed = recipe("debug:");
    let limited = "debug:\n  explain: true\n  explain_header: x-why\n  \
                   explain_when: 'request.header[\"x-team\"] = tracing'\n";
    let asks = ("x-tracemeter-debug", "1");
    let nothing = ("x-nothing", "1");
    // Policy, request header, response header that has to be there.
    let table = [
        ("", asks, None),
        ("", nothing, None),
        (&allowed, nothing, None),
        (&allowed, ("x-tracemeter-debug", "0"), None),
        (&allowed, asks, Some("x-tracemeter-explain")),
        (limited, asks, None),
        (limited, ("x-team", "tracing"), Some("x-why")),
    ];
    let explanations = ["x-tracemeter-explain", "x-why"];
    for policy in ["", &allowed, limited] {
        let envoy = sidecar(&app, policy).await;
        let client = Client::new(envoy.listener("inbound").unwrap());
        for (_, asked, wanted) in table.iter().filter(|row| row.0 == policy) {
            for protocol in Protocol::ALL {
                let headers = HeaderLines::from([*asked]);
                let call = Call::new(protocol, "service", "/").headers(headers);
                let reply = client.send(call).await.unwrap();
                for name in explanations {
                    let there = reply.headers.joined(name).is_some();
                    assert_eq!(
                        there,
                        *wanted == Some(name),
                        "{policy} {asked:?}: {reply:?}"
                    );
                }
            }
        }
    }
}
