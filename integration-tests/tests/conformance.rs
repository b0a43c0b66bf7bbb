//! W3C Trace Context on a real Envoy: the behaviours that the official harness checks at strict
//! level 2 and specification level 2, as a table of our own.
//!
//! A caller sends header lines; what counts is what the callee sees. Two ways in between:
//! - both: caller, inbound listener, copying application, outbound listener, callee;
//! - outbound only: caller, copying application, outbound listener, callee.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;

use integration_tests::app::{App, Plan};
use integration_tests::client::{Call, Protocol};
use integration_tests::collector::Collector;
use integration_tests::headers::HeaderLines;
use integration_tests::mesh::{Mesh, Proxy, Service};
use integration_tests::raw::{self, RawConnection};
use w3c_traceparent_parser::TraceParent;

mod support;
use support::KEEP_A_TENTH;

mod conformance_table;
use conformance_table::{Case, TraceIs, cases};

/// A service under test with a callee behind it that has no proxy of its own.
struct Harness {
    service: Service,
    callee: App,
    _collector: Collector,
}

impl Harness {
    async fn start() -> Self {
        let collector = Collector::start(None).await.unwrap();
        let mesh = Mesh::new(KEEP_A_TENTH, collector.http()).unwrap();
        let callee = App::start(|_| Plan::default()).await.unwrap();
        let routes = [("callee", callee.address())];
        let service = mesh
            .service("caller", &routes, |seen| {
                let count = seen.path.trim_start_matches('/').parse().unwrap_or(1);
                let call = Call::new(Protocol::Http1, "callee", "/called");
                Plan {
                    calls: vec![call; count],
                    ..Plan::default()
                }
            })
            .await
            .unwrap();
        Self {
            service,
            callee,
            _collector: collector,
        }
    }

    /// Sends the lines, asks for `calls` calls, and answers what the callee saw of each.
    async fn run(&self, to: SocketAddr, lines: &HeaderLines, calls: usize) -> Vec<HeaderLines> {
        let mut connection = RawConnection::open(to).await.unwrap();
        let request = raw::get("caller", &format!("/{calls}"), lines);
        let reply = connection.exchange(&request).await.unwrap();
        assert_eq!(reply.status, 200, "{lines:?}");
        let seen = self.callee.take_recorded();
        assert_eq!(seen.len(), calls, "{lines:?}");
        seen.into_iter().map(|recorded| recorded.headers).collect()
    }
}

/// What is wrong with what the callee saw; `None` when nothing is.
fn complaint(case: &Case, seen: &[HeaderLines]) -> Option<String> {
    let mut traces = BTreeSet::new();
    let mut parents = BTreeSet::new();
    for headers in seen {
        let lines: Vec<&[u8]> = headers.lines("traceparent").collect();
        if lines.len() != 1 || lines[0].len() != 55 || !lines[0].starts_with(b"00-") {
            return Some("not exactly one traceparent of version 00".to_owned());
        }
        let Ok(parent) = TraceParent::parse(lines[0]) else {
            return Some("an invalid traceparent went out".to_owned());
        };
        traces.insert(parent.trace_id.to_string());
        parents.insert(parent.parent_id.to_string());
        if case
            .random_flag
            .is_some_and(|wanted| wanted != parent.flags.is_random())
        {
            return Some("the random flag changed".to_owned());
        }
        if let Some(complaint) = state_complaint(case, headers) {
            return Some(complaint);
        }
    }
    if parents.len() != seen.len() || parents.contains(conformance_table::PARENT) {
        return Some(format!("not a new parent id for each call: {parents:?}"));
    }
    match case.trace {
        TraceIs::Kept if traces != BTreeSet::from([conformance_table::TRACE.to_owned()]) => {
            Some(format!("the trace id was not kept: {traces:?}"))
        }
        TraceIs::New => {
            let sent = |id: &String| case.lines.iter().any(|(_, value)| contains(value, id));
            let stale = traces.iter().find(|id| sent(id));
            stale.map(|id| format!("the trace id `{id}` of an invalid context was used"))
        }
        TraceIs::Kept => None,
    }
}

