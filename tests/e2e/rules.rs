//! Rules: which requests they are for, and what they change.

use crate::asking::{consumer, counted, decisions, left, refusal};
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request};

/// Rules with one limit each, which tells in the answers which rule it was; the plan itself is unlimited.
fn matching(rules: &[(&str, &str)]) -> String {
    let mut configuration = "unlisted: {plan: free}\nplans: {free: {limits: []}}\nrules:\n".to_owned();
    for (name, matches) in rules {
        configuration +=
            &format!("- {{name: {name}, match: {matches}, limits: [{{name: l, requests: 1000, per: 300d}}]}}\n");
    }
    configuration
}

fn with_key(request: Request) -> Request {
    request.header("x-api-key", "k")
}

/// The name of the rule that a request met, from the limit in the answer; empty without one.
fn rule(connection: &mut Connection, request: Request) -> String {
    let response = connection.exchange(&with_key(request));
    assert_eq!(response.status, 200);
    let name = response.header("ratelimit").map(|_| left(&response).0).unwrap_or_default();
    name.strip_suffix("/l").unwrap_or(&name).to_owned()
}

/// Which rule these requests meet.
fn assert_rules(configuration: &str, table: &[(Request, &str)]) {
    let envoy = Envoy::with(configuration).start();
    let mut connection = envoy.connect();
    for (request, expected) in table {
        let shown = request.to_bytes().escape_ascii().to_string();
        assert_eq!(&rule(&mut connection, request.clone()), expected, "{shown}");
    }
}

#[test]
fn a_path_is_matched_whole_by_its_first_segments_or_by_its_end() {
    let configuration = matching(&[
        ("exact", "{path: {exact: /v1/models}}"),
        ("prefix", "{path: {prefix: /v1/batches}}"),
        ("slash", "{path: {prefix: /files/}}"),
        ("suffix", "{path: {suffix: ':generate'}}"),
    ]);
    assert_rules(
        &configuration,
        &[
            (Request::get("/v1/models"), "exact"),
            (Request::get("/v1/models?limit=2"), "exact"),
            (Request::get("/v1/models/a"), ""),
            (Request::get("/v1/modelsx"), ""),
            (Request::get("/V1/models"), ""),
            (Request::get("/v1/batches"), "prefix"),
            (Request::get("/v1/batches/"), "prefix"),
            (Request::get("/v1/batches/7?x"), "prefix"),
            (Request::get("/v1/batches7"), ""),
            (Request::get("/x/v1/batches"), ""),
            (Request::get("/files"), "slash"),
            (Request::get("/files/a"), "slash"),
            (Request::get("/filesystem"), ""),
            (Request::get("/models/m:generate"), "suffix"),
            (Request::get("/models/m:generate?alt=sse"), "suffix"),
            (Request::get("/models/m:generate/x"), ""),
            (Request::get("/models/m?x=:generate"), ""),
        ],
    );
}

#[test]
fn a_method_is_one_of_several() {
    let configuration = matching(&[("writes", "{methods: [POST, PUT]}"), ("delete", "{methods: [DELETE]}")]);
    assert_rules(
        &configuration,
        &[
            (Request::new("POST", "/"), "writes"),
            (Request::new("PUT", "/"), "writes"),
            (Request::new("DELETE", "/"), "delete"),
            (Request::get("/"), ""),
            (Request::new("PATCH", "/"), ""),
        ],
    );
}

#[test]
fn a_host_is_one_of_several_or_below_a_domain() {
    let configuration = matching(&[
        ("api", "{hosts: [api.example.com, api.example.org]}"),
        ("below", "{hosts: ['*.example.com']}"),
        ("six", "{hosts: ['[2001:db8::1]']}"),
    ]);
    let host = |host: &str| Request::get("/").header("host", host);
    assert_rules(
        &configuration,
        &[
            (host("api.example.com"), "api"),
            (host("API.Example.COM"), "api"),
            (host("api.example.org:8443"), "api"),
            (host("www.example.com"), "below"),
            (host("a.b.example.com:80"), "below"),
            (host("example.com"), ""),
            (host("example.com.evil.test"), ""),
            (host("evilexample.com"), ""),
            (host("api.example.net"), ""),
            (host("[2001:db8::1]:80"), "six"),
        ],
    );
}

