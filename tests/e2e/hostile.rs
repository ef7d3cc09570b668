//! What clients can send: a clear status every time, from the same VM, and no key in any log or metric.

use crate::support::envoy::Envoy;
use crate::support::http::Request;
use crate::unlisted;

const KEY: &str = "a-key-that-must-not-be-seen";
/// `printf %s a-key-that-must-not-be-seen | sha256sum`
const HASH: &str = "77c6d32300634c1014185004ce74e59e805eba55d785b5935fdc55a43a368519";

fn every_source(limits: &str) -> String {
    format!(
        "api_key: {{from: [{{bearer: authorization}}, {{header: x-api-key}}, {{query: key}}, {{cookie: api_key}}]}}\n{}",
        unlisted(limits)
    )
}

#[test]
fn any_bytes_get_a_clear_status_from_a_vm_that_lives_on() {
    let envoy = Envoy::with(&every_source("[{requests: 1000, per: 300d}]")).concurrency(1).start();
    let created = "wasm.envoy.wasm.runtime.v8.created";
    let vms = envoy.stat(created).unwrap();
    let (mut bytes, long) =
        ((1..=255u8).filter(|byte| !b"\r\n".contains(byte)).collect::<Vec<u8>>(), "k".repeat(50 * 1024));
    bytes.insert(0, b'x');
    for (request, expected) in [
        (Request::get("/").header("x-api-key", b"\xff\xfe\x80"), &[200][..]),
        (Request::get("/").header("authorization", b"Bearer \xff\xfe\x80"), &[200]),
        (Request::get("/").header("authorization", b"Bearer"), &[401]),
        (Request::get("/").header("cookie", b"api_key=\xc3\x28; a=\xff"), &[200]),
        (Request::get("/?key=%ff%00%zz"), &[200]),
        (Request::get("/?key=%00"), &[200]),
        (Request::get("/?%6bey=a&k%65y=b"), &[400]),
        (Request::get("/?key=&key="), &[400]),
        (Request::get("/\u{e9}?key=\u{fc}"), &[200, 400]),
        (Request::get("/").header("x-api-key", &bytes), &[200, 400]),
        (Request::get("/").header("x-api-key", b"nul\0nul"), &[400]),
        (Request::get("/").header("x-api-key", &long), &[200]),
        (Request::get("/").header("x-api-key", long.repeat(2)), &[431]),
        (Request::get(&format!("/?key={long}")), &[200]),
        (Request::get("/").header("cookie", format!("api_key={long}")), &[200]),
        (Request::get("/").header("x-api-key", "a").header("x-api-key", "b"), &[400]),
        (Request::get("/").header("x-api-key", ""), &[401]),
    ] {
        let shown = request.to_bytes().escape_ascii().to_string();
        let response = envoy.connect().exchange(&request);
        assert!(expected.contains(&response.status), "{} for {}", response.status, &shown[..shown.len().min(200)]);
    }
    assert_eq!(envoy.stat(created).unwrap(), vms, "no VM was made anew");
    assert_eq!(envoy.get("/", &[("x-api-key", "honest")]).status, 200);
    // A VM that crashes is 503 from then on, and says so.
    assert!(!envoy.log().contains("Proxy-Wasm plugin in-VM"), "{}", envoy.log());
}

#[test]
fn a_key_and_its_hash_are_in_no_log_and_no_metric() {
    let configuration = format!(
        "{}consumers: [{{name: acme, plan: free, keys: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']}}]\n",
        every_source("[{requests: 1, per: 300d}]")
    );
    let envoy = Envoy::with(&configuration).log_levels("wasm:trace").start();
    for _ in 0..3 {
        envoy.get("/", &[("x-api-key", KEY)]);
        envoy.get("/", &[("authorization", &format!("Bearer {KEY}2"))]);
        envoy.get(&format!("/?key={KEY}3"), &[]);
        envoy.get("/", &[("cookie", &format!("api_key={KEY}4"))]);
        envoy.get("/", &[("x-api-key", KEY), ("cookie", &format!("api_key={KEY}4"))]);
    }
    let decided = |decision| envoy.metric("allowance_requests_total", &[("decision", decision)]);
    assert_eq!((decided("allowed"), decided("denied"), decided("invalid")), (4, 8, 3));
    let seen =
        [envoy.log(), envoy.admin_get("/stats"), envoy.admin_get("/stats/prometheus"), envoy.admin_get("/clusters")]
            .concat();
    assert!(seen.contains("wasm log"), "the filter's own log lines are among them");
    for secret in [KEY, HASH, "ba7816bf"] {
        assert!(!seen.contains(secret), "{secret}");
    }
}
