//! The table: 41 behaviours of W3C Trace Context Level 2, each with one or more header lists.
//!
//! The names of the behaviours follow the official harness (w3c/trace-context, folder test), so
//! that a reader can lay the two side by side; the rows are ours.

use integration_tests::headers::HeaderLines;

/// The trace id of the caller.
pub(crate) const TRACE: &str = "12345678901234567890123456789012";

/// The span id of the caller.
pub(crate) const PARENT: &str = "1234567890123456";

/// Which trace id the callee must see.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum TraceIs {
    /// The caller's.
    Kept,
    /// A fresh one.
    New,
}

/// One request and what the callee must see.
pub(crate) struct Case {
    pub(crate) behaviour: &'static str,
    pub(crate) lines: HeaderLines,
    /// How many calls the application makes.
    pub(crate) calls: usize,
    pub(crate) trace: TraceIs,
    /// Members that must be there, in this order.
    pub(crate) has: Vec<String>,
    /// Keys that must not be there.
    pub(crate) lacks: Vec<String>,
    /// The exact number of members.
    pub(crate) members: Option<usize>,
    pub(crate) random_flag: Option<bool>,
}

impl Case {
    fn new(behaviour: &'static str, trace: TraceIs, lines: HeaderLines) -> Self {
        let (has, lacks) = (Vec::new(), Vec::new());
        Self {
            behaviour,
            lines,
            calls: 1,
            trace,
            has,
            lacks,
            members: None,
            random_flag: None,
        }
    }

    fn has(mut self, members: &[&str]) -> Self {
        self.has = members.iter().map(ToString::to_string).collect();
        self
    }

    fn lacks(mut self, keys: &[&str]) -> Self {
        self.lacks = keys.iter().map(ToString::to_string).collect();
        self
    }
}

/// All rows.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = presence();
    cases.extend(versions());
    cases.extend(fields());
    cases.extend(state_presence());
    cases.extend(state_grammar());
    cases.extend(state_limits());
    cases.extend(several_calls());
    cases
}

fn parent(value: &str) -> HeaderLines {
    HeaderLines::from([("traceparent", value)])
}

/// A traceparent with the given fields.
fn fields_of(version: &str, trace: &str, span: &str, flags: &str) -> HeaderLines {
    parent(&format!("{version}-{trace}-{span}-{flags}"))
}

fn good() -> HeaderLines {
    fields_of("00", TRACE, PARENT, "00")
}

fn with_states(states: &[&str]) -> HeaderLines {
    states
        .iter()
        .fold(good(), |lines, state| lines.with("tracestate", state))
}

fn all_new(behaviour: &'static str, rows: Vec<HeaderLines>) -> Vec<Case> {
    rows.into_iter()
        .map(|lines| Case::new(behaviour, TraceIs::New, lines))
        .collect()
}

fn all_kept(behaviour: &'static str, rows: Vec<HeaderLines>) -> Vec<Case> {
    rows.into_iter()
        .map(|lines| Case::new(behaviour, TraceIs::Kept, lines))
        .collect()
}

fn presence() -> Vec<Case> {
    let valid = format!("00-{TRACE}-{PARENT}-01");
    let named = |name: &str| HeaderLines::new().with(name, &valid);
    let twice = named("traceparent").with(
        "traceparent",
        format!("00-{}-{PARENT}-01", TRACE.replace("12", "21")),
    );
    let mut cases = all_new(
        "both_traceparent_and_tracestate_missing",
        vec![HeaderLines::new()],
    );
    cases.extend(all_kept(
        "traceparent_included_tracestate_missing",
        vec![named("traceparent")],
    ));
    let equal = named("traceparent").with("traceparent", &valid);
    cases.extend(all_new("traceparent_duplicated", vec![twice, equal]));
    // Such a header is not ours to read, so it may pass, but its id must not be used.
    let wrong = vec![named("trace-parent"), named("trace.parent")];
    cases.extend(all_new("traceparent_header_name", wrong));
    let cased = ["TraceParent", "TrAcEpArEnT", "TRACEPARENT"]
        .map(named)
        .to_vec();
    cases.extend(all_kept("traceparent_header_name_valid_casing", cased));
    let spaced = ["\u{20}*", "\t*", "*\u{20}", "*\t", "\t *\u{20}\t"];
    let spaced = spaced
        .map(|form| parent(&form.replace('*', &valid)))
        .to_vec();
    cases.extend(all_kept("traceparent_ows_handling", spaced));
    cases
}

