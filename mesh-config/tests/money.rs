//! Amounts: the table of texts that are read and refused, exact round trips, and the ends of the
//! range.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

use mesh_config::money::{MAX_DECIMAL_BYTES, MoneyError, NANOS_PER_USD, NanoUsd};

/// A small, seedable generator (SplitMix64), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Amounts of every magnitude, not only huge ones.
    fn nanos(&mut self) -> u64 {
        let bits = self.next() % 65;
        if bits == 0 {
            0
        } else {
            self.next() >> (64 - bits)
        }
    }
}

fn text(amount: NanoUsd) -> String {
    let mut buffer = [0xff; 24];
    String::from_utf8(amount.write_decimal(&mut buffer).to_vec()).unwrap()
}

#[test]
fn plain_decimals_are_read_exactly() {
    let table: &[(&str, u64)] = &[
        ("0", 0),
        ("0.0", 0),
        ("0.000000000", 0),
        ("000", 0),
        ("1", 1_000_000_000),
        ("001.50", 1_500_000_000),
        ("0.0001", 100_000),
        ("0.00001", 10_000),
        ("0.000001", 1_000),
        ("0.000000001", 1),
        ("0.0000000004", 0),
        ("0.00000000049999", 0),
        ("0.0000000005", 1),
        ("0.0000000015", 2),
        ("0.9999999995", 1_000_000_000),
        ("12345.678901234", 12_345_678_901_234),
        ("18446744073.709551615", u64::MAX),
        ("18446744073.7095516154", u64::MAX),
    ];
    for &(input, nanos) in table {
        assert_eq!(
            NanoUsd::parse_decimal(input.as_bytes()),
            Ok(NanoUsd::from_nanos(nanos)),
            "{input}"
        );
    }
}

#[test]
fn everything_else_is_refused_with_its_reason() {
    let long = "0".repeat(MAX_DECIMAL_BYTES + 1);
    let table: &[(&str, MoneyError)] = &[
        ("", MoneyError::Empty),
        (".", MoneyError::InvalidByte { offset: 0 }),
        (".5", MoneyError::InvalidByte { offset: 0 }),
        ("1.", MoneyError::MissingDigits),
        ("-1", MoneyError::InvalidByte { offset: 0 }),
        ("+1", MoneyError::InvalidByte { offset: 0 }),
        (" 1", MoneyError::InvalidByte { offset: 0 }),
        ("1 ", MoneyError::InvalidByte { offset: 1 }),
        ("1e-5", MoneyError::InvalidByte { offset: 1 }),
        ("1.2.3", MoneyError::InvalidByte { offset: 3 }),
        ("1,5", MoneyError::InvalidByte { offset: 1 }),
        ("0x1", MoneyError::InvalidByte { offset: 1 }),
        ("NaN", MoneyError::InvalidByte { offset: 0 }),
        ("inf", MoneyError::InvalidByte { offset: 0 }),
        ("\u{0661}", MoneyError::InvalidByte { offset: 0 }),
        ("18446744073.7095516155", MoneyError::TooLarge),
        ("18446744073.709551616", MoneyError::TooLarge),
        ("18446744074", MoneyError::TooLarge),
        (
            "99999999999999999999999999999999999999",
            MoneyError::TooLarge,
        ),
        (&long, MoneyError::TooLong),
    ];
    for (input, reason) in table {
        assert_eq!(
            NanoUsd::parse_decimal(input.as_bytes()),
            Err(*reason),
            "{input}"
        );
    }
}

#[test]
fn amounts_are_written_without_superfluous_digits() {
    let table: &[(u64, &str)] = &[
        (0, "0"),
        (1, "0.000000001"),
        (10, "0.00000001"),
        (100_000, "0.0001"),
        (1_000_000_000, "1"),
        (1_500_000_000, "1.5"),
        (10_000_000_000, "10"),
        (100_000_000_001, "100.000000001"),
        (u64::MAX, "18446744073.709551615"),
    ];
    for &(nanos, expected) in table {
        assert_eq!(text(NanoUsd::from_nanos(nanos)), expected);
        assert_eq!(NanoUsd::from_nanos(nanos).to_string(), expected);
    }
    assert_eq!(
        format!(
            "{:>8}|{:<6}|",
            NanoUsd::from_nanos(500_000_000),
            NanoUsd::ZERO
        ),
        "     0.5|0     |"
    );
}

#[test]
fn printing_and_reading_returns_the_same_amount() {
    let mut random = Random(1);
    for _ in 0..200_000 {
        let amount = NanoUsd::from_nanos(random.nanos());
        let printed = text(amount);
        assert_eq!(printed.parse(), Ok(amount), "{printed}");
        let fraction = printed
            .split_once('.')
            .map_or("1", |(_, fraction)| fraction);
        assert!(!fraction.ends_with('0') && fraction.len() <= 9, "{printed}");
    }
}

