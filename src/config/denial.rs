//! What refusals say, and how.

use super::language::DenialSpec;
use super::reader::{Entries, Field, Read, Reader, Refused, child};
use super::{DEFAULT_MESSAGE, Denial, Mistakes};
use crate::dialect::{Dialect, Format};
use crate::template::Template;
#[cfg(test)]
use schemars::JsonSchema;

/// A dialect, or `auto`.
#[derive(Clone, Copy, Debug)]
pub(super) struct FormatSpec(pub(super) Format);

/// A part of a whole, in millionths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fraction(pub(super) u32);

/// A text with placeholders.
#[derive(Clone, Debug)]
pub(super) struct TemplateText(pub(super) Template);

const TEMPLATE: &str = "text of 1 to 1000 characters with no braces but {limit} {max} {unit} {per} {retry_after} {plan} {consumer} and doubled ones";

/// What dialects have beside the message themselves.
const TAKEN: [&str; 14] = [
    "code",
    "detail",
    "details",
    "error",
    "instance",
    "limit",
    "message",
    "object",
    "param",
    "raw_status_code",
    "request_id",
    "status",
    "title",
    "type",
];

/// What a denial says. `expose` holds for templates too: there is no telling by accident what was not to be told.
pub(super) fn denial(spec: DenialSpec, mistakes: &mut Mistakes) -> Denial {
    let expose = spec.expose != Field::Given(false);
    let mut checked = |path: &str, text: TemplateText| {
        if !expose && text.0.names_limits() {
            mistakes.add(path, "expected no {plan} and no {limit} beside expose: false");
        }
        text.0
    };
    let template = spec.template.given().map(|text| checked("denial.template", text));
    let mut members = Vec::new();
    for (name, text) in spec.members.given().map(|Entries(entries)| entries).unwrap_or_default() {
        if let Some(text) = text.given() {
            let path = child("denial.members", &name);
            members.push((name, checked(&path, text)));
        }
    }
    for (name, _) in &members {
        let first = name.starts_with(|c: char| c.is_ascii_lowercase());
        let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !first || !plain || name.len() > 63 || TAKEN.contains(&name.as_str()) {
            let taken = TAKEN.join(", ");
            let expected = format!(
                "expected a name of at most 63 lower-case letters, digits and \"_\" that starts with a letter and is none of {taken}, got {name:?}"
            );
            mistakes.add(child("denial.members", name), expected);
        }
    }
    Denial {
        status: spec.status.given().map_or(429, |status| status.0),
        format: spec.format.given().map_or_else(Format::default, |format| format.0),
        message: spec.message.given().map_or_else(|| DEFAULT_MESSAGE.to_owned(), |message| message.0),
        template,
        members,
        retry_jitter: spec.retry_jitter.given().map_or(0, |jitter| jitter.0),
        expose,
    }
}

impl<'a> Read<'a> for FormatSpec {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        let fixed = Dialect::all().map(|dialect| (dialect.name, Format::Fixed(dialect)));
        let words: Vec<(&str, Format)> = [("auto", Format::Auto)].into_iter().chain(fixed).collect();
        reader.word(&words).map(Self)
    }
}

impl<'a> Read<'a> for Fraction {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        reader.fraction().map(Self)
    }
}

impl<'a> Read<'a> for TemplateText {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        let parse = |text: &str| (1..=1000).contains(&text.chars().count()).then(|| Template::parse(text)).flatten();
        reader.text(TEMPLATE, parse).map(Self)
    }
}

#[cfg(test)]
mod schemas {
    use super::*;
    use schemars::{Schema, SchemaGenerator, json_schema};
    use std::borrow::Cow;

    impl JsonSchema for FormatSpec {
        fn schema_name() -> Cow<'static, str> {
            "FormatSpec".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let words: Vec<&str> = ["auto"].into_iter().chain(Dialect::all().map(|dialect| dialect.name)).collect();
            json_schema!({"type": "string", "enum": words})
        }
    }

    impl JsonSchema for Fraction {
        fn schema_name() -> Cow<'static, str> {
            "Fraction".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            json_schema!({
                "description": "a number from 0 to 1, or the same as text",
                "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": "^(0|1|0?\\.[0-9]+|1\\.0+)$"}],
            })
        }
    }

    impl JsonSchema for TemplateText {
        fn schema_name() -> Cow<'static, str> {
            "TemplateText".into()
        }

        fn json_schema(_: &mut SchemaGenerator) -> Schema {
            let word = "\\{(limit|max|unit|per|retry_after|plan|consumer)\\}";
            let pattern = format!("^([^{{}}]|\\{{\\{{|\\}}\\}}|{word})+$");
            json_schema!({"type": "string", "description": TEMPLATE, "maxLength": 1000, "pattern": pattern})
        }
    }
}
