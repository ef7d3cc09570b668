//! Configurations that are accepted, and what they mean.

use crate::forms::{as_loaded, serialized};
use crate::messages;
use allowance::config::{Config, FailureMode, Unlisted};
use allowance::headers::Families;
use allowance::key::{Several, Source};
use allowance::plan::Algorithm;
use serde_json::Value;

pub(crate) const EVERYTHING: &str = r#"
namespace: shop
api_key:
  from:
    - bearer: Authorization
    - header: X-Api-Key
    - query: key
    - cookie: api_key
  several: first
unlisted: {plan: free}
plans:
  free:
    limits:
      - {requests: 5, per: 1s}
      - {requests: 60, per: 60s}
      - {requests: 1000, per: day}
  pro:
    limits:
      - {name: steady, requests: 600, per: 1m, algorithm: token_bucket, burst: 50}
      - {requests: 5000000000, per: month}
      - {requests: 7, per: 90s, algorithm: fixed_window}
      - {requests: 7, per: 1h, algorithm: token_bucket}
  unlimited: {limits: []}
consumers:
  - name: acme-production
    plan: pro
    keys:
      - sha256:e9a52ac4ef3f3a4cb5f0e34fd4a1d2a3d3c12b46ad8ba8a3bb2a08e6a8a4d4b1
      - SHA
    limits:
      - {name: steady, requests: 6000, per: 1m, algorithm: token_bucket, burst: 500}
      - {requests: 10, per: 1s}
  - {name: acme.testing_2, plan: free, keys: ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}
denial: {status: 429, message: "Zu viele Anfragen \"heute\""}
headers: []
failure_mode: deny
"#;

/// The document parsed, with the hash of the key `abc` where it says SHA.
pub(crate) fn document(yaml: &str) -> Value {
    let abc = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    serde_saphyr::from_str(&yaml.replace("SHA", abc)).unwrap()
}

pub(crate) fn parse(value: &Value) -> Config {
    Config::parse(&serde_json::to_vec(value).unwrap()).unwrap_or_else(|mistakes| panic!("{}", messages(&mistakes)))
}

#[test]
fn all_forms_of_a_configuration_mean_the_same() {
    let value = document(EVERYTHING);
    let config = parse(&value);
    for bytes in [
        serde_json::to_vec_pretty(&value).unwrap(),
        format!("\n\t {value}\n").into_bytes(),
        serde_json::to_vec(&as_loaded(&value)).unwrap(),
    ] {
        assert_eq!(Config::parse(&bytes).unwrap(), config);
    }
    // A Struct has no order of its own: plans may come in another, everything else stays.
    let loaded = Config::parse(&serialized(&as_loaded(&value))).unwrap();
    assert_eq!(Config::parse(&serialized(&value)).unwrap(), loaded);
    let mut plans: Vec<_> = config.plans.clone();
    plans.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(loaded.plans, plans);
    assert_eq!(loaded.sources, config.sources);
}

#[test]
fn every_field_is_read() {
    let config = parse(&document(EVERYTHING));
    assert_eq!(config.namespace, "shop");
    assert_eq!(config.sources.several, Several::First);
    assert_eq!(config.sources.from[0], Source::Bearer("authorization".to_owned()));
    assert_eq!(config.sources.from[1], Source::Header("x-api-key".to_owned()));
    assert_eq!(config.sources.from[2..], [Source::Query("key".to_owned()), Source::Cookie("api_key".to_owned())]);
    assert_eq!(config.unlisted, Some(Unlisted { plan: 0, address_plan: None }));
    assert_eq!(config.denial.status, 429);
    assert_eq!(config.denial.message, "Zu viele Anfragen \"heute\"");
    assert_eq!(config.headers, Families { ratelimit: false, x_ratelimit: false });
    assert_eq!(config.failure_mode, FailureMode::Deny);
    let summary = |limit: &allowance::plan::Limit| {
        (limit.label.to_string(), limit.rule.algorithm, limit.max().get(), limit.window().to_string(), limit.capacity())
    };
    let free: Vec<_> = config.plans[0].limits.iter().map(summary).collect();
    assert_eq!(
        free,
        [
            ("1s".to_owned(), Algorithm::SlidingWindow, 5, "1s".to_owned(), 5),
            ("1m".to_owned(), Algorithm::SlidingWindow, 60, "1m".to_owned(), 60),
            ("day".to_owned(), Algorithm::FixedWindow, 1000, "day".to_owned(), 1000),
        ]
    );
    let pro: Vec<_> = config.plans[1].limits.iter().map(summary).collect();
    assert_eq!(
        pro,
        [
            ("steady".to_owned(), Algorithm::TokenBucket, 600, "1m".to_owned(), 50),
            ("month".to_owned(), Algorithm::FixedWindow, 5_000_000_000, "month".to_owned(), 5_000_000_000),
            ("90s".to_owned(), Algorithm::FixedWindow, 7, "90s".to_owned(), 7),
            ("1h".to_owned(), Algorithm::TokenBucket, 7, "1h".to_owned(), 7),
        ]
    );
    let [acme, testing] = config.consumers.consumers() else { panic!("two consumers") };
    let own: Vec<_> = acme.limits.iter().flatten().map(summary).collect();
    assert_eq!(
        own[0],
        ("steady".to_owned(), Algorithm::TokenBucket, 6000, "1m".to_owned(), 500),
        "replaced in its place"
    );
    assert_eq!(own[1..4], pro[1..], "the plan's others stay");
    assert_eq!(own[4], ("1s".to_owned(), Algorithm::SlidingWindow, 10, "1s".to_owned(), 10), "another name is added");
    assert_eq!((&*testing.name, testing.plan, &testing.limits), ("acme.testing_2", 0, &None));
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(&document("plans: {free: {limits: [{requests: 5, per: 1m}]}}"));
    assert_eq!(config.namespace, "default");
    assert_eq!(
        config.sources.from,
        [Source::Bearer("authorization".to_owned()), Source::Header("x-api-key".to_owned())]
    );
    assert_eq!(config.sources.several, Several::Refuse);
    assert_eq!(config.unlisted, None);
    assert!(config.consumers.consumers().is_empty());
    assert_eq!(
        (config.denial.status, config.denial.message.as_str()),
        (429, "Exceeded the allowed number of requests")
    );
    assert_eq!(config.headers, Families { ratelimit: true, x_ratelimit: false });
    assert_eq!(config.failure_mode, FailureMode::Allow);
}

/// 2³¹ and more arrive as text from YAML, as doubles in a Struct and as integers in JSON.
#[test]
fn whole_numbers_are_read_in_every_form_they_come_in() {
    for number in ["1", "1.0", "\"1\"", "1e15", "1000000000000000", "\"1000000000000000\"", "2147483648.0", "\"007\""] {
        let text = format!(r#"{{"plans": {{"p": {{"limits": [{{"requests": {number}, "per": "1m"}}]}}}}}}"#);
        assert!(Config::parse(text.as_bytes()).is_ok(), "{number}");
    }
}
