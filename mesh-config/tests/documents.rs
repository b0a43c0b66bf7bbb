//! The two front ends: JSON agrees with `serde_json`, YAML resists bombs.

#![cfg(feature = "yaml")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use fastrand::Rng;
use mesh_config::Policy;

fn message(text: &str) -> String {
    Policy::from_json(text.as_bytes()).unwrap_err().to_string()
}

/// What our reader calls a syntax error must be one for `serde_json`, and the other way round.
/// Errors about options and our own limits do not count.
#[test]
fn json_syntax_agrees_with_serde_json_on_mutated_documents() {
    let seed = include_str!("policies/valid/istio_struct.json").trim_end();
    let pieces = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\\u00e9",
        "\\ud83d\\ude00",
        "\\ud800",
        "0",
        "-",
        "1.5",
        "1e9",
        "01",
        ".",
        "true",
        "nul",
        "null",
        " ",
        "\n",
        "\t",
        "é",
        "\u{1}",
        "a",
    ];
    let mut rng = Rng::with_seed(7);
    let mut refused = 0;
    for _ in 0..15_000 {
        let mut text = seed.to_owned();
        for _ in 0..rng.usize(1..4) {
            let mut at = rng.usize(0..=text.len());
            while !text.is_char_boundary(at) {
                at -= 1;
            }
            if rng.bool() {
                text.insert_str(at, rng.choice(pieces).unwrap());
            } else if at < text.len() {
                text.remove(at);
            }
        }
        // A number too large for them is a problem of its option for us.
        let theirs = match serde_json::from_str::<serde_json::Value>(&text) {
            Ok(_) => true,
            Err(error) if error.to_string().contains("out of range") => continue,
            Err(_) => false,
        };
        let ours = match Policy::from_json(text.as_bytes()) {
            Ok(_) => true,
            Err(errors) => errors.iter().any(|error| {
                let shown = error.to_string();
                !error.path.is_empty()
                    || shown.contains("unknown key")
                    || shown.contains("twice")
                    || shown.contains("a mapping")
            }),
        };
        assert_eq!(ours, theirs, "{text}");
        refused += u32::from(!theirs);
    }
    assert!((2_000..14_000).contains(&refused), "{refused}");
}

#[test]
fn json_strings_are_unescaped() {
    let json = r#"{"service":{"name":"\u00e9\ud83d\ude00\n\"\\\/"}}"#;
    let policy = Policy::from_json(json.as_bytes()).unwrap().policy;
    assert_eq!(policy.service.name, "é😀\n\"\\/");
    assert_eq!(
        policy.to_filter_json(),
        r#"{"service":{"name":"é😀\n\"\\/"}}"#
    );
}

#[test]
fn json_that_is_not_text_is_refused() {
    let errors = Policy::from_json(b"{\"service\": \"\xff\"}")
        .unwrap_err()
        .to_string();
    assert_eq!(errors, "error: text is not UTF-8");
}

#[test]
fn documents_have_limits() {
    assert!(message(&"[".repeat(100_000)).contains("levels deep"));
    assert!(message(&format!("[{}0]", "0,".repeat(150_000))).contains("more than 100000 values"));
    assert!(message(&format!("\"{}\"", "a".repeat(1 << 20))).contains("longer than 1048576 bytes"));
    let keys: String = (0..10_001).map(|key| format!("k{key}: 0\n")).collect();
    let json = format!(
        "{{{}}}",
        keys.trim_end()
            .replace('k', "\"k")
            .replace(':', "\":")
            .replace('\n', ",")
    );
    assert!(
        message(&json).contains("more than 10000 keys"),
        "{}",
        message(&json)
    );
    let yaml = |text: &str| Policy::from_yaml(text, "").unwrap_err().to_string();
    let nested = yaml(&format!("{}{}", "[".repeat(40), "]".repeat(40)));
    assert!(nested.contains("levels deep"), "{nested}");
    assert!(yaml(&keys).contains("more than 10000 keys"));
    // Deeper still the YAML scanner gives up by itself.
    assert!(yaml(&"[".repeat(100_000)).contains("recursion limit"));
    assert!(yaml(&format!("# {}", "a".repeat(1 << 20))).contains("longer than 1048576 bytes"));
}

#[test]
fn alias_bombs_are_refused_before_they_grow() {
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
    }
    let text = Policy::from_yaml(&bomb, "").unwrap_err().to_string();
    assert!(text.contains("more than 100000 values"), "{text}");
    let endless = Policy::from_yaml("a: &a [*a]", "").unwrap_err().to_string();
    assert!(
        endless.contains("alias to a value that is not complete yet"),
        "{endless}"
    );
}