#[test]
fn a_header_is_matched_whole_by_its_beginning_or_by_being_there() {
    let configuration = matching(&[
        ("exact", "{headers: [{name: X-Tier, exact: batch}]}"),
        ("prefix", "{headers: [{name: user-agent, prefix: 'python-'}]}"),
        ("present", "{headers: [{name: x-debug, present: true}]}"),
        ("absent", "{headers: [{name: x-mandatory, present: false}]}"),
    ]);
    let get = |headers: &[(&str, &str)]| Request::get("/").header("x-mandatory", "m").headers(headers);
    assert_rules(
        &configuration,
        &[
            (get(&[("x-tier", "batch")]), "exact"),
            (get(&[("X-TIER", "batch")]), "exact"),
            (get(&[("x-tier", "batches")]), ""),
            (get(&[("x-tier", "Batch")]), ""),
            (get(&[("user-agent", "python-requests/2")]), "prefix"),
            (get(&[("user-agent", "my python-requests/2")]), ""),
            (get(&[("x-debug", "")]), "present"),
            (get(&[("x-debug", "no")]), "present"),
            (get(&[]), ""),
            (Request::get("/"), "absent"),
        ],
    );
}

#[test]
fn everything_that_a_match_names_must_hold() {
    let all = "{path: {prefix: /v1}, methods: [POST], hosts: [api.example.com], headers: [{name: x-a, exact: '1'}, {name: x-b, present: true}]}";
    let matching_one =
        || Request::new("POST", "/v1/x").header("host", "api.example.com").headers(&[("x-a", "1"), ("x-b", "")]);
    assert_rules(
        &matching(&[("all", all)]),
        &[
            (matching_one(), "all"),
            (Request::get("/v1/x").header("host", "api.example.com").headers(&[("x-a", "1"), ("x-b", "")]), ""),
            (Request::new("POST", "/v2").header("host", "api.example.com").headers(&[("x-a", "1"), ("x-b", "")]), ""),
            (Request::new("POST", "/v1").header("host", "example.com").headers(&[("x-a", "1"), ("x-b", "")]), ""),
            (Request::new("POST", "/v1").header("host", "api.example.com").headers(&[("x-a", "2"), ("x-b", "")]), ""),
            (Request::new("POST", "/v1").header("host", "api.example.com").headers(&[("x-a", "1")]), ""),
        ],
    );
}

#[test]
fn the_first_rule_that_matches_wins() {
    let configuration = matching(&[
        ("narrow", "{path: {exact: /v1/images/edits}}"),
        ("images", "{path: {prefix: /v1/images}}"),
        ("never", "{path: {exact: /v1/images/variations}}"),
        ("everything", "{}"),
    ]);
    assert_rules(
        &configuration,
        &[
            (Request::get("/v1/images/edits"), "narrow"),
            (Request::get("/v1/images"), "images"),
            (Request::get("/v1/images/variations"), "images"),
            (Request::get("/v1/chat"), "everything"),
        ],
    );
}

#[test]
fn an_exempt_request_needs_no_key_and_costs_nothing() {
    let configuration = format!(
        "plans: {{pro: {{limits: [{{requests: 2, per: 300d}}]}}}}
consumers: [{}]
rules: [{{name: health, match: {{path: {{exact: /healthz}}}}, exempt: true}}]
",
        consumer("acme", "pro", &["a"], ", disabled: false")
    );
    let envoy = Envoy::with(&configuration).start();
    // Before the key is read: none, an unknown one, two of them, and one that has used up everything.
    let exempt: [&[(&str, &str)]; 4] = [
        &[],
        &[("x-api-key", "nobody's")],
        &[("x-api-key", "a"), ("authorization", "Bearer a")],
        &[("x-api-key", "a")],
    ];
    let mut connection = envoy.connect();
    for headers in exempt.iter().chain(&exempt) {
        let response = connection.get("/healthz", headers);
        assert_eq!((response.status, response.header("ratelimit")), (200, None), "{headers:?}");
    }
    let statuses = [0; 3].map(|_| connection.get("/", &[("x-api-key", "a")]).status);
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(connection.get("/healthz", &[("x-api-key", "a")]).status, 200);
    assert_eq!(refusal(&connection.get("/healthz/x", &[])), (401, "missing_api_key".to_owned()));
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("denied", 1), ("exempt", 9), ("unauthorized", 1)]));
}

