//! Every Kubernetes manifest, strictly: nothing in it that its API does not know.

use crate::files::{from_environment, root, value, yaml_files};
use serde_json::{Value, json};
use std::io::Write;
use std::process::{Command, Stdio};

/// What has an API of its own that is checked.
fn manifests() -> Vec<(String, Value)> {
    let all = yaml_files().into_iter().map(|file| (file.clone(), value(&file)));
    all.filter(|(_, document)| document["apiVersion"].is_string()).collect()
}

fn is_istios(document: &Value) -> bool {
    document["apiVersion"].as_str().is_some_and(|version| version.contains("istio.io/"))
}

/// What the models of Istio's resources say of each, empty where nothing is wrong.
fn istio_says(documents: &[Value]) -> Vec<String> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut child = Command::new(python)
        .arg("-B")
        .arg(root().join("tests/mesh/manifests.py"))
        .env("PYTHONPATH", from_environment("ALLOWANCE_MESH"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines: String = documents.iter().map(|document| format!("{document}\n")).collect();
    let mut input = child.stdin.take().unwrap();
    // From another thread: it answers while it reads, and nobody would read that meanwhile.
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let said: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(said.len(), documents.len());
    said
}

/// Whether the schema of Envoy Gateway's resources takes it.
fn gateway_takes(document: &Value) -> Result<(), String> {
    let schema: Value = serde_json::from_str(include_str!("envoy-gateway.schema.json")).unwrap();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("envoy-gateway.json", schema).unwrap();
    let mut schemas = boon::Schemas::new();
    let index = compiler.compile("envoy-gateway.json", &mut schemas).unwrap();
    schemas.validate(document, index).map_err(|error| error.to_string())
}

/// The same document with a field more than its API knows, once for each object in it that is not free.
fn with_unknown_fields(document: &Value) -> Vec<Value> {
    /// Where anything may be: labels, and what the filter checks itself.
    const FREE: [&str; 6] = ["matchLabels", "labels", "pluginConfig", "config", "configuration", "metadata"];
    fn objects(value: &Value, path: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.push(path.to_owned());
                for (name, inner) in fields
                    .iter()
                    .filter(|(name, inner)| !FREE.contains(&name.as_str()) || inner["vm_config"].is_object())
                {
                    objects(inner, &format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), found);
                }
            }
            Value::Array(items) => {
                for (index, inner) in items.iter().enumerate() {
                    objects(inner, &format!("{path}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut paths = Vec::new();
    objects(document, "", &mut paths);
    // By name, not by type: a map's names are free.
    paths.retain(|path| !path.ends_with("/typed_per_filter_config"));
    let changed = paths.iter().map(|path| {
        let mut changed = document.clone();
        let object = changed.pointer_mut(path).and_then(Value::as_object_mut).unwrap();
        object.insert("unexpected".to_owned(), json!("x"));
        changed
    });
    changed.collect()
}

#[test]
fn every_manifest_of_istio_is_what_its_api_knows_and_nothing_else() {
    let documents: Vec<(String, Value)> = manifests().into_iter().filter(|(_, document)| is_istios(document)).collect();
    assert_eq!(documents.len(), 3);
    let values: Vec<Value> = documents.iter().map(|(_, document)| document.clone()).collect();
    for ((file, _), said) in documents.iter().zip(istio_says(&values)) {
        assert_eq!(said, "", "{file}");
    }
    // And the check sees what is wrong, wherever it is.
    let wrong: Vec<Value> = values.iter().flat_map(with_unknown_fields).collect();
    assert!(wrong.len() > 40, "{}", wrong.len());
    for (document, said) in wrong.iter().zip(istio_says(&wrong)) {
        assert_ne!(said, "", "{document}");
    }
    let typos = [
        ("/spec/phase", json!("AFTER")),
        ("/spec/priority", json!("first")),
        ("/spec/failStrategy", json!("FAIL_SAFE")),
        ("/spec/imagePullPolicy", json!("Sometimes")),
        ("/kind", json!("WasmPlugins")),
        ("/apiVersion", json!("extensions.istio.io/v1")),
    ];
    let wrong: Vec<Value> = typos
        .iter()
        .map(|(path, new)| {
            let mut document = value("istio/ingress-gateway.yaml");
            *document.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = new.clone();
            document
        })
        .collect();
    for ((path, _), said) in typos.iter().zip(istio_says(&wrong)) {
        assert_ne!(said, "", "{path}");
    }
}

#[test]
fn every_manifest_of_envoy_gateway_is_what_its_api_knows_and_nothing_else() {
    let documents: Vec<(String, Value)> =
        manifests().into_iter().filter(|(_, document)| !is_istios(document)).collect();
    assert_eq!(documents.len(), 2);
    for (file, document) in &documents {
        assert_eq!(gateway_takes(document), Ok(()), "{file}");
        let wrong = with_unknown_fields(document);
        assert!(wrong.len() >= 3, "{file}");
        for document in wrong {
            assert!(gateway_takes(&document).is_err(), "{document}");
        }
    }
    let policy = value("gateway/policy.yaml");
    for (path, wrong) in [
        ("/spec/wasm/0/failOpen", json!("no")),
        ("/spec/wasm/0/code/type", json!("HTTP")),
        ("/spec/wasm/0/code/image/sha256", json!("sha256:00")),
        ("/spec/wasm/0/code/image/pullSecretRef/kind", json!("ConfigMap")),
        ("/spec/targetRefs/0/kind", json!("Service")),
        ("/spec/targetRefs", json!([])),
        ("/kind", json!("EnvoyPatchPolicy")),
    ] {
        let mut document = policy.clone();
        *document.pointer_mut(path).unwrap_or_else(|| panic!("{path}")) = wrong;
        assert!(gateway_takes(&document).is_err(), "{path}");
    }
}

/// What has no API that could be checked: values of Istio's chart.
#[test]
fn the_values_of_istios_chart_are_those_that_are_known() {
    let values = value("istio/values.yaml");
    let mesh = values["meshConfig"].as_object().unwrap();
    assert_eq!(values.as_object().unwrap().keys().collect::<Vec<_>>(), ["meshConfig"]);
    assert_eq!(mesh.keys().collect::<Vec<_>>(), ["accessLogFile", "accessLogFormat", "defaultConfig"]);
    assert_eq!(mesh["accessLogFile"], "/dev/stdout");
    assert_eq!(mesh["defaultConfig"].as_object().unwrap().keys().collect::<Vec<_>>(), ["extraStatTags"]);
}
