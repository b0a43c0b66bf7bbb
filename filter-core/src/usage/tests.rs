use super::*;

fn scan(body: &str) -> UsageScanner {
    let mut scanner = UsageScanner::default();
    scanner.feed(body.as_bytes());
    scanner
}

fn tokens(input: u64, output: u64, cached: u64) -> Option<TokenUse> {
    Some(TokenUse {
        input,
        output,
        cached,
    })
}

const OPENAI_CHAT: &str = r#"{
  "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o-2024-08-06",
  "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi \"usage\": {\"prompt_tokens\": 9999}"}}],
  "usage": {"prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 7, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3}}
}"#;

const OPENAI_STREAM: &str = "data: {\"id\":\"1\",\"model\":\"gpt-4o\",\"choices\":[{\"delta\":{\"content\":\"Hel\"}}],\"usage\":null}\n\n\
data: {\"id\":\"1\",\"model\":\"gpt-4o\",\"choices\":[],\"usage\":{\"prompt_tokens\":8,\"completion_tokens\":2,\"total_tokens\":10}}\n\n\
data: [DONE]\n\n";

const OPENAI_RESPONSES: &str = "event: response.completed\n\
data: {\"type\":\"response.completed\",\"response\":{\"id\":\"r\",\"model\":\"gpt-5\",\"usage\":{\"input_tokens\":37,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens\":11}}}\n\n";

