//! Every Envoy configuration under `envoy/` in a real Envoy, the oldest and the newest: the first requests pass, the next is denied.

use crate::files::{assert_trial, bootstrap, envoys, module, text, value, yaml_files};
use crate::server::Server;
use crate::support::upstream::Upstream;
use sha2::{Digest, Sha256};

/// What starts an Envoy with each of them, and what is asked of it.
const STARTED: [&str; 10] = [
    "attach/api-key-auth.yaml", // identities.rs
    "attach/ecds.yaml",         // discovery.rs
    "attach/jwt-authn.yaml",    // identities.rs
    "attach/per-route.yaml",
    "attach/remote.yaml", // also in remote.rs
    "attach/restricted.yaml",
    "envoy.yaml",
    "hide-upstream.yaml",
    "retry-upstream.yaml",
    "attach/ecds-with.yaml", // the resource of ecds.yaml
];

/// What is no Envoy configuration.
fn is_other(file: &str) -> bool {
    let text = text(file);
    let alone = text.starts_with("# yaml-language-server: $schema=");
    alone || value(file)["apiVersion"].is_string() || ["istio/values.yaml", "attach/ecds-without.yaml"].contains(&file)
}

#[test]
fn no_configuration_is_left_out() {
    let mut started = STARTED.to_vec();
    started.sort_unstable();
    let files: Vec<String> = yaml_files().into_iter().filter(|file| !is_other(file)).collect();
    assert_eq!(files, started);
}

#[test]
fn the_static_sample_admits_the_quota_and_denies_the_next() {
    for program in envoys() {
        let envoy = bootstrap("envoy.yaml", &[]).envoy(program).start();
        assert_trial("envoy.yaml", &envoy, "/");
    }
}

#[test]
fn the_samples_in_front_of_an_upstream_admit_the_quota_and_deny_the_next() {
    let upstream = Upstream::start();
    let port = format!("port_value: {}", upstream.addr().port());
    for file in ["hide-upstream.yaml", "retry-upstream.yaml"] {
        for program in envoys() {
            let envoy = bootstrap(file, &[("port_value: 18080", &port)]).envoy(program).start();
            let mut connection = envoy.connect();
            // A sliding window of a minute may age by a request while this goes on.
            let send = || connection.request("POST", "/v1/chat/completions", &[("authorization", "Bearer demo")]);
            let statuses: Vec<u16> = std::iter::repeat_with(send).take(70).map(|response| response.status).collect();
            let (admitted, rest) = statuses.split_at(60);
            assert!(admitted.iter().all(|status| *status == 200), "{file}: {statuses:?}");
            assert!(
                rest.contains(&429) && rest.iter().all(|status| [200, 429].contains(status)),
                "{file}: {statuses:?}"
            );
        }
    }
}

#[test]
fn the_module_fetched_by_its_hash_admits_the_quota_and_denies_the_next() {
    let bytes = std::fs::read(module()).unwrap();
    let hash: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    let server = Server::start(0, bytes);
    let port = format!("port_value: {}", server.port());
    for program in envoys() {
        let replaced = [("port_value: 8000", port.as_str()), (&"0".repeat(64), &hash)];
        let envoy = bootstrap("attach/remote.yaml", &replaced).envoy(program).start();
        assert_trial("remote.yaml", &envoy, "/");
    }
    assert_eq!(server.asked(), 2, "once an Envoy");
}

#[test]
fn routes_have_the_filter_or_not_as_they_say() {
    for program in envoys() {
        let envoy = bootstrap("attach/per-route.yaml", &[]).envoy(&program).start();
        let mut connection = envoy.connect();
        for _ in 0..5 {
            let public = connection.get("/public", &[("x-api-key", "demo")]);
            assert_eq!((public.status, public.header("ratelimit")), (200, None));
            assert_eq!(connection.get("/apiary", &[]).status, 200);
        }
        assert_trial("per-route.yaml", &envoy, "/api/orders");
        assert_eq!(envoy.get("/api", &[]).status, 401);
        assert_eq!(envoy.get("/public", &[("x-api-key", "demo")]).status, 200);

        // The other way round, as the comment says.
        let on = [("                    disabled: true\n", ""), ("config: {}\n", "disabled: true\n")];
        let envoy = bootstrap("attach/per-route.yaml", &on).envoy(&program).start();
        assert_trial("per-route.yaml the other way round", &envoy, "/public");
        let mut connection = envoy.connect();
        assert!((0..5).all(|_| connection.get("/api", &[("x-api-key", "demo")]).status == 200));
    }
}

#[test]
fn the_filter_needs_no_more_of_envoy_than_the_sample_allows() {
    let text = text("attach/restricted.yaml");
    let allowed: Vec<&str> =
        text.lines().filter_map(|line| line.trim().strip_suffix(": {}")).filter(|name| name.contains('_')).collect();
    assert!(allowed.len() > 15, "{allowed:?}");
    for program in envoys() {
        let envoy = bootstrap("attach/restricted.yaml", &[]).envoy(program).log_levels("wasm:debug").start();
        assert_trial("restricted.yaml", &envoy, "/");
        // Everything that the filter does, in one Envoy: keys of a consumer, no key, two keys, an exempt path, metrics, a note for the access log.
        assert_eq!(envoy.get("/", &[("authorization", "Bearer acme-demo-key")]).status, 200);
        assert_eq!(envoy.get("/", &[]).status, 401);
        assert_eq!(envoy.get("/", &[("authorization", "Bearer a"), ("x-api-key", "b")]).status, 400);
        assert_eq!(envoy.get("/healthz", &[]).status, 200);
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "allowed")]), 4);
        assert_eq!(envoy.metric("allowance_requests_total", &[("decision", "denied")]), 3);
        let log = envoy.log();
        assert!(!log.contains("restricted") && !log.contains("[error]"), "{log}");
    }
    // Nothing is allowed that the module does not even name.
    let module = std::fs::read(module()).unwrap();
    let named = |name: &str| module.windows(name.len()).any(|window| window == name.as_bytes());
    assert_eq!(allowed.into_iter().find(|name| !named(name)), None);
    assert!(!named("proxy_no_such_function"));
}