fn contains(value: &[u8], text: &str) -> bool {
    value
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

fn state_complaint(case: &Case, headers: &HeaderLines) -> Option<String> {
    let members = headers.members("tracestate");
    if members.len() > 32 {
        return Some(format!("{} members went out", members.len()));
    }
    if headers.lines("tracestate").any(|line| line.is_empty()) {
        return Some("an empty tracestate went out".to_owned());
    }
    let mut keys = BTreeSet::new();
    for member in &members {
        let key = member.split('=').next().unwrap_or_default();
        if ["cost_usd", "data_tag", "ot"].contains(&key) && !keys.insert(key) {
            return Some(format!("own key `{key}` twice"));
        }
    }
    if let Some(count) = case.members
        && members.len() != count
    {
        return Some(format!("{} members instead of {count}", members.len()));
    }
    let mut from = 0;
    for wanted in &case.has {
        match members
            .get(from..)
            .unwrap_or_default()
            .iter()
            .position(|member| member == wanted)
        {
            Some(at) => from += at + 1,
            None => {
                return Some(format!(
                    "`{wanted}` is missing or out of order in {members:?}"
                ));
            }
        }
    }
    let unwanted = case.lacks.iter().find(|key| {
        members
            .iter()
            .any(|member| member.split('=').next() == Some(key.as_str()))
    });
    unwanted.map(|key| format!("`{key}` went out: {members:?}"))
}

async fn conforms(harness: &Harness, to: SocketAddr, way: &str) {
    let mut failures = Vec::new();
    let mut behaviours = BTreeSet::new();
    for case in cases() {
        behaviours.insert(case.behaviour);
        let seen = harness.run(to, &case.lines, case.calls).await;
        if let Some(complaint) = complaint(&case, &seen) {
            failures.push(format!(
                "{}: {complaint}\n  sent {:?}",
                case.behaviour, case.lines
            ));
        }
    }
    assert_eq!(behaviours.len(), 41, "the harness has 41 behaviours");
    assert!(
        failures.is_empty(),
        "{way}: {} failed\n{}",
        failures.len(),
        failures.join("\n")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_41_behaviours_hold_with_the_filter_on_both_sides() {
    let harness = Harness::start().await;
    conforms(&harness, harness.service.inbound, "both").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_41_behaviours_hold_with_the_filter_on_outbound_only() {
    let harness = Harness::start().await;
    conforms(&harness, harness.service.app.address(), "outbound only").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_trace_ids_are_uniform_in_all_56_bits_that_decide() {
    let harness = Harness::start().await;
    let seen = harness
        .run(harness.service.inbound, &HeaderLines::new(), 1)
        .await;
    assert_eq!(seen.len(), 1);
    const TRACES: u32 = 2_000;
    let mut ones = [0_u32; 56];
    let mut ids = BTreeSet::new();
    let mut connection = RawConnection::open(harness.service.inbound).await.unwrap();
    let request = raw::get("caller", "/1", &HeaderLines::new());
    for _ in 0..TRACES {
        assert_eq!(connection.exchange(&request).await.unwrap().status, 200);
    }
    for recorded in harness.callee.take_recorded() {
        let parent = support::traceparent(&recorded.headers);
        ids.insert(parent.trace_id.to_string());
        let low = u64::from_str_radix(&parent.trace_id.to_string()[18..], 16).unwrap();
        for (bit, count) in ones.iter_mut().enumerate() {
            *count += u32::from(low >> bit & 1 == 1);
        }
    }
    assert_eq!(ids.len(), TRACES as usize);
    // Six standard deviations of a fair coin: 6 * sqrt(2000) / 2 = 134.
    for (bit, count) in ones.iter().enumerate() {
        assert!(
            count.abs_diff(TRACES / 2) < 134,
            "bit {bit} is set in {count} of {TRACES}"
        );
    }
}

/// The proxy of the outbound-only way really has no inbound listener in a deployment without one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_with_only_an_outbound_listener_starts_traces_itself() {
    let collector = Collector::start(None).await.unwrap();
    let mesh = Mesh::new(KEEP_A_TENTH, collector.http()).unwrap();
    let callee = App::start(|_| Plan::default()).await.unwrap();
    let proxy = Proxy {
        service: "caller".to_owned(),
        outbound: true,
        routes: vec![("callee".to_owned(), callee.address())],
        ..Proxy::default()
    };
    let sidecar = mesh.proxy(&proxy).await.unwrap();
    let mut connection = RawConnection::open(sidecar.listener("outbound").unwrap())
        .await
        .unwrap();
    let reply = connection
        .exchange(&raw::get("callee", "/", &HeaderLines::new()))
        .await
        .unwrap();
    assert_eq!(reply.status, 200);
    support::traceparent(&support::only(callee.take_recorded()).headers);
    assert!(sidecar.listener("inbound").is_err());
}
