//! What a client sends, before it leaves the proxy in a span, a count or a route: as the policy's
//! `classification` section says.
//!
//! Paths and names are treated where they leave, not where they are read: conditions of the policy
//! see them as they came. Routes and tenants are treated once, when they are first seen, because
//! they come with every request; the rest only for spans that are kept. Queries and header values
//! never leave at all.
//!
//! Limits: those of [`mesh_config::classify`]; as many tenants as the policy says.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mesh_config::classify::{Classifier, ClassifierInputs, Named, Redacted, RedactionMode};
use mesh_config::{DataTag, Policy};

use crate::route::OTHER;

/// Treats values by their attribute's name and by what is found in them.
#[derive(Debug, Clone, Default)]
pub struct Redactor {
    /// Absent where the policy has it all leave as it is.
    classifier: Option<Classifier>,
    /// What is known of [`NAMES`] by their names alone.
    named: [Option<Named>; NAMES.len()],
}

/// Attributes of every span whose values are treated.
const NAMES: [&str; 5] = [
    "url.path",
    "tracestate",
    "server.address",
    "user_agent.original",
    "network.peer.address",
];

impl Redactor {
    /// The policy's.
    #[must_use]
    pub fn new(policy: &Policy) -> Self {
        let inputs = ClassifierInputs::from(&policy.classification);
        let off = inputs.mode == RedactionMode::Off;
        // A loaded policy was checked; a hand-made one that is wrong falls back to masking.
        Self::with((!off).then(|| Classifier::new(&inputs).unwrap_or_default()))
    }

    fn with(classifier: Option<Classifier>) -> Self {
        let named = |name: &str| {
            classifier
                .as_ref()
                .map(|known| known.named(name.as_bytes()))
        };
        Self {
            named: NAMES.map(named),
            classifier,
        }
    }

    /// The value as it may leave under this name; `None` when it may not.
    #[must_use]
    pub fn value<'v>(&self, name: &str, value: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        let Some(classifier) = &self.classifier else {
            return Some(Cow::Borrowed(value));
        };
        let mut out = Vec::new();
        let known = NAMES.iter().zip(self.named);
        let known = known.filter(|(known, _)| **known == name);
        let named = known.filter_map(|(_, named)| named).next();
        let named = named.unwrap_or_else(|| classifier.named(name.as_bytes()));
        match classifier.redact_named(named, value, &mut out).1 {
            Redacted::Unchanged => Some(Cow::Borrowed(value)),
            Redacted::Replaced => Some(Cow::Owned(out)),
            Redacted::Dropped => None,
        }
    }
}

/// Tenants as they leave, each worked out once.
#[derive(Debug)]
pub(crate) struct Tenants {
    redactor: Redactor,
    max: usize,
    /// Where the name stands in `names`. A map of the same kind as that of [`crate::per_minute`].
    seen: BTreeMap<Vec<u8>, u32>,
    names: Vec<Vec<u8>>,
}

const TENANT: &str = "tenant";

impl Tenants {
    pub(crate) fn new(policy: &Policy) -> Self {
        let tenant = &policy.attributes.tenant;
        let redactor = if tenant.hash {
            Redactor::with(Some(hashing(policy)))
        } else {
            Redactor::new(policy)
        };
        Self {
            redactor,
            max: tenant.max_values as usize,
            seen: BTreeMap::new(),
            names: Vec::new(),
        }
    }

    /// The name of a tenant as it may leave; `other` beyond the limit.
    pub(crate) fn name(&mut self, tenant: &[u8]) -> &[u8] {
        if tenant.is_empty() {
            return b"";
        }
        let known = self.seen.get(tenant).copied();
        let at = match known {
            Some(at) => at as usize,
            None if self.names.len() >= self.max => return OTHER,
            None => {
                let name = self.redactor.value(TENANT, tenant);
                self.names
                    .push(name.map_or_else(|| OTHER.to_vec(), Cow::into_owned));
                let at = self.names.len() - 1;
                self.seen.insert(tenant.to_vec(), at as u32);
                at
            }
        };
        self.names.get(at).map_or(OTHER, Vec::as_slice)
    }
}

/// Replaces every tenant by its keyed hash, whatever it looks like.
fn hashing(policy: &Policy) -> Classifier {
    let inputs = ClassifierInputs {
        mode: RedactionMode::Hash,
        redact_from: DataTag::ExportOk,
        pii_names: vec![TENANT.to_owned()],
        ignored_names: Vec::new(),
        ..ClassifierInputs::from(&policy.classification)
    };
    let masking = || ClassifierInputs {
        mode: RedactionMode::Mask,
        ..inputs.clone()
    };
    // Without a key, which a loaded policy has, nothing readable leaves all the same.
    let classifier = Classifier::new(&inputs).or_else(|_| Classifier::new(&masking()));
    classifier.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(json: &str) -> Policy {
        Policy::from_json(json.as_bytes()).unwrap().policy
    }

    fn left(redactor: &Redactor, name: &str, value: &str) -> Option<String> {
        let value = redactor.value(name, value.as_bytes());
        value.map(|value| String::from_utf8(value.into_owned()).unwrap())
    }

    #[test]
    fn the_modes_of_the_policy_hold() {
        let path = "/users/alice@example.com/card";
        let of = |section: &str| {
            let json = format!(r#"{{"classification":{{"redaction":{section}}}}}"#);
            left(&Redactor::new(&policy(&json)), "url.path", path)
        };
        assert_eq!(of("{}").as_deref(), Some("/users/***/card"));
        assert_eq!(of(r#"{"mode":"drop"}"#), None);
        assert_eq!(of(r#"{"mode":"off"}"#).as_deref(), Some(path));
        let hash = of(r#"{"mode":"hash","hash_key":"0123456789abcdef"}"#).unwrap();
        assert_eq!(hash.len(), 32);
        assert!(!hash.contains("alice"));
    }

    #[test]
    fn an_ordinary_path_leaves_as_it_is() {
        let redactor = Redactor::new(&Policy::default());
        for path in ["/", "/api/v1/orders/42", "/shop.v1.Pay/Charge", "/a-b_c.d"] {
            assert_eq!(left(&redactor, "url.path", path).as_deref(), Some(path));
        }
    }

    #[test]
    fn tenants_are_hashed_capped_and_equal_for_equal_names() {
        let mut tenants = Tenants::new(&policy(
            r#"{"attributes":{"tenant":{"header":"x-tenant","hash":true,"max_values":2}},
                "classification":{"redaction":{"hash_key":"0123456789abcdef"}}}"#,
        ));
        let acme = tenants.name(b"acme").to_vec();
        assert_eq!(acme.len(), 32);
        assert_ne!(tenants.name(b"other-shop"), acme);
        assert_eq!(tenants.name(b"acme"), acme);
        assert_eq!(tenants.name(b"third"), OTHER);
        assert_eq!(tenants.name(b""), b"");
    }

    #[test]
    fn a_tenant_that_is_personal_is_treated_without_the_hash_too() {
        let mut tenants = Tenants::new(&Policy::default());
        assert_eq!(tenants.name(b"acme"), b"acme");
        assert_eq!(tenants.name(b"bob@example.com"), b"***");
    }
}
