//! The rule language: grammar, values, three-valued outcomes, messages.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use mesh_config::DataTag;
use mesh_config::money::NanoUsd;
use mesh_config::rule::{
    Attribute, Attributes, Condition, Lookup, MAX_DEPTH, MAX_LENGTH, MAX_TESTS, Phase, Tri, Value,
};

/// A request with one value for each attribute that the tables ask for.
struct Request;

impl Attributes for Request {
    fn get(&self, attribute: &Attribute) -> Lookup<'_> {
        let bytes = |text: &'static str| Lookup::Value(Value::Bytes(text.as_bytes()));
        match attribute {
            Attribute::Error => Lookup::Value(Value::Bool(true)),
            Attribute::CostUsd => Lookup::Value(Value::Money(NanoUsd::from_nanos(20_000_000))),
            Attribute::DurationMs => Lookup::Value(Value::Nanos(1_500_000_000)),
            Attribute::DataTag => Lookup::Value(Value::Tag(DataTag::Sensitive)),
            Attribute::HttpRequestMethod => bytes("POST"),
            Attribute::UrlPath => bytes("/users/42/orders"),
            Attribute::HttpResponseStatusCode => Lookup::Value(Value::Number(503.0)),
            Attribute::RequestBodySize => Lookup::Value(Value::Number(2_000_000.0)),
            Attribute::RequestHeader(name) => match &**name {
                "x-flag" => bytes("True"),
                "x-number" => bytes(" 42 "),
                "x-text" => bytes("a*b \"c\""),
                _ => Lookup::Absent,
            },
            Attribute::Baggage(key) if &**key == "Plan" => bytes("gold"),
            Attribute::TraceDepth | Attribute::Span(_) => Lookup::Unknown,
            _ => Lookup::Absent,
        }
    }
}

fn eval(text: &str) -> Tri {
    let condition = Condition::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    condition.eval(&Request)
}

#[test]
fn conditions_that_hold() {
    for text in [
        "error = true",
        "error",
        "error == true",
        "not not error",
        "not (error = false)",
        "error != false",
        "cost_usd > 0.01",
        "cost_usd = 0.02",
        "cost_usd >= 0.02 and cost_usd <= 0.020",
        "duration_ms > 1000",
        "duration_ms = 1500",
        "duration_ms = 1.5s",
        "duration_ms<1m",
        "duration_ms >= 1500ms",
        "data_tag = SENSITIVE",
        "data_tag = \"SENSITIVE\"",
        "data_tag >= EXPORT_OK",
        "data_tag < PII",
        "data_tag in (PII, SENSITIVE)",
        "data_tag not in (PII, EXPORT_OK)",
        "http.request.method = POST",
        "http.method = 'POST'",
        "http.request.method in [GET, POST]",
        "url.path = \"/users/*\"",
        "url.path = /users/*/orders",
        "url.path = *42*",
        "url.path ^= /users/",
        "url.path starts_with \"/users\"",
        "url.path != \"/users\"",
        "http.response.status_code >= 500 and http.response.status_code < 600",
        "http.status_code in (502, 503)",
        "http.request.body.size > 1MiB",
        "http.request.body.size < 2MiB",
        "http.request.body.size = 2MB",
        "request.header[\"X-Flag\"]",
        "request.header[\"x-flag\"] = true",
        "request.header['x-number'] > 41.5",
        "request.header[\"x-number\"] = 42",
        "request.header[\"x-text\"] = 'a\\*b \"c\"'",
        "request.header[\"x-text\"] = \"a*\"",
        "request.header[\"x-text\"] ^= \"a*b\"",
        "request.header[\"x-flag\"] exists",
        "not request.header[\"x-none\"] exists",
        "request.header[\"x-none\"] != 1",
        "request.header[\"x-none\"] not in (a, b)",
        "baggage[\"Plan\"] = gold",
        "false_is.not.known exists or error",
        "error and (url.path = /x or url.path = /users/*)",
        "error or url.path = /x and url.path = /y",
        "not error = false and error",
    ] {
        assert_eq!(eval(text), Tri::True, "{text}");
    }
}

