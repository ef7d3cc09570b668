//! Who is calling: by key, by what an earlier filter found out, or by address; and what that one is charged.

use crate::asking::{consumer, counted, decisions, header_to_metadata, hex, left, refusal, set_metadata};
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request, Response, storm};

fn keyed(connection: &mut Connection, key: &str) -> Response {
    connection.get("/", &[("x-api-key", key)])
}

/// The status, and what is left of the reported limit, as long as the request passes.
fn remaining(response: &Response) -> (u16, u64) {
    (response.status, left(response).1)
}

// === keys ===

#[test]
fn all_keys_of_a_consumer_share_its_counters() {
    let configuration = format!(
        "plans: {{pro: {{limits: [{{requests: 5, per: 300d}}]}}}}\nconsumers: [{}, {}]\n",
        consumer("acme", "pro", &["a-1", "a-2", "a-3"], ""),
        consumer("other", "pro", &["o-1"], ""),
    );
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    let statuses =
        ["a-1", "a-2", "a-3", "a-1", "a-3", "a-2", "a-1", "o-1"].map(|key| keyed(&mut connection, key).status);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 200]);
    assert_eq!(left(&keyed(&mut connection, "o-1")).1, 3);
}

#[test]
fn a_disabled_key_is_refused_and_the_consumers_others_are_not() {
    let configuration = format!(
        "plans: {{pro: {{limits: [{{requests: 5, per: 300d}}]}}}}
unlisted: {{plan: pro}}
consumers:
- {{name: acme, plan: pro, keys: ['sha256:{}', {{sha256: \"{}\", name: ci, disabled: true}}, {{sha256: \"{}\", name: web}}]}}
",
        hex("plain"),
        hex("ci"),
        hex("web"),
    );
    let envoy = Envoy::with(&configuration).access_log("%RESPONSE_CODE% %RESPONSE_CODE_DETAILS%").start();
    let mut connection = envoy.connect();
    let refused = keyed(&mut connection, "ci");
    assert_eq!(refusal(&refused), (403, "consumer_disabled".to_owned()));
    assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    assert_eq!(refused.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(refused.header("cache-control").as_deref(), Some("no-store"));
    // It is neither unlisted nor charged: the consumer's other keys have all five.
    assert_eq!(remaining(&keyed(&mut connection, "plain")), (200, 4));
    assert_eq!(refusal(&keyed(&mut connection, "ci")).0, 403);
    assert_eq!(remaining(&keyed(&mut connection, "web")), (200, 3));
    assert_eq!(envoy.access_log(1), ["403 allowance_consumer_disabled"]);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("disabled", 2)]));
}

#[test]
fn a_disabled_consumer_is_refused_with_each_of_its_keys() {
    let configuration = |disabled| {
        let acme = consumer("acme", "pro", &["a-1", "a-2"], &format!(", disabled: {disabled}"));
        format!(
            "plans: {{pro: {{limits: [{{requests: 5, per: 300d}}]}}}}\nunlisted: {{plan: pro}}\nconsumers: [{acme}]\n"
        )
    };
    let envoy = Envoy::with(&configuration(false)).ecds().start();
    let mut connection = envoy.connect();
    assert_eq!(remaining(&keyed(&mut connection, "a-1")), (200, 4));
    envoy.reconfigure(&configuration(true)).unwrap();
    for key in ["a-1", "a-2", "a-1"] {
        assert_eq!(refusal(&keyed(&mut connection, key)), (403, "consumer_disabled".to_owned()), "{key}");
    }
    assert_eq!(remaining(&keyed(&mut connection, "somebody else's")), (200, 4));
    envoy.reconfigure(&configuration(false)).unwrap();
    assert_eq!(remaining(&keyed(&mut connection, "a-2")), (200, 3), "what was used before is still used");
    assert_eq!(decisions(&envoy)["disabled"], 3);
}

#[test]
fn another_generation_of_a_consumer_starts_anew() {
    let configuration = |generation: &str| {
        format!(
            "plans: {{pro: {{limits: [{{requests: 3, per: 300d}}]}}}}\nconsumers: [{}, {}]\n",
            consumer("acme", "pro", &["a"], generation),
            consumer("other", "pro", &["o"], ""),
        )
    };
    let envoy = Envoy::with(&configuration("")).concurrency(2).ecds().start();
    let mut connection = envoy.connect();
    let statuses = ["a", "a", "a", "a", "o"].map(|key| keyed(&mut connection, key).status);
    assert_eq!(statuses, [200, 200, 200, 429, 200]);
    envoy.reconfigure(&configuration(", generation: 1")).unwrap();
    assert_eq!(remaining(&keyed(&mut connection, "a")), (200, 2));
    assert_eq!(remaining(&keyed(&mut connection, "o")), (200, 1), "only that consumer");
    envoy.reconfigure(&configuration(", generation: 2")).unwrap();
    let statuses = ["a", "a", "a", "a"].map(|key| keyed(&mut connection, key).status);
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn a_key_comes_from_metadata_where_that_is_a_source() {
    let configuration = format!(
        "api_key: {{from: [{{metadata: [extracted, api, key]}}, {{header: x-api-key}}]}}
plans: {{pro: {{limits: [{{requests: 5, per: 300d}}]}}}}
consumers: [{}]
",
        consumer("acme", "pro", &["secret"], "")
    );
    let nested = set_metadata("extracted", "{api: {key: secret}}");
    let envoy = Envoy::with(&configuration).filters_before(&nested).start();
    assert_eq!(remaining(&envoy.get("/", &[])), (200, 4));
    assert_eq!(refusal(&envoy.get("/", &[("x-api-key", "secret")])), (400, "ambiguous_api_key".to_owned()));
    assert_eq!(remaining(&envoy.get("/", &[])), (200, 3));
    // Elsewhere, not deep enough, empty or null: no key.
    for metadata in [
        set_metadata("other", "{api: {key: secret}}"),
        set_metadata("extracted", "{api: secret}"),
        set_metadata("extracted", "{api: {key: ''}}"),
        set_metadata("extracted", "{api: {key: null}}"),
    ] {
        let envoy = Envoy::with(&configuration).filters_before(&metadata).start();
        assert_eq!(refusal(&envoy.get("/", &[])).0, 401, "{metadata}");
        assert_eq!(remaining(&envoy.get("/", &[("x-api-key", "secret")])), (200, 4), "{metadata}");
    }
}

#[test]
fn a_lone_metadata_source_finds_the_key() {
    let configuration = format!(
        "api_key: {{from: [{{metadata: [extracted, key]}}]}}\nplans: {{pro: {{limits: [{{requests: 5, per: 300d}}]}}}}\nconsumers: [{}]\n",
        consumer("acme", "pro", &["secret"], "")
    );
    let extracted = header_to_metadata(&[("x-extracted", "extracted", "key")]);
    let envoy = Envoy::with(&configuration).filters_before(&extracted).start();
    assert_eq!(remaining(&envoy.get("/", &[("x-extracted", "secret")])), (200, 4));
    assert_eq!(refusal(&envoy.get("/", &[("x-extracted", "other")])), (401, "invalid_api_key".to_owned()));
    assert_eq!(refusal(&envoy.get("/", &[("x-api-key", "secret")])), (401, "missing_api_key".to_owned()));
}

// === identities ===

const PLANS: &str = "unlisted: {plan: free}
plans:
  free: {limits: [{name: l, requests: 3, per: 300d}]}
  pro: {limits: [{name: l, requests: 5, per: 300d}]}
";

/// The same behaviour, wherever the names come from.
fn assert_names_decide(envoy: &Envoy) {
    let mut connection = envoy.connect();
    let mut get = |consumer: &str, plan: Option<&str>| {
        let mut headers = vec![("x-consumer", consumer)];
        headers.extend(plan.map(|plan| ("x-plan", plan)));
        connection.get("/", &headers)
    };
    for expected in [4, 3] {
        assert_eq!(remaining(&get("alice", Some("pro"))), (200, expected));
    }
    assert_eq!(remaining(&get("bob", Some("pro"))), (200, 4), "each name has its own counters");
    assert_eq!(remaining(&get("bob", None)), (200, 1), "no plan: the unlisted one; the limit keeps its count");
    let unknown = |envoy: &Envoy| envoy.metric("allowance_errors_total", &[("reason", "unknown_plan")]);
    assert_eq!(unknown(envoy), 0);
    for (plan, expected) in [("gold", 2), ("PRO", 1), ("free", 0)] {
        assert_eq!(remaining(&get("carol", Some(plan))), (200, expected), "{plan}");
    }
    let denied = get("carol", Some("gold"));
    assert_eq!((denied.status, denied.json()["limit"]["plan"].as_str()), (429, Some("free")));
    assert_eq!(unknown(envoy), 3);
    assert_eq!(decisions(envoy), counted(&[("allowed", 7), ("denied", 1)]));
}

#[test]
fn an_identity_in_headers_brings_consumer_and_plan() {
    let configuration = format!("identity: {{consumer: {{header: x-consumer}}, plan: {{header: X-Plan}}}}\n{PLANS}");
    assert_names_decide(&Envoy::with(&configuration).start());
}

#[test]
fn an_identity_in_metadata_brings_consumer_and_plan() {
    let configuration =
        format!("identity: {{consumer: {{metadata: [jwt, sub]}}, plan: {{metadata: [plans, name]}}}}\n{PLANS}");
    let verified = header_to_metadata(&[("x-consumer", "jwt", "sub"), ("x-plan", "plans", "name")]);
    assert_names_decide(&Envoy::with(&configuration).filters_before(&verified).start());
}

#[test]
fn an_identity_may_be_deep_in_metadata() {
    let configuration =
        format!("identity: {{consumer: {{metadata: [envoy.filters.http.jwt_authn, payload, sub]}}}}\n{PLANS}");
    let payload = set_metadata("envoy.filters.http.jwt_authn", "{payload: {sub: alice}}");
    let envoy = Envoy::with(&configuration).filters_before(&payload).start();
    let mut connection = envoy.connect();
    let statuses: Vec<u16> = (0..4).map(|_| connection.get("/", &[]).status).collect();
    assert_eq!(statuses, [200, 200, 200, 429]);
}

#[test]
fn an_identity_that_is_a_listed_consumer_has_that_ones_plan_and_state() {
    let configuration = "identity: {consumer: {header: x-consumer}}
plans:
  free: {limits: [{name: l, requests: 3, per: 300d}]}
  pro: {limits: [{name: l, requests: 5, per: 300d}]}
consumers:
- {name: acme, plan: pro, limits: [{name: l, requests: 7, per: 300d}]}
- {name: beta, plan: pro}
- {name: gone, plan: pro, disabled: true}
";
    let envoy = Envoy::with(configuration).start();
    assert_eq!(remaining(&envoy.get("/", &[("x-consumer", "acme")])), (200, 6));
    assert_eq!(remaining(&envoy.get("/", &[("x-consumer", "beta")])), (200, 4));
    assert_eq!(refusal(&envoy.get("/", &[("x-consumer", "gone")])), (403, "consumer_disabled".to_owned()));
    // Without a plan for others, a name that is not listed is nobody's.
    assert_eq!(envoy.get("/", &[("x-consumer", "nobody")]).status, 401);
    assert_eq!(envoy.get("/", &[("x-consumer", "Acme")]).status, 401, "names are compared as they are");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("disabled", 1), ("unauthorized", 2)]));
}

// === addresses ===

#[test]
fn requests_without_a_key_are_counted_per_client_address() {
    let configuration = format!(
        "anonymous: {{plan: trial}}
plans:
  trial: {{limits: [{{requests: 2, per: 300d}}]}}
  pro: {{limits: [{{requests: 5, per: 300d}}]}}
consumers: [{}]
",
        consumer("acme", "pro", &["a"], "")
    );
    // By default Envoy believes x-forwarded-for: a way to come from anywhere.
    let envoy = Envoy::with(&configuration).start();
    let mut connection = envoy.connect();
    let mut get = |address: &str, key: Option<&str>| {
        let mut headers = vec![("x-forwarded-for", address)];
        headers.extend(key.map(|key| ("x-api-key", key)));
        connection.get("/", &headers)
    };
    for (address, expected) in [("192.0.2.1", 1), ("192.0.2.1", 0), ("192.0.2.2", 1)] {
        assert_eq!(remaining(&get(address, None)), (200, expected), "{address}");
    }
    let denied = get("192.0.2.1", None);
    assert_eq!((denied.status, denied.json()["limit"]["plan"].as_str()), (429, Some("trial")));
    // Who has a key is not its address, and an unlisted key is not anonymous.
    assert_eq!(remaining(&get("192.0.2.1", Some("a"))), (200, 4));
    assert_eq!(refusal(&get("192.0.2.3", Some("unlisted"))), (401, "invalid_api_key".to_owned()));
    assert_eq!(remaining(&get("192.0.2.2", None)), (200, 0));
    assert_eq!(decisions(&envoy), counted(&[("allowed", 5), ("denied", 1), ("unauthorized", 1)]));
}

/// Two requests a key, ten an address.
const GUARDED: &str = "unlisted: {plan: free, address_plan: guard}
plans:
  free: {limits: [{name: key, requests: 2, per: 300d}]}
  guard: {limits: [{name: address, requests: 10, per: 300d}]}
";

/// Name and plan of the limit in a denial.
fn denied_by(response: &Response) -> (String, String) {
    assert_eq!(response.status, 429, "{response:?}");
    let limit = &response.json()["limit"];
    let text = |field: &str| limit[field].as_str().unwrap_or_default().to_owned();
    (text("name"), text("plan"))
}

#[test]
fn a_key_that_is_over_its_limit_costs_its_address_nothing() {
    let envoy = Envoy::with(GUARDED).start();
    let mut connection = envoy.connect();
    let mut get = |address: &str, key: &str| connection.get("/", &[("x-forwarded-for", address), ("x-api-key", key)]);
    let (by_key, by_address) = (("key".to_owned(), "free".to_owned()), ("address".to_owned(), "guard".to_owned()));
    assert_eq!([get("192.0.2.1", "a").status, get("192.0.2.1", "a").status], [200, 200]);
    for _ in 0..20 {
        assert_eq!(denied_by(&get("192.0.2.1", "a")), by_key);
    }
    // 2 of 10 are used: eight fresh keys pass, the ninth does not.
    for key in 0..8 {
        assert_eq!(get("192.0.2.1", &format!("fresh-{key}")).status, 200, "{key}");
    }
    assert_eq!(denied_by(&get("192.0.2.1", "ninth")), by_address);
    // The address was asked first: the key was not charged, and has both its requests elsewhere.
    let statuses = [0; 3].map(|_| get("192.0.2.2", "ninth").status);
    assert_eq!(statuses, [200, 200, 429]);
    // And a key that was used at the full address before has what it had left.
    let statuses = [0; 2].map(|_| get("192.0.2.2", "fresh-0").status);
    assert_eq!(statuses, [200, 429]);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 13), ("denied", 23)]));
}

