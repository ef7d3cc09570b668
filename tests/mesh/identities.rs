//! Behind a filter that verifies who calls: its word drives the quota, and nobody else's.

use crate::files::{PHRASE, assert_quota, bootstrap, envoys, root, scratch, trial, value};
use crate::support::envoy::Envoy;
use crate::support::http::Response;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Limit, plan and who it is, as an access log is told.
fn left(response: &Response) -> (u16, String) {
    (response.status, response.header("ratelimit-policy").unwrap_or_default())
}

/// What a response of each plan tells of its limits; that of a consumer with its own.
const TRIAL: &str = "\"1h\";q=1;w=3600";
const PRO: &str = "\"steady\";q=50;w=5, \"day\";q=100000;w=86400";
const ACME: &str = "\"steady\";q=100;w=5, \"day\";q=100000;w=86400";

#[test]
fn behind_api_key_auth_the_name_it_found_is_counted_and_no_other() {
    for program in envoys() {
        let envoy = bootstrap("attach/api-key-auth.yaml", &[]).envoy(program).start();
        let mut connection = envoy.connect();
        // Whatever the client calls itself, it is whose key it has.
        let mut forged = ["acme", "nobody", "someone", ""].iter().cycle();
        assert_quota("someone", trial(), || {
            connection.get("/", &[("x-api-key", "demo"), ("x-client", forged.next().unwrap()), ("x-plan", "pro")])
        });
        for forged in ["acme", "other"] {
            let denied = connection.get("/", &[("x-client", forged), ("x-api-key", "demo"), ("X-Client", forged)]);
            assert!(denied.status == 429 && denied.text().contains(PHRASE), "{denied:?}");
        }
        let acme = [("x-api-key", "acme-demo-key"), ("x-client", "someone")];
        assert_eq!(left(&envoy.get("/", &acme)), (200, ACME.to_owned()));
        // A name alone, and keys that are none of theirs, do not even come to the filter.
        assert_eq!(envoy.get("/", &[("x-client", "acme")]).status, 401);
        assert_eq!(envoy.get("/", &[("x-client", "acme"), ("x-api-key", "wrong")]).status, 401);
        assert_eq!(envoy.metric("allowance_requests_total", &[("plan", "pro"), ("decision", "allowed")]), 1);
        assert_eq!(
            envoy.metric("allowance_consumer_requests_total", &[("consumer", "acme"), ("decision", "allowed")]),
            1
        );
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "unauthorized")]), 0);
    }
}

/// A token that `envoy/attach/token.py` makes, with the key in this folder.
fn token(folder: &Path, arguments: &[&str]) -> String {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = Command::new(python)
        .arg("-B")
        .arg(root().join("envoy/attach/token.py"))
        .args(arguments)
        .env("JWT_FOLDER", folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn bearer(envoy: &Envoy, token: &str, more: &[(&str, &str)]) -> Response {
    let value = format!("Bearer {token}");
    let headers: Vec<(&str, &str)> =
        [("authorization", value.as_str())].into_iter().chain(more.iter().copied()).collect();
    envoy.get("/", &headers)
}

#[test]
fn behind_jwt_authn_name_and_plan_of_the_token_are_counted_and_no_others() {
    let (issuer, impostor) = (scratch("issuer"), scratch("impostor"));
    let (demo, pro) = (token(&issuer, &["demo", "trial"]), token(&issuer, &["alice", "pro"]));
    let (acme, without, unknown) =
        (token(&issuer, &["acme", "trial"]), token(&issuer, &["bob"]), token(&issuer, &["carol", "no-such-plan"]));
    let foreign = token(&impostor, &["demo", "pro"]);
    let jwks = issuer.join("jwks.json");
    assert!(fs::read_to_string(&jwks).unwrap().contains("\"kty\": \"RSA\""));
    assert!(!fs::read_to_string(&jwks).unwrap().contains("PRIVATE"));
    for program in envoys() {
        let replaced = [("target/jwt/jwks.json", jwks.to_str().unwrap())];
        let envoy = bootstrap("attach/jwt-authn.yaml", &replaced).envoy(program).start();
        // Nothing that a client says beside its token changes who it is and by which plan it is counted.
        let forged = [
            ("x-consumer", "alice"),
            ("x-plan", "pro"),
            ("x-jwt-payload", "eyJzdWIiOiJhbGljZSJ9"),
            ("sub", "alice"),
            ("plan", "pro"),
        ];
        assert_quota("demo", trial(), || bearer(&envoy, &demo, &forged));
        assert_eq!(bearer(&envoy, &demo, &forged[..2]).status, 429);
        // The plan is the token's; a listed consumer has its own whatever the token says; without one, that of the unlisted.
        assert_eq!(left(&bearer(&envoy, &pro, &[])), (200, PRO.to_owned()));
        assert_eq!(left(&bearer(&envoy, &acme, &[])), (200, ACME.to_owned()));
        assert_eq!(left(&bearer(&envoy, &without, &[])), (200, TRIAL.to_owned()));
        assert_eq!(left(&bearer(&envoy, &unknown, &[])), (200, TRIAL.to_owned()));
        assert_eq!(envoy.metric("allowance_errors_total", &[("reason", "unknown_plan")]), 1);
        // Signed by somebody else; signed, but changed since; not signed at all.
        let (head, rest) = demo.split_once('.').unwrap();
        let (_, signature) = rest.split_once('.').unwrap();
        let changed = format!("{head}.{}.{signature}", pro.split('.').nth(1).unwrap());
        // {"alg":"none"}
        let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", rest.split('.').next().unwrap());
        for refused in [&foreign, &changed, &unsigned, ""] {
            assert_eq!(bearer(&envoy, refused, &[]).status, 401, "{refused}");
        }
        assert_eq!(envoy.get("/", &[("x-api-key", "demo")]).status, 401, "keys are not looked at");
        // What jwt_authn refuses does not come to the filter.
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "unauthorized")]), 0);
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "allowed")]), 5);
    }
}

/// The constants above have the source's numbers.
#[test]
fn the_plans_are_those_of_the_source() {
    let source = value("quota.yaml");
    assert_eq!(source["plans"]["pro"]["limits"][0]["burst"], 50);
    assert_eq!(source["consumers"][0]["limits"][0]["burst"], 100);
}
