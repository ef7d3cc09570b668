//! What is told of limits in tokens: refusals in every dialect, byte by byte in `telling/`, and the fields of allowed responses.

use crate::dialects::{APIS, Api, lines, owned, printed, told};
use crate::gate::Proxy;
use crate::settling::World;
use crate::tokens::bounded;
use allowance::cost::Cost;
use allowance::decision::Decision;
use allowance::dialect::Asked;
use allowance::gate::Action;
use allowance::headers::Style;
use allowance::refusal::{Exceeded, Pause};
use allowance::reply::{Form, Reply};
use allowance::request::Headers;
use allowance::rule::Charging;
use std::fmt::Write;
use std::path::Path;
use std::rc::Rc;

const CONFIGURATION: &str = "
unlisted: {plan: free}
plans:
  free:
    limits:
      - {requests: 10, per: 1m}
      - {tokens: 1000, per: 1m, algorithm: token_bucket}
      - {tokens: 400, per: 1m, count: input, algorithm: token_bucket}
      - {tokens: 800, per: 1m, count: output, algorithm: token_bucket}
";

/// The refusal of a request after another that reserved its bound.
fn refused(api: &Api, denial: &str, first: (u64, u64), second: (u64, u64)) -> Reply {
    let denial = match (api.configuration, denial) {
        ("", denial) => denial.to_owned(),
        (own, "{}") => own.to_owned(),
        (own, denial) => format!("{}, {}", own.trim_end_matches('}'), denial.trim_start_matches('{')),
    };
    let world = World::new(&format!("{CONFIGURATION}\ndenial: {denial}\n"));
    let (account, _) = world.accounts(Some(42), &Charging::default());
    world.reserve(&account, &bounded(first.0, first.1)).unwrap();
    let cost = bounded(second.0, second.1);
    let outcome = world.decide(&account, &cost);
    let Decision::Denied { standing, wait } = outcome.decision else { panic!("allowed") };
    let mut headers = vec![(":path", api.path), ("x-request-id", "0b1c-2")];
    headers.extend(api.headers);
    let headers = Headers::decode(Headers::encode(&headers)).unwrap();
    let asked = Asked::new(&headers);
    let form = Form { dialect: world.config.denial.format.dialect(&asked), asked: &asked };
    let exceeded = Exceeded {
        denial: &world.config.denial,
        terms: &account.terms,
        standing,
        others: &outcome.others,
        cost: account.terms.limits[standing.limit].demand(&cost).needed,
        wait,
        caller: "key:0123456789ab",
    };
    let style =
        Style { ratelimit: true, x_ratelimit: true, provider: form.dialect.left, partition: None, now: world.now() };
    (*Reply::denial(&exceeded, form, &style).unwrap()).clone()
}

#[test]
fn every_refusal_for_tokens_is_what_its_fixture_says_byte_by_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/core/telling");
    let mut wrong = Vec::new();
    for api in &APIS {
        let mut text = String::new();
        for (name, denial, first, second) in [
            ("denied", "{}", (300, 600), (0, 200)),
            ("denied for input", "{}", (350, 0), (100, 0)),
            ("denied for output", "{}", (0, 700), (0, 130)),
            ("denied, with a sentence of the operator's", "{message: Too much}", (300, 600), (0, 200)),
            ("denied, exposing nothing", "{expose: false}", (300, 600), (0, 200)),
            ("denied, by template", "{template: '{limit}: {max} {unit}/{per}, {retry_after} s'}", (300, 600), (0, 200)),
            ("too large", "{}", (0, 0), (1, 801)),
        ] {
            writeln!(text, "### {name}\n{}", printed(&refused(api, denial, first, second))).unwrap();
        }
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
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), APIS.len(), "a fixture that nobody reads");
}

