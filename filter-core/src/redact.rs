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
use std::cell::RefCell;
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
    passed: RefCell<Passed>,
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
            passed: RefCell::default(),
        }
    }

    /// The value as it may leave under this name; `None` when it may not.
    #[must_use]
    pub fn value<'v>(&self, name: &str, value: &'v [u8]) -> Option<Cow<'v, [u8]>> {
        let Some(classifier) = &self.classifier else {
            return Some(Cow::Borrowed(value));
        };
        let mut out = Vec::new();
        let at = NAMES.iter().position(|known| *known == name);
        let named = at.and_then(|at| self.named.get(at).copied().flatten());
        let named = named.unwrap_or_else(|| classifier.named(name.as_bytes()));
        let mut passed = self.passed.try_borrow_mut().ok();
        let place = at.and_then(|at| passed.as_mut()?.place(at, value));
        if place
            .as_ref()
            .is_some_and(|place| place.as_slice() == value)
        {
            return Some(Cow::Borrowed(value));
        }
        match classifier.redact_named(named, value, &mut out).1 {
            Redacted::Unchanged => {
                if let Some(place) = place {
                    place.clear();
                    place.extend_from_slice(value);
                }
                Some(Cow::Borrowed(value))
            }
            Redacted::Replaced => Some(Cow::Owned(out)),
            Redacted::Dropped => None,
        }
    }
}

/// Values in which nothing was found, one per place: hosts, agents and paths come again and again,
/// and looking through one costs more than the rest of its span.
#[derive(Clone, Default)]
struct Passed {
    /// [`PLACES`] for each of [`NAMES`], once the first value came.
    places: Vec<Vec<u8>>,
}

/// Values that are remembered for each name.
const PLACES: usize = 16;

/// Longer values are not remembered.
const MAX_PASSED_BYTES: usize = 256;

impl Passed {
    /// Where a value of the name with this index stands if it passed before.
    fn place(&mut self, name: usize, value: &[u8]) -> Option<&mut Vec<u8>> {
        // The empty value is what an unused place holds.
        if value.is_empty() || value.len() > MAX_PASSED_BYTES {
            return None;
        }
        if self.places.is_empty() {
            self.places.resize_with(NAMES.len() * PLACES, Vec::new);
        }
        // FNV-1a; whoever makes values meet in one place gets them looked at each time.
        let hash = value.iter().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        });
        let place = (hash >> 16) as usize % PLACES;
        self.places.get_mut(name * PLACES + place)
    }
}

/// Prints the number of places only.
impl std::fmt::Debug for Passed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passed")
            .field("places", &self.places.len())
            .finish()
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

    /// The name of a tenant as it may leave, with its number; `other` beyond the limit.
    pub(crate) fn name(&mut self, tenant: &[u8]) -> (u16, &[u8]) {
        if tenant.is_empty() {
            return (0, b"");
        }
        let known = self.seen.get(tenant).copied();
        let at = match known {
            Some(at) => at as usize,
            None if self.names.len() >= self.max => return (1, OTHER),
            None => {
                let name = self.redactor.value(TENANT, tenant);
                self.names
                    .push(name.map_or_else(|| OTHER.to_vec(), Cow::into_owned));
                let at = self.names.len() - 1;
                self.seen.insert(tenant.to_vec(), at as u32);
                at
            }
        };
        let name = self.names.get(at).map_or(OTHER, Vec::as_slice);
        (at.saturating_add(2) as u16, name)
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
    fn what_passed_before_does_not_let_another_value_pass() {
        let redactor = Redactor::new(&policy("{}"));
        for round in 0..3 {
            for number in 0..200 {
                let plain = format!("/orders/page/{number}x");
                let left_over = left(&redactor, "url.path", &plain);
                assert_eq!(left_over.as_deref(), Some(&*plain), "{round}");
                let secret = format!("/users/a{number}@example.com/card");
                let left_over = left(&redactor, "url.path", &secret);
                assert_eq!(left_over.as_deref(), Some("/users/***/card"), "{round}");
            }
        }
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
        let acme = tenants.name(b"acme").1.to_vec();
        assert_eq!(acme.len(), 32);
        assert_ne!(tenants.name(b"other-shop").1, acme);
        assert_eq!(tenants.name(b"acme").1, acme);
        assert_eq!(tenants.name(b"third").1, OTHER);
        assert_eq!(tenants.name(b"").1, b"");
    }

    #[test]
    fn a_tenant_that_is_personal_is_treated_without_the_hash_too() {
        let mut tenants = Tenants::new(&Policy::default());
        assert_eq!(tenants.name(b"acme").1, b"acme");
        assert_eq!(tenants.name(b"bob@example.com").1, b"***");
    }
}
