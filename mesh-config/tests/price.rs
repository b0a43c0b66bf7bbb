//! Price tables: the formula's exactness and ends, look-up by name and number, books of dated
//! tables, token prices.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use mesh_config::money::NanoUsd;
use mesh_config::price::{
    InForce, OperationId, PriceBook, PriceError, PriceInputs, PriceTable, TokenPrice, TokenUse,
    limits,
};

const SECOND_NS: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

fn nanos(nanos: u64) -> NanoUsd {
    NanoUsd::from_nanos(nanos)
}

fn version(version: &str, from: u64, until: Option<u64>) -> PriceInputs {
    PriceInputs {
        version: version.to_owned(),
        valid_from_unix_ns: from,
        valid_until_unix_ns: until,
        ..PriceInputs::default()
    }
}

#[test]
fn the_default_table_is_the_specification() {
    let table = PriceTable::default();
    let expected = [
        ("api_call", 10_000),
        ("database_query", 20_000),
        ("ml_inference", 100_000),
        ("robot_actuation", 1_000_000),
        ("storage_read", 1_000),
        ("storage_write", 5_000),
        ("anything else", 10_000),
        ("", 10_000),
    ];
    for (operation, base) in expected {
        assert_eq!(table.base(operation), nanos(base), "{operation}");
        assert_eq!(table.cost(operation, 0, 0), nanos(base), "{operation}");
    }
    assert_eq!(table.version(), "builtin-1");
    assert_eq!(PriceTable::new(&PriceInputs::default()), Ok(table));
}

#[test]
fn duration_is_milliseconds_and_size_is_mebibytes() {
    let table = PriceTable::default();
    // 100 ms add 10 %, 1 MiB adds 1 %.
    assert_eq!(
        table.cost("ml_inference", SECOND_NS / 10, 0),
        nanos(110_000)
    );
    assert_eq!(table.cost("ml_inference", 0, MIB), nanos(101_000));
    assert_eq!(
        table.cost("ml_inference", SECOND_NS / 10, MIB),
        nanos(111_000)
    );
    // A 5 ms call costs half a percent more, not five thousand times as much.
    assert_eq!(table.cost("api_call", 5_000_000, 0), nanos(10_050));
}

#[test]
fn costs_are_rounded_half_up_to_a_nano_dollar() {
    let table = PriceTable::default();
    // 1,000 nanos * (1 + ns / 1e9): half a nano more after 0.5 ms.
    assert_eq!(table.cost("storage_read", 499_999, 0), nanos(1_000));
    assert_eq!(table.cost("storage_read", 500_000, 0), nanos(1_001));
    assert_eq!(table.cost("storage_read", 1_499_999, 0), nanos(1_001));
    assert_eq!(table.cost("storage_read", 1_500_000, 0), nanos(1_002));
}

#[test]
fn costs_stop_at_the_largest_amount_exactly_where_the_true_value_passes_it() {
    let inputs = PriceInputs {
        operations: vec![
            ("big".to_owned(), NanoUsd::MAX),
            ("half".to_owned(), nanos(1 << 63)),
        ],
        duration_ppm_per_100ms: u32::MAX,
        size_ppm_per_mib: u32::MAX,
        ..PriceInputs::default()
    };
    let table = PriceTable::new(&inputs).unwrap();
    assert_eq!(table.cost("big", 0, 0), NanoUsd::MAX);
    assert_eq!(table.cost("big", u64::MAX, u64::MAX), NanoUsd::MAX);
    assert_eq!(table.cost("half", 0, 0), nanos(1 << 63));
    assert_eq!(table.cost("half", u64::MAX, 0), NanoUsd::MAX);
    assert_eq!(table.cost("unknown", u64::MAX, u64::MAX), NanoUsd::MAX);
    let inputs = PriceInputs {
        operations: vec![("half".to_owned(), nanos(1 << 63))],
        duration_ppm_per_100ms: 1_000_000,
        ..PriceInputs::default()
    };
    let table = PriceTable::new(&inputs).unwrap();
    // 2^63 * (1 + ns / 1e8) reaches 2^64 at 100 ms; one nanosecond less lies below it.
    assert_eq!(table.cost("half", SECOND_NS / 10, 0), NanoUsd::MAX);
    let below = (1_u128 << 63) * (100_000_000 + 99_999_999) / 100_000_000;
    let error = table
        .cost("half", SECOND_NS / 10 - 1, 0)
        .as_nanos()
        .abs_diff(below as u64);
    assert!(error <= 1, "{error}");
}