#[test]
fn arbitrary_bytes_never_panic_and_what_is_read_agrees_with_an_oracle() {
    let alphabet = b"0000123456789999..-+e ";
    let mut random = Random(2);
    let mut read = 0_u32;
    for _ in 0..300_000 {
        let len = random.next() as usize % 26;
        let input: Vec<u8> = (0..len)
            .map(|_| alphabet[random.next() as usize % alphabet.len()])
            .collect();
        let got = NanoUsd::parse_decimal(&input);
        assert_eq!(
            got.ok(),
            oracle(&input),
            "{}",
            String::from_utf8_lossy(&input)
        );
        read += u32::from(got.is_ok());
    }
    assert!(read > 10_000, "{read} of the random texts were amounts");
}

/// The same grammar in the most direct form: split at the point, pad to ten decimals, `u128`.
fn oracle(input: &[u8]) -> Option<NanoUsd> {
    let input = std::str::from_utf8(input).ok()?;
    let (whole, fraction) = input.split_once('.').unwrap_or((input, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return None;
    }
    let ten: String = fraction
        .chars()
        .chain("0000000000".chars())
        .take(10)
        .collect();
    let tenths: u128 = format!("{whole}{ten}").parse().ok()?;
    u64::try_from((tenths + 5) / 10)
        .ok()
        .map(NanoUsd::from_nanos)
}

#[test]
fn doubles_of_decimal_amounts_become_exactly_that_amount() {
    let mut random = Random(3);
    for _ in 0..200_000 {
        // Below 2^23 dollars a double tells every nano-dollar apart.
        let amount = NanoUsd::from_nanos(random.nanos() % (8_388_608 * NANOS_PER_USD));
        let double: f64 = text(amount).parse().unwrap();
        assert_eq!(NanoUsd::from_f64(double), Ok(amount));
        assert_eq!(amount.to_f64().to_bits(), double.to_bits());
    }
}

#[test]
fn doubles_round_half_up_on_their_exact_value() {
    let half = 0.5 / 1e9 * 1.0000001;
    assert_eq!(NanoUsd::from_f64(half), Ok(NanoUsd::from_nanos(1)));
    assert_eq!(NanoUsd::from_f64(0.499_999 / 1e9), Ok(NanoUsd::ZERO));
    // 2^-10 USD is 976562.5 nano-dollars exactly: a true tie.
    assert_eq!(
        NanoUsd::from_f64(1.0 / 1024.0),
        Ok(NanoUsd::from_nanos(976_563))
    );
    for tiny in [-0.0, f64::MIN_POSITIVE, f64::from_bits(1), 1e-300, 1e-30] {
        assert_eq!(NanoUsd::from_f64(tiny), Ok(NanoUsd::ZERO));
    }
}

#[test]
fn doubles_that_are_no_amount_are_refused() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(NanoUsd::from_f64(bad), Err(MoneyError::NotFinite));
    }
    for bad in [-1.0, -1e-300] {
        assert_eq!(NanoUsd::from_f64(bad), Err(MoneyError::Negative));
    }
    for bad in [18_446_744_074.0, 1e16, 4.6e15, 1e300, f64::MAX] {
        assert_eq!(NanoUsd::from_f64(bad), Err(MoneyError::TooLarge), "{bad}");
    }
}

#[test]
fn sums_stop_at_the_largest_amount() {
    let (one, max) = (NanoUsd::from_nanos(1), NanoUsd::MAX);
    assert_eq!(max.saturating_add(one), max);
    assert_eq!(max.checked_add(one), None);
    assert_eq!(NanoUsd::ZERO.saturating_sub(one), NanoUsd::ZERO);
    assert_eq!(NanoUsd::ZERO.checked_sub(one), None);
    assert_eq!(max.saturating_mul(2), max);
    assert_eq!(max.checked_mul(2), None);
    assert_eq!([max, one, one].into_iter().sum::<NanoUsd>(), max);
    assert_eq!(NanoUsd::from_nanos_saturating(u128::MAX), max);
    assert_eq!(NanoUsd::from_nanos_saturating(7), NanoUsd::from_nanos(7));
}

#[test]
fn rounding_to_micro_dollars_is_half_up_and_stays_in_range() {
    for (nanos, rounded) in [
        (0, 0),
        (499, 0),
        (500, 1_000),
        (1_499, 1_000),
        (1_500, 2_000),
    ] {
        assert_eq!(
            NanoUsd::from_nanos(nanos).round_to_micros(),
            NanoUsd::from_nanos(rounded)
        );
    }
    assert_eq!(
        NanoUsd::MAX.round_to_micros().as_nanos(),
        u64::MAX - u64::MAX % 1_000
    );
}
