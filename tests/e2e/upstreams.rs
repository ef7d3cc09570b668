//! Upstreams with limits of their own: the samples for them, as they stand.

use crate::asking::{counted, decisions};
use crate::samples::{root, sample};
use crate::support::envoy::Envoy;
use crate::support::http::{Request, Response};
use crate::support::upstream::Upstream;

/// The sample, in front of this upstream.
fn start(name: &str, upstream: &Upstream) -> Envoy {
    let text = sample(&root().join("envoy").join(name));
    let port = format!("port_value: {}", upstream.addr().port());
    assert!(text.contains("port_value: 18080"), "{name} has no upstream");
    Envoy::with_bootstrap(&text.replace("port_value: 18080", &port)).start()
}

fn ask(envoy: &Envoy, headers: &[(&str, &str)]) -> Response {
    let body = r#"{"model":"gpt-5","messages":[{"role":"user","content":"hello"}]}"#;
    let request = Request::new("POST", "/v1/chat/completions").header("authorization", "Bearer demo");
    envoy.connect().exchange(&request.headers(headers).body(body))
}

#[test]
fn an_upstream_that_says_429_twice_is_asked_again_when_its_retry_after_is_over() {
    let upstream = Upstream::start();
    let envoy = start("retry-upstream.yaml", &upstream);
    let response = ask(&envoy, &[("x-busy", "2"), ("x-retry-after", "1")]);
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.json()["choices"][0]["message"]["content"], "You said: hello");
    let seen = upstream.seen();
    let statuses: Vec<u64> = seen.iter().map(|seen| seen.status).collect();
    assert_eq!(statuses, [429, 429, 200]);
    for pair in seen.windows(2) {
        // Both times are cut to whole milliseconds.
        assert!(pair[1].time - pair[0].time + 1 >= 1000, "{seen:?}");
    }
    // One request of the client's, charged once.
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1)]));
    assert!(response.header("ratelimit").unwrap().starts_with("\"1m\";r=59;"), "{response:?}");
}

#[test]
fn an_upstream_that_stays_busy_is_asked_three_times_and_its_answer_passed_on() {
    let upstream = Upstream::start();
    let envoy = start("retry-upstream.yaml", &upstream);
    // What a client says of retries is not heard.
    let headers = [("x-busy", "9"), ("x-retry-after", "1"), ("x-envoy-max-retries", "7")];
    let response = ask(&envoy, &headers);
    assert_eq!((response.status, upstream.seen().len()), (429, 3), "{response:?}");
    assert_eq!(response.json()["error"]["message"], "Rate limit reached for this upstream.");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1)]));
}

#[test]
fn our_own_denials_are_not_tried_again() {
    let upstream = Upstream::start();
    let envoy = start("retry-upstream.yaml", &upstream);
    let mut last = ask(&envoy, &[]);
    for _ in 0..60 {
        last = ask(&envoy, &[]);
    }
    assert_eq!((last.status, upstream.seen().len()), (429, 60), "{last:?}");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 60), ("denied", 1)]));
}

/// The fields that say something about limits, sorted.
fn told(response: &Response) -> Vec<(String, String)> {
    let about = |name: &str| name.contains("ratelimit") || name.starts_with("retry-after");
    let mut told: Vec<_> = response
        .headers
        .iter()
        .filter(|(name, _)| about(name))
        .map(|(name, value)| (name.clone(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    told.sort();
    told
}

#[test]
fn clients_see_our_limits_and_nothing_of_the_upstreams() {
    let upstream = Upstream::start();
    let envoy = start("hide-upstream.yaml", &upstream);
    let allowed = ask(&envoy, &[]);
    assert_eq!(allowed.status, 200, "{allowed:?}");
    let names = |response: &Response| told(response).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let ours = ["ratelimit", "ratelimit-policy", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"];
    assert_eq!(names(&allowed), [&ours[..], &["x-ratelimit-reset-requests"]].concat());
    assert_eq!(allowed.header("x-ratelimit-limit-requests").as_deref(), Some("60"));
    assert_eq!(allowed.header("x-ratelimit-remaining-requests").as_deref(), Some("59"));

    // Its 429 is none of the client's.
    let busy = ask(&envoy, &[("x-busy", "1")]);
    assert_eq!((busy.status, busy.json()["error"]["code"].as_str()), (503, Some("overloaded")), "{busy:?}");
    assert!(!busy.text().contains("Rate limit reached"), "{busy:?}");
    assert_eq!(busy.header("ratelimit-policy").as_deref(), Some("\"1h\";q=60;w=3600"), "{busy:?}");
    assert_eq!(busy.header("retry-after"), None);
    assert_eq!(names(&busy).iter().filter(|name| name.contains("tokens")).count(), 0, "{busy:?}");

    // Ours is.
    let mut denied = ask(&envoy, &[]);
    for _ in 0..58 {
        denied = ask(&envoy, &[]);
    }
    assert_eq!(denied.status, 429, "{denied:?}");
    assert_eq!(denied.json()["error"]["code"], "rate_limit_exceeded");
    assert!(denied.header("retry-after").is_some(), "{denied:?}");
    assert_eq!(decisions(&envoy), counted(&[("allowed", 60), ("denied", 1)]));
}
