//! The module that counts requests alone: what concerns tokens is refused, and the module that counts them is named.

use crate::MODULE;
use crate::support::proxy::{Instance, Options, SharedData};
use std::sync::Arc;

fn refusal(configuration: &str) -> String {
    match Instance::new(&MODULE, Arc::new(SharedData::default()), Options::new(configuration)) {
        Ok(_) => panic!("accepted: {configuration}"),
        Err(refused) => refused.text(),
    }
}

#[test]
fn limits_in_tokens_models_and_bodies_are_refused_and_the_other_module_is_named() {
    let plans = r#""plans": {"free": {"limits": [{"requests": 5, "per": "1m"}]}}"#;
    for (configuration, path) in [
        (r#"{"plans": {"free": {"limits": [{"tokens": 5, "per": "1m"}]}}}"#.to_owned(), "plans.free.limits[0].tokens"),
        (
            format!(r#"{{{plans}, "rules": [{{"name": "r", "match": {{"model": {{"exact": "gpt"}}}}}}]}}"#),
            "rules[0].match.model",
        ),
        (
            format!(r#"{{{plans}, "rules": [{{"name": "r", "match": {{}}, "token_cost": 2.5}}]}}"#),
            "rules[0].token_cost",
        ),
        (format!(r#"{{{plans}, "llm": {{"max_body": "2MiB"}}}}"#), "llm"),
    ] {
        let text = refusal(&configuration);
        let expected = format!(
            "configuration refused: {path}: not supported by allowance.wasm: load allowance-llm.wasm, which counts tokens"
        );
        assert!(text.contains(&expected), "{text}");
        assert_eq!(text.matches("configuration refused").count(), 1, "and nothing else is wrong: {text}");
    }
}
