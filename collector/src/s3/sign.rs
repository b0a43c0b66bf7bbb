//! AWS Signature Version 4, pure: the time comes in.

use std::fmt::Write as _;

use ring::{digest, hmac};

use super::address::Credentials;
use crate::store::compact::day_name;

/// What is signed.
#[derive(Debug)]
pub(super) struct Request<'a> {
    /// `GET`, `PUT`, ..
    pub(super) method: &'a str,
    /// Host and port as the `host` header carries them.
    pub(super) host: &'a str,
    /// Path, already encoded by [`encode_path`].
    pub(super) path: &'a str,
    /// Query, sorted by name, names and values already encoded.
    pub(super) query: &'a str,
    /// SHA-256 of the body in hex.
    pub(super) body_hash: &'a str,
}

/// Lower-case hex of SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn hmac(key: &[u8], text: &str) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes())
}

/// `YYYYMMDDTHHMMSSZ`.
fn timestamp(unix_s: u64) -> String {
    let (day, second) = (unix_s / 86_400, unix_s % 86_400);
    let day = day_name(i64::try_from(day).unwrap_or(0)).replace('-', "");
    format!(
        "{day}T{:02}{:02}{:02}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

/// The headers that make a request valid: name and value.
pub(super) fn headers(
    request: &Request<'_>,
    region: &str,
    credentials: &Credentials,
    unix_s: u64,
) -> Vec<(&'static str, String)> {
    let time = timestamp(unix_s);
    let day = time.get(..8).unwrap_or_default().to_owned();
    let mut signed = vec![
        ("host", request.host.to_owned()),
        ("x-amz-content-sha256", request.body_hash.to_owned()),
        ("x-amz-date", time.clone()),
    ];
    if let Some(token) = &credentials.token {
        signed.push(("x-amz-security-token", token.clone()));
    }
    let names: Vec<&str> = signed.iter().map(|(name, _)| *name).collect();
    let names = names.join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in &signed {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", request.body_hash);
    let scope = format!("{day}/{region}/s3/aws4_request");
    let text = format!(
        "AWS4-HMAC-SHA256\n{time}\n{scope}\n{}",
        sha256(canonical.as_bytes())
    );
    let mut key = hmac(format!("AWS4{}", credentials.secret).as_bytes(), &day);
    for step in [region, "s3", "aws4_request"] {
        key = hmac(key.as_ref(), step);
    }
    let signature = hex(hmac(key.as_ref(), &text).as_ref());
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders={names}, Signature={signature}",
        credentials.key
    );
    signed.push(("authorization", authorization));
    signed
}

/// Percent-encodes all but the unreserved characters.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// The same, slashes stay.
pub(super) fn encode_path(path: &str) -> String {
    let encoded: Vec<String> = path.split('/').map(encode).collect();
    encoded.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "GET Bucket Lifecycle" and "GET Bucket (List Objects)" of the S3 API reference's
    /// signature examples.
    #[test]
    fn signatures_equal_those_of_the_api_reference() {
        let credentials = Credentials {
            key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
            token: None,
        };
        // 2013-05-24T00:00:00Z
        let unix_s = 1_369_353_600;
        for (query, signature) in [
            (
                "lifecycle=",
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            ),
            (
                "max-keys=2&prefix=J",
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            ),
        ] {
            let request = Request {
                method: "GET",
                host: "examplebucket.s3.amazonaws.com",
                path: "/",
                query,
                body_hash: &sha256(b""),
            };
            let headers = headers(&request, "us-east-1", &credentials, unix_s);
            let (_, value) = headers.last().unwrap();
            assert!(
                value.ends_with(&format!("Signature={signature}")),
                "{value}"
            );
        }
        assert_eq!(timestamp(unix_s + 3_661), "20130524T010101Z");
    }

    #[test]
    fn paths_keep_their_slashes() {
        assert_eq!(
            encode_path("/a b/c=d/\u{e4}.parquet"),
            "/a%20b/c%3Dd/%C3%A4.parquet"
        );
        assert_eq!(encode("a/b+c"), "a%2Fb%2Bc");
    }
}