#[test]
fn conditions_that_fail() {
    for text in [
        "error = false",
        "not error",
        "cost_usd > 0.02",
        "duration_ms > 1.5s",
        "data_tag = PII",
        "http.request.method = post",
        "url.path = /users",
        "url.path = \"/users/\\*\"",
        "url.path = /users/*/x",
        "request.header[\"x-none\"] = 1",
        "request.header[\"x-none\"]",
        "request.header[\"x-none\"] > 0",
        "request.header[\"x-text\"] > 0",
        "baggage[\"plan\"] = gold",
        "trace.depth > 5 and error = false",
        "rpc.service = *",
    ] {
        assert_eq!(eval(text), Tri::False, "{text}");
    }
}

#[test]
fn unknown_stays_unknown_unless_it_cannot_matter() {
    for text in [
        "trace.depth > 5",
        "not trace.depth > 5",
        "trace.depth exists",
        "trace.depth > 5 and error",
        "trace.depth > 5 or not error",
        "colony.name = x",
        "span[\"provider\"] = openai",
    ] {
        assert_eq!(eval(text), Tri::Unknown, "{text}");
    }
    assert_eq!(eval("trace.depth > 5 or error"), Tri::True);
    assert_eq!(eval("not error and trace.depth > 5"), Tri::False);
}

#[test]
fn lower_bounds_decide_what_they_can() {
    struct AtLeast(Value<'static>);
    impl Attributes for AtLeast {
        fn get(&self, _: &Attribute) -> Lookup<'_> {
            Lookup::AtLeast(self.0)
        }
    }
    let cost = AtLeast(Value::Money(NanoUsd::from_nanos(10_000_000)));
    let tag = |tag| AtLeast(Value::Tag(tag));
    let eval = |text: &str, at_least: &AtLeast| Condition::parse(text).unwrap().eval(at_least);
    for (text, outcome) in [
        ("cost_usd > 0.009", Tri::True),
        ("cost_usd > 0.01", Tri::Unknown),
        ("cost_usd >= 0.01", Tri::True),
        ("cost_usd < 0.01", Tri::False),
        ("cost_usd <= 0.01", Tri::Unknown),
        ("cost_usd = 0.005", Tri::False),
        ("cost_usd != 0.005", Tri::True),
        ("cost_usd = 0.02", Tri::Unknown),
        ("cost_usd exists", Tri::True),
        ("cost_usd in (0.001, 0.002)", Tri::False),
    ] {
        assert_eq!(eval(text, &cost), outcome, "{text}");
    }
    for (text, bound, outcome) in [
        ("data_tag = PII", DataTag::Pii, Tri::True),
        ("data_tag = PII", DataTag::Sensitive, Tri::Unknown),
        ("data_tag = EXPORT_OK", DataTag::Sensitive, Tri::False),
        ("data_tag = EXPORT_OK", DataTag::ExportOk, Tri::Unknown),
        ("data_tag >= SENSITIVE", DataTag::Sensitive, Tri::True),
        (
            "data_tag in (EXPORT_OK, SENSITIVE)",
            DataTag::Pii,
            Tri::False,
        ),
    ] {
        assert_eq!(eval(text, &tag(bound)), outcome, "{text} with {bound}");
    }
}

