//! Tokens that their issuer marks by a prefix, so that scanners like this one find them.

use super::super::text::{at, begins, ends, part};
use super::super::{run, sensitive};
use super::is_base64_url;
use crate::classify::{Finding, Kind};

/// A documented form: a prefix and the length of what follows.
struct Form {
    prefix: &'static [u8],
    min: usize,
    max: usize,
    alphabet: fn(u8) -> bool,
}

const fn form(prefix: &'static [u8], min: usize, max: usize, alphabet: fn(u8) -> bool) -> Form {
    Form {
        prefix,
        min,
        max,
        alphabet,
    }
}

const FORMS: [Form; 29] = [
    form(b"AIza", 35, 35, is_base64_url), // Google API key
    form(b"EAACEdEose0cBA", 10, 300, is_alphanumeric), // Facebook
    form(b"SG.", 60, 70, is_base64_url_or_dot), // SendGrid
    form(b"dop_v1_", 64, 64, is_alphanumeric), // DigitalOcean
    form(b"ghp_", 36, 255, is_alphanumeric), // GitHub
    form(b"gho_", 36, 255, is_alphanumeric),
    form(b"ghu_", 36, 255, is_alphanumeric),
    form(b"ghs_", 36, 255, is_alphanumeric),
    form(b"ghr_", 36, 255, is_alphanumeric),
    form(b"github_pat_", 22, 255, is_base64_url),
    form(b"glpat-", 20, 64, is_base64_url), // GitLab
    form(b"hf_", 30, 64, is_alphanumeric),  // Hugging Face
    form(b"hvs.", 24, 255, is_base64_url),  // HashiCorp Vault
    form(b"npm_", 36, 36, is_alphanumeric),
    form(b"pypi-AgE", 50, 255, is_base64_url),
    form(b"rk_live_", 20, 255, is_alphanumeric), // Stripe
    form(b"rk_test_", 20, 255, is_alphanumeric),
    form(b"sk-ant-", 20, 255, is_base64_url),  // Anthropic
    form(b"sk-proj-", 20, 255, is_base64_url), // OpenAI
    form(b"sk-", 32, 255, is_alphanumeric),
    form(b"sk_live_", 20, 255, is_alphanumeric),
    form(b"sk_test_", 20, 255, is_alphanumeric),
    form(b"shpat_", 32, 32, is_alphanumeric), // Shopify
    form(b"whsec_", 24, 64, is_base64),
    form(b"xoxa-", 20, 255, is_base64_url), // Slack
    form(b"xoxb-", 20, 255, is_base64_url),
    form(b"xoxp-", 20, 255, is_base64_url),
    form(b"xoxs-", 20, 255, is_base64_url),
    form(b"ya29.", 20, 512, is_base64_url), // Google OAuth
];

/// Letters and digits after the prefix of an AWS access key id.
const AWS_ID_BYTES: usize = 16;
/// Long-lived and temporary keys, bearer tokens, context-specific credentials.
const AWS_PREFIXES: [&[u8]; 4] = [b"AKIA", b"ASIA", b"ABIA", b"ACCA"];

/// Bytes of the shortest token.
const MIN_BYTES: usize = 20;
/// The bytes with which a token can begin, as a set of bits.
const FIRST_BYTES: u128 = {
    let mut set = 1 << b'A';
    let mut forms: &[Form] = &FORMS;
    while let [form, rest @ ..] = forms {
        if let [first, ..] = form.prefix {
            set |= 1_u128 << *first;
        }
        forms = rest;
    }
    set
};

fn is_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
}

fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/'
}

fn is_base64_url_or_dot(byte: u8) -> bool {
    is_base64_url(byte) || byte == b'.'
}

/// The token that begins at `start`.
pub(super) fn begin(value: &[u8], start: usize) -> Option<Finding> {
    let first = at(value, start);
    // Most words end here: a token begins with few letters, and is long.
    if FIRST_BYTES & (1 << (first & 127)) == 0 || at(value, start + MIN_BYTES - 1) == 0 {
        return None;
    }
    if !begins(value, start) {
        return None;
    }
    aws_access_key(value, start).or_else(|| {
        FORMS
            .iter()
            .filter(|form| form.prefix.first() == Some(&first))
            .find_map(|form| {
                let from = start + form.prefix.len();
                if part(value, start, from) != form.prefix {
                    return None;
                }
                let end = run(value, from, form.max + 1, form.alphabet);
                let fits = (form.min..=form.max).contains(&(end - from));
                fits.then(|| sensitive(Kind::IssuedToken, start, end))
            })
    })
}

/// A prefix and 16 digits of base32.
fn aws_access_key(value: &[u8], start: usize) -> Option<Finding> {
    if !AWS_PREFIXES.contains(&part(value, start, start + 4)) {
        return None;
    }
    let is_base32 = |byte: u8| matches!(byte, b'A'..=b'Z' | b'2'..=b'7');
    let end = run(value, start + 4, AWS_ID_BYTES + 1, is_base32);
    let fits = end - start == 4 + AWS_ID_BYTES && ends(value, end);
    fits.then(|| sensitive(Kind::AwsAccessKey, start, end))
}
