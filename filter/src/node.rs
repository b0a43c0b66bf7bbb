//! What the proxy says of its node: read once per root context, leaf by leaf (`xds/node` as a whole
//! is about 60 KB).

use filter_core::identity::Node;

use crate::host::text_property;

/// Reads the node's names; absent ones are empty.
pub(crate) fn read() -> Node {
    let metadata = |leaf: &str| text_property(&["xds", "node", "metadata", leaf]);
    let label = |leaf: &str| text_property(&["xds", "node", "metadata", "LABELS", leaf]);
    Node {
        id: text_property(&["xds", "node", "id"]),
        cluster: text_property(&["xds", "node", "cluster"]),
        canonical_name: label("service.istio.io/canonical-name"),
        app: label("app"),
        workload: metadata("WORKLOAD_NAME"),
        namespace: metadata("NAMESPACE"),
        pod: metadata("NAME"),
        kubernetes_cluster: metadata("CLUSTER_ID"),
        region: text_property(&["xds", "node", "locality", "region"]),
    }
}
