//! Every preset as it stands, but for the numbers: a request with that system's key passes, and the one too many is refused in its dialect.

use crate::samples::root;
use crate::support::envoy::Envoy;
use serde_json::json;

struct Case {
    preset: &'static str,
    /// What is asked for, and with which key.
    path: &'static str,
    keys: &'static [(&'static str, &'static str)],
    /// A field of the allowed response.
    left: (&'static str, &'static str),
    /// Where the denial has what.
    denial: (&'static str, serde_json::Value),
    content_type: &'static str,
    /// Where the answer to a request without a key has what; `null` where there is nothing.
    unauthorized: (&'static str, serde_json::Value),
}

const JSON: &str = "application/json";

fn cases() -> Vec<Case> {
    let openai = ("/error/code", json!("rate_limit_exceeded"));
    let missing = ("/error/code", json!("missing_api_key"));
    let case = |preset, path, keys, left| Case {
        preset,
        path,
        keys,
        left,
        denial: openai.clone(),
        content_type: JSON,
        unauthorized: missing.clone(),
    };
    let (chat, bearer) = ("/v1/chat/completions", &[("authorization", "Bearer k")][..]);
    let requests = ("x-ratelimit-remaining-requests", "1");
    vec![
        case("openai", chat, bearer, requests),
        case("openai", "/anything", bearer, requests),
        Case {
            denial: ("/error/code", json!("429")),
            unauthorized: ("/error/code", json!("401")),
            ..case(
                "azure-openai",
                "/openai/deployments/gpt/chat/completions?api-version=1",
                &[("api-key", "k")],
                requests,
            )
        },
        Case {
            denial: ("/error/code", json!("429")),
            unauthorized: ("/error/code", json!("401")),
            ..case("azure-openai", "/openai/v1/responses", bearer, requests)
        },
        Case {
            denial: ("/error/type", json!("rate_limit_error")),
            unauthorized: ("/error/type", json!("authentication_error")),
            ..case("anthropic", "/v1/messages", bearer, ("anthropic-ratelimit-requests-remaining", "1"))
        },
        Case {
            denial: ("/type", json!("error")),
            unauthorized: ("/error/type", json!("authentication_error")),
            ..case("anthropic", "/v1/messages", &[("x-api-key", "k")], ("anthropic-ratelimit-requests-limit", "2"))
        },
        Case {
            denial: ("/code", json!("1300")),
            unauthorized: ("/raw_status_code", json!(401)),
            ..case("mistral", chat, bearer, ("ratelimit-policy", ""))
        },
        Case {
            denial: ("/error/status", json!("RESOURCE_EXHAUSTED")),
            unauthorized: ("/error/status", json!("UNAUTHENTICATED")),
            ..case("gemini", "/v1beta/models/g:generateContent", &[("x-goog-api-key", "k")], ("ratelimit-policy", ""))
        },
        Case {
            denial: ("/0/error/status", json!("RESOURCE_EXHAUSTED")),
            // The query was the key's place.
            unauthorized: ("/0/error/code", json!(401)),
            ..case("gemini", "/v1/models/g:streamGenerateContent", &[("x-goog-api-key", "k")], ("ratelimit-policy", ""))
        },
        Case {
            denial: ("/0/error/code", json!(429)),
            unauthorized: ("/0/error/code", json!(401)),
            ..case("gemini", "/v1beta/openai/chat/completions", bearer, ("ratelimit-policy", ""))
        },
        Case {
            denial: ("/title", json!("Request cannot be satisfied as assigned quota has been exceeded")),
            unauthorized: ("/title", json!("Unauthorized")),
            content_type: "application/problem+json",
            ..case("llama-api", chat, bearer, ("x-ratelimit-remaining", "1"))
        },
        // The upstream's key arrives with it.
        case("portkey", chat, &[("x-portkey-api-key", "k"), ("authorization", "Bearer upstream")], requests),
        case("llm-gateway", chat, bearer, ("x-ratelimit-remaining", "1")),
        case("llm-gateway", chat, &[("x-api-key", "k")], ("x-ratelimit-remaining", "1")),
        case("apipark", chat, &[("authorization", "k")], ("x-ratelimit-remaining", "1")),
        Case {
            denial: ("/limit/per", json!("300d")),
            ..case("apipark", "/orders", &[("authorization", "k")], ("x-ratelimit-limit", "2"))
        },
        case(
            "litellm",
            "/chat/completions",
            &[("x-litellm-api-key", "k"), ("authorization", "Bearer other")],
            requests,
        ),
        case("litellm", "/embeddings", &[("ocp-apim-subscription-key", "k")], requests),
        Case {
            denial: ("/error/type", json!("rate_limit_error")),
            unauthorized: ("/error/type", json!("authentication_error")),
            ..case("litellm", "/v1/messages", &[("x-api-key", "k")], ("anthropic-ratelimit-requests-remaining", "1"))
        },
    ]
}

#[test]
fn every_preset_lets_its_clients_in_and_refuses_them_in_their_dialect() {
    let cases = cases();
    let folder = root().join("envoy/presets");
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        files += 1;
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&file).unwrap();
        let few = text.replace("requests: 60, per: 1m", "requests: 2, per: 300d");
        assert_ne!(few, text, "{name} has the limit that this test makes small");
        let cases: Vec<&Case> = cases.iter().filter(|case| case.preset == name).collect();
        assert!(!cases.is_empty(), "{name}");
        for case in cases {
            // One Envoy each: no case may meet another's counts.
            let envoy = Envoy::with(&few).start();
            let at = |what: &str| format!("{name} {} {:?}: {what}", case.path, case.keys);
            let mut connection = envoy.connect();
            let allowed = connection.request("POST", case.path, case.keys);
            assert_eq!(allowed.status, 200, "{}", at("first"));
            let left = allowed.header(case.left.0).unwrap_or_else(|| panic!("{}: {allowed:?}", at(case.left.0)));
            assert!(case.left.1.is_empty() || left == case.left.1, "{}: {left}", at(case.left.0));
            assert_eq!(connection.request("POST", case.path, case.keys).status, 200, "{}", at("second"));
            let denied = connection.request("POST", case.path, case.keys);
            assert_eq!(denied.status, 429, "{}", at("third"));
            assert_eq!(
                denied.json().pointer(case.denial.0),
                Some(&case.denial.1),
                "{}: {}",
                at(case.denial.0),
                denied.text()
            );
            assert_eq!(denied.header("content-type").as_deref(), Some(case.content_type), "{}", at("content-type"));
            assert!(denied.header("retry-after-ms").is_some() && denied.header("x-should-retry").is_some());
            let unauthorized = connection.request("POST", case.path, &[]);
            assert_eq!(unauthorized.status, 401, "{}", at("without a key"));
            assert_eq!(
                unauthorized.json().pointer(case.unauthorized.0),
                Some(&case.unauthorized.1),
                "{}",
                unauthorized.text()
            );
        }
    }
    assert!(files >= 10, "{files}");
}
