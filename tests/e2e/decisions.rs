//! Every request is decided once, and seen: in metrics, access logs, headers and bodies.

use crate::asking::{Series, consumer, counted, decisions, hex, left, refusal, series};
use crate::broken_host;
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request, Response};
use crate::unlisted;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The series of a metric that are not zero, as `label=value,…`, with their values.
fn nonzero(envoy: &Envoy, name: &str) -> BTreeMap<String, u64> {
    let shown = |(labels, value): Series| {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
        (labels.join(","), value)
    };
    series(envoy, name).into_iter().filter(|(_, value)| *value > 0).map(shown).collect()
}

fn keyed(connection: &mut Connection, key: &str) -> Response {
    connection.get("/", &[("x-api-key", key)])
}

// === exactly one decision ===

/// Everything that can become of a request with this configuration, by number.
const MIX: u64 = 9;

fn mixed() -> String {
    format!(
        "plans:
  free: {{limits: [{{name: l, requests: 100, per: 300d}}]}}
  watched: {{limits: [{{name: hard, requests: 400, per: 300d}}, {{name: soft, requests: 50, per: 300d, shadow: true}}]}}
consumers:
- {}
- {}
- {}
- {{name: half, plan: free, keys: [{{sha256: \"{}\", disabled: true}}]}}
rules:
- {{name: health, match: {{path: {{exact: /healthz}}}}, exempt: true}}
- {{name: images, match: {{path: {{prefix: /images}}}}, limits: [{{name: i, requests: 3, per: 3600d, algorithm: token_bucket}}]}}
",
        consumer("acme", "free", &["a"], ""),
        consumer("watched", "watched", &["w"], ""),
        consumer("gone", "free", &["g"], ", disabled: true"),
        hex("h"),
    )
}

fn mixed_request(number: u64) -> Request {
    let get = |key: &str| Request::get("/").header("x-api-key", key);
    match number % MIX {
        0 => get("a"),
        1 => get("w"),
        2 => Request::get("/images").header("x-api-key", "w"),
        3 => Request::get("/healthz"),
        4 => Request::get("/"),
        5 => get("nobody's"),
        6 => get("a").header("authorization", "Bearer w"),
        7 => get("g"),
        8 => get("h"),
        _ => unreachable!(),
    }
}

/// Sends so many requests from several connections at once; Envoy closes some of these, and they are opened again.
fn send(envoy: &Envoy, total: usize, make: impl Fn(u64) -> Request + Sync) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut connection = envoy.connect();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= total {
                        return;
                    }
                    let response = connection.exchange(&make(number as u64));
                    if response.header("connection").is_some_and(|value| value == "close") {
                        connection = envoy.connect();
                    }
                }
            });
        }
    });
}

#[test]
fn of_a_mixed_load_each_decision_is_counted_exactly_and_once() {
    const EACH: u64 = 400;
    let envoy = Envoy::with(&mixed()).concurrency(4).start();
    send(&envoy, (EACH * MIX) as usize, mixed_request);
    let decided = decisions(&envoy);
    // acme: 100 of its 400. watched: 800 requests, of which the hard limit lets 400 pass, 3 of them for images; 50 of the 400 are within
    // the soft limit.
    let passed = |of: &str| decided.get(of).copied().unwrap_or_default();
    assert_eq!(passed("allowed"), 100 + 50, "{decided:?}");
    assert_eq!(passed("shadow_denied"), 350, "{decided:?}");
    assert_eq!(passed("denied"), 300 + 400, "{decided:?}");
    let rest = ["exempt", "unauthorized", "invalid", "disabled"].map(passed);
    assert_eq!(rest, [EACH, 2 * EACH, EACH, 2 * EACH]);
    assert_eq!(decided.len(), 7, "{decided:?}");
    assert_eq!(decided.values().sum::<u64>(), EACH * MIX, "the sum of all is the number of requests");
    let by_limit = nonzero(&envoy, "allowance_requests_total");
    assert_eq!(by_limit["decision=allowed,limit=none,plan=free"], 100);
    assert_eq!(by_limit["decision=denied,limit=l,plan=free"], 300);
    assert_eq!(by_limit["decision=shadow_denied,limit=soft,plan=watched"], 350);
    // Images run out first, and wait longest: one comes back every 1200 days.
    assert_eq!(by_limit["decision=denied,limit=images/i,plan=watched"], EACH - 3);
    assert_eq!(by_limit["decision=denied,limit=hard,plan=watched"], 3);
    assert_eq!(by_limit["decision=exempt,limit=none,plan=none"], EACH);
}

