//! A configuration in the forms that a proxy delivers.

use prost::Message;
use prost_types::value::Kind;
use serde_json::Value;
use std::collections::BTreeMap;

/// The document as JSON text and as serialized `google.protobuf.Struct`. A document that starts with `{` is JSON text already,
/// with mistakes that no parsed form can have (duplicates, syntax): it comes in that form only.
pub(crate) fn all(document: &str) -> Vec<(&'static str, Vec<u8>)> {
    if document.starts_with('{') || document.is_empty() {
        return vec![("JSON text", document.into())];
    }
    let value: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
    let mut forms = vec![("JSON", serde_json::to_vec(&value).unwrap())];
    if value.is_object() {
        forms.push(("Struct", serialized(&value)));
    }
    forms
}

/// As Envoy serializes it.
pub(crate) fn serialized(value: &Value) -> Vec<u8> {
    let Some(Kind::StructValue(message)) = message(value).kind else { panic!("no object: {value}") };
    message.encode_to_vec()
}

/// What Envoy's YAML loader makes of it first: integers from 2³¹ on and fractions become text.
pub(crate) fn as_loaded(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.as_i64().is_none_or(|number| number >= 1 << 31) => {
            Value::String(number.to_string())
        }
        Value::Array(items) => items.iter().map(as_loaded).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), as_loaded(value))).collect(),
        other => other.clone(),
    }
}

fn message(value: &Value) -> prost_types::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => Kind::ListValue(prost_types::ListValue { values: items.iter().map(message).collect() }),
        Value::Object(fields) => {
            let fields: BTreeMap<String, prost_types::Value> =
                fields.iter().map(|(name, value)| (name.clone(), message(value))).collect();
            Kind::StructValue(prost_types::Struct { fields })
        }
    };
    prost_types::Value { kind: Some(kind) }
}
