//! What must hold for any bytes, used by the fuzz targets and by the replay of their corpus.

use mesh_config::rule::{Attribute, Attributes, Condition, Lookup, MAX_TESTS, Tri, Value};
use mesh_config::{Loaded, Policy};

/// Every attribute has this value.
struct Always(Lookup<'static>);

impl Attributes for Always {
    fn get(&self, _: &Attribute) -> Lookup<'_> {
        self.0
    }
}

/// A condition that is accepted prints as itself and evaluates; one that is refused says where.
pub(crate) fn rule(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let condition = match Condition::parse(text) {
        Ok(condition) => condition,
        Err(error) => {
            let span = error.span();
            assert!(span.start <= span.end && span.end <= text.len());
            assert!(text.get(span).is_some(), "the span is between characters");
            assert!(!error.message().is_empty() && error.marked().contains('^'));
            return;
        }
    };
    let printed = condition.canonical().expect("an accepted text parses");
    if printed.len() <= mesh_config::rule::MAX_LENGTH {
        let again = Condition::parse(&printed).expect("a printed condition parses");
        assert_eq!(again.canonical().as_ref(), Some(&printed));
        for lookup in [
            Lookup::Unknown,
            Lookup::Absent,
            Lookup::Value(Value::Bytes(b"a")),
            Lookup::Value(Value::Number(1.0)),
            Lookup::AtLeast(Value::Number(1.0)),
        ] {
            assert_eq!(condition.eval(&Always(lookup)), again.eval(&Always(lookup)));
        }
    }
    assert!(condition.attributes().len() <= MAX_TESTS);
    assert_eq!(condition.eval(&Always(Lookup::Unknown)), Tri::Unknown);
    assert!(condition.parts().is_some());
    let _contradicts = condition.contradicts_itself();
}

/// A policy that is accepted reads back as itself from the filter's JSON.
fn round_trip(loaded: Loaded) {
    let policy = loaded.policy;
    let json = policy.to_filter_json();
    let mut again = match Policy::from_json(json.as_bytes()) {
        Ok(loaded) => loaded.policy,
        Err(errors) => panic!("{errors}\n{json}"),
    };
    again.trace_storage = policy.trace_storage.clone();
    again.control = policy.control.clone();
    again.forward = policy.forward.clone();
    again.alerts = policy.alerts.clone();
    assert_eq!(again, policy, "{json}");
}

/// JSON as a policy.
pub(crate) fn json(data: &[u8]) {
    match Policy::from_json(data) {
        Ok(loaded) => round_trip(loaded),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}

/// YAML as a policy.
pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match Policy::from_yaml(text, "fuzz") {
        Ok(loaded) => round_trip(loaded),
        Err(errors) => assert!(!errors.to_string().is_empty()),
    }
}