#[test]
fn allowed_responses_say_in_the_providers_fields_what_is_left_of_every_unit() {
    let fields = |headers: &str, path: &str| {
        let rule = "rules: [{name: m, match: {path: {prefix: /mistral}}, format: mistral}]";
        let proxy = Proxy::new();
        let gate = proxy.gate(&format!("{CONFIGURATION}\n{rule}\nheaders: {headers}\n"));
        let Action::Pass(passed) = proxy.decide(&gate, &[(":path", path), ("x-api-key", "k")]) else {
            panic!("denied")
        };
        told(&passed, &[])
    };
    let openai = |reset: &'static str| {
        [
            ("x-ratelimit-limit-requests", "10"),
            ("x-ratelimit-remaining-requests", "9"),
            ("x-ratelimit-reset-requests", if reset == "0s" { "1m0.001s" } else { "61" }),
            ("x-ratelimit-limit-tokens", "1000"),
            ("x-ratelimit-remaining-tokens", "1000"),
            ("x-ratelimit-reset-tokens", reset),
        ]
    };
    let at = "2027-01-15T08:00:00Z";
    let anthropic = [
        ("anthropic-ratelimit-requests-limit", "10"),
        ("anthropic-ratelimit-requests-remaining", "9"),
        ("anthropic-ratelimit-requests-reset", "2027-01-15T08:01:01Z"),
        ("anthropic-ratelimit-tokens-limit", "1000"),
        ("anthropic-ratelimit-tokens-remaining", "1000"),
        ("anthropic-ratelimit-tokens-reset", at),
        ("anthropic-ratelimit-input-tokens-limit", "400"),
        ("anthropic-ratelimit-input-tokens-remaining", "400"),
        ("anthropic-ratelimit-input-tokens-reset", at),
        ("anthropic-ratelimit-output-tokens-limit", "800"),
        ("anthropic-ratelimit-output-tokens-remaining", "800"),
        ("anthropic-ratelimit-output-tokens-reset", at),
    ];
    let mistral = [
        ("x-ratelimit-limit-req-minute", "10"),
        ("x-ratelimit-remaining-req-minute", "9"),
        ("x-ratelimit-limit-tokens-minute", "1000"),
        ("x-ratelimit-remaining-tokens-minute", "1000"),
    ];
    assert_eq!(fields("[provider]", "/v1/chat/completions"), owned(&openai("0s")));
    assert_eq!(fields("[provider]", "/openai/v1/responses"), owned(&openai("0")));
    assert_eq!(fields("[provider]", "/v1/messages"), owned(&anthropic));
    assert_eq!(fields("[provider]", "/mistral/v1/chat/completions"), owned(&mistral));
    assert_eq!(fields("[provider]", "/orders"), []);
    // No unit is registered for tokens: a parameter of our own names it.
    let policy = [
        r#""1m";q=10;w=60"#,
        r#""tokens-1m";q=1000;w=60;allowance-unit="tokens""#,
        r#""input-tokens-1m";q=400;w=60;allowance-unit="input-tokens""#,
        r#""output-tokens-1m";q=800;w=60;allowance-unit="output-tokens""#,
    ];
    let told = fields("[ratelimit]", "/v1/chat/completions");
    assert_eq!(told[0], ("ratelimit-policy".to_owned(), policy.join(", ")));
}

/// Without a bound, a request needs one token of what is left.
#[test]
fn who_has_no_tokens_left_is_told_so_also_where_nothing_is_known_of_the_request() {
    let world = World::new(CONFIGURATION);
    let (account, _) = world.accounts(Some(42), &Charging::default());
    world.reserve(&account, &bounded(400, 600)).unwrap();
    assert!(world.reserve(&account, &Cost::requests(1)).is_none());
}

