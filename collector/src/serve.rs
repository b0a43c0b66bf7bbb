//! `collector serve`: start, wait for a signal, drain.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::alerts::{self, Alerts};
use crate::assembly;
use crate::cli::ServeArgs;
use crate::control::{self, Control};
use crate::engine::{Engine, OpenError, Taps};
use crate::forward::{ForwardError, Forwarder};
use crate::metrics::Metrics;
use crate::otlp::limits::Limits;
use crate::policy::{PolicyError, Rules};
use crate::query::{self, QueryEngine, QueryError};
use crate::server::budget::Budget;
use crate::server::{App, gate, grpc, http, net};
use crate::store::Settings;

/// Number of the signal for a file that would exceed its limit (Linux).
const SIGXFSZ: i32 = 25;
/// Memory of the process, unless its parts' shares are more.
const MEMORY: usize = 512 << 20;
/// What is resident beside the shares: buffers of the log and of files, requests in work.
const BUFFERS: usize = 96 << 20;
/// How often the age of the open generation is looked at.
const TICK: Duration = Duration::from_secs(1);

/// Why the collector cannot run.
#[derive(Debug, Error)]
pub(crate) enum ServeError {
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}`: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The file with the addresses cannot be written.
    #[error("cannot write `{path}`: {source}")]
    AddressesFile {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signal(std::io::Error),
    /// The data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The policy is wrong.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// TLS cannot be set up.
    #[error("cannot set up tls: {0}")]
    Tls(#[from] rustls::Error),
    /// Nothing can be forwarded as the policy says.
    #[error(transparent)]
    Forward(#[from] ForwardError),
    /// The query engine cannot start.
    #[error(transparent)]
    Query(#[from] QueryError),
}

/// The addresses in use.
#[derive(Debug, Serialize)]
struct Addresses {
    grpc: SocketAddr,
    http: SocketAddr,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampling: Option<SocketAddr>,
}

/// The ports, open but not served yet.
struct Ports {
    grpc: TcpListener,
    http: TcpListener,
    sampling: Option<TcpListener>,
    addresses: Addresses,
}

impl Ports {
    async fn open(args: &ServeArgs) -> Result<Self, ServeError> {
        let grpc = listen(args.grpc).await?;
        let http = listen(args.http).await?;
        let mut addresses = Addresses {
            grpc: local(&grpc, args.grpc)?,
            http: local(&http, args.http)?,
            sampling: None,
        };
        let mut sampling = None;
        if let Some(address) = args.sampling {
            let listener = listen(address).await?;
            addresses.sampling = Some(local(&listener, address)?);
            sampling = Some(listener);
        }
        Ok(Self {
            grpc,
            http,
            sampling,
            addresses,
        })
    }
}

/// Runs until SIGTERM or SIGINT.
pub(crate) async fn run(args: ServeArgs) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(ServeError::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServeError::Signal)?;
    // A limit on the size of files is a full disk, and no reason to die.
    let _file_size = signal(SignalKind::from_raw(SIGXFSZ)).map_err(ServeError::Signal)?;
    // Ports first: a second collector with the same ports must not touch the data folder.
    let Ports {
        grpc: grpc_listener,
        http: http_listener,
        sampling,
        addresses,
    } = Ports::open(&args).await?;
    let (stop, stopped) = watch::channel(false);
    let late = [gate::Late::default(), gate::Late::default()];
    let [late_grpc, late_http] = late.clone();
    let mut servers = vec![
        tokio::spawn(net::serve(
            grpc_listener,
            gate::routes(late_grpc),
            stopped.clone(),
        )),
        tokio::spawn(net::serve(
            http_listener,
            gate::routes(late_http),
            stopped.clone(),
        )),
    ];
    let (app, forwarder) = open(&args)?;
    let app = Arc::new(app);
    let [late_grpc, late_http] = late;
    // Nobody else sets them.
    let _ = late_grpc.set(grpc::routes(app.clone()));
    let _ = late_http.set(http::routes(app.clone()));
    if let Some(listener) = sampling {
        let routes = http::sampling_routes(app.clone());
        servers.push(tokio::spawn(net::serve(listener, routes, stopped.clone())));
    }
    let control = tokio::spawn(control::run(app.control.clone(), stopped.clone()));
    let (stop_forwarding, told) = watch::channel(false);
    let forwarding = tokio::spawn(forwarder.run(told));
    let tasks = [
        tokio::spawn(tick(app.clone())),
        tokio::spawn(alerts::watch(app.clone())),
        tokio::spawn(alerts::tell(app.clone())),
    ];
    if let Some(path) = &args.addresses_file {
        write_addresses(path, &addresses).map_err(|source| ServeError::AddressesFile {
            path: path.clone(),
            source,
        })?;
    }
    tracing::info!(grpc = %addresses.grpc, http = %addresses.http, "ready");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("draining");
    app.draining.store(true, Ordering::Release);
    // The receivers live in the servers above.
    let _ = stop.send(true);
    for server in servers {
        drop(server.await);
    }
    for task in tasks {
        task.abort();
    }
    drop(control.await);
    // After the servers: the last requests are forwarded too.
    let _ = stop_forwarding.send(true);
    drop(forwarding.await);
    close(&app).await;
    tracing::info!("stopped");
    Ok(())
}

/// Joins threads and writes a file: not on a worker of the runtime.
async fn close(app: &Arc<App>) {
    let closing = app.clone();
    let close = move || {
        closing.engine.close();
        closing.alerts.look(closing.engine.store());
    };
    drop(tokio::task::spawn_blocking(close).await);
}

fn open(args: &ServeArgs) -> Result<(App, Forwarder), ServeError> {
    let rules = Arc::new(Rules::load(args.policy.as_deref())?);
    let metrics = Arc::new(Metrics::default());
    let hot_bytes = args.hot_mib.max(1) << 20;
    let query_limits = query::Limits::default();
    let shares = hot_bytes
        .saturating_add((args.dedup_mib + args.assembly_mib) << 20)
        .saturating_add(query_limits.all_memory() + BUFFERS);
    let settings = Settings {
        hot_bytes,
        memory_bytes: args
            .memory_mib
            .map_or_else(|| shares.max(MEMORY), |mib| mib.max(1) << 20),
        // A generation that may not be sealed before memory is full would be full for ever.
        generation_bytes: (args.generation_mib.max(1) << 20).min(hot_bytes / 2),
        generation_age: Duration::from_secs(args.generation_age),
        dedup_bytes: args.dedup_mib << 20,
        assembly: assembly::Limits {
            bytes: args.assembly_mib.max(1) << 20,
            grace_s: args.orphan_grace,
        },
        ..Settings::default()
    };
    let webhook = args.alert_webhook.as_deref().unwrap_or_default();
    let (alerts, counted) = Alerts::open(&args.data, &rules, webhook);
    let control = Arc::new(Control::open(&args.data, &rules, control::now_ms())?);
    let forwarder = Forwarder::open(&args.data, &rules.policy().forward)?;
    let taps = Taps {
        rates: control.intake.clone(),
        forward: forwarder.queue.clone(),
    };
    let engine = Engine::open(&args.data, settings, &rules, counted, &metrics, taps)?;
    let queries = QueryEngine::new(query_limits, &args.data.join("tmp"))?;
    let app = App {
        engine,
        control,
        forward: forwarder.queue.clone(),
        rules,
        limits: Limits::default(),
        metrics,
        budget: Budget::new(args.in_flight_mib << 20),
        queries,
        alerts,
        draining: AtomicBool::new(false),
    };
    Ok((app, forwarder))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, ServeError> {
    listener
        .local_addr()
        .map_err(|source| ServeError::Listen { address, source })
}

async fn tick(app: Arc<App>) {
    let mut interval = tokio::time::interval(TICK);
    loop {
        interval.tick().await;
        app.engine.tick();
    }
}

/// Written under another name and renamed, so that a reader never sees half of it.
fn write_addresses(path: &Path, addresses: &Addresses) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let json = serde_json::to_string(addresses)?;
    std::fs::write(&temporary, json + "\n")?;
    std::fs::rename(&temporary, path)
}
