//! Looking at bytes without going past an end.

/// The byte at an index; beyond the end a zero byte, which belongs to nothing.
pub(super) fn at(value: &[u8], index: usize) -> u8 {
    value.get(index).copied().unwrap_or(0)
}

/// The bytes from `start` to `end`, cut at the end of the value.
pub(super) fn part(value: &[u8], start: usize, end: usize) -> &[u8] {
    value.get(start..end.min(value.len())).unwrap_or_default()
}

/// Bytes that continue a word. Bytes above ASCII are parts of letters.
pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// Whether something may begin at `start`: not inside a word, and not behind a hyphen inside a
/// compound (`4716` in `7d6e-4716-9384`).
pub(super) fn begins(value: &[u8], start: usize) -> bool {
    let before = |distance: usize| {
        start
            .checked_sub(distance)
            .map_or(0, |index| at(value, index))
    };
    match before(1) {
        b'_' => true,
        b'-' => !before(2).is_ascii_alphanumeric(),
        b'.' => !before(2).is_ascii_digit(),
        byte => !is_word(byte),
    }
}

/// Whether something may end at `end`: the mirror image of [`begins`].
pub(super) fn ends(value: &[u8], end: usize) -> bool {
    let next_is_alphanumeric = at(value, end + 1).is_ascii_alphanumeric();
    match at(value, end) {
        b'_' | b'-' => !next_is_alphanumeric,
        b'.' => !at(value, end + 1).is_ascii_digit(),
        byte => !is_word(byte),
    }
}

/// The number of bytes of `@` or `+` at an index, plain or percent-encoded; zero when neither.
pub(super) fn encoded(value: &[u8], index: usize, plain: u8, hex: &[u8; 2]) -> usize {
    if at(value, index) == plain {
        1
    } else if at(value, index) == b'%'
        && part(value, index + 1, index + 3).eq_ignore_ascii_case(hex)
    {
        3
    } else {
        0
    }
}
