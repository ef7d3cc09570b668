//! Configurations that are accepted, and what they mean.

use crate::forms::{as_loaded, serialized};
use crate::messages;
use allowance::config::{Config, FailureMode, Unlisted};
use allowance::cost::Thousandths;
use allowance::dialect::{Dialect, Format};
use allowance::headers::Families;
use allowance::key::{Several, Source};
use allowance::plan::Algorithm;
use allowance::rule::{Effect, HostMatch, PathMatch};
use allowance::table::Geometry;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Every field of the language.
pub(crate) const EVERYTHING: &str = include_str!("valid/everything.yaml");

pub(crate) fn document(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap()
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
fn every_valid_configuration_is_read_in_every_form() {
    let folders = if cfg!(feature = "llm") { &["valid", "llm/valid"][..] } else { &["valid"] };
    let folders = folders.iter().map(|folder| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(folder));
    let files: Vec<_> =
        folders.flat_map(|folder| fs::read_dir(folder).unwrap().map(|file| file.unwrap().path())).collect();
    assert!(files.len() >= if cfg!(feature = "llm") { 6 } else { 4 });
    for file in files {
        let value = document(&fs::read_to_string(&file).unwrap());
        for bytes in [serde_json::to_vec(&value).unwrap(), serialized(&value), serialized(&as_loaded(&value))] {
            let mistakes = Config::parse(&bytes).err().unwrap_or_default();
            assert_eq!(messages(&mistakes), "", "{}", file.display());
        }
    }
}

#[test]
fn every_preset_is_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/presets");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert!(files.len() >= 10);
    for file in files {
        let value = document(&fs::read_to_string(&file).unwrap());
        for bytes in [serde_json::to_vec(&value).unwrap(), serialized(&as_loaded(&value))] {
            let mistakes = Config::parse(&bytes).err().unwrap_or_default();
            assert_eq!(messages(&mistakes), "", "{}", file.display());
        }
    }
}

