//! A constant load over keep-alive connections that tells which policy each request went by.
//!
//! The policies differ in the form of our tracestate members. Limits: [`CONNECTIONS`]
//! connections; a request that fails ends the test.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use integration_tests::wait;
use tokio::task::JoinSet;

use crate::wire::{self, Pipeline, Seen};

/// Keep-alive connections; sixteen leave no worker without one (2^-15).
pub(crate) const CONNECTIONS: usize = 16;

/// Between two requests of a connection: a constant load of some hundred requests per second.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// How long a change may take to be seen by every connection, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Requests that go on until told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    /// What each connection saw last, and everything it saw.
    pub(crate) seen: Arc<Mutex<Vec<Vec<Seen>>>>,
    tasks: JoinSet<()>,
}

impl Traffic {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(vec![Vec::new(); CONNECTIONS]));
        let mut tasks = JoinSet::new();
        for index in 0..CONNECTIONS {
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            tasks.spawn(async move {
                let request = [wire::get("/reload", &[])];
                let mut connection = Pipeline::open(address).await;
                while !stop.load(Ordering::Relaxed) {
                    let answer = connection.exchange(&request).await.remove(0);
                    // A connection that breaks or another status is a request that failed.
                    assert_eq!(answer.status, 200, "{answer:?}");
                    assert_eq!(answer.traceparent.len(), 55, "{answer:?}");
                    if answer.closes {
                        connection = Pipeline::open(address).await;
                    }
                    seen.lock().unwrap()[index].push(answer);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self { stop, seen, tasks }
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().iter().map(Vec::len).sum()
    }

    /// Waits until every connection has seen so many requests more; gives what they saw.
    pub(crate) async fn more(&self, count: usize) -> Vec<Seen> {
        let before: Vec<usize> = self.seen.lock().unwrap().iter().map(Vec::len).collect();
        wait::until("more requests on every connection", LIMIT, async || {
            let seen = self.seen.lock().unwrap();
            let enough = seen
                .iter()
                .zip(&before)
                .all(|(seen, before)| seen.len() >= before + count);
            let new = || {
                seen.iter()
                    .zip(&before)
                    .flat_map(|(seen, before)| seen[*before..].to_vec())
            };
            Ok(enough.then(|| new().collect()))
        })
        .await
        .unwrap()
    }

    /// Waits until the last request of every connection went by this form; gives the time it took.
    pub(crate) async fn all_by(&self, form: &str) -> Duration {
        let started = Instant::now();
        wait::until(form, LIMIT, async || {
            let seen = self.seen.lock().unwrap();
            let done = seen
                .iter()
                .all(|seen| seen.last().is_some_and(|last| by(last, form)));
            Ok(done.then_some(()))
        })
        .await
        .unwrap();
        started.elapsed()
    }

    /// Stops; everything that was seen.
    pub(crate) async fn end(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.join_all().await;
        std::mem::take(&mut *self.seen.lock().unwrap()).concat()
    }
}

/// Whether a request went by the policy with this form.
pub(crate) fn by(seen: &Seen, form: &str) -> bool {
    let start = if form == "compact" {
        "tm=c:"
    } else {
        "cost_usd="
    };
    seen.tracestate.starts_with(start)
}