#[test]
fn a_cost_is_charged_to_every_limit_or_to_none() {
    let configuration = "unlisted: {plan: free}
plans: {free: {limits: [{name: wide, requests: 100, per: 300d}, {name: narrow, requests: 12, per: 200d}]}}
rules: [{name: batch, match: {path: {prefix: /batches}}, cost: 5}]
";
    let envoy = Envoy::with(configuration).ecds().start();
    let mut connection = envoy.connect();
    let mut get = |path: &str| connection.get(path, &[("x-api-key", "k")]);
    for expected in [7, 2] {
        let response = get("/batches");
        assert_eq!((response.status, left(&response)), (200, ("narrow".to_owned(), expected)));
    }
    let denied = get("/batches");
    assert_eq!(denied.status, 429);
    let limit = &denied.json()["limit"];
    let facts = ["cost", "remaining", "max"].map(|field| limit[field].as_u64());
    assert_eq!((limit["name"].as_str(), facts), (Some("narrow"), [Some(5), Some(2), Some(12)]));
    assert_eq!(denied.header("ratelimit").unwrap().split(';').nth(1), Some("r=2"));
    // What does not suffice for five is enough for one, twice.
    assert_eq!(["/", "/", "/"].map(|path| get(path).status), [200, 200, 429]);
    // The wide limit was charged 5 + 5 + 1 + 1, and nothing by the denials.
    envoy
        .reconfigure(&configuration.replace(", {name: narrow, requests: 12, per: 200d}", ""))
        .expect("a plan with one limit less");
    assert_eq!(left(&get("/")), ("wide".to_owned(), 87));
    assert_eq!(left(&get("/batches")), ("wide".to_owned(), 82));
}

