//! Topologies: services behind their proxies, configured by `mesh-config render envoy`.
//!
//! A [`Service`] is an application with its sidecar; an [`ingress`] stands in front. Everything is
//! given addresses in the order callee before caller, since real ports are known only after the
//! start.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::app::{App, Plan, Recorded};
use crate::artefacts;
use crate::client::{Call, Client};
use crate::collector::Collector;
use crate::envoy::Envoy;

/// What all proxies of a mesh have in common.
#[derive(Debug)]
pub struct Mesh {
    policy: PathBuf,
    collector: SocketAddr,
    _folder: TempDir,
}

/// The options of one proxy, as `mesh-config render envoy` takes them.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    /// The service's name, which rates and spans use.
    pub service: String,
    /// An ingress has one listener, `ingress`; a sidecar `inbound` and `outbound`.
    pub ingress: bool,
    /// The application the inbound listener forwards to; without it there is no such listener.
    pub upstream: Option<SocketAddr>,
    /// Whether there is an outbound listener.
    pub outbound: bool,
    /// Where authorities are found: `*` stands for all.
    pub routes: Vec<(String, SocketAddr)>,
    /// Worker threads; 0 stands for one.
    pub workers: u32,
}

impl Mesh {
    /// A mesh with this policy whose proxies report to `collector`.
    pub fn new(policy: &str, collector: SocketAddr) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("tracemeter-mesh-")
            .tempdir()?;
        let file = folder.path().join("policy.yaml");
        std::fs::write(&file, policy)?;
        Ok(Self {
            policy: file,
            collector,
            _folder: folder,
        })
    }

    /// The configuration of one proxy as `mesh-config` renders it.
    pub fn render(&self, proxy: &Proxy) -> Result<String> {
        let mut arguments = vec!["render".to_owned(), "envoy".to_owned()];
        let mut option = |name: &str, value: &str| {
            arguments.extend([name.to_owned(), value.to_owned()]);
        };
        option("--policy", &self.policy.to_string_lossy());
        option("--wasm", &module()?.to_string_lossy());
        option("--service", &proxy.service);
        option("--collector", &self.collector.to_string());
        option("--admin", "127.0.0.1:0");
        option("--role", if proxy.ingress { "ingress" } else { "sidecar" });
        match proxy.upstream {
            Some(upstream) => option("--inbound", &format!("127.0.0.1:0={upstream}")),
            None if proxy.ingress => option("--inbound", "127.0.0.1:0"),
            None => {}
        }
        if proxy.outbound {
            option("--outbound", "127.0.0.1:0");
        }
        for (authority, address) in &proxy.routes {
            option("--route", &format!("{authority}={address}"));
        }
        let output = Command::new(artefacts::mesh_config()?)
            .args(&arguments)
            .output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            bail!("mesh-config {} failed: {text}", arguments.join(" "));
        }
        String::from_utf8(output.stdout).context("the rendered configuration is not text")
    }

    /// Renders and starts a proxy.
    pub async fn proxy(&self, proxy: &Proxy) -> Result<Envoy> {
        let role = if proxy.ingress { "ingress" } else { "sidecar" };
        let name = format!("{}-{role}", proxy.service);
        Envoy::start(&name, &self.render(proxy)?, proxy.workers.max(1)).await
    }

    /// Starts an application behind a sidecar that finds others by `routes`.
    pub async fn service(
        &self,
        name: &str,
        routes: &[(&str, SocketAddr)],
        planner: impl Fn(&Recorded) -> Plan + Send + Sync + 'static,
    ) -> Result<Service> {
        let app = App::start(planner).await?;
        let sidecar = self
            .proxy(&Proxy {
                service: name.to_owned(),
                upstream: Some(app.address()),
                outbound: true,
                routes: owned(routes),
                ..Proxy::default()
            })
            .await?;
        app.calls_through(sidecar.listener("outbound")?);
        let inbound = sidecar.listener("inbound")?;
        Ok(Service {
            name: name.to_owned(),
            app,
            sidecar,
            inbound,
        })
    }

    /// Starts an ingress that finds services by `routes`.
    pub async fn ingress(&self, routes: &[(&str, SocketAddr)]) -> Result<Envoy> {
        self.proxy(&Proxy {
            service: "ingress".to_owned(),
            ingress: true,
            routes: owned(routes),
            ..Proxy::default()
        })
        .await
    }
}

/// An application with its sidecar.
pub struct Service {
    /// The name in policies and spans.
    pub name: String,
    /// The application.
    pub app: App,
    /// Its proxy.
    pub sidecar: Envoy,
    /// The proxy's inbound listener: where callers find the service.
    pub inbound: SocketAddr,
}

/// The authority of the first service of a [`Chain`].
pub const SERVICE_A: &str = "service-a";

/// The authority of the second service of a [`Chain`].
pub const SERVICE_B: &str = "service-b";

/// client -> ingress -> sidecar of A -> A -> sidecar of A -> sidecar of B -> B, and a collector.
///
/// A trace that is kept as a whole has four spans: the ingress, A inbound, A outbound, B inbound.
pub struct Chain {
    /// A client of the ingress.
    pub client: Client,
    /// The proxy in front.
    pub ingress: Envoy,
    /// The first service: calls B once, in the protocol it was called with.
    pub a: Service,
    /// The second service: answers.
    pub b: Service,
    /// What the proxies report to.
    pub collector: Collector,
}

impl Chain {
    /// Starts everything; the policy is given to the proxies and to the collector.
    pub async fn start(policy: &str) -> Result<Self> {
        let collector = Collector::start(Some(policy)).await?;
        let mesh = Mesh::new(policy, collector.http())?;
        let answer = |_: &Recorded| Plan {
            body_bytes: 100,
            ..Plan::default()
        };
        let b = mesh.service(SERVICE_B, &[], answer).await?;
        let calls_b = |seen: &Recorded| {
            let call = Call::new(seen.protocol, SERVICE_B, &seen.path);
            let call = if seen.body_bytes > 0 {
                call.body_of(seen.body_bytes)
            } else {
                call
            };
            Plan {
                calls: vec![call],
                body_bytes: 200,
                ..Plan::default()
            }
        };
        let a = mesh
            .service(SERVICE_A, &[(SERVICE_B, b.inbound)], calls_b)
            .await?;
        let ingress = mesh.ingress(&[(SERVICE_A, a.inbound)]).await?;
        let client = Client::new(ingress.listener("ingress")?);
        Ok(Self {
            client,
            ingress,
            a,
            b,
            collector,
        })
    }

    /// All proxies, in the order a request meets them first.
    #[must_use]
    pub fn proxies(&self) -> [&Envoy; 3] {
        [&self.ingress, &self.a.sidecar, &self.b.sidecar]
    }
}

fn owned(routes: &[(&str, SocketAddr)]) -> Vec<(String, SocketAddr)> {
    routes
        .iter()
        .map(|(authority, address)| ((*authority).to_owned(), *address))
        .collect()
}

/// Envoy resolves relative paths against its own working directory, so the path is made absolute.
fn module() -> Result<PathBuf> {
    let path = artefacts::module()?;
    Path::new(&path)
        .canonicalize()
        .with_context(|| format!("cannot resolve `{}`", path.display()))
}
