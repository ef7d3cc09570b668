//! Images of the filter: built twice they are the same, they go to a registry and come back, and what comes back runs in Envoy.

use crate::files::{assert_trial, bootstrap, module, root, scratch};
use crate::server::free_port;
use crate::support::envoy::PATIENCE;
use crate::support::http::Connection;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

/// The version that images are given here.
const VERSION: &str = "1.2.3-test";

pub(crate) fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } =
        command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
    assert!(status.success(), "{command:?}\n{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// What `make image-oci` runs, into this folder: the digest that it printed.
pub(crate) fn oci(folder: &Path) -> String {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let said = run(Command::new(python).arg("-B").arg(".make/oci.py").arg(VERSION).arg(folder).arg(module()));
    printed(&said)
}

/// The image's digest in what was printed, once it has told the module's hash right.
fn printed(said: &str) -> String {
    let field = |name: &str| {
        let line = said
            .lines()
            .find_map(|line| line.trim().strip_prefix(name))
            .unwrap_or_else(|| panic!("no {name} in {said}"));
        line.trim().to_owned()
    };
    assert_eq!(field("module"), format!("sha256:{}", hash(&fs::read(module()).unwrap())));
    let digest = field("image");
    assert!(digest.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64), "{digest}");
    digest
}

/// A real registry on loopback, with its data in a folder, ended with its owner.
pub(crate) struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    pub(crate) fn start(folder: &Path) -> Self {
        let port = free_port();
        let data = folder.join("registry");
        let configuration = format!(
            "version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {data:?}}}}}
http: {{addr: \"127.0.0.1:{port}\"}}
"
        );
        let file = folder.join("registry.yaml");
        fs::write(&file, configuration).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.join("registry.log")).unwrap())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry cannot be run: {error}"));
        let registry = Self { child, port };
        let deadline = Instant::now() + PATIENCE;
        while Connection::try_open(([127, 0, 0, 1], port).into()).is_err() {
            assert!(Instant::now() < deadline, "the registry did not start");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        registry
    }

    /// The name of an image there.
    pub(crate) fn image(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn copy(from: &str, to: &str) {
    run(Command::new("skopeo").args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false", from, to]));
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// What is in an image in a folder of skopeo's: the manifest, and the module in its last layer.
fn unpacked(folder: &Path) -> (Value, PathBuf) {
    let manifest = json(&folder.join("manifest.json"));
    let layers = manifest["layers"].as_array().unwrap();
    // Istio takes the last layer, of these types alone, and docker's with docker's manifest.
    let layer = layers.last().unwrap();
    assert_eq!(layer["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    let blob = folder.join(layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap());
    let out = folder.join("out");
    fs::create_dir_all(&out).unwrap();
    let listed = run(Command::new("tar").arg("-tzf").arg(&blob));
    assert_eq!(
        listed.lines().map(|name| name.trim_start_matches("./")).filter(|name| !name.is_empty()).collect::<Vec<_>>(),
        ["plugin.wasm"]
    );
    run(Command::new("tar").arg("-xzf").arg(&blob).arg("-C").arg(&out));
    (manifest, out.join("plugin.wasm"))
}

fn assert_comes_back(registry: &Registry, folder: &Path, layout: &str, name: &str, digest: &str) {
    let there = format!("docker://{}", registry.image(name));
    copy(layout, &format!("{there}:{VERSION}"));
    // The registry knows it by the digest that was printed, which is what a manifest's sha256 names.
    let inspected: Value = serde_json::from_str(&run(Command::new("skopeo").args([
        "inspect",
        "--tls-verify=false",
        &format!("{there}:{VERSION}"),
    ])))
    .unwrap();
    assert_eq!(inspected["Digest"], digest);
    let labels = &inspected["Labels"];
    assert_eq!(labels["org.opencontainers.image.title"], "allowance");
    assert_eq!(labels["org.opencontainers.image.version"], VERSION);
    assert_eq!(labels["org.opencontainers.image.licenses"], "Apache-2.0");
    let back = folder.join(name);
    copy(&format!("{there}@{digest}"), &format!("dir:{}", back.display()));
    let (manifest, plugin) = unpacked(&back);
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
    assert_eq!(hash(&fs::read(back.join("manifest.json")).unwrap()), digest.strip_prefix("sha256:").unwrap());
    assert!(fs::read(&plugin).unwrap() == fs::read(module()).unwrap(), "the module is another one");
    let envoy = bootstrap("envoy.yaml", &[("target/allowance.wasm", plugin.to_str().unwrap())]).start();
    assert_trial(name, &envoy, "/");
}

#[test]
fn an_oci_layout_is_the_same_twice_goes_to_a_registry_comes_back_and_runs() {
    let folder = scratch("oci");
    let (one, other) = (folder.join("one"), folder.join("other"));
    let digest = oci(&one);
    assert_eq!(oci(&other), digest);
    // Not the digest alone: every file, with the same name and the same bytes.
    let name = module().file_stem().unwrap().to_str().unwrap().to_owned();
    run(Command::new("diff").arg("-r").arg(one.join(&name)).arg(other.join(&name)));
    let registry = Registry::start(&folder);
    let layout = format!("oci:{}:{VERSION}", one.join(&name).display());
    assert_comes_back(&registry, &folder, &layout, "layout", &digest);
    drop(registry);
    fs::remove_dir_all(folder).unwrap();
}

/// What buildah keeps images in, apart from the user's own.
fn storage(command: &mut Command, folder: &Path) {
    let configuration = folder.join("storage.conf");
    let (graph, run) = (folder.join("graph"), folder.join("run"));
    fs::write(&configuration, format!("[storage]\ndriver = \"vfs\"\ngraphroot = {graph:?}\nrunroot = {run:?}\n"))
        .unwrap();
    command.env("CONTAINERS_STORAGE_CONF", configuration).env("STORAGE_DRIVER", "vfs");
}

#[test]
fn an_image_of_the_dockerfile_is_the_same_twice_goes_to_a_registry_comes_back_and_runs() {
    let folder = scratch("image");
    let build = |number: u32| {
        // Nothing of the first build is there when the second starts; the module's own time is another one, too.
        let here = folder.join(number.to_string());
        fs::create_dir_all(&here).unwrap();
        let copy = here.join("allowance.wasm");
        fs::copy(module(), &copy).unwrap();
        let mut command = Command::new(".make/image.sh");
        command.arg(VERSION).arg(&copy).env("BUILDER", "buildah").env("IMAGE_FOLDER", here.join("image"));
        storage(&mut command, &here);
        (printed(&run(&mut command)), here.join("image/allowance.oci"))
    };
    let (digest, layout) = build(1);
    assert_eq!(build(2).0, digest);
    let registry = Registry::start(&folder);
    assert_comes_back(&registry, &folder, &format!("oci:{}:{VERSION}", layout.display()), "built", &digest);
    drop(registry);
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_builder_that_is_none_is_said_and_builds_nothing() {
    let folder = scratch("no-builder");
    let mut command = Command::new(".make/image.sh");
    command.current_dir(root()).arg(VERSION).arg(module()).env("BUILDER", "kaniko").env("IMAGE_FOLDER", &folder);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert_eq!((status.code(), stdout), (Some(1), Vec::new()));
    assert!(said.starts_with("error: BUILDER=kaniko is none of docker, podman and buildah\n"), "{said}");
    fs::remove_dir_all(folder).unwrap();
}
