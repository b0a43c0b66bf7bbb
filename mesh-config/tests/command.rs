//! The `mesh-config` command: exit codes, messages, results.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/tracemeter.yaml");
const RULES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/spec/sampling_rules.yaml"
);
const WRONG: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/policies/invalid/bad_rates.yaml"
);

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mesh-config"))
        .args(words)
        .output()
        .unwrap()
}

fn run_with_input(words: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mesh-config"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

#[test]
fn check_says_ok_and_exits_0() {
    let output = run(&["check", SAMPLE, RULES]);
    assert_eq!((code(&output), err(&output)), (0, String::new()));
    assert_eq!(out(&output), format!("{SAMPLE}: ok\n{RULES}: ok\n"));
}

#[test]
fn check_names_file_line_and_path_and_exits_1() {
    let output = run(&["check", WRONG, SAMPLE]);
    assert_eq!(code(&output), 1);
    let first = err(&output).lines().next().unwrap().to_owned();
    let wanted = "error: sampling.default_rate: rate `1.5` is not between 0 and 1";
    assert_eq!(first, format!("{WRONG}:7:17: {wanted}"));
    assert_eq!(
        out(&output),
        format!("{SAMPLE}: ok\n"),
        "the good file is still checked"
    );
    assert!(
        !err(&output).contains('\u{1b}'),
        "no colour outside a terminal"
    );
}

#[test]
fn check_reads_standard_input() {
    let output = run_with_input(&["check", "-"], "sampling: {default_rate: 2}");
    assert_eq!(code(&output), 1);
    assert!(
        err(&output).starts_with("standard input:1:26: error: "),
        "{}",
        err(&output)
    );
}

#[test]
fn wrong_command_lines_exit_2_and_say_why() {
    for (words, message) in [
        (vec!["frob"], "unknown command `frob`"),
        (vec!["check"], "no file given"),
        (
            vec!["check", "/nonexistent/x.yaml"],
            "cannot read `/nonexistent/x.yaml`",
        ),
        (vec!["check", "--frob"], "unknown option `--frob`"),
        (vec!["explain", "--path"], "option `--path` needs a value"),
        (
            vec!["explain", "--status", "abc"],
            "value `abc` of `--status` is not understood",
        ),
        (
            vec!["explain", "--trace-id", "abc"],
            "`abc` is not a trace id",
        ),
        (vec!["diff", SAMPLE], "two files are needed"),
        (vec!["render"], "no target given"),
        (vec!["render", "docker"], "unknown target `docker`"),
        (vec!["render", "envoy"], "option `--service` is missing"),
        (vec!["docs", "x"], "unexpected argument `x`"),
        (
            vec![
                "render",
                "envoy",
                "--service",
                "a",
                "--wasm",
                "b",
                "--inbound",
                "x",
            ],
            "is HOST:PORT=HOST:PORT",
        ),
    ] {
        let output = run(&words);
        assert_eq!(code(&output), 2, "{words:?}");
        assert!(
            err(&output).contains(message),
            "{words:?}: {}",
            err(&output)
        );
        assert_eq!(out(&output), "", "{words:?}");
    }
    assert_eq!(code(&run(&[])), 2);
}

#[test]
fn every_command_has_help() {
    for words in [
        vec!["help"],
        vec!["--help"],
        vec!["check", "--help"],
        vec!["help", "explain"],
        vec!["diff", "-h"],
        vec!["docs", "--help"],
        vec!["schema", "--help"],
        vec!["render", "--help"],
        vec!["render", "envoy", "--help"],
        vec!["render", "filter", "--help"],
        vec!["render", "istio", "--help"],
        vec!["render", "json", "--help"],
    ] {
        let output = run(&words);
        assert_eq!(code(&output), 0, "{words:?}");
        assert!(out(&output).contains("usage: mesh-config"), "{words:?}");
        assert!(
            out(&output).lines().all(|line| line.len() <= 100),
            "{words:?}"
        );
    }
}

#[test]
fn explain_shows_rules_thresholds_verdict_and_price() {
    let output = run(&[
        "explain",
        "--policy",
        RULES,
        "--service",
        "checkout",
        "--path",
        "/pay/42",
        "--status",
        "503",
        "--duration",
        "1.2s",
        "--request-bytes",
        "2MiB",
        "--trace-id",
        "4bf92f3577b34da6a3ce929d0e0e4736",
    ]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    let text = out(&output);
    for wanted in [
        "rule      priority_rules[4] \"Slow requests\": duration_ms > 1000 @ 0.5\n",
        "open at the request, waits for error (stream_end)\n            matches at the end\n",
        "start     p = 0.1, T = e666, R = ce929d0e0e4736 < T, by default_rate\n",
        "end       p = 1, T = 0, R = ce929d0e0e4736 >= T, by error (priority_rules[0])\n",
        "verdict   kept when the response had ended, sampling.reason = error\n",
        "price     0.0000222 USD = 0.00001 x (1 + 1200 ms / 100 x 0.1 + 2097152 bytes / 2^20 x 0.01)",
    ] {
        assert!(text.contains(wanted), "{wanted}\nnot in\n{text}");
    }
}

#[test]
fn explain_follows_mappings_headers_and_trust() {
    let explain = |words: &[&str]| {
        let mut all = vec![
            "explain",
            "--policy",
            SAMPLE,
            "--trace-id",
            "00000000000000010000000000000000",
        ];
        all.extend(words);
        out(&run(&all))
    };
    let chat = explain(&["--path", "/v1/chat/completions"]);
    assert!(chat.contains("operation_type = ml_inference, by attributes.operation_type[0]\n"));
    assert!(
        chat.contains("verdict   dropped so far: open rules may still keep it"),
        "{chat}"
    );
    assert!(chat.contains("price     0.0001 USD"));
    let pii = explain(&["--path", "/users/42"]);
    assert!(pii.contains("data_tag = PII, by attributes.data_tag[0]\n"));
    assert!(
        pii.contains("verdict   kept, sampling.reason = data_class\n"),
        "{pii}"
    );
    let flow = explain(&["--grpc", "acme.payment.Cards/Charge"]);
    assert!(flow.contains("sampling.reason = critical_flow\n"), "{flow}");
    let review = explain(&["--header", "X-HITL-Required=true"]);
    assert!(
        review.contains("sampling.reason = human_review\n"),
        "{review}"
    );
    assert!(explain(&["--parent-sampled"]).contains("sampling.reason = parent_sampled\n"));
    let forged = explain(&["--parent-sampled", "--direction", "gateway"]);
    assert!(
        !forged.contains("parent_sampled"),
        "an edge clamps the flag: {forged}"
    );
    let probe = explain(&["--path", "/healthz"]);
    assert!(probe.contains("p = 0, by rate_zero\n"), "{probe}");
}

#[test]
fn explain_decides_many_ids_within_binomial_bounds() {
    let mut rng = fastrand::Rng::with_seed(5);
    let ids: Vec<String> = (0..100_000)
        .map(|_| format!("{:032x}", rng.u128(1..)))
        .collect();
    let output = run_with_input(
        &["explain", "--policy", RULES, "--ids", "-"],
        &ids.join("\n"),
    );
    let text = out(&output);
    let kept = text
        .lines()
        .filter(|line| line.ends_with(" kept default_rate"))
        .count();
    let dropped = text
        .lines()
        .filter(|line| line.ends_with(" dropped not_sampled"))
        .count();
    assert_eq!(kept + dropped, ids.len());
    // Four standard deviations of 100,000 draws at 10 %.
    assert!((9_620..=10_380).contains(&kept), "{kept}");
    for (id, line) in ids.iter().zip(text.lines()) {
        let randomness = u64::from_str_radix(&id[18..], 16).unwrap();
        let keep = randomness >= 0x00e6_6600_0000_0000;
        assert_eq!(
            line.split(' ').nth(1),
            Some(if keep { "kept" } else { "dropped" }),
            "{id}"
        );
    }
}

#[test]
fn diff_says_what_changes_and_exits_1() {
    let output = run(&["diff", RULES, SAMPLE]);
    assert_eq!(code(&output), 1);
    let text = out(&output);
    for wanted in [
        "  sampling.service_rates.robot_control: gone, 1\n",
        "  sampling.priority_rules[\"Error traces\"]: gone: condition error = true, sample_rate 1\n",
        "  sampling.error_flood.kept_per_minute: 60 -> 30\n",
        "  robot_control, environment any other: 100 % by service_rate -> 10 % by default_rate\n",
    ] {
        assert!(text.contains(wanted), "{wanted}\nnot in\n{text}");
    }
    let same = run(&["diff", SAMPLE, SAMPLE]);
    assert_eq!((code(&same), out(&same).as_str()), (0, "nothing differs\n"));
}

#[test]
fn diff_sees_options_that_were_set_to_another_sections_default() {
    let folder = std::env::temp_dir().join(format!("mesh-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (old, new) = (folder.join("old.yaml"), folder.join("new.yaml"));
    std::fs::write(&old, "").unwrap();
    std::fs::write(
        &new,
        "trace_storage: {hot: {full_fidelity: false}}\ncost: {operations: {api_call: 0.00002}}",
    )
    .unwrap();
    let output = run(&["diff", old.to_str().unwrap(), new.to_str().unwrap()]);
    assert_eq!(
        out(&output),
        "options\n  cost.operations.api_call: 0.00001 -> 0.00002\n  \
         trace_storage.hot.full_fidelity: true -> false\n\
         prices (a call of 100 ms without a body)\n  api_call: 0.000011 -> 0.000022 USD (+100.0 %)\n"
    );
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn diff_tells_secrets_apart_without_showing_them() {
    let folder = std::env::temp_dir().join(format!("mesh-config-secret-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, key: &str| {
        let path = folder.join(name);
        let text = format!(
            "classification: {{redaction: {{mode: hash, hash_key: {key}}}}}\nexport: {{headers: {{authorization: {key}}}}}"
        );
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let output = run(&[
        "diff",
        &write("a", "first-secret-value"),
        &write("b", "other-secret-value"),
    ]);
    let text = out(&output);
    assert!(
        text.contains("classification.redaction.hash_key: (secret "),
        "{text}"
    );
    assert!(
        text.contains("export.headers.authorization: (secret "),
        "{text}"
    );
    assert!(!text.contains("value"), "{text}");
    let policy =
        mesh_config::Policy::from_yaml("export: {headers: {authorization: hidden-thing}}", "");
    let policy = policy.unwrap().policy;
    assert!(!format!("{policy:?}").contains("hidden-thing"));
    assert!(policy.to_filter_json().contains("hidden-thing"));
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn rendered_json_loads_as_the_same_policy() {
    let json = out(&run(&["render", "json", "--policy", SAMPLE]));
    let sample = mesh_config::Policy::from_yaml(include_str!("../samples/tracemeter.yaml"), "");
    assert_eq!(json.trim_end(), sample.unwrap().policy.to_filter_json());
}
