//! The values that fields of the language take: texts of some form, numbers in a range, hashes of keys.

use super::language::{KeySpec, NamedKeySpec};
use super::reader::{Read, Reader, Refused};
use crate::cost::Thousandths;
use crate::key::KeyHash;
use crate::path::NormalPath;
use crate::plan::MAX_UNITS;
use crate::reservation::LONGEST_LIFETIME;
use crate::rule::HostMatch;
use crate::window::{MILLISECOND, SECOND, Window};
#[cfg(test)]
use schemars::JsonSchema;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

/// Declares a type that is read from text by a function, and what is expected there.
macro_rules! from_text {
    ($(#[$doc:meta])* $name:ident($inner:ty), $expected:expr, $pattern:expr, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) $inner);

        impl<'a> Read<'a> for $name {
            fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
                reader.text($expected, $parse).map(Self)
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
    /// A model's name, or its start: what is also a label of metrics.
    ModelName(String), r#"a model's name like "gpt-4o" of 1 to 128 letters, digits and any of "_.:/@+-""#, r"^[A-Za-z0-9_.:/@+-]{1,128}$", |text| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:/@+-".contains(&byte);
        ((1..=128).contains(&text.len()) && text.bytes().all(plain)).then(|| text.to_owned())
    }
);

from_text!(
    /// A size in bytes, from 1 KiB to 16 MiB.
    Size(u32), r#"a size from "1KiB" to "16MiB""#, r"^[0-9]{1,8}(KiB|MiB)$", |text| {
        let (number, unit) = match text.strip_suffix("KiB") {
            Some(number) => (number, 1 << 10),
            None => (text.strip_suffix("MiB")?, 1 << 20),
        };
        let plain = number.bytes().all(|byte| byte.is_ascii_digit());
        let bytes = number.parse::<u32>().ok().filter(|_| plain)?.checked_mul(unit)?;
        (1 << 10..=16 << 20).contains(&bytes).then_some(bytes)
    }
);

from_text!(
    /// How long something is held, in nanoseconds.
    Lifetime(NonZeroU64), r#"a duration from "1s" to "1h""#, r"^[0-9]+(ms|s|m|h|d|w)$", |text| {
        let span = Window::parse(text).filter(|window| !window.is_word())?.span();
        (SECOND..=LONGEST_LIFETIME).contains(&span.get()).then_some(span)
    }
);

from_text!(
    /// How long a lease lasts, in nanoseconds.
    LeaseTime(NonZeroU64), r#"a duration from "1ms" to "1s""#, r"^[0-9]+(ms|s)$", |text| {
        let span = Window::parse(text).filter(|window| !window.is_word())?.span();
        (MILLISECOND..=SECOND).contains(&span.get()).then_some(span)
    }
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

        impl<'a> Read<'a> for $name {
            fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
                const RANGE: RangeInclusive<u64> = $range;
                let number = reader.number(*RANGE.start(), *RANGE.end())?;
                // What is in the range fits the type.
                <$inner>::try_from(number).map(Self).map_err(|_| Refused)
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
    /// A number of tokens.
    Tokens(u64), 0..=MAX_UNITS
);

/// Declares a type that is read from a number with at most three decimals, up to 1000.
macro_rules! from_thousandths {
    ($(#[$doc:meta])* $name:ident, $least:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) struct $name(pub(super) Thousandths);

        impl<'a> Read<'a> for $name {
            fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
                reader.thousandths($least).map(Self)
            }
        }

        #[cfg(test)]
        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let least = f64::from($least) / 1000.0;
                schemars::json_schema!({
                    "description": "a number with at most three decimals, or the same as text",
                    "anyOf": [{"type": "number", "minimum": least, "maximum": 1000}, {"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)?$"}],
                })
            }
        }
    };
}

from_thousandths!(
    /// What a token of some kind counts.
    Weight, 0
);

from_thousandths!(
    /// What a token costs.
    TokenCost, 1
);

from_thousandths!(
    /// How many bytes of a request are one token.
    BytesPerToken, 1
);

/// One HTTP status, or a class of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statuses(pub(super) RangeInclusive<u16>);

impl<'a> Read<'a> for Statuses {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        const EXPECTED: &str = r#"a status from 400 to 599, or "4xx" or "5xx""#;
        reader.number_or_text(EXPECTED, |text| {
            let class = match text {
                "4xx" => 400..=499,
                "5xx" => 500..=599,
                status => {
                    let status = status.parse().ok().filter(|status| (400..=599).contains(status))?;
                    status..=status
                }
            };
            Some(Self(class))
        })
    }
}

#[cfg(test)]
impl JsonSchema for Statuses {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "one HTTP status, or a class of them",
            "anyOf": [{"type": "integer", "minimum": 400, "maximum": 599}, {"type": "string", "pattern": "^[45]([0-9]{2}|xx)$"}],
        })
    }
}

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

impl<'a> Read<'a> for HexHash {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        reader.secret(&format_args!("the {DIGITS}"), KeyHash::from_hex).map(Self)
    }
}

impl<'a> Read<'a> for KeySpec {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        const PREFIX: &str = "sha256:";
        if reader.is_object() {
            return NamedKeySpec::read(reader).map(Self::Named);
        }
        let hash = |text: &str| text.strip_prefix(PREFIX).and_then(KeyHash::from_hex);
        reader.secret(&format_args!("{PREFIX:?} and the {DIGITS}"), hash).map(Self::Hash)
    }
}

const DIGITS: &str = r#"64 hexadecimal digits that `printf %s "$KEY" | sha256sum` prints"#;
