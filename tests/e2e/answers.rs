//! What callers are told, byte by byte.

use crate::support::envoy::Envoy;
use crate::support::http::Response;
use crate::unlisted;

/// Headers that Envoy adds by itself.
const ENVOYS: [&str; 3] = ["date", "server", "x-envoy-upstream-service-time"];

fn headers(response: &Response) -> Vec<(String, String)> {
    let ours = response.headers.iter().filter(|(name, _)| !ENVOYS.contains(&name.as_str()));
    ours.map(|(name, value)| (name.clone(), String::from_utf8(value.clone()).unwrap())).collect()
}

fn owned(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_denial_names_limit_numbers_and_wait() {
    // Nothing comes back for days, so that the numbers stand still: 3 in 300 days, one comes back every 100.
    let limits = "[{requests: 3, per: 300d, algorithm: token_bucket, burst: 2}, {requests: 90, per: month}]";
    let envoy = Envoy::with(&unlisted(limits)).start();
    let mut connection = envoy.connect();
    let policy = r#""300d";q=2;w=17280000, "month";q=90"#;
    for (remaining, reset) in [(1, 8_640_000), (0, 17_280_000)] {
        let allowed = connection.get("/", &[("x-api-key", "k")]);
        assert_eq!(allowed.status, 200);
        assert_eq!(allowed.header("ratelimit-policy").unwrap(), policy);
        assert_eq!(allowed.header("ratelimit").unwrap(), format!(r#""300d";r={remaining};t={reset}"#));
    }
    let denied = connection.get("/", &[("x-api-key", "k"), ("origin", "https://app.example.com")]);
    assert_eq!(denied.status, 429);
    let body = r#"{"error":{"message":"Exceeded the allowed number of requests: 3 per 300d. Retry after 8640000 s.","type":"requests","param":null,"code":"rate_limit_exceeded"},"limit":{"name":"300d","plan":"free","unit":"requests","max":3,"per":"300d","cost":1,"remaining":0,"retry_after":8640000}}"#;
    assert_eq!(denied.text(), body);
    let expected = [
        ("content-type", "application/json"),
        ("cache-control", "no-store"),
        ("retry-after", "8640000"),
        // Whole seconds, as it is more than a minute.
        ("retry-after-ms", "8640000000"),
        ("ratelimit-policy", policy),
        ("ratelimit", r#""300d";r=0;t=17280000"#),
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "0"),
        ("x-ratelimit-reset", "17280000"),
        ("x-should-retry", "false"),
        (
            "access-control-expose-headers",
            "retry-after, retry-after-ms, ratelimit-policy, ratelimit, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-should-retry",
        ),
        ("content-length", &body.len().to_string()),
    ];
    assert_eq!(headers(&denied), owned(&expected));
}

#[test]
fn a_short_wait_may_be_retried() {
    let envoy = Envoy::with(&unlisted("[{requests: 1, per: 30s, algorithm: token_bucket}]")).start();
    let mut connection = envoy.connect();
    assert_eq!(connection.get("/", &[("x-api-key", "k")]).status, 200);
    let denied = connection.get("/", &[("x-api-key", "k")]);
    assert_eq!(denied.status, 429);
    let wait: u64 = denied.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=30).contains(&wait), "{wait}");
    assert_eq!(denied.header("x-should-retry"), None);
    assert_eq!(denied.header("access-control-expose-headers"), None);
}

#[test]
fn the_configured_status_and_message_are_what_is_said() {
    let configuration = format!(
        "denial: {{status: 503, message: 'Genug \"für heute\"'}}\nheaders: []\n{}",
        unlisted("[{requests: 1, per: 300d, algorithm: token_bucket}]")
    );
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    let allowed = connection.get("/", &[("x-api-key", "k")]);
    assert_eq!((allowed.status, allowed.header("ratelimit"), allowed.header("ratelimit-policy")), (200, None, None));
    let denied = connection.get("/", &[("x-api-key", "k")]);
    assert_eq!(denied.status, 503);
    assert_eq!(denied.json()["error"]["message"], "Genug \"für heute\": 1 per 300d. Retry after 25920000 s.");
    assert_eq!(denied.header("ratelimit").unwrap(), r#""300d";r=0;t=25920000"#, "a denial carries them all");
}

#[test]
fn other_refusals_use_the_same_envelope() {
    let keys = "consumers: [{name: acme, plan: free, keys: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']}]";
    let envoy = Envoy::with(&format!("plans: {{free: {{limits: []}}}}\n{keys}\n"))
        .access_log("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%")
        .start();
    let mut connection = envoy.connect();
    let error = |code: &str, message: &str| {
        let message = message.replace('"', "\\\"");
        format!(r#"{{"error":{{"message":"{message}","type":"invalid_request_error","param":null,"code":"{code}"}}}}"#)
    };
    let missing = connection.get("/", &[]);
    assert_eq!(missing.status, 401);
    let places = r#"Missing API key. Send it as "authorization: Bearer <key>" or "x-api-key: <key>"."#;
    assert_eq!(missing.text(), error("missing_api_key", places));
    let expected = |challenge| {
        owned(&[("content-type", "application/json"), ("cache-control", "no-store"), ("www-authenticate", challenge)])
    };
    assert_eq!(headers(&missing)[..3], expected(r#"Bearer realm="allowance""#));
    let invalid = connection.get("/", &[("x-api-key", "nobody's")]);
    assert_eq!((invalid.status, invalid.text()), (401, error("invalid_api_key", "Invalid API key.")));
    assert_eq!(headers(&invalid)[..3], expected(r#"Bearer realm="allowance", error="invalid_token""#));
    let several = connection.get("/", &[("x-api-key", "abc"), ("authorization", "Bearer abc")]);
    assert_eq!(
        (several.status, several.text()),
        (400, error("ambiguous_api_key", "More than one API key. Send exactly one."))
    );
    assert_eq!(headers(&several)[..2], expected("")[..2]);
    // Envoy closes a connection over HTTP/1.1 after any 400.
    assert_eq!(envoy.get("/", &[("authorization", "bEARER abc")]).status, 200);
    let log = envoy.access_log(4);
    assert_eq!(
        log[..3],
        ["401 allowance_missing_api_key", "401 allowance_invalid_api_key", "400 allowance_ambiguous_api_key"]
    );
    let decided = |decision| envoy.metric("allowance_requests_total", &[("decision", decision)]);
    assert_eq!((decided("unauthorized"), decided("invalid"), decided("allowed")), (2, 1, 1));
}

#[test]
fn every_kind_of_source_finds_the_key() {
    let configuration = format!(
        "api_key: {{from: [{{bearer: authorization}}, {{header: x-api-key}}, {{query: key}}, {{cookie: api_key}}]}}\n{}",
        unlisted("[{requests: 4, per: 300d}]")
    );
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    let statuses = [
        connection.get("/", &[("authorization", "Bearer K-1")]).status,
        connection.get("/", &[("x-api-key", "K-1")]).status,
        connection.get("/a?x=y&key=K%2d1", &[]).status,
        connection.get("/", &[("cookie", "a=b; api_key=\"K-1\"")]).status,
        connection.get("/", &[("authorization", "bearer K-1")]).status,
    ];
    assert_eq!(statuses, [200, 200, 200, 200, 429], "one key, wherever it stands");
}

/// Alone a source is read another way than among others: by what it asks the host.
#[test]
fn a_lone_source_refuses_repetition_as_well() {
    for (source, repeated) in [
        ("{header: x-api-key}", vec![("x-api-key", "a"), ("x-api-key", "b")]),
        ("{bearer: authorization}", vec![("authorization", "Bearer a"), ("authorization", "Bearer b")]),
        ("{cookie: api_key}", vec![("cookie", "api_key=a"), ("cookie", "api_key=b")]),
    ] {
        let configuration = format!("api_key: {{from: [{source}]}}\n{}", unlisted("[{requests: 1, per: 300d}]"));
        let envoy = Envoy::with(&configuration).start();
        let mut connection = envoy.connect();
        assert_eq!(connection.get("/", &repeated[..1]).status, 200, "{source}");
        assert_eq!(connection.get("/", &repeated[..1]).status, 429, "{source}");
        assert_eq!(connection.get("/", &[]).status, 401, "{source}");
        assert_eq!(connection.get("/", &repeated).status, 400, "{source}");
    }
    let configuration = format!("api_key: {{from: [{{query: key}}]}}\n{}", unlisted("[{requests: 1, per: 300d}]"));
    let envoy = Envoy::with(&configuration).start();
    let statuses = ["/?key=a", "/?key=a", "/?key=a&k%65y=b", "/"].map(|path| envoy.get(path, &[]).status);
    assert_eq!(statuses, [200, 429, 400, 401]);
}
