//! What the proxy says of its node: read once per root context, leaf by leaf (`xds/node` as a whole
//! is about 60 KB).

use filter_core::identity::Node;

use crate::host::text_property;

/// Reads the node's names; absent ones are empty.
pub(crate) fn read() -> Node {
    let metadata = |leaf: &str| text_property(&["xds\0node\0metadata\0", leaf].concat());
    Node {
        id: text_property("xds\0node\0id"),
        cluster: text_property("xds\0node\0cluster"),
        canonical_name: metadata("LABELS\0service.istio.io/canonical-name"),
        app: metadata("LABELS\0app"),
        workload: metadata("WORKLOAD_NAME"),
        namespace: metadata("NAMESPACE"),
        pod: metadata("NAME"),
        kubernetes_cluster: metadata("CLUSTER_ID"),
        region: text_property("xds\0node\0locality\0region"),
    }
}
