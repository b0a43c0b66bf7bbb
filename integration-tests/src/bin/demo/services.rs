//! The services of the demo: what each does with a request, and how they are wired.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use integration_tests::app::{Plan, Recorded};
use integration_tests::client::{Call, Protocol};
use integration_tests::collector::Collector;
use integration_tests::envoy::Envoy;
use integration_tests::mesh::{Mesh, Service};

/// The policy of all proxies and of the collector.
const POLICY: &str = include_str!("../../../demo/tracemeter.yaml");

pub(crate) const FRONT_END: &str = "front_end";
pub(crate) const PAYMENT: &str = "payment_service";
pub(crate) const ANALYTICS: &str = "analytics_service";
pub(crate) const INFERENCE: &str = "ml-inference";
pub(crate) const ROBOT: &str = "robot_control";

/// The whole mesh; everything ends when it is dropped.
pub(crate) struct DemoMesh {
    pub(crate) ingress: Envoy,
    pub(crate) services: Vec<Service>,
    pub(crate) collector: Collector,
    pub(crate) collector_restarts: u32,
}

impl DemoMesh {
    /// Starts callees before callers.
    pub(crate) async fn start() -> Result<Self> {
        let collector = Collector::start(Some(POLICY)).await?;
        let mesh = Mesh::new(POLICY, collector.http())?;
        let (payment, analytics, inference, robot) = tokio::try_join!(
            mesh.service(PAYMENT, &[], payment),
            mesh.service(ANALYTICS, &[], analytics),
            mesh.service(INFERENCE, &[], inference),
            mesh.service(ROBOT, &[], robot),
        )?;
        let callees = [&payment, &analytics, &inference, &robot];
        let routes = callees.map(|service| (service.name.as_str(), service.inbound));
        let front = mesh.service(FRONT_END, &routes, front_end).await?;
        let ingress = mesh.ingress(&[("*", front.inbound)]).await?;
        let services = vec![front, payment, analytics, inference, robot];
        Ok(Self {
            ingress,
            services,
            collector,
            collector_restarts: 0,
        })
    }

    /// Where requests go in.
    pub(crate) fn ingress_address(&self) -> Result<SocketAddr> {
        self.ingress.listener("ingress")
    }

    /// Every proxy with the name of its service.
    pub(crate) fn proxies(&self) -> impl Iterator<Item = (&str, &Envoy)> {
        let sidecars = self
            .services
            .iter()
            .map(|service| (service.name.as_str(), &service.sidecar));
        std::iter::once(("ingress", &self.ingress)).chain(sidecars)
    }
}

fn after(milliseconds: std::ops::Range<u64>) -> Plan {
    // Requests are not recorded: the demo may run for days.
    let delay = Duration::from_millis(fastrand::u64(milliseconds));
    Plan {
        delay,
        unrecorded: true,
        ..Plan::default()
    }
}

/// Speaks to the outside and calls everybody else.
fn front_end(seen: &Recorded) -> Plan {
    let call = |service: &str, path: &str| Call::new(Protocol::Http1, service, path);
    let event = call(ANALYTICS, "/events/page").body_of(400);
    let mut plan = Plan {
        body_bytes: 2_000,
        ..after(1..6)
    };
    let path = seen.path.split('?').next().unwrap_or_default();
    match path {
        "/checkout" => {
            plan.calls = vec![call(PAYMENT, "/charge").body_of(2_048), event];
        }
        "/checkout/failing" => plan.calls = vec![call(PAYMENT, "/charge/broken").body_of(2_048)],
        "/recommend" => {
            plan.calls = vec![
                Call::new(Protocol::Grpc, INFERENCE, "/").body_of(8_192),
                event,
            ];
        }
        "/report" => plan.calls = vec![call(ANALYTICS, "/events/slow")],
        "/robot/move" => plan.calls = vec![call(ROBOT, "/actuate/arm").body_of(64)],
        "/" => plan.calls = vec![event],
        _ => match path
            .strip_prefix("/users/")
            .and_then(|rest| rest.split('/').next())
        {
            Some(user) => plan.calls = vec![call(PAYMENT, &format!("/customers/{user}"))],
            None => plan.status = 404,
        },
    }
    plan
}

fn payment(seen: &Recorded) -> Plan {
    let status = if seen.path.contains("broken") {
        500
    } else {
        200
    };
    Plan {
        status,
        body_bytes: 300,
        ..after(2..25)
    }
}

fn analytics(seen: &Recorded) -> Plan {
    let delay = if seen.path.contains("slow") {
        1_050..1_300
    } else {
        0..4
    };
    Plan {
        body_bytes: 50,
        ..after(delay)
    }
}

fn inference(_: &Recorded) -> Plan {
    Plan {
        body_bytes: 16_384,
        ..after(30..140)
    }
}

fn robot(_: &Recorded) -> Plan {
    Plan {
        body_bytes: 20,
        ..after(5..60)
    }
}
