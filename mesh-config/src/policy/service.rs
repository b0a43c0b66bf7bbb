//! Section `service`: whom the proxy stands beside.

use crate::choice::choice;
use crate::section::section;

choice! {
    /// On which side of the service a filter stands.
    Direction {
        /// taken from the listener's traffic direction on the first request
        Auto = "auto",
        /// requests to the service: SERVER spans
        Inbound = "inbound",
        /// requests of the service to others: CLIENT spans
        Outbound = "outbound",
        /// requests from outside the mesh: SERVER spans, edge trust
        Gateway = "gateway",
    }
}

section! {
    /// Whom the proxy stands beside. In Istio nothing needs to be set: workload metadata says it.
    Service {
        /// Service name. Empty: from the proxy's node metadata (canonical name, `app` label,
        /// workload name, then the node's cluster).
        name: String = String::new();
        /// Namespace. Empty: from the proxy's node metadata.
        namespace: String = String::new();
        /// Environment, such as `production` or `staging`; selects an entry of
        /// `sampling.environments`. Empty: the namespace is looked up there instead.
        environment: String = String::new();
        /// Direction. Istio's gateways announce themselves as outbound listeners: set `gateway`
        /// there.
        direction: Direction = Direction::Auto;
    }
}
