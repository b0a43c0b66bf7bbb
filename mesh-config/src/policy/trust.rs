//! Section `trust`: whose trace headers are believed, and who may see ours.

use crate::choice::choice;
use crate::section::section;

choice! {
    /// Whether the other side of a listener is one of us.
    TrustLevel {
        /// a proxy or service of the mesh: its context, flags, cost and class count
        Trusted = "trusted",
        /// somebody outside: see `sampled_flag` and `trace_id`; cost, class and internal members
        /// are dropped
        Edge = "edge",
    }
}

choice! {
    /// What the sampled flag of an outside context means.
    SampledFlag {
        /// it counts only where our own rate keeps the trace as well
        Clamp = "clamp",
        /// nothing
        Ignore = "ignore",
        /// the trace is kept
        Accept = "accept",
    }
}

choice! {
    /// What happens to the trace id of an outside context.
    TraceIdTrust {
        /// it is continued
        Keep = "keep",
        /// a new trace starts, with a link to the outside one
        Restart = "restart",
    }
}

section! {
    /// Whose trace headers are believed, and who may see ours.
    Trust {
        /// Requests to the service, from within the mesh.
        inbound: TrustLevel = TrustLevel::Trusted;
        /// Requests of the service itself.
        outbound: TrustLevel = TrustLevel::Trusted;
        /// Requests from outside the mesh.
        gateway: TrustLevel = TrustLevel::Edge;
        /// At an edge: what the sampled flag means.
        sampled_flag: SampledFlag = SampledFlag::Clamp;
        /// At an edge: what happens to the trace id.
        trace_id: TraceIdTrust = TraceIdTrust::Keep;
        /// Requests that leave the mesh.
        egress: Egress = Egress::default();
    }
}

section! {
    /// Requests that leave the mesh.
    Egress {
        /// Whether cost, class and internal members are removed from requests to hosts outside.
        strip: bool = true;
        /// Hosts inside the mesh; `*` matches any text. Names without a dot, loopback and private
        /// addresses are inside as well.
        internal_hosts: Vec<String> = vec![
            "*.svc".to_owned(),
            "*.cluster.local".to_owned(),
            "*.internal".to_owned(),
        ];
        /// Hosts outside the mesh that may see the members nevertheless.
        allow: Vec<String> = Vec::new();
    }
}

impl Egress {
    /// Whether cost, class and internal members are removed from a request to `host`, which is
    /// an authority: a port is ignored, letter case does not count.
    pub fn strips(&self, host: &[u8]) -> bool {
        let host = without_port(host);
        let listed = |list: &[String]| {
            list.iter()
                .any(|pattern| crate::rule::glob_ignore_case(pattern.as_bytes(), host))
        };
        self.strip && !is_local(host) && !listed(&self.internal_hosts) && !listed(&self.allow)
    }
}

/// The host of an authority, without port and without the brackets of an IPv6 address.
fn without_port(authority: &[u8]) -> &[u8] {
    if let Some(rest) = authority.strip_prefix(b"[") {
        return rest.split(|byte| *byte == b']').next().unwrap_or(rest);
    }
    let mut parts = authority.split(|byte| *byte == b':');
    let host = parts.next().unwrap_or(authority);
    // Two colons and no brackets: an IPv6 address without a port.
    if parts.next().is_some() && parts.next().is_some() {
        authority
    } else {
        host
    }
}

/// Names without a dot, and addresses that no public network routes.
fn is_local(host: &[u8]) -> bool {
    let Some(text) = std::str::from_utf8(host).ok() else {
        return false;
    };
    if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
        return address.is_private() || address.is_loopback() || address.is_link_local();
    }
    if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
        return address.is_loopback() || address.is_unique_local();
    }
    let in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(in_name)
}
