//! The configuration language: its objects, fields and the values they take. What they mean together is in [`super`].

use super::reader::{Entries, Field, Later};
use crate::key::KeyHash;
use crate::plan::MAX_UNITS;
use crate::rule::{HostMatch, NormalPath};
use crate::window::Window;
#[cfg(test)]
use schemars::JsonSchema;
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use std::fmt;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

/// What later versions bring.
pub(super) const LATER: Later = &[
    ("LimitSpec", &["tokens", "count", "reserve"]),
    ("DenialSpec", &["retry_jitter", "template"]),
    ("FormatSpec", &["openai", "anthropic", "gemini", "mistral", "problem"]),
    ("HeaderFamily", &["provider"]),
    ("MatchSpec", &["model"]),
];

/// The whole configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["plans"])))]
pub(super) struct Configuration {
    pub(super) namespace: Field<Name>,
    pub(super) api_key: Field<ApiKeySpec>,
    pub(super) identity: Field<IdentitySpec>,
    pub(super) unlisted: Field<UnlistedSpec>,
    pub(super) anonymous: Field<AnonymousSpec>,
    pub(super) plans: Field<Entries<PlanSpec>>,
    pub(super) consumers: Field<Vec<Field<ConsumerSpec>>>,
    pub(super) rules: Field<Vec<Field<RuleSpec>>>,
    pub(super) denial: Field<DenialSpec>,
    pub(super) headers: Field<Vec<Field<HeaderFamily>>>,
    pub(super) preflight: Field<PreflightSpec>,
    pub(super) shadow: Field<bool>,
    pub(super) failure_mode: Field<FailureModeSpec>,
    pub(super) share: Field<ShareSpec>,
    pub(super) max_tracked_keys: Field<TrackedKeys>,
    pub(super) metrics: Field<MetricsSpec>,
    pub(super) log: Field<LogSpec>,
}

/// Where API keys are looked for.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields))]
pub(super) struct ApiKeySpec {
    pub(super) from: Field<Vec<Field<SourceSpec>>>,
    pub(super) several: Field<SeveralSpec>,
}

/// Exactly one of its fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1)))]
pub(super) struct SourceSpec {
    pub(super) bearer: Field<HeaderName>,
    pub(super) header: Field<HeaderName>,
    pub(super) query: Field<ParameterName>,
    pub(super) cookie: Field<CookieName>,
    pub(super) metadata: Field<Vec<Field<MetadataKey>>>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum SeveralSpec {
    Refuse,
    First,
}

/// Who an earlier filter says that the caller is.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["consumer"])))]
pub(super) struct IdentitySpec {
    pub(super) consumer: Field<PlaceSpec>,
    pub(super) plan: Field<PlaceSpec>,
}

/// Exactly one of its fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1)))]
pub(super) struct PlaceSpec {
    pub(super) metadata: Field<Vec<Field<MetadataKey>>>,
    pub(super) header: Field<HeaderName>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["plan"])))]
pub(super) struct UnlistedSpec {
    pub(super) plan: Field<Name>,
    pub(super) address_plan: Field<Name>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["plan"])))]
pub(super) struct AnonymousSpec {
    pub(super) plan: Field<Name>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["limits"])))]
pub(super) struct PlanSpec {
    pub(super) limits: Field<Vec<Field<LimitSpec>>>,
    pub(super) shadow: Field<bool>,
}

/// At most so many units per window.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["requests", "per"])))]
pub(super) struct LimitSpec {
    pub(super) name: Field<Name>,
    pub(super) requests: Field<Units>,
    pub(super) per: Field<Per>,
    pub(super) algorithm: Field<AlgorithmSpec>,
    pub(super) burst: Field<Units>,
    pub(super) shadow: Field<bool>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "snake_case")]
pub(super) enum AlgorithmSpec {
    SlidingWindow,
    FixedWindow,
    TokenBucket,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["name", "plan"])))]
pub(super) struct ConsumerSpec {
    pub(super) name: Field<Name>,
    pub(super) plan: Field<Name>,
    pub(super) keys: Field<Vec<Field<KeySpec>>>,
    pub(super) limits: Field<Vec<Field<LimitSpec>>>,
    pub(super) disabled: Field<bool>,
    pub(super) generation: Field<Generation>,
}

/// A key of a consumer: its hash alone, or with more to say about it.
#[derive(Debug)]
pub(super) enum KeySpec {
    Hash(KeyHash),
    Named(NamedKeySpec),
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["sha256"])))]
pub(super) struct NamedKeySpec {
    pub(super) sha256: Field<HexHash>,
    pub(super) name: Field<Name>,
    pub(super) disabled: Field<bool>,
}

/// What applies to some requests only.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["name", "match"])))]
pub(super) struct RuleSpec {
    pub(super) name: Field<Name>,
    pub(super) r#match: Field<MatchSpec>,
    pub(super) exempt: Field<bool>,
    pub(super) cost: Field<Units>,
    pub(super) plan: Field<Name>,
    pub(super) limits: Field<Vec<Field<LimitSpec>>>,
}

