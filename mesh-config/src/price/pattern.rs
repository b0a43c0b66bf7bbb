//! Names with wildcards.

/// Whether `text` matches a pattern in which `*` stands for any bytes; letters match in any case.
/// Remembers only the last `*`, so the time is at most the product of both lengths: callers bound
/// them.
pub(crate) fn matches_pattern(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at_pattern, mut at_text) = (0_usize, 0_usize);
    // Where to go on when a literal does not match: after the last star, one byte further.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(at_text) {
        match pattern.get(at_pattern) {
            Some(b'*') => {
                at_pattern += 1;
                retry = Some((at_pattern, at_text));
            }
            Some(expected) if expected.eq_ignore_ascii_case(byte) => {
                at_pattern += 1;
                at_text += 1;
            }
            _ => {
                let Some((after_star, from)) = retry else {
                    return false;
                };
                retry = Some((after_star, from + 1));
                at_pattern = after_star;
                at_text = from + 1;
            }
        }
    }
    pattern
        .get(at_pattern..)
        .is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}
