//! Ways around a limit: every one is refused, or counted on the right caller.

use crate::asking::{consumer, counted, decisions, header_to_metadata, left, refusal, set_metadata};
use crate::support::envoy::Envoy;
use crate::support::http::{Request, Response};

const REAL: &str = "the-real-key";

/// Every kind of source; one listed consumer with 20 requests, and a plan for everybody else unless they are refused.
fn sources(unlisted: &str) -> String {
    format!(
        "api_key: {{from: [{{bearer: authorization}}, {{header: x-api-key}}, {{query: key}}, {{cookie: api_key}}]}}
{unlisted}
plans:
  free: {{limits: [{{requests: 20, per: 300d}}]}}
consumers: [{}]
",
        consumer("acme", "free", &[REAL], "")
    )
}

/// A request with this key in the source of that number.
fn with_key(request: Request, source: usize, key: &str) -> Request {
    match source {
        0 => request.header("authorization", format!("Bearer {key}")),
        1 => request.header("x-api-key", key),
        3 => request.header("cookie", format!("api_key={key}")),
        _ => panic!("a query is part of the path"),
    }
}

/// A request with one key in each of these sources.
fn keyed(keys: &[(usize, &str)]) -> Request {
    let query = keys.iter().find(|(source, _)| *source == 2).map(|(_, key)| format!("?key={key}"));
    let request = Request::get(&format!("/{}", query.unwrap_or_default()));
    keys.iter()
        .filter(|(source, _)| *source != 2)
        .fold(request, |request, (source, key)| with_key(request, *source, key))
}

/// Envoy closes an HTTP/1.1 connection after a 400, so that each request has its own.
fn send(envoy: &Envoy, request: &Request) -> Response {
    envoy.connect().exchange(request)
}

/// Each of these requests is refused like this, and none of them has cost the real key anything.
fn assert_all_refused(envoy: &Envoy, requests: &[Request], status: u16, code: &str) {
    for request in requests {
        let shown = request.to_bytes().escape_ascii().to_string();
        assert_eq!(refusal(&send(envoy, request)), (status, code.to_owned()), "{shown}");
    }
    let first = send(envoy, &keyed(&[(1, REAL)]));
    assert_eq!((first.status, left(&first)), (200, ("300d".to_owned(), 19)), "the first charge of all");
}

// === keys ===

#[test]
fn two_sources_at_once_are_refused_whatever_they_hold() {
    let envoy = Envoy::with(&sources("unlisted: {plan: free}")).start();
    let mut requests = Vec::new();
    for (one, other) in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)] {
        requests.push(keyed(&[(one, REAL), (other, REAL)]));
        requests.push(keyed(&[(one, "a"), (other, "b")]));
    }
    requests.push(keyed(&[(0, REAL), (1, REAL), (2, REAL), (3, REAL)]));
    assert_all_refused(&envoy, &requests, 400, "ambiguous_api_key");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1), ("invalid", 13)]));
}

/// A caller that is over its limit cannot have another, unlisted key counted in place of its own.
#[test]
fn a_random_key_beside_the_real_one_is_refused() {
    let envoy = Envoy::with(&sources("unlisted: {plan: free}")).start();
    let mut requests = Vec::new();
    for (random, real) in (0..4).flat_map(|random| (0..4).map(move |real| (random, real))).filter(|(a, b)| a != b) {
        requests.push(keyed(&[(random, "random-key-1"), (real, REAL)]));
    }
    assert_eq!(requests.len(), 12);
    assert_all_refused(&envoy, &requests, 400, "ambiguous_api_key");
}

/// The same where the configuration lets the first of several sources win: it is that one's key which counts.
#[test]
fn where_the_first_source_wins_the_others_are_not_looked_at() {
    let configuration = sources("").replace("cookie: api_key}]", "cookie: api_key}], several: first");
    let envoy = Envoy::with(&configuration).start();
    let real_first = send(&envoy, &keyed(&[(0, REAL), (1, "random"), (2, "random"), (3, "random")]));
    assert_eq!((real_first.status, left(&real_first).1), (200, 19));
    let random_first = send(&envoy, &keyed(&[(0, "random"), (1, REAL), (2, REAL), (3, REAL)]));
    assert_eq!(refusal(&random_first), (401, "invalid_api_key".to_owned()));
    let repeated = send(&envoy, &Request::get("/").header("x-api-key", REAL).header("x-api-key", "random"));
    assert_eq!(refusal(&repeated), (400, "ambiguous_api_key".to_owned()), "one source with several keys has no first");
    assert_eq!(left(&send(&envoy, &keyed(&[(1, REAL)]))).1, 18);
}

