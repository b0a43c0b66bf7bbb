//! Classification by name and by value: what the documentation promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use core::ops::ControlFlow;
use mesh_config::DataTag;
use mesh_config::classify::{Classifier, ClassifierInputs, Detectors, Finding, Kind};

fn classifier(change: impl FnOnce(&mut ClassifierInputs)) -> Classifier {
    let mut inputs = ClassifierInputs::default();
    change(&mut inputs);
    Classifier::new(&inputs).unwrap()
}

fn findings(value: &[u8]) -> Vec<Finding> {
    let mut all = Vec::new();
    Classifier::default().find(value, |finding| {
        all.push(finding);
        ControlFlow::Continue(())
    });
    all
}

/// The found parts of a value.
fn parts(value: &str) -> Vec<(Kind, &str)> {
    findings(value.as_bytes())
        .iter()
        .map(|found| (found.kind, &value[found.start..found.end]))
        .collect()
}

#[test]
fn names_of_the_semantic_conventions_have_the_class_of_their_content() {
    let names = include_str!("data/classify_names.tsv")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let classifier = Classifier::default();
    let mut wrong = Vec::new();
    let mut count = 0;
    for line in names {
        let (expected, name) = line.split_once('\t').unwrap();
        let found = classifier
            .name(name.as_bytes())
            .map_or("-", DataTag::as_str);
        if found != expected {
            wrong.push(format!("{name}: {found}"));
        }
        count += 1;
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(count > 250, "{count}");
}

#[test]
fn own_patterns_add_names_and_take_them_away() {
    let classifier = classifier(|inputs| {
        inputs.pii_names = vec!["colony.owner*".into(), "*.Tenant".into()];
        inputs.sensitive_names = vec!["colony.*.plan".into()];
        inputs.ignored_names = vec!["*.email".into(), "debug.*".into()];
    });
    let table = [
        ("colony.owner_name", Some(DataTag::Pii)),
        ("COLONY.OWNER", Some(DataTag::Pii)),
        ("app.tenant", Some(DataTag::Pii)),
        ("colony.mars.plan", Some(DataTag::Sensitive)),
        ("colony.name", None),
        ("user.email", None),
        ("debug.password", None),
        ("password", Some(DataTag::Sensitive)),
    ];
    for (name, expected) in table {
        assert_eq!(classifier.name(name.as_bytes()), expected, "{name}");
    }
    // What is ignored by name is not looked at either.
    assert_eq!(classifier.classify(b"debug.note", b"ana@example.com"), None);
    let found = classifier.classify(b"note", b"ana@example.com");
    assert_eq!(found, Some((DataTag::Pii, Kind::Email)));
}

#[test]
fn the_strictest_finding_decides() {
    let classifier = Classifier::default();
    let secret_then_card = b"password=hunter22 card 4111 1111 1111 1111";
    let found = classifier.classify(b"note", secret_then_card);
    assert_eq!(found, Some((DataTag::Pii, Kind::PaymentCard)));
    let found = classifier.classify(b"authorization", b"ana@example.com");
    assert_eq!(found, Some((DataTag::Pii, Kind::Email)));
    let found = classifier.classify(b"authorization", b"anything");
    assert_eq!(found, Some((DataTag::Sensitive, Kind::Name)));
    let found = classifier.classify(b"user.email", b"password=hunter22");
    assert_eq!(found, Some((DataTag::Pii, Kind::Name)));
}

/// A value and the parts that are found in it.
type Case = (&'static str, &'static [(Kind, &'static str)]);

const FOUND: &[Case] = &[
    (
        "order-service-for-customers-aG9k3Lq8ZpT2vXw7Rb4NyC6s",
        &[(Kind::RandomSecret, "aG9k3Lq8ZpT2vXw7Rb4NyC6s")],
    ),
    (
        "job-run-aG9k3Lq8ZpT2vXw7Rb4NyC6s",
        &[(Kind::RandomSecret, "job-run-aG9k3Lq8ZpT2vXw7Rb4NyC6s")],
    ),
    (
        "to ana@example.com, bob@example.org.",
        &[
            (Kind::Email, "ana@example.com"),
            (Kind::Email, "bob@example.org"),
        ],
    ),
    (
        "/u?mail=ana%40example.com&x=1",
        &[(Kind::Email, "ana%40example.com")],
    ),
    (
        "<ana.b+c@mail.example.co.uk>",
        &[(Kind::Email, "ana.b+c@mail.example.co.uk")],
    ),
    (
        "card:4111-1111-1111-1111;",
        &[(Kind::PaymentCard, "4111-1111-1111-1111")],
    ),
    ("x_378282246310005_y", &[]),
    (
        "x_378282246310005 y",
        &[(Kind::PaymentCard, "378282246310005")],
    ),
    ("tel:+14155550123", &[(Kind::Phone, "+14155550123")]),
    ("tel=%2B49%2030", &[]),
    ("tel=%2B493012345678", &[(Kind::Phone, "%2B493012345678")]),
    (
        "+1 (415) 555-0123 ext 5",
        &[(Kind::Phone, "+1 (415) 555-0123")],
    ),
    (
        "call (415) 555-0123 now",
        &[(Kind::Phone, "(415) 555-0123")],
    ),
    ("call 415.555.0123.", &[(Kind::Phone, "415.555.0123")]),
    (
        "+49 30 12345678 20240501 10",
        &[(Kind::Phone, "+49 30 12345678")],
    ),
    ("ssn 536-22-8941", &[(Kind::UsSsn, "536-22-8941")]),
    ("NI AB 12 34 56 C", &[(Kind::UkNino, "AB 12 34 56 C")]),
    (
        "to DE89 3704 0044 0532 0130 00 now",
        &[(Kind::Iban, "DE89 3704 0044 0532 0130 00")],
    ),
    (
        "GB82WEST12345698765432",
        &[(Kind::Iban, "GB82WEST12345698765432")],
    ),
    (
        "redis://app:s3cr3t@cache:6379/0",
        &[(Kind::UrlCredentials, "app:s3cr3t")],
    ),
    (
        "Authorization: Basic YW5hOnNlY3JldA==",
        &[(Kind::AuthorizationValue, "YW5hOnNlY3JldA==")],
    ),
    ("?token=abc123&x=1", &[(Kind::NamedValue, "abc123")]),
    ("{\"password\": \"p w\", \"b\":1}", &[]),
    (
        "{\"password\": \"hunter2\", \"b\":1}",
        &[(Kind::NamedValue, "hunter2")],
    ),
    ("password: hunter2, retry", &[(Kind::NamedValue, "hunter2")]),
    (
        "https://h/x?sig=Zm9vYmFy&se=1",
        &[(Kind::NamedValue, "Zm9vYmFy")],
    ),
    ("?ssn=078051120", &[(Kind::NamedValue, "078051120")]),
];

#[test]
fn every_part_is_found_with_its_exact_bounds() {
    for (value, expected) in FOUND {
        assert_eq!(parts(value), *expected, "{value}");
    }
}

/// Values that hold nothing, although they look a little as if they did.
const HARMLESS: &[&str] = &[
    "4111111111111112",  // wrong check digit
    "1234567812345670",  // right check digit, no issuer
    "41111111 11111111", // groups of no card
    "0000000000000000",
    "4111-1111-1111-1111-1", // a longer number
    "a4111111111111111",
    "0.4111111111111111",
    "7d6e4111-1111-1111-1111-111111111111", // an id
    "000-12-3456",
    "666-12-3456",
    "900-12-3456",
    "536-00-8941",
    "536-22-0000",
    "536-22-89412",
    "1-536-22-8941",
    "DE89370400440532013001", // wrong check digits
    "XX89370400440532013000",
    "DE8937040044053201300",
    "AB123456E",
    "BG123456A",
    "AO123456A",
    "XAB123456A",
    "user@localhost",
    "user@host.svc.cluster.local",
    "@scope/package",
    "a@b",
    "a@b.c",
    "a@.example.com",
    "logo@2x.png",
    "git@github.com:acme/x.git",
    "pkg@1.2.3",
    "+1.5",
    "+123456",
    "1+4155550123456",
    "+0123456789",
    "911-555-0123",
    "411-555-0123",
    "415-155-0123",
    "2024-05-01",
    "10.0.0.1",
    "bearer token required",
    "Bearer of bad news",
    "basic authentication",
    "Basic usage:1",
    "eyJhbGciOiJIUzI1NiJ9",
    "eyJ.eyJ.eyJ",
    "AKIA short",
    "-----BEGIN CERTIFICATE-----",
    "password=",
    "password=***",
    "password=null",
    "password=<hidden>",
    "password=${DB_PASSWORD}",
    "token: 5 remaining",
    "page_token=abcdef",
    "max_tokens=4096",
    "auth.method=oidc",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE",
    "9c56cc51b374c3ba189210d5b6d4bf57790d351c96c47c02190ecf1e430635ab",
    "com.example.OrderServiceV2FactoryBeanImpl",
    "/api/v1/Users/OrderDetail2/ListItems/Page3/ShowAll/Download4",
    "https://example.com/a@b/c",
    "https://user@example/x",
    "",
];

#[test]
fn what_only_looks_alike_is_not_found() {
    for value in HARMLESS {
        assert_eq!(parts(value), [], "{value}");
    }
}

type Switch = fn(&mut Detectors);

#[test]
fn detectors_can_be_switched_off_one_by_one() {
    let sample =
        "ana@example.com 4111111111111111 +14155550123 536-22-8941 redis://a:b1c2@h/0 token=abc123";
    let off: [(Switch, &[Kind]); 6] = [
        (|on| on.email = false, &[Kind::Email]),
        (|on| on.card = false, &[Kind::PaymentCard]),
        (|on| on.phone = false, &[Kind::Phone]),
        (|on| on.national_id = false, &[Kind::UsSsn]),
        (
            |on| on.token = false,
            &[Kind::UrlCredentials, Kind::NamedValue],
        ),
        (|on| on.names = false, &[Kind::NamedValue]),
    ];
    let all: Vec<Kind> = parts(sample).iter().map(|(kind, _)| *kind).collect();
    assert_eq!(all.len(), 6, "{all:?}");
    for (change, missing) in off {
        let classifier = classifier(|inputs| change(&mut inputs.detectors));
        let mut found = Vec::new();
        classifier.find(sample.as_bytes(), |finding| {
            found.push(finding.kind);
            ControlFlow::Continue(())
        });
        let expected: Vec<Kind> = all
            .iter()
            .copied()
            .filter(|kind| !missing.contains(kind))
            .collect();
        assert_eq!(found, expected, "without {missing:?}");
    }
    assert_eq!(
        classifier(|inputs| inputs.detectors.names = false).name(b"password"),
        None
    );
}

#[test]
fn wrong_patterns_are_refused() {
    let error = |names: Vec<String>| {
        let inputs = ClassifierInputs {
            pii_names: names,
            ..ClassifierInputs::default()
        };
        Classifier::new(&inputs).unwrap_err().to_string()
    };
    assert_eq!(
        error(vec![String::new()]),
        "name pattern `` must have 1 to 128 bytes"
    );
    assert_eq!(
        error(vec!["x".into(); 1_025]),
        "more than `1024` name patterns are given"
    );
}

/// Beginnings, marks and whole findings, to be thrown together.
const PIECES: &[&[u8]] = &[
    b"@",
    b"%40",
    b"+",
    b"%2B",
    b"(",
    b")",
    b"-",
    b".",
    b" ",
    b"_",
    b"=",
    b":",
    b"\"",
    b"/",
    b"eyJ",
    b"-----BEGIN ",
    b"PRIVATE KEY",
    b"-----END ",
    b"bearer ",
    b"Basic ",
    b"token",
    b"password",
    b"AKIA",
    b"DE89",
    b"AB",
    b"4111",
    b"1111",
    b"123",
    b"45",
    b"6",
    b"a",
    b"Zz9",
    b"example.com",
    b"\xc3\xa9",
    b"\x00",
    b"\xff",
    b"://",
    b"git",
    b" ana@example.com",
    b" 4111111111111111 ",
    b" +14155550123 ",
    b"ghp_",
];

#[test]
fn random_bytes_never_panic_and_findings_are_ordered_and_in_bounds() {
    let mut state = 1_u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    let classifier = Classifier::default();
    let mut found = 0;
    let mut out = Vec::new();
    for _ in 0..40_000 {
        let mut value = Vec::new();
        for _ in 0..next() % 16 {
            value.extend_from_slice(PIECES[next() % PIECES.len()]);
        }
        let mut floor = 0;
        for finding in findings(&value) {
            assert!(
                finding.start >= floor && finding.start < finding.end,
                "{value:?} {finding:?}"
            );
            assert!(finding.end <= value.len(), "{value:?} {finding:?}");
            // Masking three bytes by three must not lengthen a value.
            assert!(finding.end - finding.start >= 3, "{value:?} {finding:?}");
            floor = finding.end;
            found += 1;
        }
        let _ = classifier.redact(&value, &value, &mut out);
        assert!(out.len() <= value.len().max(32));
    }
    assert!(found > 10_000, "{found}");
}