#[test]
fn a_request_that_cannot_be_decided_is_an_error_and_passes() {
    let builder = Envoy::with(&unlisted("[{requests: 5, per: 300d}]"));
    let envoy = broken_host::without("proxy_get_current_time_nanoseconds", builder);
    let mut connection = envoy.connect();
    for _ in 0..7 {
        let response = keyed(&mut connection, "k");
        assert_eq!((response.text().as_str(), response.header("ratelimit")), ("upstream\n", None));
    }
    assert_eq!(refusal(&connection.get("/", &[])).0, 401, "what needs no clock is decided as ever");
    assert_eq!(decisions(&envoy), counted(&[("error", 7), ("unauthorized", 1)]));
    assert_eq!(nonzero(&envoy, "allowance_errors_total"), BTreeMap::from([("reason=host".to_owned(), 7)]));
}

#[test]
fn where_failure_means_deny_a_request_that_cannot_be_decided_is_503() {
    let configuration = format!("failure_mode: deny\n{}", unlisted("[{requests: 5, per: 300d}]"));
    let envoy = broken_host::without("proxy_get_current_time_nanoseconds", Envoy::with(&configuration));
    let mut connection = envoy.connect();
    for _ in 0..3 {
        let response = keyed(&mut connection, "k");
        assert_eq!(refusal(&response), (503, "limiter_unavailable".to_owned()));
        assert_eq!(response.json()["error"]["type"], "server_error");
        assert_eq!(response.header("cache-control").as_deref(), Some("no-store"));
    }
    assert_eq!(decisions(&envoy), counted(&[("error", 3)]));
}

// === shadow ===

