//! What every dialect says of every refusal, byte by byte: one file each in `dialects/`, all replies of it after the other.

use crate::gate::{Proxy, START};
use crate::strategies::SECOND;
use allowance::gate::{Action, Gate, Passed, Response};
use allowance::reply::Reply;
use allowance::store::HostError;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// Three in a minute, one back every 20 seconds; a rule's limit of an hour; readings of a path that together cost more than a limit holds.
const CONFIGURATION: &str = "
unlisted: {plan: free}
api_key: {from: [{bearer: authorization}, {header: x-api-key}, {header: x-goog-api-key}]}
plans: {free: {limits: [{requests: 3, per: 1m, algorithm: token_bucket, burst: 2}]}}
consumers: [{name: gone, plan: free, disabled: true, keys: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']}]
rules:
  - {name: big, match: {path: {prefix: /v1/big}}, cost: 2}
  - {name: small, match: {path: {prefix: /v1/small}}, limits: [{requests: 1, per: 1h, algorithm: token_bucket}]}
failure_mode: deny
";

/// A request to one API: its path, more of its headers, and what has to be said in the configuration for it to be recognized.
pub(crate) struct Api {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static str)],
    pub(crate) configuration: &'static str,
}

pub(crate) const APIS: [Api; 11] = [
    Api { name: "openai", path: "/v1/chat/completions", headers: &[], configuration: "" },
    Api {
        name: "azure",
        path: "/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        headers: &[],
        configuration: "",
    },
    Api { name: "anthropic", path: "/v1/messages", headers: &[("anthropic-version", "2026-10-21")], configuration: "" },
    Api { name: "gemini", path: "/v1beta/models/gemini-2.5-flash:generateContent", headers: &[], configuration: "" },
    Api {
        name: "gemini-array",
        path: "/v1beta/models/gemini-2.5-flash:streamGenerateContent",
        headers: &[],
        configuration: "",
    },
    Api { name: "gemini-openai", path: "/v1beta/openai/chat/completions", headers: &[], configuration: "" },
    Api { name: "mistral", path: "/v1/chat/completions", headers: &[], configuration: "{format: mistral}" },
    Api { name: "problem", path: "/orders", headers: &[("accept", "application/problem+json")], configuration: "" },
    Api { name: "json", path: "/orders", headers: &[], configuration: "" },
    Api { name: "text", path: "/orders", headers: &[], configuration: "{format: text}" },
    Api {
        name: "grpc",
        path: "/orders.Orders/Get",
        headers: &[("content-type", "application/grpc")],
        configuration: "",
    },
];

impl Api {
    fn gate(&self, proxy: &Proxy, denial: &str) -> Gate {
        let denial = match (self.configuration, denial) {
            ("", denial) => denial.to_owned(),
            (own, "{}") => own.to_owned(),
            (own, denial) => format!("{}, {}", own.trim_end_matches('}'), denial.trim_start_matches('{')),
        };
        proxy.gate(&format!("{CONFIGURATION}\ndenial: {denial}\n"))
    }

    fn ask(&self, proxy: &Proxy, gate: &Gate, path: &str, more: &[(&str, &str)]) -> Option<Reply> {
        let mut headers = vec![(":method", "POST"), (":path", path), (":authority", "a"), ("x-request-id", "0b1c-2")];
        headers.extend(self.headers.iter().chain(more));
        match proxy.decide(gate, &headers) {
            Action::Pass(_) => None,
            Action::Refuse(reply) => Some(Reply::clone(&reply)),
            Action::Wait(_) => panic!("it has no body"),
        }
    }

    /// The third request in the same nanosecond.
    fn denial(&self, denial: &str) -> Reply {
        let proxy = Proxy::new();
        let gate = self.gate(&proxy, denial);
        let ask = |more| self.ask(&proxy, &gate, self.path, more);
        assert!(ask(&[("x-api-key", "k")]).is_none() && ask(&[("x-api-key", "k")]).is_none());
        ask(&[("x-api-key", "k"), ("origin", "https://app.example.com")]).unwrap()
    }