/// The charge of the address and giving it back are two steps; in between are other workers.
#[test]
fn what_is_given_back_to_an_address_is_exact_under_load() {
    let configuration = GUARDED.replace("requests: 2,", "requests: 50,").replace("requests: 10,", "requests: 100,");
    let envoy = Envoy::with(&configuration).concurrency(4).connection_manager("use_remote_address: true").start();
    let count = |responses: &[Response]| responses.iter().filter(|response| response.status == 200).count();
    let load = storm(envoy.addr(), 32, 3000, |_| Request::get("/").header("x-api-key", "a"));
    assert_eq!(count(&load), 50);
    // 50 of the address's 100 are left, exactly.
    let others =
        storm(envoy.addr(), 32, 1000, |number| Request::get("/").header("x-api-key", format!("other-{number}")));
    assert_eq!(count(&others), 50);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 100), ("denied", 3900)]));
}

/// Listed consumers are not charged to their addresses: a company behind one address is no abuse.
#[test]
fn a_listed_consumer_is_not_charged_to_its_address() {
    let configuration = format!(
        "{}consumers: [{}]\n",
        GUARDED.replace("plans:\n", "plans:\n  pro: {limits: [{requests: 100, per: 300d}]}\n"),
        consumer("acme", "pro", &["a"], "")
    );
    let envoy = Envoy::with(&configuration).connection_manager("use_remote_address: true").start();
    let mut connection = envoy.connect();
    for expected in (80..100).rev() {
        assert_eq!(remaining(&keyed(&mut connection, "a")), (200, expected));
    }
    let fresh = (0..12).filter(|key| keyed(&mut connection, &format!("fresh-{key}")).status == 200).count();
    assert_eq!(fresh, 10);
    assert_eq!(remaining(&keyed(&mut connection, "a")), (200, 79), "nor stopped by it");
}
