//! Documents that are read in place are the same as ones that other readers make trees of.

use super::{Object, Value};
use proptest::prelude::*;
use prost::Message;
use prost_types::value::Kind;
use std::collections::BTreeMap;

/// The whole of a value, as the tree of another library.
fn json(value: Value<'_>) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => value.into(),
        Value::Integer(value) => value.into(),
        Value::Fraction(value) => value.0.into(),
        Value::Text(text) => text.into_owned().into(),
        Value::List(list) => {
            let length = list.len();
            let items: Vec<_> = list.map(json).collect();
            assert_eq!(items.len(), length, "counted as read");
            items.into()
        }
        Value::Object(object) => fields(&object).into_iter().collect::<serde_json::Map<_, _>>().into(),
    }
}

fn fields(object: &Object<'_>) -> Vec<(String, serde_json::Value)> {
    object.fields().into_iter().map(|(name, value)| (name.into_owned(), json(value))).collect()
}

/// Numbers as a document has them: an integral one that a double holds exactly is an integer.
fn normal(value: serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(integer) => integer.into(),
            None => json(Value::number(number.as_f64().unwrap())),
        },
        serde_json::Value::Array(items) => items.into_iter().map(normal).collect(),
        serde_json::Value::Object(fields) => {
            fields.into_iter().map(|(name, value)| (name, normal(value))).collect::<serde_json::Map<_, _>>().into()
        }
        other => other,
    }
}

fn message(value: &serde_json::Value) -> prost_types::Value {
    use serde_json::Value as Json;
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(value) => Kind::BoolValue(*value),
        Json::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Json::String(text) => Kind::StringValue(text.clone()),
        Json::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(message).collect() }),
        Json::Object(fields) => Kind::StructValue(structure(fields)),
    };
    prost_types::Value { kind: Some(kind) }
}

fn structure(fields: &serde_json::Map<String, serde_json::Value>) -> prost_types::Struct {
    let fields: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name.clone(), message(value))).collect();
    prost_types::Struct { fields }
}

/// What a tree of messages says, as JSON.
fn tree(value: prost_types::Value) -> serde_json::Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => value.into(),
        Some(Kind::NumberValue(value)) => json(Value::number(value)),
        Some(Kind::StringValue(text)) => text.into(),
        Some(Kind::ListValue(list)) => list.values.into_iter().map(tree).collect(),
        Some(Kind::StructValue(object)) => {
            object.fields.into_iter().map(|(name, value)| (name, tree(value))).collect::<serde_json::Map<_, _>>().into()
        }
    }
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![
        any::<String>(),
        // What has a meaning in the text around it.
        r#"[\\"\[\]{},: \n\t/aé\u{1F980}\u{0}]{0,12}"#,
    ];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        (-1e6..1e6_f64).prop_map(|number| number.trunc().into()),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::btree_map(text.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().collect::<serde_json::Map<_, _>>().into()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn json_text_is_read_as_a_tree_would_be(value in any_json()) {
        for text in [serde_json::to_vec(&value).unwrap(), serde_json::to_vec_pretty(&value).unwrap()] {
            // Not the value itself: the last digit of a double can change on its way through text.
            let expected: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(json(Value::parse(&text).unwrap()), normal(expected));
        }
    }

    #[test]
    fn a_struct_is_read_as_a_tree_would_be(value in any_json()) {
        let serde_json::Value::Object(mut fields) = value else { return Ok(()) };
        fields.insert("never".to_owned(), "empty".into());
        let bytes = structure(&fields).encode_to_vec();
        let expected = prost_types::Struct::decode(bytes.as_slice()).unwrap();
        let expected = tree(prost_types::Value { kind: Some(Kind::StructValue(expected)) });
        prop_assert_eq!(json(Value::parse(&bytes).unwrap()), expected);
    }

    #[test]
    fn a_struct_that_was_changed_is_read_as_a_tree_would_be_or_refused(
        value in any_json(), at in any::<prop::sample::Index>(), byte: u8, cut: bool,
    ) {
        let serde_json::Value::Object(mut fields) = value else { return Ok(()) };
        fields.insert("never".to_owned(), "empty".into());
        let mut bytes = structure(&fields).encode_to_vec();
        let index = at.index(bytes.len());
        if cut { bytes.truncate(index) } else { bytes[index] = byte }
        // Whatever is taken can be walked through, and is a message that others take too.
        if let Some(read) = super::protobuf::parse(&bytes) {
            json(read);
            prop_assert!(prost_types::Struct::decode(bytes.as_slice()).is_ok());
        }
    }

    #[test]
    fn any_bytes_are_safe(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(value) = Value::parse(&bytes) {
            json(value);
        }
    }

    #[test]
    fn a_walk_over_text_that_was_never_checked_ends(text in r#"[\[\]{}",:\\ 1aé]{0,40}"#) {
        json(Value::List(super::List(super::Source::Json(super::json::Scanner::of(text.as_bytes())))));
    }
}

#[test]
fn what_is_deep_is_refused_before_it_takes_the_stack() {
    let text = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
    assert!(Value::parse(&text).unwrap_err().contains("recursion limit exceeded"));
    let mut value = prost_types::Value::default();
    for _ in 0..60 {
        value = prost_types::Value { kind: Some(Kind::ListValue(prost_types::ListValue { values: vec![value] })) };
    }
    let deep = prost_types::Struct { fields: [("a".to_owned(), value)].into() };
    assert!(Value::parse(&deep.encode_to_vec()).is_err());
}

#[test]
fn of_fields_that_a_struct_has_twice_the_last_counts_and_names_are_in_order() {
    let one = |name: &str, number: f64| {
        let value = prost_types::Value { kind: Some(Kind::NumberValue(number)) };
        prost_types::Struct { fields: [(name.to_owned(), value)].into() }.encode_to_vec()
    };
    let bytes = [one("b", 1.0), one("a", 2.0), one("b", 3.0)].concat();
    let Value::Object(object) = Value::parse(&bytes).unwrap() else { panic!("an object") };
    assert_eq!(fields(&object), [("a".to_owned(), 2.into()), ("b".to_owned(), 3.into())]);
}
