//! What a configuration takes of a worker's memory, which never shrinks: what was needed once is what is held.

use crate::MODULE;
use crate::support::proxy::{Instance, Options, SharedData};
use prost::Message;
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use std::sync::Arc;

/// Enough that pages of 64 KiB do not matter.
const MANY: usize = 20_000;

fn name(number: usize) -> String {
    format!("consumer-{number:06}")
}

/// A hash that no two numbers share.
fn hash(number: usize) -> String {
    format!("sha256:{:064x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn as_json(consumers: usize) -> Vec<u8> {
    let consumer = |number| format!(r#"{{"name":"{}","plan":"pro","keys":["{}"]}}"#, name(number), hash(number));
    let consumers: Vec<String> = (0..consumers).map(consumer).collect();
    let plans = r#"{"pro":{"limits":[{"requests":60,"per":"1m"}]}}"#;
    format!(r#"{{"plans":{plans},"consumers":[{}]}}"#, consumers.join(",")).into_bytes()
}

fn as_struct(consumers: usize) -> Vec<u8> {
    let value = |kind| Value { kind: Some(kind) };
    let text = |text: &str| value(Kind::StringValue(text.to_owned()));
    let list = |values| value(Kind::ListValue(ListValue { values }));
    let object = |fields: Vec<(&str, Value)>| {
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        value(Kind::StructValue(Struct { fields }))
    };
    let limit = object(vec![("requests", value(Kind::NumberValue(60.0))), ("per", text("1m"))]);
    let plans = object(vec![("pro", object(vec![("limits", list(vec![limit]))]))]);
    let consumer = |number| {
        object(vec![("name", text(&name(number))), ("plan", text("pro")), ("keys", list(vec![text(&hash(number))]))])
    };
    let consumers = list((0..consumers).map(consumer).collect());
    let Some(Kind::StructValue(message)) = object(vec![("plans", plans), ("consumers", consumers)]).kind else {
        panic!("an object")
    };
    message.encode_to_vec()
}

/// Makes a configuration with so many consumers.
type Form = fn(usize) -> Vec<u8>;

const FORMS: [(&str, Form); 2] = [("JSON", as_json), ("Struct", as_struct)];

fn configured(configuration: &[u8]) -> Instance {
    let shared = Arc::new(SharedData::default());
    Instance::new(&MODULE, shared, Options::new(configuration)).unwrap_or_else(|refused| panic!("{}", refused.text()))
}

#[test]
fn a_consumer_takes_at_most_400_bytes_and_a_configuration_three_times_its_size() {
    for (form, of) in FORMS {
        let (few, many) = (of(10), of(MANY));
        let grown = configured(&many).memory_bytes() - configured(&few).memory_bytes();
        let (each, size) = (grown / (MANY - 10), many.len() - few.len());
        println!("{form}: {grown} bytes for {size} of configuration, {each} a consumer");
        assert!(each <= 400, "{form}: {each} bytes a consumer");
        assert!(grown <= 3 * size, "{form}: {grown} bytes for {size}");
    }
}

#[test]
fn a_configuration_that_replaces_another_of_its_size_takes_no_more_than_that_one_did() {
    for (form, of) in FORMS {
        let few = configured(&of(10)).memory_bytes();
        let mut instance = configured(&of(MANY));
        let first = instance.memory_bytes() - few;
        instance.configure(&of(MANY)).unwrap_or_else(|refused| panic!("{}", refused.text()));
        let both = instance.memory_bytes() - few;
        println!("{form}: {first} bytes for one, {both} for two at a time");
        assert!(both <= 2 * first, "{form}: {first} bytes for one, {both} for two");
    }
}

#[test]
fn all_of_many_consumers_are_found() {
    use sha2::{Digest, Sha256};
    let keys: Vec<String> = (0..300).map(|number| format!("key-{number}")).collect();
    let consumers: Vec<String> = keys
        .iter()
        .map(|key| {
            let hash: String = Sha256::digest(key).iter().map(|byte| format!("{byte:02x}")).collect();
            format!(r#"{{"name":"of-{key}","plan":"pro","keys":["sha256:{hash}"]}}"#)
        })
        .collect();
    let plans = r#"{"pro":{"limits":[{"requests":1,"per":"1h"}]}}"#;
    // Plans stand behind those who name them.
    let configuration = format!(r#"{{"consumers":[{}],"plans":{plans},"log":"all"}}"#, consumers.join(","));
    let mut instance = configured(configuration.as_bytes());
    for key in &keys {
        let request = |key: &str| {
            [(":method", "GET"), (":path", "/"), (":authority", "a"), ("x-api-key", key)]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        };
        let statuses = [(); 2].map(|()| instance.request(&request(key)).status());
        assert_eq!(statuses, [Some(200), Some(429)], "{key}");
        assert_eq!(instance.request(&request(&format!("{key}-"))).status(), Some(401));
    }
}
