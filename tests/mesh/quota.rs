//! One source for the plugin configuration, `envoy/quota.yaml`: what every manifest and sample has of it is the same, and the filter takes it.

use crate::files::{parse, text, value, yaml_files};
use allowance::config::Config;
use serde_json::{Value, json};

/// All plugin configurations in a document, wherever they are in it.
fn configurations(document: &Value) -> Vec<Value> {
    match document {
        Value::Array(items) => items.iter().flat_map(configurations).collect(),
        Value::Object(fields) => {
            let own = ["pluginConfig", "config"]
                .iter()
                .filter_map(|name| fields.get(*name))
                .filter(|v| v.get("plans").is_some());
            let of_envoy = fields.get("configuration").and_then(|any| any.get("value"));
            let mut found: Vec<Value> = own.chain(of_envoy).cloned().collect();
            found.extend(fields.values().flat_map(configurations));
            found
        }
        _ => Vec::new(),
    }
}

/// The source where an earlier filter says who calls: no keys are looked for then.
fn with_identity(source: &Value, identity: &Value) -> Value {
    let mut source = source.clone();
    let fields = source.as_object_mut().unwrap();
    fields.remove("api_key");
    fields.insert("identity".to_owned(), identity.clone());
    for consumer in fields["consumers"].as_array_mut().unwrap() {
        consumer.as_object_mut().unwrap().remove("keys");
    }
    source
}

#[test]
fn every_manifest_and_sample_has_the_configuration_of_the_source_and_the_filter_takes_it() {
    // Samples of something else than attaching have configurations of their own.
    let others = ["allowance.yaml", "hide-upstream.yaml", "retry-upstream.yaml", "quota.yaml"];
    // These tell what the filter needs to be, not how it is configured, or come without a filter.
    let without = ["attach/ecds.yaml", "attach/ecds-without.yaml", "istio/values.yaml", "gateway/labels.yaml"];
    let payload = |claim: &str| json!({"metadata": ["envoy.filters.http.jwt_authn", "payload", claim]});
    let identities = [
        ("attach/api-key-auth.yaml", json!({"consumer": {"header": "x-client"}})),
        ("attach/jwt-authn.yaml", json!({"consumer": payload("sub"), "plan": payload("plan")})),
    ];
    let source = value("quota.yaml");
    assert!(Config::parse(source.to_string().as_bytes()).is_ok());
    let mut compared = 0;
    for file in yaml_files() {
        let file = file.as_str();
        if others.contains(&file) || file.starts_with("presets/") {
            continue;
        }
        let mut found = configurations(&value(file));
        // What is shown of tokens beside it is another filter's.
        found.retain(|configuration| !configuration.to_string().contains(r#""tokens""#));
        assert_eq!(found.len(), usize::from(!without.contains(&file)), "{file}");
        for configuration in found {
            compared += 1;
            let parsed = Config::parse(configuration.to_string().as_bytes());
            assert!(parsed.is_ok(), "{file}: {:?}", parsed.err());
            let identity = identities.iter().find(|(name, _)| *name == file);
            let expected = identity.map_or_else(|| source.clone(), |(_, identity)| with_identity(&source, identity));
            assert_eq!(configuration, expected, "{file}");
        }
    }
    assert!(compared >= 10, "{compared}");
}

/// The comments are part of what people read: where the configuration is the source's, so are they, line by line.
#[test]
fn the_source_stands_in_every_manifest_with_its_comments() {
    let source = text("quota.yaml");
    let (_, lines) = source.split_once("\n\n").unwrap();
    assert!(parse(lines).is_ok());
    let lines: Vec<&str> = lines.lines().collect();
    for file in [
        "istio/ingress-gateway.yaml",
        "istio/sidecar.yaml",
        "istio/envoyfilter.yaml",
        "gateway/policy.yaml",
        "attach/remote.yaml",
    ] {
        let text = text(file);
        let there: Vec<&str> = text.lines().map(str::trim_start).collect();
        let trimmed: Vec<&str> = lines.iter().map(|line| line.trim_start()).collect();
        assert!(there.windows(trimmed.len()).any(|window| window == trimmed), "{file}");
    }
}