    /// Every refusal, by name.
    fn replies(&self) -> Vec<(&'static str, Reply)> {
        let mut replies = vec![
            ("denied", self.denial("{}")),
            ("denied, exposing nothing", self.denial("{expose: false}")),
            (
                "denied, by template",
                self.denial("{template: '{consumer} \"{plan}\" {limit}: {max} {unit}/{per}, {retry_after} s', members: {docs: 'https://example.com/{plan}'}}"),
            ),
        ];
        let (proxy, refused) = (Proxy::new(), |more: &[(&str, &str)], stopped: bool, path: &str| {
            let proxy = Proxy::new();
            proxy.stopped.set(stopped);
            self.ask(&proxy, &self.gate(&proxy, "{}"), path, more).unwrap()
        });
        // Recognized by path alone, these cannot be asked at another; otherwise a limit of an hour, and one that is too small.
        let format = if self.configuration.is_empty() && self.headers.is_empty() && self.name != "json" {
            None
        } else {
            Some(())
        };
        if format.is_some() {
            let gate = self.gate(&proxy, "{}");
            assert!(self.ask(&proxy, &gate, "/v1/small", &[("x-api-key", "k")]).is_none());
            let long = self.ask(&proxy, &gate, "/v1/small", &[("x-api-key", "k")]).unwrap();
            replies.push(("denied for long", long));
            replies.push(("too large", refused(&[("x-api-key", "k")], false, "/v1/big/%2f..%2fsmall")));
        }
        replies.push(("missing key", refused(&[], false, self.path)));
        let unknown = {
            let yaml = CONFIGURATION.replace("unlisted: {plan: free}\n", "");
            let denial = if self.configuration.is_empty() { "{}" } else { self.configuration };
            let gate = proxy.gate(&format!("{yaml}denial: {denial}\n"));
            self.ask(&proxy, &gate, self.path, &[("x-api-key", "k")]).unwrap()
        };
        replies.push(("invalid key", unknown));
        replies.push(("several keys", refused(&[("x-api-key", "k"), ("authorization", "Bearer k")], false, self.path)));
        replies.push(("disabled", refused(&[("x-api-key", "abc")], false, self.path)));
        replies.push(("unavailable", refused(&[("x-api-key", "k")], true, self.path)));
        replies
    }
}

pub(crate) fn lines(reply: &Reply) -> impl Iterator<Item = (&str, &str)> {
    let text = |bytes| std::str::from_utf8(bytes).unwrap();
    reply.headers.pairs().map(move |(name, value)| (text(name), text(value)))
}

pub(crate) fn printed(reply: &Reply) -> String {
    let mut text = format!("{} {} {}\n", reply.status, reply.grpc_status, &*reply.details);
    for (name, value) in lines(reply) {
        writeln!(text, "{name}: {value}").unwrap();
    }
    text + "\n" + std::str::from_utf8(&reply.body).unwrap() + "\n"
}

#[test]
fn every_refusal_is_what_its_fixture_says_byte_by_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core/dialects");
    let mut wrong = Vec::new();
    for api in &APIS {
        let text: String =
            api.replies().iter().map(|(name, reply)| format!("### {name}\n{}\n", printed(reply))).collect();
        let file = folder.join(format!("{}.http", api.name));
        // For whoever changes a dialect on purpose; the diff is then read.
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(&file, &text).unwrap();
        }
        if std::fs::read_to_string(&file).unwrap_or_default() != text {
            wrong.push((api.name, text));
        }
    }
    assert!(wrong.is_empty(), "run the tests with BLESS=1 and read the diff: {wrong:#?}");
    let files = std::fs::read_dir(folder).unwrap().count();
    assert_eq!(files, APIS.len(), "a fixture that nobody reads");
}

fn header<'r>(reply: &'r Reply, name: &str) -> Option<&'r str> {
    let mut values = lines(reply).filter(|(given, _)| *given == name).map(|(_, value)| value);
    let value = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    value
}