/// Whoever is denied again and again is told what a worker would say that has never denied it: in every dialect, with every name that its key
/// has, whatever else the request has, and however time passes meanwhile.
#[test]
fn what_is_told_again_is_what_is_told_first() {
    const CONFIGURATION: &str = r#"{
        "log": "denied", "denial": DENIAL, "partition_key": true, "plans": {"pro": {"limits": [
            {"requests": 2, "per": "7s"}, {"requests": 3, "per": "75s"}, {"requests": 9, "per": "1m", "shadow": true}]}},
        "consumers": [{"name": "acme", "plan": "pro", "keys": [
            "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            {"sha256": "cb8379ac2098aa165029e3938a51da0bcecfc008fd6795f401178647f96c5b34", "name": "ci"}]}]}"#;
    let denials = [
        r#"{}"#,
        r#"{"format": "openai"}"#,
        r#"{"format": "text", "retry_jitter": 0.5}"#,
        r#"{"template": "{consumer}: {retry_after}", "format": "problem"}"#,
    ];
    for denial in denials {
        let proxy = Proxy::new();
        let configuration = serde_json::from_str(&CONFIGURATION.replace("DENIAL", denial)).unwrap();
        let busy = proxy.gate_of(&configuration);
        let (mut denied, mut told) = (0, std::collections::BTreeSet::new());
        for step in 0..3000_u64 {
            // From step to step a third of a millisecond, now and then a second.
            proxy.show(crate::gate::START + step * 333_333 + step / 50 * 1_000_000_000);
            let key = if step % 7 == 0 { "def" } else { "abc" };
            let id = format!("0b1c-{step}");
            let mut headers = vec![(":path", "/v1/things"), ("x-api-key", key), ("x-request-id", &id)];
            headers.extend([("origin", "https://app.example.com")].iter().filter(|_| step % 11 == 0));
            headers.extend([("accept", "application/problem+json")].iter().filter(|_| step % 5 == 0));
            let said = proxy.admit(&busy, &headers);
            let Action::Refuse(reply) = said.action else {
                continue;
            };
            denied += 1;
            // A denial charges nothing: whoever else looks finds the same.
            let first = proxy.admit(&proxy.gate_of(&configuration), &headers);
            let Action::Refuse(expected) = first.action else { panic!("denied by one worker, and not by another") };
            assert_eq!((printed(&reply), said.note), (printed(&expected), first.note), "{denial}, {step}");
            told.insert(printed(&reply));
        }
        assert!(denied > 2900, "{denied}");
        assert!(told.len() > 900, "{} different ones", told.len());
    }
}

/// A reply is told again with another wait: not where somebody still has it, nor where the wait has fewer digits.
#[test]
fn a_reply_that_somebody_has_is_never_written_to() {
    const CONFIGURATION: &str = r#"{"plans": {"pro": {"limits": [{"requests": 1, "per": "1m"}]}},
        "consumers": [{"name": "acme", "plan": "pro", "keys": ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}]}"#;
    let proxy = Proxy::new();
    let gate = proxy.gate_of(&serde_json::from_str(CONFIGURATION).unwrap());
    let ask = |milliseconds: u64| {
        proxy.show(crate::gate::START + milliseconds * 1_000_000);
        proxy.decide(&gate, &[(":path", "/"), ("x-api-key", "abc")])
    };
    let denied = |milliseconds| {
        let Action::Refuse(reply) = ask(milliseconds) else { panic!("passed") };
        reply
    };
    let waits = |reply: &Reply| {
        let value = |field| lines(reply).find(|(name, _)| *name == field).map(|(_, value)| value.to_owned()).unwrap();
        [value("retry-after"), value("retry-after-ms")]
    };
    assert!(matches!(ask(0), Action::Pass(_)));
    // The first denial is not kept, the second is.
    assert_eq!([40_000, 40_001].map(|time| waits(&denied(time))), [["21", "20001"], ["20", "20000"]]);
    let one = denied(40_002);
    assert!(Rc::ptr_eq(&one, &denied(40_002)), "what says the same is the same");
    let other = denied(40_003);
    assert_eq!([&one, &other].map(|reply| waits(reply)), [["20", "19999"], ["20", "19998"]]);
    assert_eq!([50_001, 50_002].map(|time| waits(&denied(time))), [["10", "10000"], ["10", "9999"]]);
}

/// Up to a minute a client may wait to the millisecond. Beyond, whoever is denied is told the same for a second.
#[test]
fn waits_over_a_minute_are_told_in_whole_seconds_and_none_is_shorter() {
    const MINUTE: u64 = 60_000_000_000;
    for (span, milliseconds, seconds) in [
        (0, 1, 1),
        (1_000_001, 2, 1),
        (MINUTE - 1, 60_000, 60),
        (MINUTE, 60_000, 60),
        (MINUTE + 1, 61_000, 61),
        (MINUTE + 1_000_000_000, 61_000, 61),
        (3_599_986_500_000, 3_600_000, 3600),
        (u64::MAX, 18_446_744_074_000, 18_446_744_074),
    ] {
        let pause = Pause::of(span);
        assert_eq!((pause.milliseconds(), pause.seconds()), (milliseconds, seconds), "{span}");
    }
}

/// A worker that was held up decides by the clock of the host, and what lasts lasts from then on.
#[test]
fn who_is_denied_by_a_worker_with_an_old_clock_is_told_the_exact_wait_from_then_on() {
    const CONFIGURATION: &str = r#"{"plans": {"pro": {"limits": [{"requests": 100, "per": "1s"}, {"requests": 1, "per": "1m"}]}},
        "consumers": [{"name": "acme", "plan": "pro", "keys": ["sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}]}"#;
    let proxy = Proxy::new();
    let configuration = serde_json::from_str(CONFIGURATION).unwrap();
    let gates = [(); 3].map(|()| proxy.gate_of(&configuration));
    let [on_time, held_up, fresh] = &gates;
    let headers = [(":path", "/"), ("x-api-key", "abc")];
    let at = |milliseconds: u64| crate::gate::START + milliseconds * 1_000_000;
    proxy.show(at(10_000));
    assert!(matches!(proxy.decide(on_time, &headers), Action::Pass(_)));
    let waits = |gate| {
        let Action::Refuse(reply) = proxy.decide(gate, &headers) else { panic!("passed") };
        let wait = lines(&reply).find(|(name, _)| *name == "retry-after-ms").map(|(_, value)| value.to_owned());
        wait.unwrap().parse::<u64>().unwrap()
    };
    // More than a window of the first limit behind.
    proxy.show_in_turn(&[at(7_000), at(10_200)]);
    assert_eq!(waits(held_up), 60_000 - 10_200 + 1);
    proxy.show(at(11_000));
    assert_eq!((waits(held_up), waits(fresh)), (60_000 - 11_000 + 1, 60_000 - 11_000 + 1));
}
