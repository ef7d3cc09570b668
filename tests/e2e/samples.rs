//! What the repository shows to users works: every configuration loads, and the first screen of the README is what comes back.

use crate::support::envoy::Envoy;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).unwrap()
}

/// The README's code blocks of one language.
fn blocks(language: &str) -> Vec<String> {
    let text = readme();
    let mut blocks = Vec::new();
    let mut parts = text.split("```");
    while let (Some(_), Some(block)) = (parts.next(), parts.next()) {
        if let Some(block) = block.strip_prefix(&format!("{language}\n")) {
            blocks.push(block.to_owned());
        }
    }
    blocks
}

#[test]
fn every_configuration_in_the_readme_loads() {
    let blocks = blocks("yaml");
    assert!(blocks.len() >= 2, "{}", blocks.len());
    for block in blocks {
        let exit = Envoy::with(&block).validate();
        assert_eq!(exit.status.code(), Some(0), "{block}\n{}", exit.log);
    }
}

fn samples(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { samples(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        .collect()
}

/// A sample, with the tests' module and ports that are free.
pub(crate) fn sample(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let module = std::env::var("ALLOWANCE_WASM").expect("ALLOWANCE_WASM is not set: run \"make test\"");
    let ports = text.replace("port_value: 10000", "port_value: 0").replace("port_value: 9901", "port_value: 0");
    ports.replace("target/allowance.wasm", &module)
}

#[test]
fn every_envoy_configuration_loads() {
    let samples = samples(&root().join("envoy"));
    assert!(!samples.is_empty());
    for path in samples {
        let text = sample(&path);
        // Plugin configurations alone say which schema they have.
        let alone = text.starts_with("# yaml-language-server: $schema=allowance.schema.json");
        let exit = if alone { Envoy::with(&text).validate() } else { Envoy::with_bootstrap(&text).validate() };
        assert_eq!(exit.status.code(), Some(0), "{}\n{}", path.display(), exit.log);
    }
}

/// Status line, headers and body as `curl -i` prints them; the date is Envoy's own.
fn printed(response: &crate::support::http::Response) -> String {
    let status = match response.status {
        200 => "200 OK",
        429 => "429 Too Many Requests",
        other => panic!("{other}"),
    };
    let headers: String = response
        .headers
        .iter()
        .map(|(name, value)| {
            format!("{name}: {}\n", if name == "date" { "…" } else { std::str::from_utf8(value).unwrap() })
        })
        .collect();
    format!("HTTP/1.1 {status}\n{headers}\n{}", response.text())
}

#[test]
fn the_first_screen_of_the_readme_is_what_comes_back() {
    let envoy = Envoy::with_bootstrap(&sample(&root().join("envoy/envoy.yaml"))).start();
    let shown = &blocks("console")[0];
    let shown: Vec<String> = shown
        .lines()
        .map(|line| if line.starts_with("date: ") { "date: …".to_owned() } else { line.to_owned() })
        .collect();
    let mut connection = envoy.connect();
    let mut came = String::new();
    for _ in 0..2 {
        let response = connection.get("/", &[("x-api-key", "demo")]);
        came += "$ curl -i http://127.0.0.1:10000/ -H 'x-api-key: demo'\n";
        came += &printed(&response);
        came += "\n";
    }
    assert_eq!(came.trim_end(), shown.join("\n"));
}