/// Condition, message, first byte and length of the part that is marked.
const REFUSED: &[(&str, &str, usize, usize)] = &[
    ("", "condition is empty", 0, 0),
    ("   ", "condition is empty", 3, 0),
    (
        "eror = true",
        "unknown attribute `eror`, did you mean `error`?",
        0,
        4,
    ),
    (
        "durationms > 1",
        "unknown attribute `durationms`, did you mean `duration_ms`?",
        0,
        10,
    ),
    (
        "provider = x",
        "unknown attribute `provider`; an attribute of the application's spans is written \
         `span[\"provider\"]`",
        0,
        8,
    ),
    (
        "error = maybe",
        "value `maybe` is not `true` or `false`",
        8,
        5,
    ),
    (
        "error = \"true\"",
        "found a string, expected `true` or `false`",
        8,
        6,
    ),
    (
        "error > true",
        "`>` compares numbers: write `=` or `!=` here",
        8,
        4,
    ),
    ("error =", "expected `true` or `false`", 7, 0),
    (
        "cost_usd > -1",
        "value `-1` is not an amount in US dollars such as `0.01`",
        11,
        2,
    ),
    (
        "cost_usd > 1e-3",
        "value `1e-3` is not an amount in US dollars such as `0.01`",
        11,
        4,
    ),
    ("cost_usd", "expected a comparison after `cost_usd`", 8, 0),
    (
        "duration_ms > 5 s",
        "expected `and`, `or` or the end of the condition",
        16,
        1,
    ),
    (
        "duration_ms > 5x",
        "value `5x` is not a duration such as `250ms` or `1s`",
        14,
        2,
    ),
    (
        "duration_ms ^= 5",
        "`duration_ms` is not a string: it has no beginning",
        15,
        1,
    ),
    (
        "data_tag = pii",
        "value `pii` is not one of `EXPORT_OK`, `SENSITIVE`, `PII`",
        11,
        3,
    ),
    (
        "url.path > /a",
        "`>` compares numbers: write `=` or `!=` here",
        11,
        2,
    ),
    (
        "baggage[\"a\"] < b",
        "`<` compares numbers: write a number here",
        15,
        1,
    ),
    ("url.path = \"/a", "string has no closing quote", 11, 3),
    (
        "url.path = \"\\n\"",
        "escape `\\n` is not one of `\\\"`, `\\\\`, `\\*`",
        12,
        2,
    ),
    (
        "url.path = and",
        "expected a value, found `and`; a string may be put in quotes",
        11,
        3,
    ),
    ("(error", "`(` is not closed", 0, 1),
    ("error)", "`)` without `(`", 5, 1),
    (
        "error error",
        "expected `and`, `or` or the end of the condition",
        6,
        5,
    ),
    ("error and", "expected the name of an attribute", 9, 0),
    (
        "and error",
        "expected the name of an attribute, found `and`",
        0,
        3,
    ),
    ("error not", "expected `in` after `not`", 9, 0),
    (
        "!error",
        "sign `!` is not a comparison; for negation write `not`",
        0,
        1,
    ),
    (
        "error = true && error",
        "expected `and`, `or` or the end of the condition",
        13,
        2,
    ),
    ("data_tag in PII", "expected `(` after `in`", 12, 3),
    (
        "data_tag in ()",
        "expected one of `EXPORT_OK`, `SENSITIVE`, `PII`",
        13,
        1,
    ),
    (
        "data_tag in (PII",
        "expected `,` or the end of the list",
        16,
        0,
    ),
    (
        "data_tag in (PII]",
        "expected `,` or the end of the list",
        16,
        1,
    ),
    (
        "header[\"a\"] = 1",
        "`header` has no keys; allowed: `request.header`, `baggage`, `resource`, `span`",
        0,
        6,
    ),
    (
        "baggage[a] = 1",
        "expected a key in quotes, as in `baggage[\"key\"]`",
        8,
        1,
    ),
    ("baggage[\"\"] = 1", "key is empty", 8, 2),
    ("baggage[\"a\" = 1", "expected `]`", 12, 1),
    (
        "\"url.path\" = 1",
        "expected the name of an attribute",
        0,
        10,
    ),
];

#[test]
fn refused_conditions_say_what_and_where() {
    for (text, message, start, length) in REFUSED {
        let error = Condition::parse(text).expect_err(text);
        assert!(
            error.message().starts_with(message),
            "{text}: {}",
            error.message()
        );
        assert_eq!(error.span(), *start..start + length, "{text}: {error}");
    }
}

