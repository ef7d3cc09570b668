//! What a request costs in host calls: exactly these, in this order. Whoever makes one more finds the figure here.

use crate::support::proxy::{Outcome, SharedData};
use crate::{ABC, instance};
use std::sync::Arc;

const LIMITS: &str =
    r#"[{"requests": 2, "per": "1s"}, {"requests": 60, "per": "1m"}, {"requests": 1000, "per": "day"}]"#;

/// The host calls of a listed consumer's fourth request at most, one more each time, until it is denied.
fn calls(api_key: &str, headers: &str) -> [Outcome; 3] {
    let configuration = format!(
        r#"{{"api_key": {api_key}, "headers": {headers}, "plans": {{"pro": {{"limits": {LIMITS}}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
    );
    let mut instance = instance(&configuration, &Arc::new(SharedData::default()));
    let request =
        [(":method", "GET"), (":path", "/"), (":authority", "a"), ("user-agent", "test"), ("x-api-key", "abc")];
    [(); 3].map(|()| instance.request(&request))
}

fn returned(outcome: &Outcome) -> Vec<&str> {
    outcome.returning_calls().into_iter().map(|call| call.name.as_str()).collect()
}

#[test]
fn an_allowed_request_makes_five_host_calls_of_which_two_return_bytes() {
    let [first, second, denied] = calls(r#"{"from": [{"header": "x-api-key"}]}"#, "[]");
    let expected = [
        "proxy_get_header_map_pairs",
        "proxy_get_current_time_nanoseconds",
        "proxy_get_shared_data",
        "proxy_set_shared_data",
        "proxy_increment_metric",
    ];
    assert_eq!(first.call_names(), expected);
    assert_eq!(returned(&first), ["proxy_get_header_map_pairs"], "there is no record yet");
    assert_eq!(second.call_names(), expected);
    assert_eq!(returned(&second), ["proxy_get_header_map_pairs", "proxy_get_shared_data"]);
    assert_eq!(denied.status(), Some(429));
    // Nothing is written; the usual way looks whether it passes, and then it is decided.
    let expected = [
        "proxy_get_header_map_pairs",
        "proxy_get_current_time_nanoseconds",
        "proxy_get_shared_data",
        "proxy_get_current_time_nanoseconds",
        "proxy_get_shared_data",
        "proxy_increment_metric",
        "proxy_set_property", // for access logs
        "proxy_send_local_response",
    ];
    assert_eq!(denied.call_names(), expected);
}

/// A limit that would deny, and does not, is decided at length each time.
#[test]
fn a_record_that_does_not_let_a_request_pass_is_read_twice_by_one_of_sixteen() {
    let configuration = format!(
        r#"{{"headers": [], "api_key": {{"from": [{{"header": "x-api-key"}}]}}, "plans": {{"pro": {{"limits":
            [{{"requests": 1, "per": "300d", "shadow": true}}, {{"requests": 1000, "per": "200d"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
    );
    let mut instance = instance(&configuration, &Arc::new(SharedData::default()));
    let reads: Vec<usize> = (0..33)
        .map(|_| instance.request(&[(":path", "/"), ("x-api-key", "abc")]).count("proxy_get_shared_data"))
        .collect();
    let twice: Vec<usize> = (0..33).filter(|request| reads[*request] == 2).collect();
    assert_eq!((reads.iter().sum::<usize>(), twice), (35, vec![1, 17]));
}

#[test]
fn several_sources_are_still_one_read_of_the_headers() {
    let [_, second, _] =
        calls(r#"{"from": [{"bearer": "authorization"}, {"header": "x-api-key"}, {"query": "key"}]}"#, "[]");
    assert_eq!(returned(&second), ["proxy_get_header_map_pairs", "proxy_get_shared_data"]);
    assert_eq!(second.call_names().len(), 5);
}

/// The lists are added to whatever the upstream says. Of the others each is looked for first, which finds nothing.
#[test]
fn headers_on_an_allowed_response_add_their_fields_and_looks_that_return_nothing() {
    let (list, look, field) =
        ("proxy_add_header_map_value", "proxy_get_header_map_value", "proxy_replace_header_map_value");
    let [first, ..] = calls(r#"{"from": [{"header": "x-api-key"}]}"#, r#"["ratelimit"]"#);
    assert_eq!(first.call_names()[5..], [list, list]);
    assert_eq!(returned(&first), ["proxy_get_header_map_pairs"], "nothing is read for it");
    assert_eq!(first.header("ratelimit-policy").unwrap(), r#""1s";q=2;w=1, "1m";q=60;w=60, "day";q=1000;w=86400"#);
    assert!(first.header("ratelimit").unwrap().starts_with(r#""1s";r=1;t="#));
    let [first, ..] = calls(r#"{"from": [{"header": "x-api-key"}]}"#, r#"["ratelimit", "x-ratelimit"]"#);
    assert_eq!(first.call_names()[5..], [list, list, look, look, look, field, field, field]);
}

#[test]
fn a_providers_headers_add_no_read() {
    let [_, second, _] = calls(r#"{"from": [{"header": "x-api-key"}]}"#, r#"["ratelimit", "provider"]"#);
    assert_eq!(returned(&second), ["proxy_get_header_map_pairs", "proxy_get_shared_data"]);
    assert_eq!(second.count("proxy_get_header_map_value"), 0, "no provider: nothing to look for");
}

#[test]
fn a_caller_without_limits_is_not_looked_up() {
    let configuration = r#"{"unlisted": {"plan": "unlimited"}, "plans": {"unlimited": {"limits": []}}}"#;
    let mut instance = instance(configuration, &Arc::new(SharedData::default()));
    let outcome = instance.request(&[(":path", "/"), ("x-api-key", "k")]);
    assert_eq!(outcome.call_names(), ["proxy_get_header_map_pairs", "proxy_increment_metric"]);
}