#[test]
fn a_key_repeated_in_its_source_is_refused() {
    let envoy = Envoy::with(&sources("unlisted: {plan: free}")).start();
    let header = |name: &str, values: &[&str]| {
        values.iter().fold(Request::get("/"), |request, value| request.header(name, value))
    };
    let requests = [
        header("x-api-key", &[REAL, "other"]),
        header("x-api-key", &["other", REAL]),
        header("x-api-key", &[REAL, REAL]),
        header("X-Api-Key", &[REAL, ""]),
        header("x-api-key", &[&format!("{REAL},other")]),
        header("x-api-key", &[&format!("other , {REAL}")]),
        header("authorization", &[&format!("Bearer {REAL}"), "Bearer other"]),
        header("authorization", &[&format!("Bearer {REAL}"), &format!("bearer {REAL}")]),
        header("authorization", &[&format!("Bearer {REAL}, Bearer other")]),
        header("authorization", &["Basic Zm9vOmJhcg==", &format!("Bearer {REAL}")]),
        Request::get(&format!("/?key={REAL}&key=other")),
        Request::get(&format!("/?key={REAL}&key={REAL}")),
        Request::get(&format!("/?key={REAL}&k%65y=other")),
        Request::get(&format!("/?k%65y=other&key={REAL}")),
        Request::get(&format!("/?%6b%65%79=other&key={REAL}")),
        Request::get(&format!("/?key={REAL}&key=")),
        Request::get(&format!("/?key={REAL}&key")),
        header("cookie", &[&format!("api_key={REAL}; api_key=other")]),
        header("cookie", &[&format!("api_key={REAL};api_key={REAL}")]),
        header("cookie", &[&format!("api_key={REAL}"), "api_key=other"]),
        header("cookie", &[&format!("api_key={REAL}; a=b"), "c=d; api_key="]),
    ];
    assert_all_refused(&envoy, &requests, 400, "ambiguous_api_key");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1), ("invalid", requests.len() as u64)]));
}

#[test]
fn an_empty_key_is_no_key() {
    let envoy = Envoy::with(&sources("unlisted: {plan: free}")).start();
    let requests = [
        Request::get("/").header("x-api-key", ""),
        Request::get("/").header("x-api-key", "   "),
        Request::get("/").header("authorization", "Bearer"),
        Request::get("/").header("authorization", "Bearer   "),
        Request::get("/").header("authorization", ""),
        Request::get("/?key="),
        Request::get("/?key"),
        Request::get("/?k%65y="),
        Request::get("/").header("cookie", "api_key="),
        Request::get("/").header("cookie", "api_key=\"\"; a=b"),
    ];
    assert_all_refused(&envoy, &requests, 401, "missing_api_key");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1), ("unauthorized", 10)]));
}

#[test]
fn the_scheme_in_any_case_is_the_same_caller() {
    let envoy = Envoy::with(&sources("")).start();
    let mut connection = envoy.connect();
    let spellings = ["Bearer ", "bearer ", "BEARER ", "bEaReR ", "Bearer   ", "bearer\t"];
    for (spelling, remaining) in spellings.iter().zip((0..20).rev()) {
        let response = connection.get("/", &[("authorization", &format!("{spelling}{REAL}"))]);
        assert_eq!((response.status, left(&response).1), (200, remaining), "{spelling:?}");
    }
    // Other schemes are no keys; they neither pass nor hide one.
    for value in [format!("Basic {REAL}"), format!("Bearer{REAL}"), format!("Token {REAL}"), REAL.to_owned()] {
        let response = connection.get("/", &[("authorization", &value)]);
        assert_eq!(refusal(&response), (401, "missing_api_key".to_owned()), "{value}");
    }
}

// === addresses ===

fn anonymous(max: u64) -> String {
    format!("anonymous: {{plan: trial}}\nplans: {{trial: {{limits: [{{requests: {max}, per: 300d}}]}}}}\n")
}

/// Headers with which clients tell proxies who they are, each with another address in it.
fn spoofed(number: usize) -> [(&'static str, String); 6] {
    let address = format!("198.51.100.{number}");
    [
        ("x-forwarded-for", address.clone()),
        ("x-real-ip", address.clone()),
        ("forwarded", format!("for={address}")),
        ("true-client-ip", address.clone()),
        ("cf-connecting-ip", address.clone()),
        ("x-envoy-external-address", address),
    ]
}

#[test]
fn at_an_edge_a_spoofed_address_changes_nothing_for_requests_without_a_key() {
    let envoy = Envoy::with(&anonymous(3)).connection_manager("use_remote_address: true").start();
    let statuses: Vec<u16> = (0..5)
        .map(|number| {
            let headers = spoofed(number);
            let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            // Another connection each time: another port of the same address.
            envoy.get("/", &headers).status
        })
        .collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429], "all counted on 127.0.0.1");
}