const ANTHROPIC_STREAM: &str = "event: message_start\n\
data: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"claude-sonnet-4-5\",\"usage\":{\"input_tokens\":25,\"cache_creation_input_tokens\":4,\"cache_read_input_tokens\":100,\"output_tokens\":1}}}\n\n\
event: content_block_delta\n\
data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"{\\\"usage\\\":{\\\"output_tokens\\\":77777}}\"}}\n\n\
event: message_delta\n\
data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\n\n";

const GEMINI_STREAM: &str = r#"[{"candidates": [{"content": {"parts": [{"text": "A"}]}}],
  "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 1}, "modelVersion": "gemini-2.5-pro"}
,
{"candidates": [{"content": {"parts": [{"text": "B"}]}}],
  "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 9, "thoughtsTokenCount": 3, "cachedContentTokenCount": 2}}]"#;

const SAMPLES: [(&str, Option<TokenUse>, &str); 5] = [
    (
        OPENAI_CHAT,
        Some(TokenUse {
            input: 19,
            output: 10,
            cached: 7,
        }),
        "gpt-4o-2024-08-06",
    ),
    (
        OPENAI_STREAM,
        Some(TokenUse {
            input: 8,
            output: 2,
            cached: 0,
        }),
        "gpt-4o",
    ),
    (
        OPENAI_RESPONSES,
        Some(TokenUse {
            input: 37,
            output: 11,
            cached: 5,
        }),
        "gpt-5",
    ),
    (
        ANTHROPIC_STREAM,
        Some(TokenUse {
            input: 129,
            output: 15,
            cached: 100,
        }),
        "claude-sonnet-4-5",
    ),
    (
        GEMINI_STREAM,
        Some(TokenUse {
            input: 5,
            output: 12,
            cached: 2,
        }),
        "gemini-2.5-pro",
    ),
];

#[test]
fn each_provider_form_is_read_as_documented() {
    for (body, wanted, model) in SAMPLES {
        let scanner = scan(body);
        assert_eq!(scanner.tokens(), wanted, "{body}");
        assert_eq!(scanner.model(), model.as_bytes(), "{body}");
    }
}

#[test]
fn it_does_not_matter_where_the_body_is_cut() {
    for (body, wanted, model) in SAMPLES {
        for size in [1, 2, 3, 7, 64] {
            let mut scanner = UsageScanner::default();
            for chunk in body.as_bytes().chunks(size) {
                scanner.feed(chunk);
            }
            assert_eq!(scanner.tokens(), wanted, "{size}");
            assert_eq!(scanner.model(), model.as_bytes(), "{size}");
        }
    }
}

#[test]
fn what_a_model_or_a_tool_says_about_usage_is_not_believed() {
    let table = [
        r#"{"choices":[{"message":{"content":"x","usage":{"prompt_tokens":5}}}]}"#,
        r#"{"content":[{"type":"tool_use","input":{"usage":{"input_tokens":5}}}]}"#,
        r#"{"output":{"usage":{"input_tokens":5}}}"#,
        r#"{"message":{"message":{"response":{"usage":{"input_tokens":5}}}}}"#,
        r#"{"message":"usage","input_tokens":5}"#,
        r#"{"usage":[{"input_tokens":5}]}"#,
        r#"{"usage":{"nested":{"input_tokens":5}}}"#,
        r#"{"usage":{"input_tokens":"5"}}"#,
        r#"{"usage":{"input_tokens":5.5}}"#,
        r#"{"usage":{"input_tokens":99999999999999999999999}}"#,
        r#""usage":{"input_tokens"#,
    ];
    for body in table {
        assert_eq!(scan(body).tokens(), None, "{body}");
    }
}

#[test]
fn a_broken_event_does_not_hide_the_next_one() {
    let body = "data: {\"delta\":{\"text\":\"cut off\n\ndata: {\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n";
    assert_eq!(scan(body).tokens(), tokens(3, 4, 0));
    let body =
        "data: {\"a\":{\"b\":[1,\n\ndata: {\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}\n\n";
    assert_eq!(scan(body).tokens(), tokens(3, 4, 0));
}

#[test]
fn deep_nesting_and_long_names_are_skipped() {
    let deep = format!("{}{}", "{\"a\":".repeat(5_000), "1");
    assert_eq!(scan(&deep).tokens(), None);
    let long = format!(
        "{{\"{}\":1,\"usage\":{{\"input_tokens\":6}}}}",
        "n".repeat(10_000)
    );
    assert_eq!(scan(&long).tokens(), tokens(6, 0, 0));
}

/// The scanner against a full parser, for documents that a generator makes: the same counts.
#[test]
fn random_documents_are_read_like_a_parser_reads_them() {
    let mut rng = fastrand::Rng::with_seed(4);
    for _ in 0..20_000 {
        let mut body = String::new();
        let wanted = document(&mut rng, &mut body);
        let mut scanner = UsageScanner::default();
        let cut = rng.usize(..=body.len());
        scanner.feed(&body.as_bytes()[..cut]);
        scanner.feed(&body.as_bytes()[cut..]);
        assert_eq!(scanner.tokens(), wanted, "{body}");
    }
}

/// One object with noise around a usage object, and what has to be found.
fn document(rng: &mut fastrand::Rng, out: &mut String) -> Option<TokenUse> {
    let at = rng.usize(0..4);
    let mut wanted = None;
    out.push('{');
    for index in 0..4 {
        if index > 0 {
            out.push_str([",", ", ", ",\n "][rng.usize(0..3)]);
        }
        if index == at && rng.bool() {
            let (input, output) = (rng.u64(0..1_000), rng.u64(0..1_000));
            out.push_str(&format!(
                "\"usage\": {{\"input_tokens\":{input} , \"output_tokens\" : {output}}}"
            ));
            wanted = tokens(input, output, 0);
        } else {
            out.push_str(&format!("\"k{index}\":"));
            noise(rng, out, 0);
        }
    }
    out.push('}');
    wanted
}

fn noise(rng: &mut fastrand::Rng, out: &mut String, depth: usize) {
    match rng.u8(0..if depth > 8 { 4 } else { 6 }) {
        0 => out.push_str("null"),
        1 => out.push_str(&format!("-{}.5e3", rng.u32(..))),
        2 => out.push_str(r#""\\\"usage\": {\"input_tokens\": 5} \u00e9""#),
        3 => out.push_str("true"),
        4 => {
            out.push('[');
            for index in 0..rng.usize(0..3) {
                if index > 0 {
                    out.push(',');
                }
                noise(rng, out, depth + 1);
            }
            out.push(']');
        }
        _ => {
            out.push_str("{\"usage\":");
            noise(rng, out, depth + 1);
            out.push_str(",\"input_tokens\":");
            noise(rng, out, depth + 1);
            out.push('}');
        }
    }
}

#[test]
fn any_bytes_are_scanned_without_harm_and_in_constant_memory() {
    let mut rng = fastrand::Rng::with_seed(9);
    let alphabet = b"{}[]\":,\\\n 0123456789usageinput_tokens\xff";
    for _ in 0..2_000 {
        let bytes: Vec<u8> = (0..rng.usize(0..400))
            .map(|_| *rng.choice(alphabet.iter()).unwrap())
            .collect();
        let mut scanner = UsageScanner::default();
        scanner.feed(&bytes);
        let _ = (scanner.tokens(), scanner.model());
    }
    assert!(size_of::<UsageScanner>() < 320);
}
