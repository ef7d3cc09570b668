//! What each kind of request costs, in figures that no other load on the machine changes. They are compared with the committed ones, so that
//! a change that makes a request cost more fails until it is said to be on purpose: then take what the test prints.

use crate::instance;
use crate::support::proxy::{Exchange, Outcome, SharedData};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

/// Columns: entries into the module, host calls, those that return bytes, bytes copied either way, instructions (wasmi's fuel).
const COMMITTED: &str = include_str!("figures.txt");

/// By how much the number of instructions may differ, in percent.
const TOLERANCE: u64 = 3;

/// A name; the configuration, in which three limits that nobody uses up are LIMITS; a header more; how many requests before it.
type Scenario = (&'static str, &'static str, (&'static str, &'static str), usize);

const KEY: &str = "sk-figures-4f1d9c27";
const LIMITS: &str =
    r#"{"requests": 1000000, "per": "1s"}, {"requests": 1000000, "per": "1m"}, {"requests": 1000000, "per": "day"}"#;
const LISTED: &str = r#""plans": {"pro": {"limits": [LIMITS]}}, "consumers": [{"name": "acme", "plan": "pro", "keys": ["sha256:HASH"]}]"#;

const SCENARIOS: [Scenario; 18] = [
    ("one limit, headers: []", r#"{"headers": [], ONE}"#, ("x-api-key", KEY), 3),
    ("three limits, headers: []", r#"{"headers": [], LISTED}"#, ("x-api-key", KEY), 3),
    (
        "three limits, headers: [], the key in one place",
        r#"{"headers": [], "api_key": {"from": [{"header": "x-api-key"}]}, LISTED}"#,
        ("x-api-key", KEY),
        3,
    ),
    ("the first request of a consumer", r#"{"headers": [], LISTED}"#, ("x-api-key", KEY), 0),
    ("three limits, headers: [], leased", r#"{"headers": [], "lease": "1s", LISTED}"#, ("x-api-key", KEY), 5),
    (
        "three limits, headers: [], leased, the key in one place",
        r#"{"headers": [], "api_key": {"from": [{"header": "x-api-key"}]}, "lease": "1s", LISTED}"#,
        ("x-api-key", KEY),
        5,
    ),
    ("three token buckets, headers: []", r#"{"headers": [], BUCKETS}"#, ("x-api-key", KEY), 3),
    ("three limits, headers: [ratelimit]", r"{LISTED}", ("x-api-key", KEY), 3),
    (
        "three limits, headers: [ratelimit, x-ratelimit]",
        r#"{"headers": ["ratelimit", "x-ratelimit"], LISTED}"#,
        ("x-api-key", KEY),
        3,
    ),
    (
        "three limits, headers: [provider], OpenAI",
        r#"{"headers": ["provider"], "denial": {"format": "openai"}, LISTED}"#,
        ("x-api-key", KEY),
        3,
    ),
    (
        "unlisted key, headers: []",
        r#"{"headers": [], "unlisted": {"plan": "pro"}, "plans": {"pro": {"limits": [LIMITS]}}}"#,
        ("x-api-key", KEY),
        3,
    ),
    (
        "unlisted key and its address, headers: []",
        r#"{"headers": [], "unlisted": {"plan": "pro", "address_plan": "pro"}, "plans": {"pro": {"limits": [LIMITS]}}}"#,
        ("x-api-key", KEY),
        3,
    ),
    (
        "no key, by address, headers: []",
        r#"{"headers": [], "anonymous": {"plan": "pro"}, "plans": {"pro": {"limits": [LIMITS]}}}"#,
        ("x-other", ""),
        3,
    ),
    (
        "a plan without limits",
        r#"{"unlisted": {"plan": "unlimited"}, "plans": {"unlimited": {"limits": []}}}"#,
        ("x-api-key", KEY),
        3,
    ),
    (
        "exempt by a rule",
        r#"{"rules": [{"name": "all", "match": {"path": {"prefix": "/"}}, "exempt": true}], LISTED}"#,
        ("x-api-key", KEY),
        3,
    ),
    ("denied", r"{DENIED}", ("x-api-key", KEY), 3),
    ("denied, OpenAI", r#"{"denial": {"format": "openai"}, DENIED}"#, ("x-api-key", KEY), 3),
    ("no key: 401", r"{LISTED}", ("x-other", ""), 3),
];

/// Those of them that are measured once more, of a caller that comes again later: when all its windows are over, or when a denial has to be
/// looked at again.
const LATER: [(&str, Duration, &str); 4] = [
    ("three limits, headers: []", Duration::from_secs(48 * 3600), ", two days later"),
    ("three token buckets, headers: []", Duration::from_secs(48 * 3600), ", two days later"),
    ("unlisted key, headers: []", Duration::from_secs(48 * 3600), ", two days later"),
    ("denied", Duration::from_secs(1), ", a second later"),
];

#[test]
fn every_kind_of_request_costs_what_was_committed() {
    let tools = tools();
    let mut measured = format!("{tools}\n");
    let scenarios = SCENARIOS.iter().map(|scenario| (scenario, Duration::ZERO, ""));
    let again = LATER.iter().filter_map(|&(name, later, said)| {
        let scenario = SCENARIOS.iter().find(|(known, ..)| *known == name)?;
        Some((scenario, later, said))
    });
    for (&(name, configuration, header, before), later, said) in scenarios.chain(again) {
        let outcome = last(configuration, header, before, later);
        let returning = outcome.returning_calls().len();
        let (entries, calls, copied) = (outcome.entries.len(), outcome.calls.len(), outcome.copied_bytes);
        writeln!(measured, "{entries:3} {calls:3} {returning:3} {copied:5} {:7}  {name}{said}", outcome.fuel).unwrap();
    }
    println!("{measured}");
    let known = COMMITTED.lines().next() == Some(&tools);
    assert_eq!(measured.lines().count(), COMMITTED.lines().count(), "scenarios were added or left out:\n{measured}");
    for (now, then) in measured.lines().zip(COMMITTED.lines()).skip(1) {
        let (now, then) = (figures(now), figures(then));
        assert_eq!((&now.0, &now.2), (&then.0, &then.2), "entries, calls, returning, copied; all figures:\n{measured}");
        let off = now.1.abs_diff(then.1) * 100 > then.1 * TOLERANCE;
        assert!(!known || !off, "{} instructions, {} committed: {}\n{measured}", now.1, then.1, now.2);
    }
}

/// What comes so much later than so many others.
fn last(configuration: &str, header: (&str, &str), before: usize, later: Duration) -> Outcome {
    let hash: String = Sha256::digest(KEY).iter().map(|byte| format!("{byte:02x}")).collect();
    let denied = LISTED.replace("LIMITS", r#"{"requests": 1000, "per": "1s"}, {"requests": 1, "per": "3650d"}"#);
    let one = LISTED.replace("LIMITS", r#"{"requests": 1000000, "per": "1m"}"#);
    let buckets =
        LISTED.replace("LIMITS", &LIMITS.replace('}', r#", "algorithm": "token_bucket"}"#).replace("day", "24h"));
    let configuration = configuration.replace("LISTED", LISTED).replace("DENIED", &denied).replace("ONE", &one);
    let configuration = configuration.replace("BUCKETS", &buckets);
    let configuration = configuration.replace("LIMITS", LIMITS).replace("HASH", &hash);
    let mut instance = instance(&configuration, &Arc::new(SharedData::default()));
    let lines = [
        (":method", "POST"),
        (":path", "/v1/things?page=2"),
        (":authority", "api.example.com"),
        ("user-agent", "figures/1.0"),
        ("accept", "*/*"),
        ("content-type", "application/json"),
        ("x-request-id", "9bd5b0f5-4d3a-4a56-9c8b-5f2a41c3b1de"),
        header,
    ];
    for _ in 0..before {
        instance.exchange(&Exchange::new(&lines));
    }
    instance.clock().advance(later);
    instance.exchange(&Exchange::new(&lines))
}

/// Entries, calls and bytes; instructions; the name.
fn figures(line: &str) -> (Vec<u64>, u64, String) {
    let mut words = line.split_whitespace();
    let numbers: Vec<u64> = words.by_ref().take(5).map(|word| word.parse().unwrap()).collect();
    let name: Vec<&str> = words.collect();
    let fuel = numbers[4];
    (numbers[..4].to_vec(), fuel, name.join(" "))
}

/// What made the module, as `make build` noted it.
fn tools() -> String {
    let module = std::env::var("ALLOWANCE_WASM").expect("ALLOWANCE_WASM is not set: run \"make test\"");
    let tools = std::path::Path::new(&module).with_extension("tools");
    std::fs::read_to_string(&tools)
        .unwrap_or_else(|error| panic!("{}: {error}: run \"make build\"", tools.display()))
        .trim()
        .to_owned()
}