/// All places that say when to come back say the same, and never less than the exact wait, 20 seconds.
#[test]
fn jitter_makes_waits_longer_by_at_most_its_fraction_and_different_for_different_callers() {
    let told = |api: &Api, key: &str, jitter: &str| {
        let proxy = Proxy::new();
        let gate = api.gate(&proxy, &format!("{{retry_jitter: {jitter}}}"));
        let ask = || api.ask(&proxy, &gate, api.path, &[("x-api-key", key)]);
        assert!(ask().is_none() && ask().is_none());
        let reply = ask().unwrap();
        let ms: u64 = header(&reply, "retry-after-ms").unwrap().parse().unwrap();
        let seconds: u64 = header(&reply, "retry-after").unwrap().parse().unwrap();
        assert_eq!(seconds, ms.div_ceil(1000));
        let body = String::from_utf8(reply.body.clone()).unwrap();
        assert!(body.contains(&format!("Retry after {seconds} s.")), "{body}");
        match api.name {
            "json" => {
                let body: Value = serde_json::from_str(&body).unwrap();
                assert_eq!(body["limit"]["retry_after"], seconds);
            }
            "gemini" => {
                let delay = format!("{}.{:03}s", ms / 1000, ms % 1000).replace(".000s", "s");
                assert!(body.contains(&format!("\"retryDelay\":\"{delay}\"")), "{body}");
            }
            "grpc" => assert_eq!(header(&reply, "grpc-retry-pushback-ms").unwrap(), ms.to_string()),
            _ => {}
        }
        ms
    };
    for api in &APIS {
        assert_eq!(told(api, "k", "0"), 20_000, "{}", api.name);
        let waits: Vec<u64> = (0..200).map(|caller| told(api, &format!("key-{caller}"), "0.5")).collect();
        assert!(waits.iter().all(|ms| (20_000..=30_000).contains(ms)), "{waits:?}");
        // Evenly: each tenth of the way has its share of two hundred callers.
        let tenths = waits.iter().fold([0; 10], |mut tenths, ms| {
            tenths[((ms - 20_000) / 1001) as usize] += 1;
            tenths
        });
        assert!(tenths.iter().all(|callers| (5..=40).contains(callers)), "{tenths:?}");
    }
}

/// An upstream's response, and what is put on it.
#[derive(Default)]
struct Upstream {
    said: BTreeMap<&'static str, &'static str>,
    put: RefCell<Vec<(String, String)>>,
}

impl Upstream {
    fn put(&self, name: &str, value: &str) {
        self.put.borrow_mut().push((name.to_owned(), value.to_owned()));
    }
}

impl Response for Upstream {
    fn header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.said.get(name).map(|value| value.as_bytes().to_vec()))
    }

    fn add(&self, name: &str, value: &str) -> Result<(), HostError> {
        assert!(name.starts_with("ratelimit"), "{name} is no list");
        self.put(name, value);
        Ok(())
    }

    fn replace(&self, name: &str, value: &str) -> Result<(), HostError> {
        assert!(!name.starts_with("ratelimit"), "{name} is a list");
        self.put(name, value);
        Ok(())
    }
}

/// The fields on the response to a caller's first request, after what the upstream says.
fn fields(path: &str, headers: &str, upstream: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
    let proxy = Proxy::new();
    let gate = proxy.gate(&format!("{CONFIGURATION}\nheaders: {headers}\n"));
    let Action::Pass(passed) = proxy.decide(&gate, &[(":path", path), ("x-api-key", "k")]) else { panic!("denied") };
    told(&passed, upstream)
}

/// The fields that are put on the upstream's response.
pub(crate) fn told(passed: &Passed, upstream: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
    let upstream = Upstream { said: upstream.iter().copied().collect(), ..Upstream::default() };
    passed.tell(&upstream);
    upstream.put.into_inner()
}

