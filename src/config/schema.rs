//! The JSON Schema of the configuration, for editors: made of the types of the language, and kept true by tests.

use super::language::Configuration;
use super::reader::{Entries, Field, Items, OfTokens};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::Value;
use std::borrow::Cow;
use std::fs;
use std::path::Path;

/// A field has the schema of its value: whether it may be left out is said by the object it is in.
impl<T: JsonSchema> JsonSchema for Field<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// The schema is that of the build which has everything.
impl<T: JsonSchema> JsonSchema for OfTokens<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn schema_id() -> Cow<'static, str> {
        T::schema_id()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

/// A list is a list, however it is read.
impl<T: JsonSchema> JsonSchema for Items<'_, T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        <Vec<T>>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        <Vec<T>>::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for Entries<T> {
    fn schema_name() -> Cow<'static, str> {
        format!("Entries_of_{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let value = generator.subschema_for::<T>();
        json_schema!({
            "type": "object",
            "minProperties": 1,
            "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$"},
            "additionalProperties": value,
        })
    }
}

fn schema() -> Value {
    let mut schema = schemars::schema_for!(Configuration);
    schema.insert("title".to_owned(), "Configuration of Allowance".into());
    // Editors know many schemas; this one needs no address.
    schema.remove("$id");
    schema.to_value()
}

fn root(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A validator that knows nothing of this crate.
fn accepts(schemas: &boon::Schemas, index: boon::SchemaIndex, document: &Value) -> bool {
    schemas.validate(document, index).is_ok()
}

fn documents(folder: &str) -> Vec<(String, Value)> {
    let files = fs::read_dir(root(folder)).unwrap().map(|file| file.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            // What is no YAML, or has a field twice, has no structure to be wrong about.
            (name, serde_saphyr::from_str(&text).unwrap_or(Value::Null))
        })
        .collect()
}

#[test]
fn the_schema_that_is_checked_in_is_the_languages() {
    let file = root("envoy/allowance.schema.json");
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    // For whoever changes the language on purpose; the diff is then read.
    if std::env::var_os("BLESS").is_some() {
        fs::write(&file, &schema).unwrap();
    }
    assert!(fs::read_to_string(&file).unwrap_or_default() == schema, "run the tests with BLESS=1 and read the diff");
}

#[test]
fn the_schema_accepts_what_is_valid_and_refuses_mistakes_of_structure() {
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource("allowance.json", schema()).unwrap();
    let index = compiler.compile("allowance.json", &mut schemas).unwrap();
    let valid = [documents("tests/config/valid"), documents("tests/config/llm/valid")].concat();
    assert!(valid.len() >= 6, "{} valid configurations", valid.len());
    for (name, document) in valid {
        assert!(accepts(&schemas, index, &document), "{name}: {}", schemas.validate(&document, index).unwrap_err());
    }
    let sample = fs::read_to_string(root("envoy/allowance.yaml")).unwrap();
    assert!(accepts(&schemas, index, &serde_saphyr::from_str(&sample).unwrap()), "the sample that names it");
    let mut refused = 0;
    for (name, document) in [documents("tests/config"), documents("tests/config/llm")].concat() {
        // What only several fields together can get wrong is not the schema's to find, nor what a host's loader changes.
        let beyond = [
            "algorithm-with-word",
            "burst-",
            "consumer-dangling",
            "consumer-limits",
            "consumer-twice",
            "consumer-with",
            "identity-and",
            "key-object-twice",
            "key-twice",
            "denial-members-hidden",
            "denial-members-taken",
            "denial-members-name",
            "denial-template-hidden",
            "limit-twice",
            "limits-too-many",
            "per-zero",
            "per-too-long",
            "rule-cost-above",
            "rule-dangling",
            "rule-exempt",
            "rule-limits",
            "rule-twice",
            "source-twice",
            "source-metadata",
            "identity-metadata-short",
            "unlisted-dangling",
            "unlisted-address",
            "anonymous-dangling",
            "match-path-dots",
            "match-path-escaped",
            "limit-long-text",
            "match-host-with-port",
            "source-none",
            "match-methods-empty",
            "tokens-name-twice",
            "tokens-fields-beside",
            "token-cost-exempt",
            "weights-of",
            "weights-nothing",
            "max-body-large",
            "reservation-short",
            "reservation-long",
            "lease-long",
        ];
        if !beyond.iter().any(|prefix| name.starts_with(prefix)) {
            assert!(!accepts(&schemas, index, &document), "{name}");
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} mistakes of structure");
}