#[test]
fn at_an_edge_a_spoofed_address_changes_nothing_for_fresh_keys() {
    let configuration = "unlisted: {plan: free, address_plan: guard}
plans:
  free: {limits: [{name: key, requests: 100, per: 300d}]}
  guard: {limits: [{name: address, requests: 3, per: 300d}]}
";
    let envoy = Envoy::with(configuration).connection_manager("use_remote_address: true").start();
    for number in 0..5 {
        let mut headers = spoofed(number).to_vec();
        headers.push(("x-api-key", format!("random-{number}")));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = envoy.get("/", &headers);
        assert_eq!(response.status, if number < 3 { 200 } else { 429 }, "request {number}");
        if number >= 3 {
            let limit = &response.json()["limit"];
            assert_eq!((limit["name"].as_str(), limit["plan"].as_str()), (Some("address"), Some("guard")));
        }
    }
}

#[test]
fn behind_one_trusted_proxy_only_what_that_one_appended_counts() {
    let trusted = "use_remote_address: true\nxff_num_trusted_hops: 1";
    let envoy = Envoy::with(&anonymous(2)).connection_manager(trusted).start();
    let status = |forwarded: &str| envoy.get("/", &[("x-forwarded-for", forwarded)]).status;
    let spoofed = ["203.0.113.7", "198.51.100.1, 203.0.113.7", "198.51.100.2, 203.0.113.7"].map(status);
    assert_eq!(spoofed, [200, 200, 429], "one client, whatever it put in front");
    assert_eq!(status("203.0.113.7, 203.0.113.8"), 200, "another client");
}

#[test]
fn addresses_of_one_ipv6_network_count_together() {
    // By default Envoy believes x-forwarded-for: a way to come from anywhere.
    let envoy = Envoy::with(&anonymous(3)).start();
    let status = |address: &str| envoy.get("/", &[("x-forwarded-for", address)]).status;
    let statuses =
        ["2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:0DB8:1:2:3:4:5:6", "2001:db8:1:2::2"].map(status);
    assert_eq!(statuses, [200, 200, 200, 429]);
    assert_eq!(["2001:db8:1:3::1", "2001:db8:1:1::1", "2001:db8:2:2::1"].map(status), [200; 3], "other networks");
}

#[test]
fn an_ipv4_address_in_ipv6_notation_is_that_ipv4_address() {
    let envoy = Envoy::with(&anonymous(3)).start();
    let status = |address: &str| envoy.get("/", &[("x-forwarded-for", address)]).status;
    let statuses = ["203.0.113.7", "::ffff:203.0.113.7", "::FFFF:CB00:7107", "203.0.113.7"].map(status);
    assert_eq!(statuses, [200, 200, 200, 429]);
    // All mapped addresses are of one /64, and every IPv4 client would be one caller.
    assert_eq!(["::ffff:203.0.113.8", "203.0.113.9"].map(status), [200; 2], "other addresses");
    assert_eq!(["::ffff:203.0.113.7", "::ffff:203.0.113.8"].map(status), [429, 200]);
}

// === paths ===

/// Paths below /public need no key; images have a limit of their own beside the plan, which has none.
const RULES: &str = "unlisted: {plan: free}
plans: {free: {limits: []}}
rules:
- {name: public, match: {path: {prefix: /public}}, exempt: true}
- {name: images, match: {path: {prefix: /v1/images}}, limits: [{requests: 1000, per: 300d}]}
";