#[test]
fn caret_stands_under_the_part_in_its_own_line() {
    let error = Condition::parse("error or\n  (ümlaut.x = ü and eror)").unwrap_err();
    assert_eq!(error.marked(), "  (ümlaut.x = ü and eror)\n   ^^^^^^^^");
    let error = Condition::parse("span[\"ü\"] = ü and eror").unwrap_err();
    assert_eq!(
        error.marked(),
        "span[\"ü\"] = ü and eror\n                  ^^^^"
    );
}

#[test]
fn limits_are_errors_not_crashes() {
    let deep = |levels: usize| format!("{}error{}", "(".repeat(levels), ")".repeat(levels));
    assert!(Condition::parse(&deep(MAX_DEPTH)).is_ok());
    assert!(Condition::parse(&deep(MAX_DEPTH + 1)).is_err());
    assert!(Condition::parse(&deep(2000)).is_err());
    assert!(Condition::parse(&"not ".repeat(1000)).is_err());
    let many = |tests: usize| vec!["error"; tests].join(" or ");
    assert!(Condition::parse(&many(MAX_TESTS)).is_ok());
    assert!(Condition::parse(&many(MAX_TESTS + 1)).is_err());
    let list = |items: usize| format!("url.path in ({})", vec!["a"; items].join(","));
    assert!(Condition::parse(&list(MAX_TESTS)).is_ok());
    assert!(Condition::parse(&list(MAX_TESTS + 1)).is_err());
    assert!(Condition::parse(&" ".repeat(MAX_LENGTH + 1)).is_err());
}

#[test]
fn attributes_are_listed_once_with_their_phase() {
    let condition =
        Condition::parse("error and (url.path = /a or error) and baggage[\"k\"] in (a, b)")
            .unwrap();
    assert_eq!(
        condition.attributes(),
        [
            Attribute::Error,
            Attribute::UrlPath,
            Attribute::Baggage("k".into())
        ]
    );
    assert_eq!(condition.phase(), Phase::StreamEnd);
    let phase = |text: &str| Condition::parse(text).unwrap().phase();
    assert_eq!(phase("request.header[\"x\"] = 1"), Phase::Request);
    assert_eq!(phase("hitl_required"), Phase::Request);
    assert_eq!(phase("colony.name = x or error"), Phase::Trace);
}

#[test]
fn split_shows_what_waits_for_what() {
    let split = |text: &str| Condition::parse(text).unwrap().parts().unwrap();
    let parts = split("url.path = /pay and (duration_ms > 1s or trace.depth > 9)");
    assert_eq!(
        parts.known,
        [
            (
                Phase::Request,
                "url.path = \"/pay\" and (? or ?)".to_owned()
            ),
            (
                Phase::StreamEnd,
                "url.path = \"/pay\" and (duration_ms > 1s or ?)".to_owned()
            ),
            (
                Phase::Trace,
                "url.path = \"/pay\" and (duration_ms > 1s or trace.depth > 9)".to_owned()
            ),
        ]
    );
    assert_eq!(
        (parts.true_from, parts.false_from),
        (Phase::StreamEnd, Phase::Request)
    );
    let cost = split("cost_usd > 0.01");
    assert_eq!(
        (cost.true_from, cost.false_from),
        (Phase::Request, Phase::StreamEnd)
    );
    let not = split("not data_tag = PII");
    assert_eq!(
        (not.true_from, not.false_from),
        (Phase::StreamEnd, Phase::Request)
    );
}

#[test]
fn every_known_attribute_can_be_written_and_read_back() {
    for known in mesh_config::rule::KNOWN {
        for name in known.aliases.iter().chain([&known.name]) {
            let condition = Condition::parse(&format!("{name} exists")).unwrap();
            let [attribute] = condition.attributes() else {
                panic!("{name}")
            };
            assert_eq!(attribute.to_string(), known.name);
            assert_eq!(
                (attribute.kind(), attribute.phase()),
                (known.kind, known.phase)
            );
            assert!(known.doc.ends_with('.'), "{name}");
        }
    }
}
