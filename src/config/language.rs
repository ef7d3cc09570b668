//! The configuration language: its objects, fields and the values they take. What they mean together is in [`super`].

use super::reader::{Entries, Field, Later};
use crate::key::KeyHash;
use crate::plan::MAX_UNITS;
use crate::window::Window;
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use std::fmt;
use std::num::NonZeroU64;

/// What later versions bring.
pub(super) const LATER: Later = &[
    (
        "Configuration",
        &["identity", "anonymous", "rules", "preflight", "shadow", "share", "max_tracked_keys", "metrics", "log"],
    ),
    ("SourceSpec", &["metadata"]),
    ("UnlistedSpec", &["address_plan"]),
    ("PlanSpec", &["shadow"]),
    ("LimitSpec", &["tokens", "shadow", "count", "reserve"]),
    ("ConsumerSpec", &["disabled", "generation"]),
    ("DenialSpec", &["format", "expose"]),
    ("HeaderFamily", &["x-ratelimit", "provider"]),
];

/// The whole configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    pub(super) namespace: Field<Name>,
    pub(super) api_key: Field<ApiKeySpec>,
    pub(super) unlisted: Field<UnlistedSpec>,
    pub(super) plans: Field<Entries<PlanSpec>>,
    pub(super) consumers: Field<Vec<Field<ConsumerSpec>>>,
    pub(super) denial: Field<DenialSpec>,
    pub(super) headers: Field<Vec<Field<HeaderFamily>>>,
    pub(super) failure_mode: Field<FailureModeSpec>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ApiKeySpec {
    pub(super) from: Field<Vec<Field<SourceSpec>>>,
    pub(super) several: Field<SeveralSpec>,
}

/// Exactly one of its fields.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct SourceSpec {
    pub(super) bearer: Field<HeaderName>,
    pub(super) header: Field<HeaderName>,
    pub(super) query: Field<ParameterName>,
    pub(super) cookie: Field<CookieName>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SeveralSpec {
    Refuse,
    First,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct UnlistedSpec {
    pub(super) plan: Field<Name>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct PlanSpec {
    pub(super) limits: Field<Vec<Field<LimitSpec>>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct LimitSpec {
    pub(super) name: Field<Name>,
    pub(super) requests: Field<Units>,
    pub(super) per: Field<Per>,
    pub(super) algorithm: Field<AlgorithmSpec>,
    pub(super) burst: Field<Units>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AlgorithmSpec {
    SlidingWindow,
    FixedWindow,
    TokenBucket,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct ConsumerSpec {
    pub(super) name: Field<Name>,
    pub(super) plan: Field<Name>,
    pub(super) keys: Field<Vec<Field<KeyHash>>>,
    pub(super) limits: Field<Vec<Field<LimitSpec>>>,
}

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct DenialSpec {
    pub(super) status: Field<Status>,
    pub(super) message: Field<Message>,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum HeaderFamily {
    Ratelimit,
}

#[derive(Clone, Copy, Debug, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum FailureModeSpec {
    Allow,
    Deny,
}

// === texts and numbers ===

/// Declares a type that is read from text by a function, and what is expected there.
macro_rules! from_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:expr, $parse:expr) => {
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
    };
}

from_text!(
    /// The name of a plan, limit, consumer or namespace.
    Name(String), NAME, name
);

from_text!(
    /// A header's name, in lower case.
    HeaderName(String), r#"a header name like "x-api-key""#, |text| token(text).map(|name| name.to_ascii_lowercase())
);

from_text!(
    /// A cookie's name, a token (RFC 6265 §4.1.1).
    CookieName(String), r#"a cookie name like "api_key""#, token
);

from_text!(
    /// A query parameter's name as it is after percent-decoding.
    ParameterName(String), r#"a query parameter's name like "key""#, |text| {
        (!text.is_empty() && text.len() <= 255).then(|| text.to_owned())
    }
);

from_text!(
    /// A window.
    Per(Window), r#"a duration like "1m" or a word like day"#, Window::parse
);

from_text!(
    /// What a denial says, before the facts.
    Message(String), "text of 1 to 1000 characters", |text| {
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

/// A number of units, 1 … [`MAX_UNITS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Units(pub(super) NonZeroU64);

impl<'de> Deserialize<'de> for Units {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_u64(WholeNumber { from: 1, to: MAX_UNITS })?;
        NonZeroU64::new(number).map(Self).ok_or_else(|| de::Error::custom("expected a number above 0"))
    }
}

/// An HTTP status for denials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status(pub(super) u16);

impl<'de> Deserialize<'de> for Status {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = deserializer.deserialize_u64(WholeNumber { from: 400, to: 599 })?;
        u16::try_from(number).map(Self).map_err(de::Error::custom)
    }
}

struct WholeNumber {
    from: u64,
    to: u64,
}

impl Visitor<'_> for WholeNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {} to {}", self.from, self.to)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        if (self.from..=self.to).contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HashVisitor;

        impl Visitor<'_> for HashVisitor {
            type Value = KeyHash;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#""sha256:" and the 64 hexadecimal digits that `printf %s "$KEY" | sha256sum` prints"#)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<KeyHash, E> {
                text.strip_prefix("sha256:").and_then(KeyHash::from_hex).ok_or_else(|| {
                    // It may be the key itself.
                    E::invalid_value(Unexpected::Other("something else"), &self)
                })
            }
        }

        deserializer.deserialize_bytes(HashVisitor)
    }
}