pub(crate) fn owned(fields: &[(&'static str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_provider_says_in_its_own_fields_what_is_left() {
    assert_eq!(START, 1_800_000_000 * SECOND);
    let reset = |at| {
        [
            ("x-ratelimit-limit-requests", "2"),
            ("x-ratelimit-remaining-requests", "1"),
            ("x-ratelimit-reset-requests", at),
        ]
    };
    for (path, expected) in [
        ("/v1/chat/completions", reset("20s").to_vec()),
        ("/openai/v1/responses", reset("20").to_vec()),
        (
            "/v1/messages",
            vec![
                ("anthropic-ratelimit-requests-limit", "2"),
                ("anthropic-ratelimit-requests-remaining", "1"),
                ("anthropic-ratelimit-requests-reset", "2027-01-15T08:00:20Z"),
            ],
        ),
        ("/v1/models/g:generateContent", vec![]),
        ("/orders", vec![]),
    ] {
        assert_eq!(fields(path, "[provider]", &[]), owned(&expected), "{path}");
        assert_eq!(fields(path, "[]", &[]), []);
    }
    let proxy = Proxy::new();
    let rule =
        CONFIGURATION.replace("rules:", "rules:\n  - {name: m, match: {path: {prefix: /mistral}}, format: mistral}");
    let gate = proxy.gate(&format!("{rule}\nheaders: [provider]\n"));
    let Action::Pass(passed) = proxy.decide(&gate, &[(":path", "/mistral/v1/chat/completions"), ("x-api-key", "k")])
    else {
        panic!("denied")
    };
    let expected = [("x-ratelimit-limit-req-minute", "2"), ("x-ratelimit-remaining-req-minute", "1")];
    assert_eq!(told(&passed, &[]), owned(&expected));
}

#[test]
fn an_upstreams_numbers_are_replaced_only_where_ours_are_stricter() {
    let all = "[ratelimit, x-ratelimit, provider]";
    let ours = [
        ("ratelimit-policy", "\"1m\";q=2;w=40"),
        ("ratelimit", "\"1m\";r=1;t=20"),
        ("x-ratelimit-limit", "2"),
        ("x-ratelimit-remaining", "1"),
        ("x-ratelimit-reset", "20"),
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-remaining-requests", "1"),
        ("x-ratelimit-reset-requests", "20s"),
    ];
    let (ratelimit, x_ratelimit, provider) = (&ours[..2], &ours[2..5], &ours[5..]);
    for (upstream, expected) in [
        (("via", "1.1 x"), vec![ratelimit, x_ratelimit, provider]),
        // A list, which ours are added to.
        (("ratelimit", "\"theirs\";r=0;t=5"), vec![ratelimit, x_ratelimit, provider]),
        (("ratelimit-policy", "\"theirs\";q=5"), vec![ratelimit, x_ratelimit, provider]),
        (("x-ratelimit-remaining", "0"), vec![ratelimit, provider]),
        (("x-ratelimit-remaining", "5"), vec![ratelimit, x_ratelimit, provider]),
        (("x-ratelimit-remaining-requests", "1"), vec![ratelimit, x_ratelimit]),
        (("x-ratelimit-remaining-requests", "4999"), vec![ratelimit, x_ratelimit, provider]),
        (("x-ratelimit-remaining-tokens", "0"), vec![ratelimit, x_ratelimit, provider]),
    ] {
        assert_eq!(fields("/v1/embeddings", all, &[upstream]), owned(&expected.concat()), "{upstream:?}");
    }
}

/// The items of a list as an independent parser of RFC 9651 reads them: a text, and its parameters.
fn items(field: &str) -> Vec<(String, BTreeMap<String, sfv::BareItem>)> {
    let list: sfv::List = sfv::Parser::new(field).parse().unwrap_or_else(|error| panic!("{field}: {error}"));
    list.into_iter()
        .map(|entry| {
            let sfv::ListEntry::Item(item) = entry else { panic!("{field}: an inner list") };
            let sfv::BareItem::String(name) = item.bare_item else { panic!("{field}: no string") };
            let parameters = item.params.into_iter().map(|(key, value)| (key.to_string(), value));
            (String::from(name), parameters.collect())
        })
        .collect()
}

fn integer(parameters: &BTreeMap<String, sfv::BareItem>, name: &str) -> Option<i64> {
    parameters.get(name).map(|value| i64::from(value.as_integer().unwrap_or_else(|| panic!("{name} is no integer"))))
}

prop_compose! {
    fn any_limit()(name in "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", max in prop_oneof![1..20u64, 1..=1_000_000_000_000_000u64],
        per in prop::sample::select(&["1ms", "1500ms", "1s", "7m", "3650d", "second", "day", "month"][..]),
        bucket in any::<bool>(), burst in 1..=1_000_000u64, shadow in any::<bool>()) -> Value {
        let mut limit = json!({"name": name, "requests": max, "per": per, "shadow": shadow});
        if bucket && per.ends_with(|c: char| c.is_ascii_alphabetic()) && per.starts_with(|c: char| c.is_ascii_digit()) {
            limit["algorithm"] = "token_bucket".into();
            limit["burst"] = burst.min(max).into();
        }
        limit
    }
}

proptest! {
    #[test]
    fn ratelimit_fields_are_structured_fields_for_any_plan(
        limits in prop::collection::btree_map("[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", any_limit(), 1..6),
        partition: bool,
        expose: bool,
        requests in 1..25u32,
    ) {
        let limits: Vec<Value> = limits.into_iter().map(|(name, mut limit)| { limit["name"] = name.into(); limit }).collect();
        let enforced = limits.iter().filter(|limit| limit["shadow"] == false).count();
        let configuration = json!({
            "unlisted": {"plan": "free"}, "plans": {"free": {"limits": limits}}, "partition_key": partition, "denial": {"expose": expose},
        });
        let proxy = Proxy::new();
        let gate = proxy.gate_of(&configuration);
        for _ in 0..requests {
            let fields: BTreeMap<String, String> = match proxy.decide(&gate, &[(":path", "/"), ("x-api-key", "k")]) {
                Action::Pass(passed) => told(&passed, &[]).into_iter().collect(),
                Action::Refuse(reply) => lines(&reply).map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
                Action::Wait(_) => panic!("it has no body"),
            };
            if enforced == 0 {
                prop_assert!(fields.is_empty());
                continue;
            }
            let (policies, left) = (items(&fields["ratelimit-policy"]), items(&fields["ratelimit"]));
            prop_assert_eq!((policies.len(), left.len()), (enforced, 1));
            let (name, standing) = &left[0];
            let policy = policies.iter().find(|(policy, _)| policy == name).map(|(_, parameters)| parameters).unwrap();
            let (q, r) = (integer(policy, "q").unwrap(), integer(standing, "r").unwrap());
            prop_assert!((0..=q).contains(&r) && integer(standing, "t").unwrap() >= 0);
            for (_, parameters) in policies.iter().chain(&left) {
                prop_assert_eq!(parameters.get("pk").is_some(), partition);
                prop_assert!(parameters.get("pk").is_none_or(|key| key.as_byte_sequence().unwrap().len() == 8));
                prop_assert!(integer(parameters, "w").is_none_or(|w| w > 0));
            }
        }
    }

    #[test]
    fn bodies_are_valid_for_any_names_and_templates(
        plan in "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
        limit in "[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
        message in "\\PC{1,40}|[\"\\\\\n\t\r\u{0}-\u{1f}\u{2028}é]{1,40}",
        text in "[^{}]{1,40}",
        words in prop::collection::vec(prop::sample::select(&["{limit}", "{max}", "{unit}", "{per}", "{retry_after}", "{plan}", "{consumer}", "{{", "}}"][..]), 0..6),
        member in "[a-z][a-z0-9_]{0,20}".prop_filter("taken", |name| !["code", "detail", "details", "error", "instance", "limit", "message", "object", "param", "raw_status_code", "request_id", "status", "title", "type"].contains(&name.as_str())),
        templated: bool,
        api in 0..APIS.len(),
    ) {
        let api = &APIS[api];
        let template = format!("{text}{}", words.concat());
        let mut denial: Value = serde_saphyr::from_str(if api.configuration.is_empty() { "{}" } else { api.configuration }).unwrap();
        denial["message"] = message.clone().into();
        denial["members"] = json!({member.as_str(): template});
        if templated {
            denial["template"] = template.into();
        }
        let configuration = json!({
            "unlisted": {"plan": plan}, "plans": {plan.as_str(): {"limits": [{"name": limit, "requests": 1, "per": "1m"}]}}, "denial": denial,
        });
        let proxy = Proxy::new();
        let gate = proxy.gate_of(&configuration);
        prop_assert!(api.ask(&proxy, &gate, api.path, &[("x-api-key", "k")]).is_none());
        let reply = api.ask(&proxy, &gate, api.path, &[("x-api-key", "k")]).unwrap();
        let said = std::str::from_utf8(&reply.body).unwrap();
        if !["text", "grpc"].contains(&api.name) {
            let mut body: Value = serde_json::from_str(said).unwrap();
            if let Some(first) = body.get_mut(0) {
                body = first.take();
            }
            let error = if api.name == "mistral" { &body } else { &body["error"] };
            let expected = text.clone();
            prop_assert!(error[member.as_str()].as_str().unwrap().starts_with(&expected));
            let start = if templated { &text } else { &message };
            prop_assert!(error["message"].as_str().unwrap().starts_with(start.as_str()));
        }
        for (_, value) in lines(&reply) {
            prop_assert!(value.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{value}");
        }
    }
}
