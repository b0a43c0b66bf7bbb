//! What leaves of a classified value: masked, dropped, hashed, or as it was.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mesh_config::DataTag;
use mesh_config::classify::{
    Classifier, ClassifierInputs, MAX_VALUE_BYTES, Redacted, RedactionMode,
};

fn classifier(change: impl FnOnce(&mut ClassifierInputs)) -> Classifier {
    let mut inputs = ClassifierInputs::default();
    change(&mut inputs);
    Classifier::new(&inputs).unwrap()
}

/// What leaves of a value, as text; `None` when it is dropped.
fn redacted(classifier: &Classifier, name: &str, value: &str) -> Option<String> {
    let mut out = b"left over".to_vec();
    match classifier
        .redact(name.as_bytes(), value.as_bytes(), &mut out)
        .1
    {
        Redacted::Unchanged => Some(value.to_owned()),
        Redacted::Replaced => Some(String::from_utf8(out).unwrap()),
        Redacted::Dropped => None,
    }
}

#[test]
fn masking_overwrites_what_was_found_and_nothing_else() {
    let classifier = Classifier::default();
    let table = [
        (
            "note",
            "to ana@example.com and +14155550123!",
            "to *** and ***!",
        ),
        ("note", "nothing here", "nothing here"),
        (
            "url",
            "https://h/x?a=1&token=abc123&b=2",
            "https://h/x?a=1&token=***&b=2",
        ),
        ("user.name", "Ana Diaz", "***"),
        ("x-api-key", "anything", "***"),
    ];
    for (name, value, expected) in table {
        assert_eq!(
            redacted(&classifier, name, value).as_deref(),
            Some(expected),
            "{value}"
        );
    }
}

#[test]
fn only_classes_from_the_chosen_one_upwards_are_treated() {
    let classifier = classifier(|inputs| inputs.redact_from = DataTag::Pii);
    let value = "password=hunter2 ana@example.com";
    assert_eq!(
        redacted(&classifier, "note", value).as_deref(),
        Some("password=hunter2 ***")
    );
    assert_eq!(
        redacted(&classifier, "x-api-key", "k").as_deref(),
        Some("k")
    );
    // A secret by name with a person's data inside: only that part is of a treated class.
    let found = redacted(&classifier, "x-api-key", "ana@example.com k");
    assert_eq!(found.as_deref(), Some("*** k"));
}

#[test]
fn dropping_leaves_the_attribute_out_and_off_leaves_it_in() {
    let drop = classifier(|inputs| inputs.mode = RedactionMode::Drop);
    assert_eq!(redacted(&drop, "note", "ana@example.com"), None);
    assert_eq!(redacted(&drop, "note", "fine").as_deref(), Some("fine"));
    let off = classifier(|inputs| inputs.mode = RedactionMode::Off);
    assert_eq!(
        redacted(&off, "note", "ana@example.com").as_deref(),
        Some("ana@example.com")
    );
}

#[test]
fn hashes_are_equal_for_equal_values_and_depend_on_the_key() {
    let hashing = |key: &str| {
        classifier(|inputs| {
            inputs.mode = RedactionMode::Hash;
            inputs.hash_key = key.to_owned();
        })
    };
    let (one, two) = (hashing("0123456789abcdef"), hashing("0123456789abcdeF"));
    let hash = redacted(&one, "user.email", "ana@example.com").unwrap();
    // The first 128 bits of HMAC-SHA-256, as `openssl dgst -sha256 -hmac` prints them.
    assert_eq!(hash, "4624055dbf2fe99933fb11cc1c00cc04");
    assert_eq!(redacted(&one, "note", "ana@example.com").unwrap(), hash);
    assert_ne!(
        redacted(&one, "user.email", "bob@example.com").unwrap(),
        hash
    );
    assert_ne!(
        redacted(&two, "user.email", "ana@example.com").unwrap(),
        hash
    );
    assert_eq!(redacted(&one, "note", "fine").as_deref(), Some("fine"));
}

#[test]
fn the_key_never_shows_and_must_be_long_enough() {
    let inputs = |key: &str| ClassifierInputs {
        mode: RedactionMode::Hash,
        hash_key: key.to_owned(),
        ..ClassifierInputs::default()
    };
    let error = Classifier::new(&inputs("0123456789abcde")).unwrap_err();
    assert_eq!(
        error.to_string(),
        "key for hashing has fewer than `16` bytes"
    );
    let shown = format!(
        "{:?}",
        Classifier::new(&inputs("0123456789abcdef")).unwrap()
    );
    assert!(
        !shown.contains("0123456789abcdef") && shown.contains("Hash"),
        "{shown}"
    );
}

#[test]
fn beyond_the_limit_nothing_is_looked_at_and_nothing_leaves_of_a_treated_value() {
    let classifier = Classifier::default();
    let mut value = " ".repeat(MAX_VALUE_BYTES);
    value.push_str("ana@example.com");
    assert_eq!(classifier.classify(b"note", value.as_bytes()), None);
    value.replace_range(0..15, "bob@example.com");
    let masked = redacted(&classifier, "note", &value).unwrap();
    assert_eq!(masked.len(), MAX_VALUE_BYTES - 12);
    assert!(masked.starts_with("*** ") && !masked.contains('@'));
}

#[test]
fn the_defaults_of_the_policy_are_the_defaults_of_the_classifier() {
    let mut policy = mesh_config::Policy::default();
    assert_eq!(
        ClassifierInputs::from(&policy.classification),
        ClassifierInputs::default()
    );
    policy.classification.redaction.mode = mesh_config::policy::RedactionMode::Hash;
    assert!(Classifier::from_policy(&policy.classification).is_err());
    policy.classification.redaction.hash_key = mesh_config::Secret::new("0123456789abcdef");
    assert!(Classifier::from_policy(&policy.classification).is_ok());
}
