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
    let llm = std::env::var("ALLOWANCE_LLM_WASM").expect("ALLOWANCE_LLM_WASM is not set: run \"make test\"");
    let ports = ["10000", "10001", "9901"];
    let free = |text: String, port| {
        text.replace(&format!("port_value: {port}\n"), "port_value: 0\n")
            .replace(&format!("port_value: {port}}}"), "port_value: 0}")
    };
    let text = ports.into_iter().fold(text, free);
    text.replace("target/allowance.wasm", &module).replace("target/allowance-llm.wasm", &llm)
}

#[test]
fn every_envoy_configuration_loads() {
    let samples = samples(&root().join("envoy"));
    assert!(!samples.is_empty());
    // The ways of attaching are more than configurations of an Envoy: tests/mesh/ has them.
    let elsewhere = ["attach", "istio", "gateway"].map(|folder| root().join("envoy").join(folder));
    for path in samples.into_iter().filter(|path| !elsewhere.iter().any(|folder| path.starts_with(folder))) {
        let text = sample(&path);
        // Plugin configurations alone say which schema they have.
        let alone = text.starts_with("# yaml-language-server: $schema=");
        let exit = if alone { Envoy::with(&text).validate() } else { Envoy::with_bootstrap(&text).validate() };
        assert_eq!(exit.status.code(), Some(0), "{}\n{}", path.display(), exit.log);
    }
}

/// What differs from one time to the next, blotted out: times to the millisecond, and Envoy's names for requests.
fn timeless(text: &str) -> String {
    const CHANGING: [&str; 6] = [
        "date",
        "retry-after-ms",
        "anthropic-ratelimit-requests-reset",
        "request-id",
        "x-request-id",
        "grpc-status-details-bin",
    ];
    let lines = text.lines().map(|line| match line.split_once(": ") {
        Some((name, _)) if CHANGING.contains(&name) => format!("{name}: …"),
        _ => between(&between(line, "\"request_id\":\""), "\"retryDelay\":\""),
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The text without what stands between `start` and the next quote.
fn between(text: &str, start: &str) -> String {
    let Some((before, after)) = text.split_once(start) else { return text.to_owned() };
    let (_, rest) = after.split_once('"').unwrap();
    format!("{before}{start}…\"{rest}")
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
        .map(|(name, value)| format!("{name}: {}\n", std::str::from_utf8(value).unwrap()))
        .collect();
    format!("HTTP/1.1 {status}\n{headers}\n{}", response.text())
}

#[test]
fn the_first_screen_of_the_readme_is_what_comes_back() {
    let envoy = Envoy::with_bootstrap(&sample(&root().join("envoy/envoy.yaml"))).start();
    let mut connection = envoy.connect();
    let mut came = String::new();
    for _ in 0..2 {
        let response = connection.get("/", &[("x-api-key", "demo")]);
        came += "$ curl -i http://127.0.0.1:10000/ -H 'x-api-key: demo'\n";
        came += &printed(&response);
        came += "\n";
    }
    assert_eq!(timeless(came.trim_end()), timeless(blocks("console")[0].trim_end()));
}

/// A denial in every dialect: what was asked for, type and body of the answer, and where they tell more than the common ones the headers.
#[test]
fn the_dialects_of_the_readme_are_what_comes_back() {
    let configuration = "unlisted: {plan: free}
plans: {free: {limits: [{requests: 1, per: 1h, algorithm: token_bucket}]}}
rules:
  - {name: mistral, match: {path: {prefix: /mistral}}, format: mistral}
  - {name: text, match: {path: {prefix: /text}}, format: text}
";
    let envoy = Envoy::with(configuration).start();
    let mut came = String::new();
    let mut key = 0;
    for (path, header) in [
        ("/v1/chat/completions", None),
        ("/openai/deployments/gpt/chat/completions", None),
        ("/v1/messages", None),
        ("/v1/models/gemini-2.5-flash:generateContent", None),
        ("/mistral/v1/chat/completions", None),
        ("/orders", Some(("accept", "application/problem+json"))),
        ("/orders", None),
        ("/text/orders", None),
        ("/orders.Orders/Get", Some(("content-type", "application/grpc"))),
    ] {
        key += 1;
        let name = format!("key-{key}");
        let headers: Vec<(&str, &str)> = [("x-api-key", name.as_str())].into_iter().chain(header).collect();
        let mut connection = envoy.connect();
        connection.request("POST", path, &headers);
        let denied = connection.request("POST", path, &headers);
        came += &format!("POST {path}\n");
        came += &header.map(|(name, value)| format!("{name}: {value}\n")).unwrap_or_default();
        came += &format!("    {} {}\n", denied.status, denied.header("content-type").unwrap());
        let own = denied
            .headers
            .iter()
            .filter(|(name, _)| ["request-id", "x-request-id"].contains(&name.as_str()) || name.starts_with("grpc-"));
        for (name, value) in own {
            came += &format!("{name}: {}\n", std::str::from_utf8(value).unwrap());
        }
        came += &format!("{}\n", denied.text());
    }
    let came = came.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n");
    assert_eq!(
        timeless(&came),
        timeless(blocks("text").iter().find(|b| b.starts_with("POST")).map_or("", |b| b.trim_end())),
        "{came}"
    );
}

/// Each family on the response to the first of ten requests.
#[test]
fn the_header_families_of_the_readme_are_what_comes_back() {
    let configuration = "headers: [ratelimit, x-ratelimit, provider]
unlisted: {plan: free}
plans: {free: {limits: [{requests: 10, per: 1m, algorithm: token_bucket}, {requests: 5000, per: 300d}]}}
rules: [{name: mistral, match: {path: {prefix: /mistral}}, format: mistral}]
";
    let envoy = Envoy::with(configuration).start();
    let mut came = String::new();
    for (family, path) in [
        ("ratelimit", "/"),
        ("x-ratelimit", "/"),
        ("provider", "/v1/chat/completions"),
        ("provider", "/openai/deployments/gpt/chat/completions"),
        ("provider", "/v1/messages"),
        ("provider", "/mistral/v1/chat/completions"),
    ] {
        let response = envoy.get(path, &[("x-api-key", &format!("{family}{path}"))]);
        came += &match family {
            "provider" => format!("{family}, {path}\n"),
            family => format!("{family}\n"),
        };
        let start = if path.contains("messages") { "anthropic-" } else { family.trim_start_matches("provider") };
        let common = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
        let fields = response.headers.iter().filter(|(name, _)| {
            name.starts_with(start)
                && name.contains("ratelimit")
                && (family != "provider" || (!common.contains(&name.as_str()) && !name.starts_with("ratelimit")))
        });
        for (name, value) in fields {
            came += &format!("{name}: {}\n", std::str::from_utf8(value).unwrap());
        }
    }
    let came = came.trim_end();
    assert_eq!(
        timeless(came),
        timeless(blocks("text").iter().find(|b| b.starts_with("ratelimit\n")).map_or("", |b| b.trim_end())),
        "{came}"
    );
}
