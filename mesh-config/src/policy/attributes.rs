//! Section `attributes`: how a request's attributes are read from it.

use crate::DataTag;
use crate::rule::Condition;
use crate::section::section;

section! {
    /// How operation type, data class, human review, route and tenant are read from a request.
    /// Only what is known at request time can be used in these conditions.
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
        routes: Vec<String> = Vec::new();
        /// Whether path segments that look like identifiers become `{id}` where no template fits.
        collapse_identifiers: bool = true;
        /// Different routes at most; requests on further ones have the route `other`.
        max_routes: u32 = 200, in 1..=10000;
        /// Tenant, a dimension of the cost counts.
        tenant: Tenant = Tenant::default();
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
        /// Whether the name is replaced by a keyed hash before it leaves the proxy.
        hash: bool = false;
    }
}