/// All of its fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields))]
pub(super) struct MatchSpec {
    pub(super) path: Field<PathSpec>,
    pub(super) methods: Field<Vec<Field<Method>>>,
    pub(super) hosts: Field<Vec<Field<Host>>>,
    pub(super) headers: Field<Vec<Field<HeaderMatchSpec>>>,
}

/// Exactly one of its fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("minProperties" = 1, "maxProperties" = 1)))]
pub(super) struct PathSpec {
    pub(super) exact: Field<Path>,
    pub(super) prefix: Field<Path>,
    pub(super) suffix: Field<Suffix>,
}

/// A header and one of the other fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["name"], "minProperties" = 2, "maxProperties" = 2)))]
pub(super) struct HeaderMatchSpec {
    pub(super) name: Field<HeaderName>,
    pub(super) exact: Field<HeaderValue>,
    pub(super) prefix: Field<HeaderValue>,
    pub(super) present: Field<bool>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields))]
pub(super) struct DenialSpec {
    pub(super) status: Field<Status>,
    pub(super) format: Field<FormatSpec>,
    pub(super) message: Field<Message>,
    pub(super) expose: Field<bool>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum FormatSpec {
    Auto,
    Json,
    Text,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum HeaderFamily {
    Ratelimit,
    #[serde(rename = "x-ratelimit")]
    XRatelimit,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum PreflightSpec {
    Exempt,
    Count,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum FailureModeSpec {
    Allow,
    Deny,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields, extend("required" = ["of"])))]
pub(super) struct ShareSpec {
    pub(super) of: Field<Shares>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
#[cfg_attr(test, derive(JsonSchema), schemars(deny_unknown_fields))]
pub(super) struct MetricsSpec {
    pub(super) consumers: Field<bool>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub(super) enum LogSpec {
    Denied,
    All,
}

// === texts and numbers ===

/// Declares a type that is read from text by a function, and what is expected there.
macro_rules! from_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:expr, $pattern:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct TextVisitor;

                impl Visitor<'_> for TextVisitor {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expected)
                    }

                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        let parse: fn(&str) -> Option<$inner> = $parse;
                        parse(text).map($name).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
                    }
                }

                deserializer.deserialize_str(TextVisitor)
            }
        }

        #[cfg(test)]
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "description": $expected, "pattern": $pattern})
            }
        }
    };
}

from_text!(
    /// The name of a plan, limit, consumer or namespace.
    Name(String), NAME, r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$", name
);

from_text!(
    /// A header's name, in lower case.
    HeaderName(String), r#"a header name like "x-api-key""#, r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", |text| token(text).map(|name| name.to_ascii_lowercase())
);

from_text!(
    /// A cookie's name, a token (RFC 6265 §4.1.1).
    CookieName(String), r#"a cookie name like "api_key""#, r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", token
);

from_text!(
    /// A query parameter's name as it is after percent-decoding.
    ParameterName(String), r#"a query parameter's name like "key""#, r"^[^\x00]+$", |text| {
        (!text.is_empty() && text.len() <= 255).then(|| text.to_owned())
    }
);

from_text!(
    /// A part of the way to a value in dynamic metadata: first the filter's namespace, then keys.
    MetadataKey(String), r#"a part of a metadata path like "sub""#, r"^[^\x00]+$", |text| {
        (!text.is_empty() && text.len() <= 255 && !text.contains('\0')).then(|| text.to_owned())
    }
);

from_text!(
    /// A path that has one meaning, in normal form.
    Path(String), r#"a path that starts with "/", without query, "..", escaped slashes and bad escapes"#, r"^/[^?#]*$", |text| {
        let plain = text.starts_with('/') && !text.contains(['?', '#']) && text.split('/').all(|segment| segment != "." && segment != "..");
        NormalPath::of(text.as_bytes()).unambiguous().filter(|_| plain)
    }
);

from_text!(
    /// The end of a path.
    Suffix(String), r#"the end of a path like "/chat/completions", without query and escapes"#, r"^[^?#%\\]+$", |text| {
        (!text.is_empty() && !text.contains(['?', '#', '%', '\\'])).then(|| text.to_owned())
    }
);

from_text!(
    /// A method in upper case.
    Method(String), r#"a method like "POST""#, r"^[^a-z\s]+$", |text| token(text).filter(|method| !method.bytes().any(|byte| byte.is_ascii_lowercase()))
);

from_text!(
    /// A host.
    Host(HostMatch), r#"a host like "api.example.com" or "*.example.com", without a port"#, r"^(\*\.)?[^*/\s]+$", |text| {
        let below = text.strip_prefix("*.");
        let host = below.unwrap_or(text);
        let fits = !host.is_empty()
            && !host.ends_with('.')
            && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte) || (below.is_none() && b"[:]".contains(&byte)))
            && (host.starts_with('[') || !host.contains(':'));
        let host = host.to_ascii_lowercase();
        fits.then(|| if below.is_some() { HostMatch::Below(format!(".{host}")) } else { HostMatch::Exact(host) })
    }
);

