//! A small mesh with real traffic: five services, each behind its own Envoy with the filter, an
//! ingress and the collector.
//!
//! It prints where to look and what to try, and every few seconds a table. Ctrl-C (or SIGTERM)
//! ends it and every process it started; `DURATION=30` ends it by itself. The exit code says
//! whether what must hold did hold: every answer as planned, traces in the collector, no module
//! that trapped. `RATE` sets the requests per second (defaults to 40).
//!
//! Not a benchmark, and the services do no work: they wait, answer, and call each other.

mod report;
mod services;
mod traffic;

use std::env;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use integration_tests::wait;
use tokio::signal::unix::{SignalKind, signal};

use report::{Say, Verdict};
use services::DemoMesh;
use traffic::Traffic;

/// Requests per second where `RATE` does not say otherwise: what two busy cores do with ease.
const DEFAULT_RATE: f64 = 40.0;

/// How often a table is printed.
const TABLE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the last spans may take from the proxies to the collector: linger, tick and commit.
const DRAIN_LIMIT: Duration = Duration::from_secs(15);

/// After a crash of the collector the demo waits this long before it starts it again, so that a
/// user who killed it sees that requests go on.
const COLLECTOR_PAUSE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("demo: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run()) {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Broken) => ExitCode::from(2),
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<Verdict> {
    let duration = seconds("DURATION")?.map(Duration::from_secs_f64);
    let rate = seconds("RATE")?.unwrap_or(DEFAULT_RATE).clamp(0.1, 2_000.0);
    // The handlers are in place before the first process is started.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let say = Say;
    say.line("starting a collector and six proxies ...");
    let started = tokio::select! {
        mesh = DemoMesh::start() => Some(mesh?),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let Some(mut mesh) = started else {
        return Ok(Verdict::Holds);
    };
    let traffic = Traffic::start(mesh.ingress_address()?, rate);
    report::welcome(say, &mesh)?;
    let begin = Instant::now();
    let mut table = tokio::time::interval_at((begin + TABLE_INTERVAL).into(), TABLE_INTERVAL);
    let end = tokio::time::sleep(duration.unwrap_or(Duration::MAX / 4));
    tokio::pin!(end);
    loop {
        tokio::select! {
            _ = &mut end => break,
            _ = interrupt.recv() => break,
            _ = terminate.recv() => break,
            _ = table.tick() => {
                revive_collector(say, &mut mesh).await?;
                report::table(say, &mesh, &traffic, begin.elapsed()).await;
            }
        }
    }
    say.line("\nending: no new requests, waiting for the last spans ...");
    traffic.stop().await;
    revive_collector(say, &mut mesh).await?;
    drain(&mesh).await;
    report::table(say, &mesh, &traffic, begin.elapsed()).await;
    report::summary(say, &mut mesh, &traffic).await
}

/// Starts the collector again when it has ended; the traffic goes on in the meantime.
async fn revive_collector(say: Say, mesh: &mut DemoMesh) -> Result<()> {
    let Some(process) = mesh.collector.process() else {
        return Ok(());
    };
    if process.check_alive().is_ok() {
        return Ok(());
    }
    say.line("\nthe collector has ended; requests go on, and it is started again in 5 s");
    tokio::time::sleep(COLLECTOR_PAUSE).await;
    mesh.collector_restarts += 1;
    mesh.collector.restart().await
}

/// Waits until the collector has what the proxies kept, as far as it will ever come.
async fn drain(mesh: &DemoMesh) {
    let mut last = None;
    let mut same = 0;
    // The number of spans is stable for two seconds, or the deadline has passed: both are an end.
    let _ = wait::until("the last spans", DRAIN_LIMIT, async || {
        let spans = mesh
            .collector
            .sql_number("SELECT COUNT(*) AS n FROM spans")
            .await
            .ok();
        same = if spans == last { same + 1 } else { 0 };
        last = spans;
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok((same >= 5).then_some(()))
    })
    .await;
}

/// A number of seconds (or a rate) from the environment; unset and empty are the same.
fn seconds(name: &str) -> Result<Option<f64>> {
    let text = env::var(name).unwrap_or_default();
    let text = text.trim().trim_end_matches('s');
    if text.is_empty() {
        return Ok(None);
    }
    let number: f64 = text
        .parse()
        .with_context(|| format!("{name} `{text}` is not a number"))?;
    Ok(number.is_finite().then_some(number.max(0.0)))
}