#[test]
fn a_shadow_limit_denies_nobody_and_counts_whom_it_would_have_denied() {
    let configuration = |hard: u64, soft: &str| {
        unlisted(&format!("[{{name: soft, {soft}, per: 300d}}, {{name: hard, requests: {hard}, per: 300d}}]"))
    };
    let envoy = Envoy::with(&configuration(10, "requests: 3, shadow: true")).concurrency(2).ecds().start();
    let mut connection = envoy.connect();
    for expected in (0..10).rev() {
        let response = keyed(&mut connection, "k");
        assert_eq!((response.status, left(&response)), (200, ("hard".to_owned(), expected)));
        // Clients are told of limits that can deny them.
        assert_eq!(response.header("ratelimit-policy").as_deref(), Some(r#""hard";q=10;w=25920000"#));
    }
    let denied = keyed(&mut connection, "k");
    assert_eq!((denied.status, denied.json()["limit"]["name"].as_str()), (429, Some("hard")));
    assert_eq!(denied.header("ratelimit-policy").as_deref(), Some(r#""hard";q=10;w=25920000"#));
    let expected = [
        ("decision=allowed,limit=none,plan=free", 3),
        ("decision=shadow_denied,limit=soft,plan=free", 7),
        ("decision=denied,limit=hard,plan=free", 1),
    ];
    let expected: BTreeMap<String, u64> =
        expected.into_iter().map(|(series, count)| (series.to_owned(), count)).collect();
    assert_eq!(nonzero(&envoy, "allowance_requests_total"), expected);
    // What it would have denied it was not charged: enforced, it has used its three and no more.
    envoy.reconfigure(&configuration(100, "requests: 5")).unwrap();
    let statuses = [0; 3].map(|_| keyed(&mut connection, "k").status);
    assert_eq!(statuses, [200, 200, 429]);
}

#[test]
fn in_shadow_a_plan_or_everything_denies_nobody() {
    let limits = "[{name: a, requests: 3, per: 300d}, {name: b, requests: 5, per: 200d}]";
    let rule = "rules: [{name: r, match: {path: {prefix: /r}}, limits: [{name: c, requests: 1, per: 300d}]}]\n";
    for configuration in [
        format!("unlisted: {{plan: free}}\nplans: {{free: {{shadow: true, limits: {limits}}}}}\n"),
        format!("shadow: true\n{rule}{}", unlisted(limits)),
    ] {
        let envoy = Envoy::with(&configuration).start();
        let mut connection = envoy.connect();
        for _ in 0..9 {
            let response = keyed(&mut connection, "k");
            assert_eq!(response.text(), "upstream\n", "{configuration}");
            let told = ["ratelimit", "ratelimit-policy", "retry-after", "x-ratelimit-limit"];
            assert_eq!(told.map(|name| response.header(name)), [const { None }; 4], "{configuration}");
        }
        let everything = configuration.starts_with("shadow");
        if everything {
            let statuses = [0; 3].map(|_| connection.get("/r", &[("x-api-key", "fresh")]).status);
            assert_eq!(statuses, [200; 3], "a rule's limit as well");
        }
        let decided = decisions(&envoy);
        let by_rule = if everything { (1, 2) } else { (0, 0) };
        assert_eq!(decided, counted(&[("allowed", 3 + by_rule.0), ("shadow_denied", 6 + by_rule.1)]));
        // Of several the first that would have denied is named: a, as it is exhausted before b.
        let by_limit = nonzero(&envoy, "allowance_requests_total");
        assert_eq!(by_limit["decision=shadow_denied,limit=a,plan=free"], 6);
        assert_eq!(by_limit.get("decision=shadow_denied,limit=r/c,plan=free").copied().unwrap_or_default(), by_rule.1);
    }
}

// === share ===

#[test]
fn a_share_divides_every_maximum_and_burst() {
    let configuration = format!(
        "share: {{of: 4}}
unlisted: {{plan: free}}
plans:
  free: {{limits: [{{name: many, requests: 100, per: 300d}}]}}
  few: {{limits: [{{name: few, requests: 3, per: 300d}}]}}
  bucket: {{limits: [{{name: bucket, requests: 400, per: 3000d, algorithm: token_bucket, burst: 8}}]}}
consumers: [{}, {}, {{name: own, plan: free, keys: [\"sha256:{}\"], limits: [{{name: many, requests: 8, per: 300d}}]}}]
rules: [{{name: r, match: {{path: {{prefix: /r}}}}, limits: [{{name: l, requests: 12, per: 300d}}]}}]
",
        consumer("few", "few", &["f"], ""),
        consumer("bucket", "bucket", &["b"], ""),
        hex("o"),
    );
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    for (path, key, max) in [("/", "k", 25), ("/", "f", 1), ("/", "b", 2), ("/", "o", 2), ("/r", "other", 3)] {
        for expected in (0..max).rev() {
            let response = connection.get(path, &[("x-api-key", key)]);
            assert_eq!((response.status, left(&response).1), (200, expected), "{key}");
        }
        let denied = connection.get(path, &[("x-api-key", key)]);
        assert_eq!((denied.status, denied.header("x-ratelimit-limit")), (429, Some(max.to_string())), "{key}");
    }
    // 400 in 3000 days by four are one in 30: what comes back is divided as well.
    let wait: u64 = keyed(&mut connection, "b").header("retry-after").unwrap().parse().unwrap();
    assert!((2_591_900..=2_592_000).contains(&wait), "{wait}");
}

// === metrics of consumers ===

#[test]
fn listed_consumers_are_counted_by_name_where_that_is_wanted() {
    let configuration = |metrics: &str| {
        format!(
            "{metrics}unlisted: {{plan: free}}
plans: {{free: {{limits: [{{requests: 3, per: 300d}}]}}}}
consumers: [{}, {}, {}]
",
            consumer("acme", "free", &["a", "a-2"], ""),
            consumer("idle", "free", &["i"], ""),
            consumer("gone", "free", &["g"], ", disabled: true"),
        )
    };
    let ask = |envoy: &Envoy| {
        let mut connection = envoy.connect();
        for key in ["a", "a-2", "a", "a", "a-2", "unlisted", "g"] {
            keyed(&mut connection, key);
        }
    };
    let envoy = Envoy::with(&configuration("metrics: {consumers: true}\n")).start();
    ask(&envoy);
    let expected = [
        ("consumer=acme,decision=allowed", 3),
        ("consumer=acme,decision=denied", 2),
        ("consumer=gone,decision=disabled", 1),
    ];
    let expected: BTreeMap<String, u64> =
        expected.into_iter().map(|(series, count)| (series.to_owned(), count)).collect();
    assert_eq!(nonzero(&envoy, "allowance_consumer_requests_total"), expected);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 4), ("denied", 2), ("disabled", 1)]));
    for metrics in ["", "metrics: {consumers: false}\n"] {
        let envoy = Envoy::with(&configuration(metrics)).start();
        ask(&envoy);
        assert_eq!(series(&envoy, "allowance_consumer_requests_total"), []);
        let names = envoy.admin_get("/stats");
        assert!(!names.contains("acme"), "{names}");
    }
}

// === what clients are told ===

#[test]
fn without_exposure_neither_plans_nor_limits_are_named() {
    let configuration = "denial: {expose: false}
headers: [ratelimit, x-ratelimit]
unlisted: {plan: secretplan}
plans: {secretplan: {limits: [{name: secretlimit, requests: 4711, per: 300d}]}}
rules: [{name: secretrule, match: {path: {exact: /batch}}, cost: 4711}]
";
    let envoy = Envoy::with(configuration).access_log("%RESPONSE_CODE_DETAILS%").start();
    let mut connection = envoy.connect();
    let allowed = connection.get("/batch", &[("x-api-key", "k")]);
    assert_eq!(allowed.status, 200);
    let denied = connection.get("/", &[("x-api-key", "k")]);
    assert_eq!(denied.status, 429);
    for response in [&allowed, &denied] {
        let shown = format!("{response:?}");
        for secret in ["secretplan", "secretlimit", "secretrule"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    let body = denied.text();
    assert!(!body.contains("4711") && !body.contains("300d"), "{body}");
    let body = denied.json();
    assert_eq!(body["limit"], serde_json::Value::Null);
    assert_eq!(body["error"]["code"], "rate_limit_exceeded");
    let message = body["error"]["message"].as_str().unwrap_or_default();
    let wait = denied.header("retry-after").unwrap();
    assert_eq!(message, format!("Exceeded the allowed number of requests. Retry after {wait} s."));
    // Operators still see which it was.
    assert_eq!(envoy.access_log(2)[1], "allowance_over_limit{secretlimit}");
    assert_eq!(nonzero(&envoy, "allowance_requests_total")["decision=denied,limit=secretlimit,plan=secretplan"], 1);
}

#[test]
fn in_text_a_refusal_is_its_message() {
    let configuration = format!(
        "denial: {{format: text}}\n{}",
        unlisted("[{name: l, requests: 1, per: 300d, algorithm: token_bucket}]")
    );
    let envoy = Envoy::with(&configuration).start();
    let text = |response: &Response| {
        assert!(response.header("content-type").unwrap().starts_with("text/plain"), "{response:?}");
        assert_eq!(response.header("cache-control").as_deref(), Some("no-store"));
        response.text().trim_end().to_owned()
    };
    assert_eq!(envoy.get("/", &[("x-api-key", "k")]).status, 200);
    let denied = envoy.get("/", &[("x-api-key", "k")]);
    let wait = denied.header("retry-after").unwrap();
    assert_eq!(denied.status, 429);
    assert_eq!(text(&denied), format!("Exceeded the allowed number of requests: 1 per 300d. Retry after {wait} s."));
    assert_eq!(left(&denied), ("l".to_owned(), 0), "the headers are those of every denial");
    let missing = envoy.get("/", &[]);
    assert_eq!(missing.status, 401);
    assert!(text(&missing).starts_with("Missing API key."), "{missing:?}");
    let several = envoy.get("/", &[("x-api-key", "k"), ("authorization", "Bearer k")]);
    assert_eq!((several.status, text(&several).as_str()), (400, "More than one API key. Send exactly one."));
}

#[test]
fn allowed_responses_carry_the_families_that_are_configured_and_denials_all() {
    const RATELIMIT: [&str; 2] = ["ratelimit-policy", "ratelimit"];
    const X_RATELIMIT: [&str; 3] = ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];
    for (families, [ratelimit, x_ratelimit]) in [
        ("", [true, false]),
        ("headers: []\n", [false, false]),
        ("headers: [ratelimit]\n", [true, false]),
        ("headers: [x-ratelimit]\n", [false, true]),
        ("headers: [x-ratelimit, ratelimit]\n", [true, true]),
    ] {
        let limits =
            "[{name: wide, requests: 100, per: 300d}, {name: l, requests: 2, per: 3000d, algorithm: token_bucket}]";
        let envoy = Envoy::with(&format!("{families}{}", unlisted(limits))).start();
        let mut connection = envoy.connect();
        for remaining in ["1", "0"] {
            let allowed = keyed(&mut connection, "k");
            assert_eq!(allowed.status, 200);
            assert_eq!(RATELIMIT.map(|name| allowed.header(name).is_some()), [ratelimit; 2], "{families}");
            assert_eq!(X_RATELIMIT.map(|name| allowed.header(name).is_some()), [x_ratelimit; 3], "{families}");
            if x_ratelimit {
                assert_eq!(allowed.header("x-ratelimit-limit").as_deref(), Some("2"));
                assert_eq!(allowed.header("x-ratelimit-remaining").as_deref(), Some(remaining));
                let reset: u64 = allowed.header("x-ratelimit-reset").unwrap().parse().expect("whole seconds");
                assert!(reset > 86_400, "{reset}");
            }
        }
        let denied = keyed(&mut connection, "k");
        assert_eq!(denied.status, 429);
        for name in RATELIMIT.iter().chain(&X_RATELIMIT) {
            assert_eq!(denied.headers_named(name).len(), 1, "{name} with {families}");
        }
    }
}

// === what operators see ===

const FILTER_STATE: &str = "%RESPONSE_CODE% %FILTER_STATE(wasm.allowance:PLAIN)%";

/// The access log without the names of unlisted callers, which differ from start to start, and these names.
fn named(lines: &[String]) -> (Vec<String>, Vec<String>) {
    let mut names = Vec::new();
    let mut rest = Vec::new();
    for line in lines {
        match line.split_once("key:") {
            Some((before, after)) => {
                let (name, after) = after.split_once(' ').expect("a name ends with a space");
                assert!(name.len() == 12 && name.bytes().all(|b| b"0123456789abcdef".contains(&b)), "{line}");
                names.push(name.to_owned());
                rest.push(format!("{before}key:… {after}"));
            }
            None => rest.push(line.clone()),
        }
    }
    (rest, names)
}

fn logged(log: &str) -> Envoy {
    let configuration = format!(
        "{log}unlisted: {{plan: free}}
plans:
  free: {{limits: [{{name: l, requests: 1, per: 300d}}]}}
consumers: [{}]
rules:
- {{name: health, match: {{path: {{exact: /healthz}}}}, exempt: true}}
- {{name: r, match: {{path: {{prefix: /r}}}}, limits: [{{name: c, requests: 1, per: 3000d, algorithm: token_bucket}}]}}
",
        consumer("acme", "free", &["a-secret"], "")
    );
    Envoy::with(&configuration).access_log(FILTER_STATE).start()
}

#[test]
fn access_logs_say_of_every_denial_whom_and_what() {
    let envoy = logged("");
    let mut connection = envoy.connect();
    for (path, key) in [
        ("/", "a-secret"),
        ("/", "a-secret"),
        ("/", "k-1"),
        ("/", "k-1"),
        ("/", "k-1"),
        ("/r", "k-2"),
        ("/r", "k-2"),
        ("/", "k-2"),
    ] {
        connection.get(path, &[("x-api-key", key)]);
    }
    let lines = envoy.access_log(8);
    let (lines, names) = named(&lines);
    let expected = [
        "200 -",
        "429 consumer=acme plan=free limit=l decision=denied",
        "200 -",
        "429 consumer=key:… plan=free limit=l decision=denied",
        "429 consumer=key:… plan=free limit=l decision=denied",
        "200 -",
        // The one with the longer wait is reported.
        "429 consumer=key:… plan=free limit=r/c decision=denied",
        "429 consumer=key:… plan=free limit=l decision=denied",
    ];
    assert_eq!(lines, expected);
    assert_eq!((&names[0], &names[2]), (&names[1], &names[3]), "the same caller has the same name");
    assert_ne!(names[0], names[2]);
    assert!(!names.contains(&hex("k-1")[..12].to_owned()), "not the plain hash");
}

#[test]
fn access_logs_say_of_every_request_what_became_of_it_where_that_is_wanted() {
    let envoy = logged("log: all\n");
    for (path, key) in
        [("/", Some("a-secret")), ("/", Some("a-secret")), ("/", Some("k-1")), ("/healthz", None), ("/", None)]
    {
        let headers: Vec<(&str, &str)> = key.iter().map(|key| ("x-api-key", *key)).collect();
        envoy.get(path, &headers);
    }
    let two = envoy.connect().get("/", &[("x-api-key", "a"), ("authorization", "Bearer b")]);
    assert_eq!(two.status, 400);
    let (lines, _) = named(&envoy.access_log(6));
    let decision = |line: &String| line.rsplit_once("decision=").map(|(_, decision)| decision.to_owned());
    let decided: Vec<Option<String>> = lines.iter().map(decision).collect();
    let expected = ["allowed", "denied", "allowed", "exempt", "unauthorized", "invalid"];
    assert_eq!(decided, expected.map(|decision| Some(decision.to_owned())), "{lines:?}");
    assert!(lines[0].starts_with("200 consumer=acme plan=free "), "{lines:?}");
    assert!(lines[2].starts_with("200 consumer=key:… plan=free "), "{lines:?}");
    assert!(!lines.concat().contains("secret"), "{lines:?}");
}

#[test]
fn one_line_at_the_start_says_what_is_configured_however_many_workers_there_are() {
    let configuration = |plans: &str| {
        format!(
            "unlisted: {{plan: free}}\nplans: {{free: {{limits: []}}{plans}}}\nconsumers: [{}, {}]\n",
            consumer("acme", "free", &["a"], ""),
            consumer("other", "free", &["o"], "")
        )
    };
    let envoy = Envoy::with(&configuration("")).concurrency(4).ecds().start();
    // On each worker the filter is in use.
    for (_, connection) in &mut envoy.connections_on_distinct_workers(4) {
        assert_eq!(keyed(connection, "a").status, 200);
    }
    let line = concat!("allowance ", env!("CARGO_PKG_VERSION"));
    let lines = |envoy: &Envoy| -> Vec<String> {
        envoy.log().lines().filter(|logged| logged.contains(line)).map(str::to_owned).collect()
    };
    let said = lines(&envoy);
    assert_eq!(said.len(), 1, "{said:#?}");
    assert!(said[0].contains("plans: 1") && said[0].contains("consumers: 2"), "{said:?}");
    assert!(!envoy.log().contains(&hex("a")[..12]), "no key");
    envoy.reconfigure(&configuration(", pro: {limits: []}")).unwrap();
    for (_, connection) in &mut envoy.connections_on_distinct_workers(4) {
        assert_eq!(keyed(connection, "a").status, 200);
    }
    let said = lines(&envoy);
    assert_eq!(said.len(), 2, "one more for another configuration: {said:#?}");
    assert!(said[1].contains("plans: 2"), "{said:?}");
}

/// Two listeners with a filter each, or two filters in a row: what they share is the namespace, and each has something to say.
#[test]
fn each_of_two_filters_in_one_namespace_says_once_what_is_configured() {
    let vm_id = format!("twice-{}", std::process::id());
    let module = std::env::var("ALLOWANCE_WASM").expect("ALLOWANCE_WASM is not set: run \"make test\"");
    let second = format!(
        r#"- name: second
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: second
      vm_config: {{vm_id: {vm_id}, runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {module:?}}}}}}}
      configuration:
        "@type": type.googleapis.com/google.protobuf.Struct
        value: {{unlisted: {{plan: free}}, plans: {{free: {{limits: []}}, other: {{limits: []}}}}}}
"#
    );
    let envoy = Envoy::with(&unlisted("[]")).vm_id(&vm_id).concurrency(4).filters_after(&second).start();
    for (_, connection) in &mut envoy.connections_on_distinct_workers(4) {
        assert_eq!(keyed(connection, "a").status, 200);
    }
    let log = envoy.log();
    let said = ["plans: 1", "plans: 2"].map(|plans| {
        let ours = log.lines().filter(|line| line.contains(concat!("allowance ", env!("CARGO_PKG_VERSION"))));
        ours.filter(|line| line.contains(plans)).count()
    });
    assert_eq!(said, [1, 1], "{log}");
}