#[test]
fn a_rules_limits_come_on_top_of_the_plans_in_the_same_step() {
    let configuration = "unlisted: {plan: free}
plans: {free: {limits: [{requests: 10, per: 300d}]}}
rules: [{name: images, match: {path: {prefix: /v1/images}}, limits: [{requests: 3, per: 200d}]}]
";
    let envoy = Envoy::with(configuration).access_log("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%").start();
    let mut connection = envoy.connect();
    let mut get = |path: &str, key: &str| connection.get(path, &[("x-api-key", key)]);
    for (path, expected) in
        [("/v1/chat", ("300d", 9)), ("/v1/images", ("images/200d", 2)), ("/v1/images/edits", ("images/200d", 1))]
    {
        let response = get(path, "k");
        assert_eq!((response.status, left(&response)), (200, (expected.0.to_owned(), expected.1)), "{path}");
    }
    let response = get("/v1/images", "k");
    let policy = response.header("ratelimit-policy").unwrap();
    assert_eq!(policy, r#""300d";q=10;w=25920000, "images/200d";q=3;w=17280000"#);
    let denied = get("/v1/images", "k");
    assert_eq!(denied.status, 429);
    let message = denied.json()["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(message.starts_with("Exceeded the allowed number of requests: 3 per 200d. Retry after "), "{message}");
    let limit = &denied.json()["limit"];
    let texts = ["name", "plan", "unit", "per"].map(|field| limit[field].as_str().unwrap_or_default().to_owned());
    assert_eq!(texts, ["images/200d", "free", "requests", "200d"]);
    assert_eq!(left(&denied), ("images/200d".to_owned(), 0));
    // The denials cost the plan nothing: six of ten are left, and other paths go on.
    for expected in (0..6).rev() {
        let response = get("/v1/chat", "k");
        assert_eq!((response.status, left(&response)), (200, ("300d".to_owned(), expected)));
    }
    assert_eq!(get("/v1/chat", "k").json()["limit"]["name"], "300d");
    assert_eq!(left(&get("/v1/images", "other")), ("images/200d".to_owned(), 2), "per caller");
    assert_eq!(envoy.access_log(5)[4], "429 allowance_over_limit{images/200d}");
    let denied = |limit| envoy.metric("allowance_requests_total", &[("decision", "denied"), ("limit", limit)]);
    assert_eq!((denied("images/200d"), denied("300d")), (1, 1));
}

/// `1m` is the canonical name of every spelling of a minute, with the rule's name in front.
#[test]
fn a_rules_limit_is_named_after_rule_and_window() {
    let configuration = "unlisted: {plan: free}
plans: {free: {limits: []}}
rules:
- {name: images, match: {path: {prefix: /images}}, limits: [{requests: 1, per: 60s}]}
- {name: audio, match: {path: {prefix: /audio}}, limits: [{name: speech, requests: 1, per: day}]}
";
    let envoy = Envoy::with(configuration).start();
    let mut connection = envoy.connect();
    for (path, name) in [("/images", "images/1m"), ("/audio", "audio/speech")] {
        let response = connection.get(path, &[("x-api-key", "k")]);
        assert_eq!((response.status, left(&response)), (200, (name.to_owned(), 0)));
    }
}

#[test]
fn a_rule_puts_another_plan_in_place_of_the_callers() {
    let configuration = format!(
        "unlisted: {{plan: free}}
plans:
  free: {{limits: [{{name: l, requests: 2, per: 300d}}]}}
  pro: {{limits: [{{name: l, requests: 20, per: 300d}}]}}
  embeddings: {{limits: [{{name: e, requests: 4, per: 300d}}]}}
consumers: [{}]
rules: [{{name: embed, match: {{path: {{prefix: /embed}}}}, plan: embeddings}}]
",
        consumer("acme", "pro", &["a"], "")
    );
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    let mut get = |path: &str, key: &str| connection.get(path, &[("x-api-key", key)]);
    for key in ["a", "unlisted"] {
        for expected in (0..4).rev() {
            let response = get("/embed", key);
            assert_eq!((response.status, left(&response)), (200, ("e".to_owned(), expected)), "{key}");
        }
        let denied = get("/embed", key);
        assert_eq!((denied.status, denied.json()["limit"]["plan"].as_str()), (429, Some("embeddings")));
    }
    // Nothing of it was charged to the callers' own plans.
    assert_eq!(left(&get("/", "a")), ("l".to_owned(), 19));
    assert_eq!(left(&get("/", "unlisted")), ("l".to_owned(), 1));
    let allowed = |plan| envoy.metric("allowance_requests_total", &[("decision", "allowed"), ("plan", plan)]);
    assert_eq!((allowed("embeddings"), allowed("pro"), allowed("free")), (8, 1, 1));
}

// === preflight ===

/// A browser's CORS preflight: Fetch §3.2.2. It never carries a key.
fn preflight() -> Request {
    Request::new("OPTIONS", "/v1/chat")
        .header("origin", "https://app.example.com")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,content-type")
}

#[test]
fn a_browsers_preflight_passes_without_a_key() {
    for preflight_field in ["", "preflight: exempt\n"] {
        let configuration = format!(
            "unlisted: {{plan: free}}\nplans: {{free: {{limits: [{{requests: 2, per: 300d}}]}}}}\n{preflight_field}"
        );
        let envoy = Envoy::with(&configuration).start();
        let mut connection = envoy.connect();
        for _ in 0..5 {
            assert_eq!(connection.exchange(&preflight()).status, 200);
        }
        // What only looks like one is a request without a key.
        let lookalikes = [
            Request::new("OPTIONS", "/v1/chat"),
            Request::new("OPTIONS", "/v1/chat").header("origin", "https://app.example.com"),
            Request::new("OPTIONS", "/v1/chat").header("access-control-request-method", "POST"),
            Request::get("/v1/chat")
                .header("origin", "https://app.example.com")
                .header("access-control-request-method", "POST"),
            Request::new("POST", "/v1/chat")
                .header("origin", "https://app.example.com")
                .header("access-control-request-method", "POST"),
        ];
        for request in &lookalikes {
            assert_eq!(refusal(&connection.exchange(request)), (401, "missing_api_key".to_owned()), "{request:?}");
        }
        assert_eq!(decisions(&envoy), counted(&[("exempt", 5), ("unauthorized", 5)]));
    }
}

#[test]
fn a_preflight_that_is_counted_needs_a_key() {
    let configuration =
        "unlisted: {plan: free}\nplans: {free: {limits: [{requests: 2, per: 300d}]}}\npreflight: count\n";
    let envoy = Envoy::with(configuration).start();
    let mut connection = envoy.connect();
    assert_eq!(refusal(&connection.exchange(&preflight())), (401, "missing_api_key".to_owned()));
    let statuses = [0; 3].map(|_| connection.exchange(&with_key(preflight())).status);
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("denied", 1), ("unauthorized", 1)]));
}
