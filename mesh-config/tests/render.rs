//! Rendered configurations are byte for byte the committed ones, which were checked with Envoy
//! 1.40 (validate mode) and read back as YAML with the policy inside.
//! To renew them: run this test with `RENEW_GOLDEN=1`, then validate the new files.

#![cfg(feature = "cli")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::Path;
use std::process::Command;

const FOLDER: &str = env!("CARGO_MANIFEST_DIR");

fn render(words: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mesh-config"))
        .arg("render")
        .args(words)
        .current_dir(FOLDER)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn golden(name: &str, words: &[&str]) {
    let path = Path::new(FOLDER).join("tests/golden").join(name);
    let found = render(words);
    if std::env::var_os("RENEW_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let wanted = std::fs::read_to_string(&path).unwrap();
    assert_eq!(found, wanted, "{name}");
}

const RULES: &str = "tests/spec/sampling_rules.yaml";
const SAMPLE: &str = "samples/tracemeter.yaml";

#[test]
fn sidecar_is_complete() {
    golden(
        "envoy_sidecar.yaml",
        &[
            "envoy",
            "--policy",
            RULES,
            "--wasm",
            "/etc/tracemeter/tracemeter.wasm",
            "--service",
            "payment",
            "--namespace",
            "shop",
            "--environment",
            "production",
            "--collector",
            "collector:4318",
            "--inbound",
            "0.0.0.0:8080=127.0.0.1:9000",
            "--outbound",
            "127.0.0.1:15001",
            "--route",
            "analytics=10.0.0.7:8080",
            "--route",
            "*=mesh.example:80",
            "--admin",
            "127.0.0.1:9901",
            "--access-log",
            "/dev/stdout",
        ],
    );
}

#[test]
fn ingress_is_a_gateway_with_routes() {
    golden(
        "envoy_ingress.yaml",
        &[
            "envoy",
            "--wasm",
            "tracemeter.wasm",
            "--service",
            "ingress",
            "--role",
            "ingress",
            "--collector",
            "[::1]:4318",
            "--inbound",
            "[::]:8080",
            "--route",
            "*=127.0.0.1:9000",
        ],
    );
}

#[test]
fn tracer_of_envoy_leaves_the_headers_to_their_owner() {
    let common = [
        "--wasm",
        "tracemeter.wasm",
        "--service",
        "payment",
        "--tracer",
        "collector:4317",
    ];
    let words = [
        &["envoy", "--inbound", "127.0.0.1:0=127.0.0.1:9000"][..],
        &common,
    ]
    .concat();
    golden("envoy_tracer_owner.yaml", &words);
    let companion = [
        &words[..],
        &["--policy", "tests/golden/companion_policy.yaml"],
    ]
    .concat();
    golden("envoy_tracer_companion.yaml", &companion);
}

#[test]
fn watched_filter_file_and_proxy_fit_together() {
    let common = [
        "--policy",
        RULES,
        "--wasm",
        "tracemeter.wasm",
        "--service",
        "payment",
    ];
    let proxy = [
        &[
            "envoy",
            "--inbound",
            "127.0.0.1:0=127.0.0.1:9000",
            "--filter-file",
            "/x/f.yaml",
        ][..],
        &common,
    ]
    .concat();
    golden("envoy_watching.yaml", &proxy);
    golden("filter_file.yaml", &[&["filter"][..], &common].concat());
}

#[test]
fn istio_resources_hold_the_policy() {
    golden(
        "istio_traffic_extension.yaml",
        &[
            "istio",
            "--policy",
            SAMPLE,
            "--kind",
            "TrafficExtension",
            "--gateway",
            "--selector",
            "istio=ingressgateway",
            "--namespace",
            "istio-ingress",
            "--with-telemetry",
        ],
    );
    golden(
        "istio_wasm_plugin.yaml",
        &[
            "istio",
            "--policy",
            RULES,
            "--target",
            "Service/payment",
            "--namespace",
            "shop",
        ],
    );
    golden(
        "istio_envoy_filter.yaml",
        &["istio", "--policy", RULES, "--kind", "EnvoyFilter"],
    );
}

#[test]
fn policies_with_quotes_stay_intact() {
    let folder = std::env::temp_dir().join(format!("mesh-config-render-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("policy.yaml");
    let condition = r#"url.path = "/it's" and request.header["x"] != 'a "b" \\ c'"#;
    let text = format!(
        "sampling: {{critical_flows: [{}]}}",
        serde_json::to_string(condition).unwrap()
    );
    std::fs::write(&file, text).unwrap();
    let rendered = render(&[
        "istio",
        "--kind",
        "EnvoyFilter",
        "--policy",
        file.to_str().unwrap(),
    ]);
    let line = rendered
        .lines()
        .find_map(|line| line.trim().strip_prefix("value: '"))
        .unwrap();
    let json = line.strip_suffix('\'').unwrap().replace("''", "'");
    let policy = mesh_config::Policy::from_json(json.as_bytes())
        .unwrap()
        .policy;
    assert_eq!(policy.sampling.critical_flows[0].source(), condition);
    std::fs::remove_dir_all(&folder).unwrap();
}
