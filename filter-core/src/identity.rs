//! Who is speaking: the workload behind this proxy, as OpenTelemetry resource attributes.
//!
//! Built from what the proxy tells about its node (`xds/node/*`; in Istio the workload's labels
//! and metadata) and from the policy, which wins. Pure: the shim reads the properties.

/// Name used when neither the policy nor the proxy names the service (OTel resource conventions).
pub const UNKNOWN_SERVICE: &str = "unknown_service:envoy";

/// What the proxy says of its node; empty strings are absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// `node.id`; Istio: `sidecar~ip~pod.ns~domain` or `router~..`.
    pub id: String,
    /// `node.cluster`; Istio: `workload.namespace`, plain Envoy: `--service-cluster`.
    pub cluster: String,
    /// Metadata label `service.istio.io/canonical-name`.
    pub canonical_name: String,
    /// Metadata label `app`.
    pub app: String,
    /// Metadata `WORKLOAD_NAME`.
    pub workload: String,
    /// Metadata `NAMESPACE`.
    pub namespace: String,
    /// Metadata `NAME`: the pod.
    pub pod: String,
    /// Metadata `CLUSTER_ID`.
    pub kubernetes_cluster: String,
    /// Locality region.
    pub region: String,
}

impl Node {
    /// Whether Istio runs this proxy as a gateway: its node id starts with `router~`. Listener
    /// directions do not tell: Istio's gateways are outbound.
    #[must_use]
    pub fn is_gateway(&self) -> bool {
        self.id.starts_with("router~")
    }
}

/// The workload's resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `service.name`
    pub service: String,
    /// `service.namespace`
    pub namespace: String,
    /// `deployment.environment.name`
    pub environment: String,
    attributes: Vec<(&'static str, String)>,
}

impl Identity {
    /// Combines the policy's names (empty = not set) with the node's. `instance` tells two
    /// workers or generations of one proxy apart.
    #[must_use]
    pub fn new(
        service: &str,
        namespace: &str,
        environment: &str,
        node: &Node,
        instance: &str,
    ) -> Self {
        let first = |candidates: &[&str]| {
            let found = candidates.iter().find(|candidate| !candidate.is_empty());
            found.map_or(String::new(), |found| (*found).to_owned())
        };
        let service = first(&[
            service,
            &node.canonical_name,
            &node.app,
            &node.workload,
            &node.cluster,
            UNKNOWN_SERVICE,
        ]);
        let namespace = first(&[namespace, &node.namespace]);
        let all = [
            ("service.name", service.clone()),
            ("service.namespace", namespace.clone()),
            ("service.instance.id", instance.to_owned()),
            ("deployment.environment.name", environment.to_owned()),
            ("k8s.namespace.name", node.namespace.clone()),
            ("k8s.pod.name", node.pod.clone()),
            ("k8s.deployment.name", node.workload.clone()),
            ("k8s.cluster.name", node.kubernetes_cluster.clone()),
            ("cloud.region", node.region.clone()),
            ("telemetry.sdk.name", "tracemeter".to_owned()),
            ("telemetry.sdk.language", "rust".to_owned()),
            (
                "telemetry.sdk.version",
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
        ];
        let attributes = all
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Self {
            service,
            namespace,
            environment: environment.to_owned(),
            attributes,
        }
    }

    /// The value of one resource attribute.
    #[must_use]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes()
            .find(|(known, _)| *known == key)
            .map(|(_, value)| value)
    }

    /// The resource attributes that are set.
    pub fn attributes(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.attributes
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_wins_over_labels_and_labels_over_the_cluster() {
        let node = Node {
            canonical_name: "pay".into(),
            cluster: "pay.shop".into(),
            ..Node::default()
        };
        assert_eq!(Identity::new("mine", "", "", &node, "i").service, "mine");
        assert_eq!(Identity::new("", "", "", &node, "i").service, "pay");
        let plain = Node {
            cluster: "front".into(),
            ..Node::default()
        };
        assert_eq!(Identity::new("", "", "", &plain, "i").service, "front");
        assert_eq!(
            Identity::new("", "", "", &Node::default(), "i").service,
            UNKNOWN_SERVICE
        );
    }

    #[test]
    fn attributes_without_a_value_are_left_out() {
        let identity = Identity::new("a", "", "", &Node::default(), "i");
        assert!(identity.attributes().all(|(_, value)| !value.is_empty()));
        assert!(
            identity
                .attributes()
                .any(|(key, _)| key == "service.instance.id")
        );
    }
}
