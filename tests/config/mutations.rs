//! Configurations with one thing wrong, at random: refused or accepted, never a panic, and never a key in a message.

use crate::forms::serialized;
use crate::messages;
use crate::valid::{EVERYTHING, document};
use allowance::config::Config;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Puts `new` in the place of the `at`th value of the tree, in the order of a walk.
fn replace(value: &mut Value, at: &mut usize, new: &Value) {
    if *at == 0 {
        *value = new.clone();
    }
    *at = at.wrapping_sub(1);
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| replace(item, at, new)),
        Value::Object(fields) => fields.values_mut().for_each(|field| replace(field, at, new)),
        _ => {}
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        "[a-z0-9]{1,6}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!([1, "1m", {"requests": 1, "per": "1m"}])),
        Just(json!({"limits": [{"requests": 1, "per": "1m"}], "plan": "free"})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_mutation_of_a_configuration_is_answered(at in 0..200usize, new in any_value(), cut in any::<prop::sample::Index>(), byte: u8) {
        let mut value = document(EVERYTHING);
        let mut walk = at;
        replace(&mut value, &mut walk, &new);
        let mut forms = vec![serde_json::to_vec(&value).unwrap()];
        if value.is_object() {
            forms.push(serialized(&value));
        }
        for mut bytes in forms {
            if let Err(mistakes) = Config::parse(&bytes) {
                let text = messages(&mistakes);
                prop_assert!(!mistakes.0.is_empty());
                prop_assert!(!text.to_lowercase().contains("ba7816bf"), "{text}");
                let paths: Vec<_> = mistakes.0.iter().map(|mistake| &mistake.path).collect();
                prop_assert!(paths.is_sorted());
            }
            let index = cut.index(bytes.len().max(1));
            let Some(changed) = bytes.get_mut(index) else { continue };
            *changed = byte;
            let _ = Config::parse(&bytes);
            bytes.truncate(index);
            let _ = Config::parse(&bytes);
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(Config::parse(&bytes).is_err());
    }
}