from_text!(
    /// The value of a header, or its start.
    HeaderValue(String), "a header value of 1 to 1000 characters", r"^[^\x00-\x1f]+$", |text| {
        ((1..=1000).contains(&text.len()) && !text.contains(|c: char| c.is_ascii_control())).then(|| text.to_owned())
    }
);

from_text!(
    /// A window.
    Per(Window), r#"a duration like "1m" or a word like day"#, r"^(second|minute|hour|day|week|month|[0-9]+(ms|s|m|h|d|w))$", Window::parse
);

from_text!(
    /// What a denial says, before the facts.
    Message(String), "text of 1 to 1000 characters", r"^[\s\S]{1,1000}$", |text| {
        (1..=1000).contains(&text.chars().count()).then(|| text.to_owned())
    }
);

pub(super) const NAME: &str =
    r#"a name of at most 63 letters, digits, "_", "." and "-" that starts with a letter or digit"#;

pub(super) fn name(text: &str) -> Option<String> {
    let fits = text.bytes().next()?.is_ascii_alphanumeric()
        && text.len() <= 63
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    fits.then(|| text.to_owned())
}

/// RFC 9110 §5.6.2.
fn token(text: &str) -> Option<String> {
    let fits = !text.is_empty()
        && text.len() <= 255
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte));
    fits.then(|| text.to_owned())
}

/// Declares a type that is read from a whole number in a range.
macro_rules! from_number {
    ($(#[$doc:meta])* $name:ident($inner:ty), $range:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let number = deserializer.deserialize_u64(WholeNumber($range))?;
                <$inner>::try_from(number).map(Self).map_err(de::Error::custom)
            }
        }

        #[cfg(test)]
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let range: RangeInclusive<u64> = $range;
                let (from, to) = (range.start(), range.end());
                schemars::json_schema!({
                    "description": format!("a whole number from {from} to {to}, or the same as text"),
                    "anyOf": [{"type": "integer", "minimum": from, "maximum": to}, {"type": "string", "pattern": "^[0-9]+$"}],
                })
            }
        }
    };
}

from_number!(
    /// A number of units.
    Units(NonZeroU64), 1..=MAX_UNITS
);

from_number!(
    /// An HTTP status for denials.
    Status(u16), 400..=599
);

from_number!(
    /// How many Envoys share each limit.
    Shares(NonZeroU64), 1..=1_000_000
);

from_number!(
    /// How many unlisted keys and addresses are tracked at once.
    TrackedKeys(u32), 1..=16_777_216
);

from_number!(
    /// Which of a consumer's lives this is.
    Generation(u64), 0..=MAX_UNITS
);

struct WholeNumber(RangeInclusive<u64>);

impl Visitor<'_> for WholeNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.0.start(), self.0.end())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        if self.0.contains(&number) { Ok(number) } else { Err(E::invalid_value(Unexpected::Unsigned(number), &self)) }
    }
}

/// `sha256` of a key: the digits alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct HexHash(pub(super) KeyHash);

#[cfg(test)]
impl JsonSchema for HexHash {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "HexHash".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "description": "SHA-256 of a key", "pattern": "^[0-9A-Fa-f]{64}$"})
    }
}

#[cfg(test)]
impl JsonSchema for KeySpec {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeySpec".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let named = generator.subschema_for::<NamedKeySpec>();
        schemars::json_schema!({
            "description": "SHA-256 of a key: printf %s \"$KEY\" | sha256sum",
            "anyOf": [{"type": "string", "pattern": "^sha256:[0-9A-Fa-f]{64}$"}, named],
        })
    }
}

impl<'de> Deserialize<'de> for HexHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(HashVisitor { prefix: "" }).map(Self)
    }
}

impl<'de> Deserialize<'de> for KeySpec {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = KeySpec;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                HASH.expecting(f)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeySpec, E> {
                HASH.visit_str(text).map(KeySpec::Hash)
            }

            fn visit_newtype_struct<D: Deserializer<'de>>(self, object: D) -> Result<KeySpec, D::Error> {
                NamedKeySpec::deserialize(object).map(KeySpec::Named)
            }
        }

        deserializer.deserialize_bytes(KeyVisitor)
    }
}

const HASH: HashVisitor = HashVisitor { prefix: "sha256:" };

/// Reads a hash; what stands there instead may be the key itself, and is not repeated.
struct HashVisitor {
    prefix: &'static str,
}

impl Visitor<'_> for HashVisitor {
    type Value = KeyHash;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = r#"64 hexadecimal digits that `printf %s "$KEY" | sha256sum` prints"#;
        if self.prefix.is_empty() { write!(f, "the {digits}") } else { write!(f, "{:?} and the {digits}", self.prefix) }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyHash, E> {
        let hash = text.strip_prefix(self.prefix).and_then(KeyHash::from_hex);
        hash.ok_or_else(|| E::invalid_value(Unexpected::Other("something else"), &self))
    }
}