#[test]
fn costs_grow_with_duration_and_size_and_never_fall_below_the_base() {
    let table = PriceTable::default();
    let mut state = 7_u64;
    let mut random = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 11) >> (state >> 59)
    };
    for _ in 0..50_000 {
        let (duration, size, more) = (random(), random(), random());
        let cost = table.cost("database_query", duration, size);
        assert!(cost >= table.base("database_query"));
        assert!(table.cost("database_query", duration + more, size) >= cost);
        assert!(table.cost("database_query", duration, size + more) >= cost);
    }
}

#[test]
fn an_operation_resolves_to_a_number_once() {
    let table = PriceTable::default();
    for (id, name) in table.operations() {
        assert_eq!(table.operation(name), id);
        assert_eq!(table.operation(name.as_bytes()), id);
        assert_eq!(table.operation_name(id), Some(name));
        assert_eq!(table.cost_of(id, 123, 456), table.cost(name, 123, 456));
    }
    assert_eq!(table.operations().count(), 6);
    for unknown in ["", "API_CALL", "api_call ", "zzz"] {
        assert_eq!(table.operation(unknown), OperationId::UNKNOWN);
    }
    assert_eq!(table.operation([0xff_u8; 3]), OperationId::UNKNOWN);
    assert_eq!(table.operation_name(OperationId::UNKNOWN), None);
    assert_eq!(table.base_of(OperationId::UNKNOWN), nanos(10_000));
}

#[test]
fn a_book_answers_with_the_table_in_force() {
    // Given out of order; a gap between 20 and 30; the last one ends at 40.
    let tables = [
        version("c", 30, Some(40)),
        version("a", 5, Some(10)),
        version("b", 10, Some(20)),
    ];
    let book = PriceBook::new(&tables).unwrap();
    let table = [
        (0, "a", InForce::NotYet),
        (4, "a", InForce::NotYet),
        (5, "a", InForce::Yes),
        (9, "a", InForce::Yes),
        (10, "b", InForce::Yes),
        (19, "b", InForce::Yes),
        (20, "b", InForce::Expired),
        (29, "b", InForce::Expired),
        (30, "c", InForce::Yes),
        (39, "c", InForce::Yes),
        (40, "c", InForce::Expired),
        (u64::MAX, "c", InForce::Expired),
    ];
    for (at, expected, in_force) in table {
        let (table, state) = book.at(at);
        assert_eq!((table.version(), state), (expected, in_force), "at {at}");
    }
    assert_eq!(
        book.tables().map(PriceTable::version).collect::<Vec<_>>(),
        ["a", "b", "c"]
    );
    assert_eq!(book.version("b").map(PriceTable::version), Some("b"));
    assert_eq!(book.version("d"), None);
    assert_eq!(
        PriceBook::default().at(0),
        (&PriceTable::default(), InForce::Yes)
    );
}

#[test]
fn a_fallback_prices_whenever_no_dated_table_is_in_force() {
    let fallback = version("always", 7, Some(8));
    let dated = [version("b", 30, Some(40)), version("a", 5, Some(10))];
    let book = PriceBook::with_fallback(&fallback, &dated).unwrap();
    for (at, expected) in [
        (0, "always"),
        (5, "a"),
        (9, "a"),
        (10, "always"),
        (30, "b"),
        (40, "always"),
    ] {
        let (table, in_force) = book.at(at);
        assert_eq!(table.version(), expected, "at {at}");
        assert_eq!(
            in_force == InForce::Fallback,
            expected == "always",
            "at {at}"
        );
    }
    assert_eq!(
        book.tables().map(PriceTable::version).collect::<Vec<_>>(),
        ["a", "b", "always"]
    );
    assert_eq!(book.version("always"), Some(book.at(0).0));
    let alone = PriceBook::with_fallback(&fallback, &[]).unwrap();
    assert_eq!(
        (alone.at(99).0.version(), alone.at(99).1),
        ("always", InForce::Yes)
    );
    let clash = PriceBook::with_fallback(&version("a", 0, None), &dated).unwrap_err();
    assert_eq!(clash.to_string(), "two price tables have the version `a`");
}