fn versions() -> Vec<Case> {
    let with = |version: &str, end: &str| fields_of(version, TRACE, PARENT, end);
    let future = "01-what-the-future-will-be-like";
    let mut cases = all_new(
        "traceparent_version_0x00",
        vec![with("00", "01."), with("00", future)],
    );
    let accepted = vec![with("cc", "01"), with("cc", future)];
    cases.extend(all_kept("traceparent_version_0xcc", accepted));
    cases.extend(all_new(
        "traceparent_version_0xcc",
        vec![with("cc", "01.what-the-future")],
    ));
    cases.extend(all_new("traceparent_version_0xff", vec![with("ff", "01")]));
    let illegal = vec![with(".0", "01"), with("0.", "01"), with("CC", "01")];
    cases.extend(all_new("traceparent_version_illegal_characters", illegal));
    let long = vec![with("000", "01"), with("0000", "01")];
    cases.extend(all_new("traceparent_version_too_long", long));
    cases.extend(all_new(
        "traceparent_version_too_short",
        vec![with("0", "01")],
    ));
    cases
}

fn fields() -> Vec<Case> {
    let trace = |trace: &str| fields_of("00", trace, PARENT, "01");
    let span = |span: &str| fields_of("00", TRACE, span, "01");
    let flags = |flags: &str| fields_of("00", TRACE, PARENT, flags);
    let upper_trace = "ABCDEF78901234567890123456789012";
    let mut cases = all_new(
        "traceparent_trace_id_all_zero",
        vec![trace("00000000000000000000000000000000")],
    );
    let illegal = vec![
        trace(".2345678901234567890123456789012"),
        trace("1234567890123456789012345678901."),
        trace(upper_trace),
    ];
    cases.extend(all_new("traceparent_trace_id_illegal_characters", illegal));
    let long = vec![trace("123456789012345678901234567890123")];
    cases.extend(all_new("traceparent_trace_id_too_long", long));
    let short = vec![trace("1234567890123456789012345678901")];
    cases.extend(all_new("traceparent_trace_id_too_short", short));
    cases.extend(all_new(
        "traceparent_parent_id_all_zero",
        vec![span("0000000000000000")],
    ));
    let illegal = vec![
        span(".234567890123456"),
        span("123456789012345."),
        span("123456789012345A"),
    ];
    cases.extend(all_new("traceparent_parent_id_illegal_characters", illegal));
    cases.extend(all_new(
        "traceparent_parent_id_too_long",
        vec![span("12345678901234567")],
    ));
    cases.extend(all_new(
        "traceparent_parent_id_too_short",
        vec![span("123456789012345")],
    ));
    let illegal = vec![flags(".0"), flags("0."), flags("0A")];
    cases.extend(all_new(
        "traceparent_trace_flags_illegal_characters",
        illegal,
    ));
    cases.extend(all_new(
        "traceparent_trace_flags_too_long",
        vec![flags("001")],
    ));
    cases.extend(all_new(
        "traceparent_trace_flags_too_short",
        vec![flags("1")],
    ));
    for (value, random) in [
        ("02", true),
        ("03", true),
        ("ff", true),
        ("00", false),
        ("01", false),
    ] {
        let mut case = Case::new("propagates_random_flag", TraceIs::Kept, flags(value));
        case.random_flag = Some(random);
        cases.push(case);
    }
    cases
}

fn state_presence() -> Vec<Case> {
    let kept = |behaviour, lines, members: &[&str]| {
        Case::new(behaviour, TraceIs::Kept, lines).has(members)
    };
    let alone = |state: &str| HeaderLines::from([("tracestate", state)]);
    let named = |name: &str| good().with(name, "foo=1");
    let mut cases = Vec::new();
    for state in ["foo=1", "foo=1,bar=2"] {
        let case = Case::new(
            "tracestate_included_traceparent_missing",
            TraceIs::New,
            alone(state),
        );
        cases.push(case.lacks(&["foo", "bar"]));
    }
    let both = with_states(&["foo=1,bar=2"]);
    cases.push(kept(
        "tracestate_included_traceparent_included",
        both,
        &["foo=1", "bar=2"],
    ));
    for name in ["trace-state", "trace.state"] {
        let case = Case::new("tracestate_header_name", TraceIs::Kept, named(name));
        cases.push(case.lacks(&["foo"]));
    }
    for name in ["TraceState", "TrAcEsTaTe", "TRACESTATE"] {
        cases.push(kept(
            "tracestate_header_name_valid_casing",
            named(name),
            &["foo=1"],
        ));
    }
    cases.push(kept("tracestate_empty_header", with_states(&[""]), &[]));
    cases.push(kept(
        "tracestate_empty_header",
        with_states(&["foo=1", ""]),
        &["foo=1"],
    ));
    cases.push(kept(
        "tracestate_empty_header",
        with_states(&["", "foo=1"]),
        &["foo=1"],
    ));
    cases.push(kept(
        "tracestate_multiple_headers_different_keys",
        with_states(&["foo=1,bar=2", "rojo=1,congo=2", "baz=3"]),
        &["foo=1", "bar=2", "rojo=1", "congo=2", "baz=3"],
    ));
    // Either kept or dropped; the trace goes on, and the callee sees nothing invented.
    for states in [
        &["foo=1,foo=1"][..],
        &["foo=1,foo=2"],
        &["foo=1", "foo=1"],
        &["foo=1", "foo=2"],
    ] {
        cases.push(kept("tracestate_duplicated_keys", with_states(states), &[]));
    }
    cases
}

