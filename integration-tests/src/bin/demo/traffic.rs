//! The traffic of the demo: a mix of requests at a steady rate, and whether each was answered as
//! planned.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use integration_tests::app::ANSWERED_BY;
use integration_tests::client::{Call, Client, Protocol, Reply};
use integration_tests::headers::HeaderLines;
use tokio::task::{JoinHandle, JoinSet};

/// Requests under way at most; above this the generator waits, as a browser would.
const MOST_IN_FLIGHT: usize = 200;

/// How long the last requests may take when the demo ends.
const STOP_LIMIT: Duration = Duration::from_secs(10);

/// A kind of request.
struct Kind {
    name: &'static str,
    weight: u32,
    protocol: Protocol,
    path: &'static str,
    status: u16,
}

/// Of a hundred requests, most are cheap; a few fail, are slow or touch personal data.
const KINDS: [Kind; 8] = [
    Kind {
        name: "page",
        weight: 40,
        protocol: Protocol::Http1,
        path: "/",
        status: 200,
    },
    Kind {
        name: "checkout",
        weight: 18,
        protocol: Protocol::Http1,
        path: "/checkout",
        status: 200,
    },
    Kind {
        name: "recommend",
        weight: 15,
        protocol: Protocol::Http2,
        path: "/recommend",
        status: 200,
    },
    Kind {
        name: "profile",
        weight: 10,
        protocol: Protocol::Http1,
        path: "/users/",
        status: 200,
    },
    Kind {
        name: "robot",
        weight: 6,
        protocol: Protocol::Http2,
        path: "/robot/move",
        status: 200,
    },
    Kind {
        name: "not found",
        weight: 6,
        protocol: Protocol::Http1,
        path: "/nowhere",
        status: 404,
    },
    Kind {
        name: "failing",
        weight: 3,
        protocol: Protocol::Http1,
        path: "/checkout/failing",
        status: 502,
    },
    Kind {
        name: "slow",
        weight: 2,
        protocol: Protocol::Http1,
        path: "/report",
        status: 200,
    },
];

/// What became of the requests so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Requests that got the application's answer with the planned status.
    pub(crate) as_planned: u64,
    /// All others.
    pub(crate) otherwise: u64,
    /// The first few of those, in words.
    pub(crate) samples: Vec<String>,
    /// Requests by kind.
    pub(crate) by_kind: BTreeMap<&'static str, u64>,
}

/// The running generator.
pub(crate) struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stopping: Arc<tokio::sync::Notify>,
    generator: Mutex<Option<JoinHandle<()>>>,
}

impl Traffic {
    /// Sends about `rate` requests per second to `ingress` until stopped.
    pub(crate) fn start(ingress: SocketAddr, rate: f64) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let stopping = Arc::new(tokio::sync::Notify::new());
        let run = generate(ingress, rate, Arc::clone(&tally), Arc::clone(&stopping));
        Self {
            tally,
            stopping,
            generator: Mutex::new(Some(tokio::spawn(run))),
        }
    }

    /// No new requests; waits for those under way.
    pub(crate) async fn stop(&self) {
        self.stopping.notify_one();
        let generator = self
            .generator
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(generator) = generator {
            // What has not ended by then was counted by nobody, and the summary will show it.
            let _ = tokio::time::timeout(STOP_LIMIT, generator).await;
        }
    }

    /// The counts so far.
    pub(crate) fn tally(&self) -> Tally {
        lock(&self.tally).clone()
    }
}

fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn generate(
    ingress: SocketAddr,
    rate: f64,
    tally: Arc<Mutex<Tally>>,
    stopping: Arc<tokio::sync::Notify>,
) {
    let client = Client::new(ingress);
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let mut requests = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.notified() => break,
            _ = ticks.tick() => {}
        }
        while requests.try_join_next().is_some() {}
        if requests.len() >= MOST_IN_FLIGHT {
            let _ = requests.join_next().await;
        }
        requests.spawn(one(client.clone(), Arc::clone(&tally)));
    }
    while requests.join_next().await.is_some() {}
}

async fn one(client: Client, tally: Arc<Mutex<Tally>>) {
    let kind = draw();
    let path = if kind.path == "/users/" {
        format!("/users/{}/profile", fastrand::u32(1_000..2_000))
    } else {
        kind.path.to_owned()
    };
    let headers = HeaderLines::from([("user-agent", "tracemeter-demo")]);
    let call = Call::new(kind.protocol, "shop.example", &path).headers(headers);
    let complaint = match client.send(call).await {
        Ok(reply) => complaint(kind, &reply),
        Err(error) => Some(format!("{}: {error:#}", kind.name)),
    };
    let mut tally = lock(&tally);
    *tally.by_kind.entry(kind.name).or_default() += 1;
    match complaint {
        None => tally.as_planned += 1,
        Some(text) => {
            tally.otherwise += 1;
            if tally.samples.len() < 5 {
                tally.samples.push(text);
            }
        }
    }
}

fn complaint(kind: &Kind, reply: &Reply) -> Option<String> {
    if reply.headers.text(ANSWERED_BY) != "yes" {
        return Some(format!("{}: a proxy answered {}", kind.name, reply.status));
    }
    let (wanted, got) = (kind.status, reply.status);
    (wanted != got).then(|| format!("{}: status {got} instead of {wanted}", kind.name))
}

fn draw() -> &'static Kind {
    let total: u32 = KINDS.iter().map(|kind| kind.weight).sum();
    let mut drawn = fastrand::u32(..total);
    for kind in &KINDS {
        if drawn < kind.weight {
            return kind;
        }
        drawn -= kind.weight;
    }
    const { &KINDS[0] }
}