#[test]
fn operation_numbers_hold_for_every_table_of_a_book() {
    let mut old = version("old", 0, Some(10));
    old.operations.retain(|(name, _)| name != "ml_inference");
    old.operations.push(("legacy".to_owned(), nanos(77)));
    let mut new = version("new", 10, None);
    new.default_base = nanos(1);
    let book = PriceBook::new(&[old, new]).unwrap();
    let (old, new) = (book.at(0).0, book.at(10).0);
    let (legacy, inference) = (old.operation("legacy"), old.operation("ml_inference"));
    assert_eq!(
        (legacy, inference),
        (new.operation("legacy"), new.operation("ml_inference"))
    );
    // What a table does not name costs that table's default.
    assert_eq!(
        (old.base_of(legacy), new.base_of(legacy)),
        (nanos(77), nanos(1))
    );
    assert_eq!(
        (old.base_of(inference), new.base_of(inference)),
        (nanos(10_000), nanos(100_000))
    );
}

#[test]
fn wrong_tables_are_refused_by_name() {
    let change = |change: fn(&mut PriceInputs)| {
        let mut inputs = PriceInputs::default();
        change(&mut inputs);
        PriceTable::new(&inputs).unwrap_err().to_string()
    };
    let cases = [
        (
            change(|i| i.version.clear()),
            "version `` must have 1 to 64 visible ascii characters",
        ),
        (
            change(|i| i.version = "a b".into()),
            "version `a b` must have 1 to 64 visible ascii characters",
        ),
        (
            change(|i| i.valid_until_unix_ns = Some(0)),
            "price table `builtin-1` ends before it begins",
        ),
        (
            change(|i| i.operations.push(i.operations[0].clone())),
            "operation `api_call` is priced twice",
        ),
        (
            change(|i| i.operations[0].0.clear()),
            "name `` must have 1 to 128 bytes",
        ),
        (
            change(|i| i.tokens = vec![price("p", "m", 1), price("p", "m", 2)]),
            "tokens of `p/m` are priced twice",
        ),
    ];
    for (message, expected) in cases {
        assert_eq!(message, expected);
    }
    let many = (0..=limits::MAX_OPERATIONS)
        .map(|n| (n.to_string(), nanos(1)))
        .collect();
    let inputs = PriceInputs {
        operations: many,
        ..PriceInputs::default()
    };
    assert_eq!(PriceTable::new(&inputs), Err(PriceError::TooManyOperations));
}

#[test]
fn wrong_books_are_refused_by_version() {
    let message = |tables: &[PriceInputs]| PriceBook::new(tables).unwrap_err().to_string();
    assert_eq!(message(&[]), "no price table is given");
    assert_eq!(
        message(&[version("b", 10, None), version("a", 0, Some(11))]),
        "price tables `a` and `b` are in force at the same time"
    );
    assert_eq!(
        message(&[version("a", 0, None), version("b", 10, None)]),
        "price tables `a` and `b` are in force at the same time"
    );
    assert_eq!(
        message(&[version("a", 0, Some(1)), version("a", 1, None)]),
        "two price tables have the version `a`"
    );
    let many: Vec<_> = (0..=limits::MAX_TABLES as u64)
        .map(|n| version(&n.to_string(), n, Some(n + 1)))
        .collect();
    assert_eq!(message(&many), "more than `64` price tables are given");
}

fn price(provider: &str, model: &str, input: u64) -> TokenPrice {
    TokenPrice {
        provider: provider.to_owned(),
        model: model.to_owned(),
        input_per_million: nanos(input),
        output_per_million: nanos(4 * input),
        cached_per_million: None,
    }
}