#[test]
fn every_field_is_read() {
    let config = parse(&document(EVERYTHING));
    assert_eq!(config.namespace, "shop");
    assert_eq!(config.sources.several, Several::First);
    assert_eq!(
        config.sources.from,
        [
            Source::Bearer("authorization".to_owned()),
            Source::Header("x-api-key".to_owned()),
            Source::Query("key".to_owned()),
            Source::Cookie("api_key".to_owned()),
            Source::Metadata(vec!["envoy.filters.http.header_to_metadata".to_owned(), "api_key".to_owned()]),
        ]
    );
    assert_eq!(config.unlisted, Some(Unlisted { plan: 0, address_plan: Some(1) }));
    assert_eq!(config.anonymous, Some(3));
    let denial = &config.denial;
    assert_eq!((denial.status, denial.format, denial.expose), (429, Format::Auto, true));
    assert_eq!(denial.message, "Zu viele Anfragen \"heute\"");
    assert!(denial.template.is_some() && denial.retry_jitter == 250_000);
    let members: Vec<&str> = denial.members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(members, ["docs", "help_2"]);
    assert_eq!(config.headers, Families { ratelimit: true, x_ratelimit: true, provider: true });
    assert!(config.partition_key);
    assert_eq!(config.failure_mode, FailureMode::Deny);
    assert!(!config.exempt_preflights && config.consumer_metrics && config.log_all);
    assert_eq!(config.geometry, Geometry { sets: 31, ways: 32 });
    let summary = |limit: &allowance::plan::Limit| {
        let name = format!("{}{}", limit.label, if limit.shadow { " (shadow)" } else { "" });
        (name, limit.rule.algorithm, limit.max().get(), limit.window().to_string(), limit.capacity())
    };
    let row =
        |name: &str, algorithm, max, per: &str, capacity| (name.to_owned(), algorithm, max, per.to_owned(), capacity);
    let free: Vec<_> = config.plans[0].limits.iter().map(summary).collect();
    assert_eq!(
        free,
        [
            row("1s", Algorithm::SlidingWindow, 5, "1s", 5),
            row("1m", Algorithm::SlidingWindow, 60, "1m", 60),
            row("day", Algorithm::FixedWindow, 1000, "day", 1000),
        ]
    );
    let pro: Vec<_> = config.plans[2].limits.iter().map(summary).collect();
    assert_eq!(
        pro,
        [
            row("steady", Algorithm::TokenBucket, 600, "1m", 50),
            row("month", Algorithm::FixedWindow, 5_000_000_000, "month", 5_000_000_000),
            row("90s (shadow)", Algorithm::FixedWindow, 7, "90s", 7),
            row("1h", Algorithm::TokenBucket, 7, "1h", 7),
        ]
    );
    let [acme, testing] = config.consumers.consumers() else { panic!("two consumers") };
    let own: Vec<_> = acme.limits.iter().flatten().map(summary).collect();
    assert_eq!(own[0], row("steady", Algorithm::TokenBucket, 6000, "1m", 500), "replaced in its place");
    assert_eq!(own[1..4], pro[1..], "the plan's others stay");
    assert_eq!(own[4], row("1s", Algorithm::SlidingWindow, 10, "1s", 10), "another name is added");
    assert_eq!((&*testing.name, testing.plan, &testing.limits, testing.generation), ("acme.testing_2", 0, &None, 1));
    let names: Vec<&str> = config.rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["health", "batch", "images", "cheap"]);
    assert_eq!(config.rules[0].effect, Effect::Exempt);
    let batch = &config.rules[1];
    assert_eq!(batch.effect, Effect::Charge { cost: 5, token_cost: Thousandths::ONE, plan: None, limits: Vec::new() });
    assert_eq!(batch.matcher.path, Some(PathMatch::Prefix("/v1/batches".to_owned())));
    assert_eq!(
        batch.matcher.hosts,
        [HostMatch::Exact("api.example.com".to_owned()), HostMatch::Below(".example.org".to_owned())]
    );
    assert_eq!(batch.matcher.headers.len(), 3);
    let Effect::Charge { limits, .. } = &config.rules[2].effect else { panic!("{:?}", config.rules[2]) };
    assert_eq!(
        limits.iter().map(summary).collect::<Vec<_>>(),
        [row("images/1m", Algorithm::SlidingWindow, 10, "1m", 10)]
    );
    let mistral = Dialect::all().find(|dialect| dialect.name == "mistral").unwrap();
    assert_eq!(config.rules[3].format, Some(Format::Fixed(mistral)));
    assert!(config.rules[..3].iter().all(|rule| rule.format.is_none()));
    assert_eq!(
        config.rules[3].effect,
        Effect::Charge { cost: 1, token_cost: Thousandths::ONE, plan: Some(4), limits: Vec::new() }
    );
}

#[test]
fn shares_are_rounded_down_to_at_least_one() {
    let plan = "{limits: [{requests: 10, per: 1m, algorithm: token_bucket, burst: 3}]}";
    for (of, max, burst) in [(1, 10, 3), (2, 5, 1), (3, 3, 1), (4, 2, 1), (11, 1, 1)] {
        let config = parse(&document(&format!("plans: {{p: {plan}}}\nshare: {{of: {of}}}\n")));
        let limit = &config.plans[0].limits[0];
        assert_eq!((limit.max().get(), limit.capacity()), (max, burst), "of {of}");
    }
}

