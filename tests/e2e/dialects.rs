//! Dialects and header fields in a real Envoy, in front of an upstream that says what is left there in the same fields.

use crate::support::envoy::{Builder, Envoy};
use crate::support::http::Response;
use crate::unlisted;

/// An upstream with these headers on its responses: Envoy's own, set before the filter sees them.
fn upstream(configuration: &str, headers: &[(&str, &str)]) -> Builder {
    let lines = headers.iter().map(|(name, value)| {
        format!("{{header: {{key: {name}, value: '{value}'}}, append_action: APPEND_IF_EXISTS_OR_ADD}}")
    });
    let lines: Vec<String> = lines.collect();
    Envoy::with(configuration).routes(&format!(
        r#"- match: {{prefix: /}}
  response_headers_to_add: [{}]
  direct_response: {{status: 200, body: {{inline_string: "upstream\n"}}}}
"#,
        lines.join(", ")
    ))
}

const LIMITS: &str = "[{requests: 10, per: 300d, algorithm: token_bucket}]";

fn all(response: &Response, prefix: &str) -> Vec<(String, String)> {
    let named = response.headers.iter().filter(|(name, _)| name.starts_with(prefix));
    named.map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap())).collect()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Nine are left here.
#[test]
fn an_upstreams_own_fields_stay_and_numbers_come_once() {
    let configuration = format!("headers: [ratelimit, x-ratelimit, provider]\n{}", unlisted(LIMITS));
    let ours = [("ratelimit", r#""300d";r=9;t=2592000"#), ("ratelimit-policy", r#""300d";q=10;w=25920000"#)];
    let theirs = [("ratelimit", r#""u";r=3;t=1"#), ("ratelimit-policy", r#""u";q=100;w=60"#)];
    let envoy = upstream(&configuration, &theirs).start();
    let response = envoy.get("/", &[("x-api-key", "k")]);
    let mut came = all(&response, "ratelimit");
    came.sort();
    let mut both = [owned(&ours), owned(&theirs)].concat();
    both.sort();
    assert_eq!(came, both, "two lines of a list field are one list");
    assert_eq!(all(&response, "x-ratelimit").len(), 3);
    // What an upstream says in a field of one number is replaced where less is left here, the whole family.
    for (left, limit) in [("3", "100"), ("9", "100"), ("50", "10")] {
        let theirs = [("x-ratelimit-limit", "100"), ("x-ratelimit-remaining", left)];
        let response = upstream(&configuration, &theirs).start().get("/", &[("x-api-key", "k")]);
        assert_eq!(response.header("x-ratelimit-limit").as_deref(), Some(limit), "{left}: {response:?}");
        assert_eq!(all(&response, "x-ratelimit-limit").len(), 1, "{left}: {response:?}");
        assert_eq!(all(&response, "x-ratelimit").len(), if limit == "10" { 3 } else { 2 }, "{left}: {response:?}");
    }
    // A part of them cannot be compared with ours, and is not taken away.
    let part = ("x-ratelimit-limit", "1");
    let envoy = upstream(&configuration, &[part]).start();
    assert_eq!(all(&envoy.get("/", &[("x-api-key", "k")]), "x-ratelimit"), owned(&[part]));
}

#[test]
fn a_providers_fields_stay_unless_ours_are_stricter() {
    let configuration = format!("headers: [provider]\n{}", unlisted(LIMITS));
    let openai = |remaining: &'static str| {
        [
            ("x-ratelimit-limit-requests", "5000"),
            ("x-ratelimit-remaining-requests", remaining),
            ("x-ratelimit-reset-requests", "12ms"),
            ("x-ratelimit-remaining-tokens", "149984"),
        ]
    };
    let ask = |remaining| {
        let envoy = upstream(&configuration, &openai(remaining)).start();
        let mut came = all(&envoy.get("/v1/chat/completions", &[("x-api-key", "k")]), "x-ratelimit");
        came.sort();
        came
    };
    let sorted = |headers: &[(&str, &str)]| {
        let mut headers = owned(headers);
        headers.sort();
        headers
    };
    assert_eq!(ask("8"), sorted(&openai("8")));
    let ours = [
        ("x-ratelimit-limit-requests", "10"),
        ("x-ratelimit-remaining-requests", "9"),
        ("x-ratelimit-reset-requests", "720h0m0s"),
        ("x-ratelimit-remaining-tokens", "149984"),
    ];
    assert_eq!(ask("4999"), sorted(&ours), "tokens are the upstream's to tell");
    // Whoever speaks another API is told nothing in OpenAI's fields.
    let envoy = upstream(&configuration, &[]).start();
    assert_eq!(all(&envoy.get("/orders", &[("x-api-key", "k")]), "x-ratelimit"), []);
}

#[test]
fn the_partition_key_tells_callers_apart_and_is_no_key() {
    let envoy = Envoy::with(&format!("partition_key: true\n{}", unlisted(LIMITS))).start();
    let ask = |key: &str| {
        let response = envoy.get("/", &[("x-api-key", key)]);
        let parts = |name: &str| {
            let field = response.header(name).unwrap();
            field.rsplit_once(";pk=").unwrap().1.to_owned()
        };
        assert_eq!(parts("ratelimit"), parts("ratelimit-policy"));
        parts("ratelimit")
    };
    let (one, other) = (ask("alice"), ask("bob"));
    assert_eq!(ask("alice"), one);
    assert_ne!(one, other);
    assert!(one.len() == 14 && one.starts_with(':') && one.ends_with("=:"), "{one}");
}

#[test]
fn a_rules_format_holds_for_all_its_refusals_and_jitter_and_members_reach_the_client() {
    let configuration = format!(
        "denial: {{template: '{{consumer}}: {{max}} {{unit}} per {{per}}', members: {{docs: 'https://example.com/{{plan}}'}}, retry_jitter: 0.5}}
rules: [{{name: m, match: {{path: {{prefix: /m}}}}, format: mistral}}]
{}",
        unlisted("[{requests: 1, per: 300d, algorithm: token_bucket}]")
    );
    let envoy = Envoy::with(&configuration).start();
    assert_eq!(envoy.get("/m", &[]).json()["raw_status_code"], 401);
    assert_eq!(envoy.get("/", &[]).json()["error"]["code"], "missing_api_key");
    assert_eq!(envoy.get("/m", &[("x-api-key", "k")]).status, 200);
    let denied = envoy.get("/m", &[("x-api-key", "k")]);
    let message = denied.json()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with("key:") && message.ends_with(": 1 requests per 300d"), "{message}");
    assert_eq!(denied.json()["docs"], "https://example.com/free");
    let ms: u64 = denied.header("retry-after-ms").unwrap().parse().unwrap();
    let exact = 300 * 86_400_000;
    assert!((exact - 60_000..=exact + exact / 2).contains(&ms), "{ms}");
    assert_eq!(denied.header("retry-after"), Some(ms.div_ceil(1000).to_string()));
}