#[test]
fn the_most_specific_token_price_wins() {
    let inputs = PriceInputs {
        tokens: vec![
            price("*", "*", 1),
            price("openai", "*", 2),
            price("openai", "gpt-4*", 3),
            price("openai", "gpt-4o*", 4),
            price("openai", "gpt-4o-mini", 5),
            price("*", "gpt-4o-mini", 6),
            price("*", "*-embed-*", 7),
            price("aws.bedrock", "*claude*", 8),
        ],
        ..PriceInputs::default()
    };
    let table = PriceTable::new(&inputs).unwrap();
    let cases = [
        ("openai", "gpt-4o-mini", 5),
        ("OpenAI", "GPT-4o-mini", 5),
        ("azure", "gpt-4o-mini", 6),
        ("openai", "gpt-4o-2024-08-06", 4),
        ("openai", "gpt-4-turbo", 3),
        ("openai", "o1", 2),
        ("other", "x-embed-3", 7),
        ("other", "x-embed", 1),
        ("aws.bedrock", "anthropic.claude-3", 8),
        ("", "", 1),
    ];
    for (provider, model, expected) in cases {
        let found = table
            .token_price(provider.as_bytes(), model.as_bytes())
            .unwrap();
        assert_eq!(
            found.input_per_million,
            nanos(expected),
            "{provider}/{model}"
        );
    }
    let long = "m".repeat(limits::MAX_NAME_BYTES + 1);
    assert_eq!(table.token_price(b"openai", long.as_bytes()), None);
    assert_eq!(
        PriceTable::default().tokens("openai", "gpt-4o", 1, 1, 1),
        None
    );
}

#[test]
fn wildcards_agree_with_a_naive_matcher() {
    fn naive(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), None) => naive(rest, text),
            (Some((b'*', rest)), Some((_, tail))) => naive(rest, text) || naive(pattern, tail),
            (Some((a, rest)), Some((b, tail))) => a == b && naive(rest, tail),
            _ => false,
        }
    }
    let words = |alphabet: &[u8], max: u32| {
        let mut words = vec![Vec::new()];
        let mut from = 0;
        for _ in 0..max {
            let upto = words.len();
            for at in from..upto {
                let word = words[at].clone();
                words.extend(
                    alphabet
                        .iter()
                        .map(|&letter| [&word[..], &[letter]].concat()),
                );
            }
            from = upto;
        }
        words
    };
    for pattern in words(b"ab*", 5).iter().skip(1) {
        let tokens = vec![price("*", std::str::from_utf8(pattern).unwrap(), 1)];
        let table = PriceTable::new(&PriceInputs {
            tokens,
            ..PriceInputs::default()
        })
        .unwrap();
        for text in &words(b"ab", 6) {
            let matched = table.token_price(b"", text).is_some();
            assert_eq!(matched, naive(pattern, text), "{pattern:?} {text:?}");
        }
    }
}

#[test]
fn token_costs_charge_cached_input_once_and_at_its_own_price() {
    let mut tokens = price("openai", "gpt-4o", 2_500_000_000);
    tokens.output_per_million = nanos(10_000_000_000);
    tokens.cached_per_million = Some(nanos(1_250_000_000));
    let inputs = PriceInputs {
        tokens: vec![tokens.clone()],
        ..PriceInputs::default()
    };
    let table = PriceTable::new(&inputs).unwrap();
    let cost = |input, output, cached| table.tokens("openai", "gpt-4o", input, output, cached);
    // 1,000 input tokens at 2.50 USD and 500 output tokens at 10 USD per million.
    assert_eq!(cost(1_000, 500, 0), Some(nanos(2_500_000 + 5_000_000)));
    // 400 of the 1,000 input tokens come from the cache at half the price.
    assert_eq!(
        cost(1_000, 500, 400),
        Some(nanos(1_500_000 + 500_000 + 5_000_000))
    );
    // Counted apart: 400 cached ones beside 100 others.
    assert_eq!(cost(100, 0, 400), Some(nanos(500_000)));
    assert_eq!(cost(0, 0, 0), Some(NanoUsd::ZERO));
    assert_eq!(cost(u64::MAX, u64::MAX, u64::MAX), Some(NanoUsd::MAX));
    tokens.cached_per_million = None;
    let cached = TokenUse {
        input: 1_000,
        output: 0,
        cached: 400,
    };
    assert_eq!(tokens.cost(cached), nanos(2_500_000));
    // Half a nano-dollar is rounded up once, at the end.
    assert_eq!(
        price("p", "m", 500_000).cost(TokenUse {
            input: 1,
            ..TokenUse::default()
        }),
        nanos(1)
    );
    assert_eq!(
        price("p", "m", 499_999).cost(TokenUse {
            input: 1,
            ..TokenUse::default()
        }),
        nanos(0)
    );
}