#[test]
fn shadow_holds_for_everything_below_it() {
    let shadows = |yaml: &str| -> Vec<bool> {
        let config = parse(&document(yaml));
        let of_rules = config.rules.iter().flat_map(|rule| match &rule.effect {
            Effect::Charge { limits, .. } => limits.clone(),
            Effect::Exempt => Vec::new(),
        });
        config.plans.iter().flat_map(|plan| plan.limits.clone()).chain(of_rules).map(|limit| limit.shadow).collect()
    };
    let plans = "plans: {a: {limits: [{requests: 1, per: 1s}]}, b: {shadow: true, limits: [{requests: 1, per: 1s}]}, c: {limits: [{requests: 1, per: 1s, shadow: true}]}}";
    let rules = "rules: [{name: r, match: {}, limits: [{requests: 1, per: 1s}]}]";
    assert_eq!(shadows(&format!("{plans}\n{rules}\n")), [false, true, true, false]);
    assert_eq!(shadows(&format!("shadow: true\n{plans}\n{rules}\n")), [true; 4]);
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
    assert_eq!(config.headers, Families { ratelimit: true, ..Families::default() });
    assert_eq!(config.failure_mode, FailureMode::Allow);
}

/// Envoy's loader makes text of what is not whole.
#[test]
fn fractions_are_read_in_every_form_they_come_in() {
    for (number, millionths) in
        [("0", 0), ("1", 1_000_000), ("1.0", 1_000_000), ("0.25", 250_000), ("\"0.25\"", 250_000), ("\"1\"", 1_000_000)]
    {
        let text = format!(r#"{{"plans": {{"p": {{"limits": []}}}}, "denial": {{"retry_jitter": {number}}}}}"#);
        assert_eq!(Config::parse(text.as_bytes()).unwrap().denial.retry_jitter, millionths, "{number}");
    }
    for number in ["1e-7", "\"nan\"", "\"inf\"", "\"-0.1\"", "\"\"", "2", "\"1.01\"", "true", "null"] {
        let text = format!(r#"{{"plans": {{"p": {{"limits": []}}}}, "denial": {{"retry_jitter": {number}}}}}"#);
        assert_eq!(Config::parse(text.as_bytes()).is_ok(), number == "1e-7", "{number}");
    }
}

/// 2³¹ and more arrive as text from YAML, as doubles in a Struct and as integers in JSON.
#[test]
fn whole_numbers_are_read_in_every_form_they_come_in() {
    for number in ["1", "1.0", "\"1\"", "1e15", "1000000000000000", "\"1000000000000000\"", "2147483648.0", "\"007\""] {
        let text = format!(r#"{{"plans": {{"p": {{"limits": [{{"requests": {number}, "per": "1m"}}]}}}}}}"#);
        assert!(Config::parse(text.as_bytes()).is_ok(), "{number}");
    }
}

#[cfg(feature = "llm")]
mod llm {
    use super::{document, parse};
    use allowance::config::Llm;
    use allowance::cost::{Thousandths, Weights};
    use allowance::plan::{Count, Limit, Unit};
    use allowance::rule::{Effect, ModelMatch};
    use std::num::NonZeroU64;

    const SECOND: u64 = 1_000_000_000;

    fn weights(weights: [u32; 4]) -> Weights {
        let [input, cached, output, reasoning] = weights.map(Thousandths);
        Weights { input, cached, output, reasoning }
    }

    #[test]
    fn every_field_about_tokens_is_read() {
        let config = parse(&document(include_str!("llm/valid/tokens.yaml")));
        let lifetime = NonZeroU64::new(90 * SECOND);
        let summary =
            |limit: &Limit| (limit.label.to_string(), limit.unit, limit.max().get(), limit.weights, limit.reserve);
        let row =
            |name: &str, count, max, of, reserve| (name.to_owned(), Unit::Tokens(count), max, weights(of), reserve);
        let free: Vec<_> = config.plans[0].limits.iter().map(summary).collect();
        assert_eq!(free[0], ("1m".to_owned(), Unit::Requests, 60, Weights::EVEN, None));
        assert_eq!(
            free[1..],
            [
                row("tokens-1m", Count::Total, 200_000, [1000; 4], lifetime),
                row("input-tokens-1m", Count::Input, 150_000, [1000, 100, 1000, 1000], lifetime),
                row("output-tokens-day", Count::Output, 40_000, [1000, 1000, 4000, 2125], None),
                row("steady", Count::Total, 5_000_000_000, [1000, 0, 1000, 1000], lifetime),
            ]
        );
        let [acme] = config.consumers.consumers() else { panic!("one consumer") };
        let own: Vec<_> = acme.limits.iter().flatten().map(summary).collect();
        assert_eq!(own.len(), 5);
        assert_eq!(own[1], row("tokens-1m", Count::Total, 400_000, [1000; 4], lifetime), "replaced in its place");
        let [large, mini] = config.rules.as_slice() else { panic!("two rules") };
        assert_eq!(large.matcher.model, Some(ModelMatch::Prefix("gpt-5".to_owned())));
        assert_eq!(mini.matcher.model, Some(ModelMatch::Exact("org/mini:8b".to_owned())));
        let Effect::Charge { cost, token_cost, limits, .. } = &large.effect else { panic!("{large:?}") };
        assert_eq!((*cost, *token_cost), (1, Thousandths(2500)));
        assert_eq!(summary(&limits[0]), row("large/tokens-1m", Count::Total, 50_000, [1000; 4], lifetime));
        assert_eq!(&*limits[1].label, "large/1m");
        assert!(matches!(mini.effect, Effect::Charge { cost: 2, token_cost: Thousandths(500), .. }));
        let llm = Llm {
            max_body: 2 << 20,
            model_header: Some("x-ai-eg-model".to_owned()),
            bytes_per_token: Thousandths(3500),
            default_input: 4096,
            default_output: 0,
            ask_for_usage: false,
            refund: vec![429..=429, 503..=503, 500..=599],
            reservation: NonZeroU64::new(90 * SECOND).unwrap(),
        };
        assert_eq!(config.llm, llm);
        assert_eq!([0, 1, 7, 3_500_000].map(|bytes| llm.input_of(bytes)), [0, 1, 2, 1_000_000]);
        assert_eq!(
            [200, 428, 429, 499, 500, 599].map(|status| llm.gives_back(status)),
            [false, false, true, false, true, true]
        );
    }

    /// The other module would refuse them, so they are told apart there.
    #[test]
    fn what_the_readme_and_the_sample_show_about_tokens_is_valid() {
        let readme = include_str!("../../README.md");
        let blocks: Vec<_> =
            readme.split("```yaml llm\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert!(!blocks.is_empty());
        for block in blocks {
            assert!(parse(&document(block)).counts_tokens(), "{block}");
        }
        let (mut sample, mut bodies) = (String::new(), false);
        for line in include_str!("../../envoy/allowance.yaml").lines() {
            bodies |= line.starts_with("# llm:");
            let shown = bodies || line.contains("# - {tokens:") || line.contains("# - {name: large");
            let line = if shown { line.replacen("# ", "", 1) } else { line.to_owned() };
            sample += &(line + "\n");
        }
        let config = parse(&document(&sample));
        assert!(config.counts_tokens() && config.rules.iter().any(|rule| rule.matcher.model.is_some()));
        let said = Llm { model_header: config.llm.model_header.clone(), ..Llm::default() };
        assert_eq!(config.llm, said, "the defaults, and a header");
    }

    #[test]
    fn what_is_left_out_about_bodies_has_its_default() {
        for text in [include_str!("llm/valid/defaults.yaml"), "plans: {free: {limits: [{tokens: 200000, per: 1m}]}}"] {
            let config = parse(&document(text));
            assert_eq!(config.llm, Llm::default());
            assert_eq!(config.plans[0].limits[0].reserve, NonZeroU64::new(300 * SECOND));
        }
        let llm = Llm::default();
        assert_eq!((llm.max_body, llm.model_header.as_deref(), llm.ask_for_usage), (1_048_576, None, true));
        assert_eq!((llm.default_input, llm.default_output, llm.bytes_per_token), (8192, 1024, Thousandths(3000)));
        assert_eq!([400, 429, 499, 503].map(|status| llm.gives_back(status)), [false, true, false, true]);
    }
}