fn state_grammar() -> Vec<Case> {
    let key = "abcdefghijklmnopqrstuvwxyz0123456789_-*/";
    let value: String = (0x20_u8..0x7f)
        .map(char::from)
        .filter(|c| !",=".contains(*c))
        .collect();
    let mut cases = Vec::new();
    for key in [
        key.to_owned(),
        format!("{key}@a-z0-9_-*/"),
        format!("0{key}"),
    ] {
        let member = format!("{key}={value}");
        let case = Case::new(
            "tracestate_all_allowed_characters",
            TraceIs::Kept,
            with_states(&[&member]),
        );
        cases.push(case.has(&[&member]));
    }
    for (state, members) in [
        (
            "foo=1 \t , \t bar=2, \t baz=3",
            &["foo=1", "bar=2", "baz=3"][..],
        ),
        (
            "foo=1\t \t,\t \tbar=2,\t \tbaz=3",
            &["foo=1", "bar=2", "baz=3"],
        ),
        (" foo=1", &["foo=1"]),
        ("\tfoo=1", &["foo=1"]),
        ("foo=1 ", &["foo=1"]),
        ("foo=1\t", &["foo=1"]),
        ("\t foo=1 \t", &["foo=1"]),
    ] {
        let case = Case::new(
            "tracestate_ows_handling",
            TraceIs::Kept,
            with_states(&[state]),
        );
        cases.push(case.has(members));
    }
    let mut refused = |behaviour, state: &str| {
        let lines = with_states(&["good=1", state]);
        let keys = ["good", "foo", "foo ", "FOO", "foo.bar", "@foo", "bar"];
        cases.push(Case::new(behaviour, TraceIs::Kept, lines).lacks(&keys));
    };
    for state in ["foo =1", "FOO=1", "foo.bar=1"] {
        refused("tracestate_key_illegal_characters", state);
    }
    refused("tracestate_key_illegal_vendor_format", "@foo=1,bar=2");
    for state in ["foo=bar=baz", "foo=,bar=3", "foo=a\tb,bar=3"] {
        refused("tracestate_value_illegal_characters", state);
    }
    cases
}

fn state_limits() -> Vec<Case> {
    let member = |number: usize| format!("bar{number:02}={number:02}");
    let list = |from: usize, to: usize| (from..=to).map(member).collect::<Vec<_>>().join(",");
    let full = with_states(&[&list(1, 10), &list(11, 20), &list(21, 30), &list(31, 32)]);
    let over = with_states(&[&list(1, 10), &list(11, 20), &list(21, 30), &list(31, 33)]);
    let behaviour = "tracestate_member_count_limit";
    let mut at_limit = Case::new(behaviour, TraceIs::Kept, full).has(&["bar01=01", "bar02=02"]);
    at_limit.members = Some(32);
    let beyond = Case::new(behaviour, TraceIs::Kept, over).lacks(&["bar01", "bar33"]);
    let key = |length: usize| format!("{}=1", "z".repeat(length));
    let behaviour = "tracestate_key_length_limit";
    let longest = with_states(&["foo=1", &key(256)]);
    let too_long = with_states(&["foo=1", &key(257)]);
    let tenant = format!("{}@{}=1", "t".repeat(241), "v".repeat(14));
    vec![
        at_limit,
        beyond,
        Case::new(behaviour, TraceIs::Kept, longest).has(&["foo=1"]),
        Case::new(behaviour, TraceIs::Kept, with_states(&["foo=1", &tenant])).has(&["foo=1"]),
        Case::new(behaviour, TraceIs::Kept, too_long).lacks(&["foo"]),
    ]
}

fn several_calls() -> Vec<Case> {
    let calls = |behaviour, trace, lines| {
        let mut case = Case::new(behaviour, trace, lines);
        case.calls = 3;
        case
    };
    let valid = fields_of("00", TRACE, PARENT, "01");
    let illegal = fields_of("00", "00000000000000000000000000000000", PARENT, "01");
    vec![
        calls(
            "multiple_requests_with_valid_traceparent",
            TraceIs::Kept,
            valid,
        ),
        calls(
            "multiple_requests_without_traceparent",
            TraceIs::New,
            HeaderLines::new(),
        ),
        calls(
            "multiple_requests_with_illegal_traceparent",
            TraceIs::New,
            illegal,
        ),
    ]
}
