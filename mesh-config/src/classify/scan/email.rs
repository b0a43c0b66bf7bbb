//! E-mail addresses, and credentials in URLs, which look like them.

use super::text::{at, encoded, part};
use super::{pii, run, sensitive};
use crate::classify::{Detectors, Finding, Kind};

/// Limits of RFC 5321.
const MAX_LOCAL_BYTES: usize = 64;
const MAX_DOMAIN_BYTES: usize = 255;
/// Bytes before the `@` in which the beginning of a URL's authority is looked for.
const MAX_CREDENTIALS_BYTES: usize = 256;
/// Bytes of the shortest password in a URL that is worth hiding.
const MIN_PASSWORD_BYTES: usize = 2;
/// Last labels that no public address has: names inside a cluster, and file names such as
/// `logo@2x.png`.
const NOT_PUBLIC: [&[u8]; 14] = [
    b"local",
    b"internal",
    b"localhost",
    b"invalid",
    b"svc",
    b"png",
    b"jpg",
    b"jpeg",
    b"gif",
    b"webp",
    b"svg",
    b"js",
    b"css",
    b"so",
];

/// The address or the credentials around an `@`.
#[inline(never)]
pub(super) fn around(value: &[u8], mark: usize, floor: usize, on: &Detectors) -> Option<Finding> {
    let mark_len = encoded(value, mark, b'@', b"40");
    if mark_len == 0 {
        return if on.phone {
            super::number::phone(value, mark)
        } else {
            None
        };
    }
    if mark_len == 1
        && let Some(start) = credentials_before(value, mark, floor)
    {
        return on
            .token
            .then(|| sensitive(Kind::UrlCredentials, start, mark));
    }
    if !on.email {
        return None;
    }
    let start = local_before(value, mark, floor)?;
    let end = domain_after(value, mark + mark_len)?;
    // The user of a remote repository (`git@github.com:org/repo`) is nobody.
    let local = part(value, start, mark);
    (local != b"git").then(|| pii(Kind::Email, start, end))
}

/// The start of `user:password` when the `@` ends the credentials of a URL.
fn credentials_before(value: &[u8], mark: usize, floor: usize) -> Option<usize> {
    let from = mark.saturating_sub(MAX_CREDENTIALS_BYTES).max(floor);
    let before = part(value, from, mark);
    let length = before
        .iter()
        .rev()
        .take_while(|byte| !b"/@ \t\r\n\"'<>?#".contains(byte))
        .count();
    let start = mark - length;
    let slashes = start
        .checked_sub(3)
        .is_some_and(|scheme| part(value, scheme, start) == b"://");
    let user_and_password = part(value, start, mark);
    let colon = user_and_password.iter().position(|byte| *byte == b':')?;
    let password = user_and_password.len() - colon - 1;
    (slashes && password >= MIN_PASSWORD_BYTES).then_some(start)
}

/// The start of the local part that ends at `mark`.
fn local_before(value: &[u8], mark: usize, floor: usize) -> Option<usize> {
    let from = mark.saturating_sub(MAX_LOCAL_BYTES).max(floor);
    let before = part(value, from, mark);
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || b"._%+-'!#$&*~^".contains(byte);
    let mut local = before;
    if let Some(foreign) = before.iter().rposition(|byte| !belongs(byte)) {
        local = before.get(foreign + 1..).unwrap_or_default();
    }
    // Delimiters of query strings and quotes are allowed in addresses, but stand before them.
    if let Some(delimiter) = local.iter().rposition(|byte| b"&#'".contains(byte)) {
        local = local.get(delimiter + 1..).unwrap_or_default();
    }
    let first = local.iter().position(|byte| byte.is_ascii_alphanumeric())?;
    let last = local.last().copied().unwrap_or(0);
    let start = mark - local.len() + first;
    (last != b'.' && start < mark).then_some(start)
}

/// The end of a public domain name that begins at `start`.
fn domain_after(value: &[u8], start: usize) -> Option<usize> {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let mut end = run(value, start, MAX_DOMAIN_BYTES, belongs);
    while end > start && matches!(at(value, end - 1), b'.' | b'-') {
        end -= 1;
    }
    let domain = part(value, start, end);
    let dot = domain.iter().rposition(|byte| *byte == b'.')?;
    let last = domain.get(dot + 1..)?;
    let labels_are_full = domain
        .split(|byte| *byte == b'.')
        .all(|label| !label.is_empty() && label.len() <= 63);
    let is_name = (2..=24).contains(&last.len()) && last.iter().all(u8::is_ascii_alphabetic);
    let is_public = !NOT_PUBLIC
        .iter()
        .any(|name| name.eq_ignore_ascii_case(last));
    (labels_are_full && is_name && is_public).then_some(end)
}