#[test]
fn no_spelling_of_another_path_is_exempt() {
    let envoy = Envoy::with(RULES).start();
    // What the filter sees: without a key it is 401, and 200 would be the way around.
    let ours = [
        // Dot segments, plain and escaped.
        "/public/../v1/chat",
        "/public/x/../../v1/chat",
        "/public/%2e%2e/v1/chat",
        "/public/%2E%2e/v1/chat",
        "/public/.%2e/v1/chat",
        "/public/./../v1/chat",
        "//public//..//v1//chat",
        "/public/..",
        "/public/../",
        "/./public/../v1/chat",
        "/../public/../v1/chat",
        // What one upstream reads as a slash, and the next does not.
        "/public%2f..%2fv1/chat",
        "/public%2F..%2Fv1/chat",
        "/public/..%2fv1/chat",
        "/public/x%2fy",
        "/public/..%5cv1%5cchat",
        "/public/x%5cy",
        "/public/..\\v1\\chat",
        "/public\\..\\v1\\chat",
        // What ends a path for some, and is no path for others.
        "/public/%00/../../v1/chat",
        "/public/x%00y",
        "/public/%",
        "/public/%2",
        "/public/%zz",
        "/public/%%32%65",
        // Whole segments, as they are written.
        "/publicx",
        "/public.",
        "/public%20",
        "/Public",
        "/xpublic",
        "/v1/public",
        "/%2570ublic/x",
        // The query is no part of the path.
        "/v1/chat?/public",
        "/v1/chat?/../../public/",
        "/?/public",
        // The whole address as the target, which proxies get.
        "http://allowance.test/public/../v1/chat",
        "http://allowance.test/public/%2e%2e/v1/chat",
        "http://public/v1/chat",
        "http://allowance.test?/public",
        "http://public@allowance.test/v1/chat",
    ];
    let mut refused = 0;
    for path in ours {
        let response = send(&envoy, &Request::get(path));
        // Envoy answers some targets by itself, in its own words.
        if response.header("www-authenticate").is_none() {
            assert!([400, 404].contains(&response.status), "{path}: {response:?}");
            continue;
        }
        refused += 1;
        assert_eq!(refusal(&response), (401, "missing_api_key".to_owned()), "{path}");
    }
    assert_eq!(decisions(&envoy), counted(&[("unauthorized", refused)]));
    assert!(refused >= 38, "nearly all of them reach the filter: {refused}");
}

#[test]
fn every_spelling_of_an_exempt_path_is_exempt() {
    let envoy = Envoy::with(RULES).start();
    let paths = [
        "/public",
        "/public/",
        "/public/a/b",
        "/public?x=/../v1",
        "/public/a?x=%2f%zz",
        "//public//a",
        "/./public/a",
        "/v1/../public/a",
        "/%70ublic/a",
        "/public/%7euser",
        "/public/a/../b",
        "/public/a%20b",
        "/public/a..b",
        "http://allowance.test/public/a",
        "http://allowance.test/v1/%2e%2e/public",
    ];
    for path in paths {
        assert_eq!(send(&envoy, &Request::get(path)).text(), "upstream\n", "{path}");
    }
    assert_eq!(decisions(&envoy), counted(&[("exempt", paths.len() as u64)]));
}

#[test]
fn every_spelling_of_a_limited_path_is_charged() {
    let envoy = Envoy::with(RULES).start();
    let paths = [
        "/v1/images",
        "/v1/images/",
        "/v1/images/generations",
        "//v1//images",
        "/v1/./images",
        "/v1/%2e/images",
        "/v1/x/../images",
        "/v1/x/%2E%2e/images",
        "/v1/%69mages",
        "/%76%31/%69%6d%61%67%65%73",
        "/v1%2fimages",
        "/v1%2Fimages",
        "%2fv1/images",
        "/%2fv1/images",
        "/v1/%2fimages",
        "/public/../v1/images",
        "/public/%2e%2e/v1/images",
        "/public%2f..%2fv1/images",
        "/public/..%2fv1%2fimages",
        "/../v1/images",
        "/v1/images?x=/public",
        "/v1/images?",
        "/v1/images/%",
        "/v1/images/%zz",
        "/v1/images/%00",
        "/v1/images/%5c",
        "/v1/images/\\x",
        "http://allowance.test/v1/images",
        "http://allowance.test//v1/%69mages",
        "HTTP://allowance.test/public/../v1/images?x",
    ];
    let mut charged = 0;
    for path in paths {
        let response = send(&envoy, &Request::get(path).header("x-api-key", "k"));
        // Envoy takes no target that starts neither with a slash nor with a scheme.
        if path.starts_with('%') {
            assert_eq!(response.status, 400, "{path}");
            continue;
        }
        charged += 1;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(left(&response), ("images/300d".to_owned(), 1000 - charged), "{path}");
    }
    for path in ["/v1/imagesx", "/v1/image", "/v2/images", "/v1?/images", "/v1/images/../chat", "/images"] {
        let response = send(&envoy, &Request::get(path).header("x-api-key", "k"));
        assert_eq!((response.status, response.header("ratelimit")), (200, None), "{path} is another path");
    }
}

