//! What is under `envoy/`.

use crate::support::envoy::{Builder, Envoy};
use crate::support::http::{Connection, Response};
use allowance::base64::{Padding, encode};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A setting that the tests cannot do without.
pub(crate) fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run \"make test\""))
}

/// The oldest and the newest Envoy that are tested.
pub(crate) fn envoys() -> [PathBuf; 2] {
    ["ALLOWANCE_OLDEST_ENVOY", "ENVOY"].map(|name| from_environment(name).into())
}

/// The module under test.
pub(crate) fn module() -> PathBuf {
    fs::canonicalize(from_environment("ALLOWANCE_WASM")).expect("the module is built")
}

/// A folder of one test's own, new each time.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("mesh-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// All YAML files in a folder under `envoy/`, by their path there, sorted.
pub(crate) fn yaml_files() -> Vec<String> {
    fn below(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }
    let folder = root().join("envoy");
    let mut files: Vec<String> = below(&folder)
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| path.strip_prefix(&folder).unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    files
}

/// The text of a file under `envoy/`.
pub(crate) fn text(file: &str) -> String {
    fs::read_to_string(root().join("envoy").join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What the text of a file under `envoy/` says.
pub(crate) fn value(file: &str) -> Value {
    parse(&text(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

pub(crate) fn parse(yaml: &str) -> Result<Value, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

/// An Envoy configuration under `envoy/` with free ports, the module under test, and these texts in place of others.
pub(crate) fn bootstrap(file: &str, replaced: &[(&str, &str)]) -> Builder {
    let mut text = text(file);
    let module = module();
    let everywhere = [
        ("port_value: 10000", "port_value: 0"),
        ("port_value: 9901", "port_value: 0"),
        ("target/allowance.wasm", module.to_str().unwrap()),
    ];
    for (old, new) in replaced {
        assert!(text.contains(old), "{file} has no {old:?}");
        text = text.replace(old, new);
    }
    for (old, new) in everywhere {
        text = text.replace(old, new);
    }
    Envoy::with_bootstrap(&text)
}

/// An Envoy of this kind to which the filter comes only later. The oldest one ends with a segmentation fault then, whatever the module, where the
/// processor has protection keys: V8 guards its memory with one, which threads from before V8 may not even read. So it starts with a module of its
/// own there, that does nothing.
pub(crate) fn filter_comes_later(builder: Builder, program: &Path) -> Builder {
    let builder = builder.envoy(program);
    if program != envoys()[0] {
        return builder;
    }
    let module = "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")) \
        (func (export \"proxy_on_memory_allocate\") (param i32) (result i32) i32.const 0))";
    let module = encode(&wat::parse_str(module).unwrap(), Padding::Padded);
    let service = json!({
        "@type": "type.googleapis.com/envoy.extensions.wasm.v3.WasmService",
        "singleton": true,
        "config": {"vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"inline_bytes": module}}}},
    });
    let first = json!({"bootstrap_extensions": [{"name": "envoy.bootstrap.wasm", "typed_config": service}]});
    builder.options(&["--config-yaml", &first.to_string()])
}

/// What a trial's key may do under the plugin configuration of every sample: so many requests.
pub(crate) fn trial() -> usize {
    let limit = &value("quota.yaml")["plans"]["trial"]["limits"][0];
    let requests = limit["requests"].as_u64().unwrap();
    assert!((1..=10).contains(&requests), "{requests}: few enough to be tried");
    requests.try_into().unwrap()
}

/// The phrase of every denial.
pub(crate) const PHRASE: &str = "Exceeded the allowed number of requests";

/// Fails unless the first so many of these requests pass and the next is denied with the phrase.
pub(crate) fn assert_quota(what: &str, quota: usize, mut send: impl FnMut() -> Response) {
    for number in 1..=quota {
        let response = send();
        assert_eq!(response.status, 200, "{what}: {number} of {quota}: {response:?}");
    }
    let denied = send();
    assert_eq!(denied.status, 429, "{what}: {response:?}", response = denied);
    assert!(denied.text().contains(PHRASE), "{what}: {}", denied.text());
}

/// The same for keys of the trial plan, on one connection.
pub(crate) fn assert_trial(what: &str, envoy: &Envoy, path: &str) {
    let mut connection: Connection = envoy.connect();
    for key in ["demo", "another", "a-third"] {
        assert_quota(&format!("{what}, {key}"), trial(), || connection.get(path, &[("x-api-key", key)]));
    }
}
