//! Section `attributes`: how a request's attributes are read from it.

use super::Llm;
use crate::DataTag;
use crate::rule::{self, Condition};
use crate::section::section;

section! {
    /// How operation type, data class, human review, route and tenant are read from a request.
    /// The filter knows in these conditions what is known at request time; `span["name"]` holds
    /// only for the spans of applications, in the collector.
    Attributes {
        /// Operation type, which selects the price: the first mapping that holds counts.
        operation_type: Vec<Mapping> = Vec::new();
        /// Data class: of all mappings that hold the strictest counts, and it is never below the
        /// class that the request already carries.
        data_tag: Vec<TagMapping> = Vec::new();
        /// A request that meets one of these conditions involves a human (`hitl_required`).
        hitl_required: Vec<Condition> = vec![
            Condition::constant("request.header[\"x-hitl-required\"] = true"),
            Condition::constant("baggage[\"hitl_required\"] = true"),
        ];
        /// Route templates such as `/users/{id}`: the first one that fits the path is the route.
        /// `{name}` stands for one segment, a last `*` for any rest.
        routes: Vec<String> = Vec::new();
        /// Whether path segments that look like identifiers become `{id}` where no template fits.
        collapse_identifiers: bool = true;
        /// Different routes at most; requests on further ones have the route `other`.
        max_routes: u32 = 200, in 1..=10000;
        /// Whether spans name the other end of the connection (`network.peer.address` and `.port`):
        /// one more host call for each span that is kept.
        network_peer: bool = false;
        /// Whether spans carry `user_agent.original`: one more host call for each span that is kept.
        user_agent: bool = false;
        /// Tenant, a dimension of the cost counts.
        tenant: Tenant = Tenant::default();
        /// Calls to language models.
        llm: Llm = Llm::default();
    }
}

impl Attributes {
    /// The operation type of a request or span, and the index of the mapping that gave it.
    pub fn operation_of(&self, known: &impl rule::Attributes) -> Option<(usize, &str)> {
        let mut mappings = self.operation_type.iter().enumerate();
        let found = mappings.find(|(_, mapping)| mapping.when.eval(known).is_true());
        found.map(|(index, mapping)| (index, mapping.value.as_str()))
    }

    /// The strictest class that a mapping gives, and the index of the first mapping with it.
    pub fn tag_of(&self, known: &impl rule::Attributes) -> Option<(usize, DataTag)> {
        let mut strictest: Option<(usize, DataTag)> = None;
        for (index, mapping) in self.data_tag.iter().enumerate() {
            let stricter = strictest.is_none_or(|(_, tag)| mapping.value > tag);
            if stricter && mapping.when.eval(known).is_true() {
                strictest = Some((index, mapping.value));
            }
        }
        strictest
    }

    /// Whether a human is involved.
    pub fn needs_human(&self, known: &impl rule::Attributes) -> bool {
        self.hitl_required
            .iter()
            .any(|when| when.eval(known).is_true())
    }
}

section! {
    /// A value for the requests that meet a condition.
    Mapping {
        /// The condition.
        when: Condition = Condition::never(), @required;
        /// The value.
        value: String = String::new(), @required;
    }
}

section! {
    /// A data class for the requests that meet a condition.
    TagMapping {
        /// The condition.
        when: Condition = Condition::never(), @required;
        /// The class.
        value: DataTag = DataTag::ExportOk, @required;
    }
}

section! {
    /// Where the tenant's name is read.
    Tenant {
        /// Request header; empty means none.
        header: String = String::new();
        /// Baggage key, read when the header is absent; empty means none.
        baggage: String = String::new();
        /// Different tenants at most; further ones count as `other`.
        max_values: u32 = 100, in 1..=10000;
        /// Whether the name is replaced by a keyed hash (`classification.redaction.hash_key`) before
        /// it leaves the proxy. Otherwise it is treated as `classification` says.
        hash: bool = false;
    }
}