/// Where upstreams read a path differently, one of the readings is the limited path; so it is charged, whichever upstream that is.
#[test]
fn a_path_that_some_upstream_takes_for_the_limited_one_is_charged() {
    let envoy = Envoy::with(RULES).start();
    let paths = [
        // For who takes an escaped slash, or a backslash, for no slash: below /v1/images.
        "/v1/images/%2f..%2f..%2fchat",
        "/v1/images/x%2F..%2F..",
        "/v1/images/%5c..%5c..",
        "/v1/images/x%5C..%5C..%5Cchat",
        "/v1/images/\\..\\..",
        "/v1/images/x\\..\\..\\chat",
        // For who takes them for slashes: /v1/images.
        "/v1/chat%2f..%2fimages",
        "/v1%5cimages",
        "/v1\\images",
        "/v1/chat/..%5cimages",
    ];
    for path in paths {
        let response = send(&envoy, &Request::get(path).header("x-api-key", path));
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(
            response.header("ratelimit-policy").as_deref(),
            Some(r#""images/300d";q=1000;w=25920000"#),
            "{path}"
        );
    }
}

// === identities ===

const IDENTITY: &str = "identity: {consumer: {metadata: [verified, consumer]}}
plans: {free: {limits: [{requests: 20, per: 300d}]}}
consumers: [{name: acme, plan: free}, {name: other, plan: free}]
";

#[test]
fn an_identity_header_is_no_metadata() {
    let verified = header_to_metadata(&[("x-token", "verified", "consumer")]);
    let envoy = Envoy::with(IDENTITY).filters_before(&verified).start();
    let mut connection = envoy.connect();
    let mut exchange = |headers: &[(&str, &str)]| connection.get("/", headers);
    for header in ["x-consumer", "consumer", "verified", "verified.consumer", "x-envoy-consumer"] {
        let response = exchange(&[(header, "acme")]);
        assert_eq!(refusal(&response), (401, "missing_api_key".to_owned()), "{header}");
    }
    let response = exchange(&[("authorization", "Bearer acme"), ("x-api-key", "acme")]);
    assert_eq!(refusal(&response), (401, "missing_api_key".to_owned()), "keys are not looked at either");
    // Beside a real identity it changes nothing: acme is charged, other is not.
    for remaining in [19, 18] {
        let response = exchange(&[("x-token", "acme"), ("x-consumer", "other"), ("consumer", "other")]);
        assert_eq!((response.status, left(&response).1), (200, remaining));
    }
    assert_eq!(left(&exchange(&[("x-token", "other")])).1, 19);
}

#[test]
fn without_the_identity_filter_nobody_is_known() {
    let envoy = Envoy::with(IDENTITY).start();
    for headers in [&[][..], &[("x-consumer", "acme")], &[("x-token", "acme")]] {
        assert_eq!(refusal(&envoy.get("/", headers)), (401, "missing_api_key".to_owned()), "{headers:?}");
    }
    // Another filter's metadata is not the one that was asked for.
    for metadata in [
        set_metadata("unverified", "{consumer: acme}"),
        set_metadata("verified", "{name: acme}"),
        set_metadata("verified", "{consumer: {name: acme}}"),
        set_metadata("verified", "{consumer: \"\"}"),
    ] {
        let envoy = Envoy::with(IDENTITY).filters_before(&metadata).start();
        assert_eq!(envoy.get("/", &[]).status, 401, "{metadata}");
    }
}

#[test]
fn without_the_identity_filter_everybody_is_anonymous_where_that_is_allowed() {
    let configuration = format!(
        "{}anonymous: {{plan: trial}}\n",
        IDENTITY.replace("plans: {", "plans: {trial: {limits: [{requests: 2, per: 300d}]}, ")
    );
    let envoy = Envoy::with(&configuration).connection_manager("use_remote_address: true").start();
    let statuses = ["acme", "other", "acme"].map(|name| envoy.get("/", &[("x-consumer", name)]).status);
    assert_eq!(statuses, [200, 200, 429], "counted on 127.0.0.1, whoever it says it is");
}

/// Where the earlier filter appends instead of replacing, the client's own header comes along.
#[test]
fn a_repeated_identity_header_is_nobodys() {
    let configuration = IDENTITY.replace("{metadata: [verified, consumer]}", "{header: x-consumer}");
    let envoy = Envoy::with(&configuration).start();
    for request in [
        Request::get("/").header("x-consumer", "acme").header("x-consumer", "other"),
        Request::get("/").header("x-consumer", "acme").header("x-consumer", "acme"),
        Request::get("/").header("x-consumer", "acme,other"),
    ] {
        let response = send(&envoy, &request);
        assert!([400, 401].contains(&response.status), "{response:?}");
    }
    assert_eq!(left(&send(&envoy, &Request::get("/").header("x-consumer", "acme"))).1, 19);
    assert_eq!(left(&send(&envoy, &Request::get("/").header("x-consumer", "other"))).1, 19);
}
