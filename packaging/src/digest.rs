//! SHA-256 as registries write it.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// `sha256:<64 hex digits>`, how registries name content.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex_sha256(bytes))
}

/// The 64 hex digits alone, how `sha256sum` and `http(s)://` modules in Istio write it.
#[must_use]
pub fn hex_sha256(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standard() {
        // FIPS 180-4, the message "abc".
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex_sha256(b"abc"), expected);
        assert_eq!(sha256(b"abc"), format!("sha256:{expected}"));
    }
}
