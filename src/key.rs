//! The API key of a request: where it may be, and that there is only one.
//!
//! A repeated header is the same as its values joined with a comma (RFC 9110 §5.3), and hosts and other proxies do join them.
//! So a comma in a key header means that the key was repeated, and no key can contain one.

use crate::request::{Head, Lines, Request, percent_decode};
use crate::store::HostError;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt;

/// A secret that identifies its consumer. Any bytes but a comma; never empty; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey<'r>(Cow<'r, [u8]>);

/// SHA-256 of an API key, as configurations list keys.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash([u8; 32]);

impl ApiKey<'_> {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash that a configuration lists.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(&self.0).into())
    }
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl KeyHash {
    /// Reads 64 hexadecimal digits of either case.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut hash = [0; 32];
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != hash.len() || !rest.is_empty() {
            return None;
        }
        for (byte, pair) in hash.iter_mut().zip(pairs) {
            let [high, low] = pair.map(|digit| char::from(digit).to_digit(16));
            *byte = u8::try_from(high?.checked_mul(16)?.checked_add(low?)?).ok()?;
        }
        Some(Self(hash))
    }
}

/// Not the digits: a plain hash of a guessable key gives the key away.
impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// One place where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `<header>: Bearer <key>`, the scheme in any case (RFC 6750 §2.1, RFC 9110 §11.1).
    Bearer(String),
    /// The value of a header.
    Header(String),
    /// The value of a query parameter; name and value percent-decoded.
    Query(String),
    /// The value of a cookie, without its quotes if it has them.
    Cookie(String),
    /// What an earlier filter left in dynamic metadata: its namespace, then keys.
    Metadata(Vec<String>),
}

/// What to do when several sources hold a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Several {
    /// Refuse the request.
    #[default]
    Refuse,
    /// Take the key of the source that stands first in the configuration.
    First,
}

/// All places where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// In the order of the configuration; never empty.
    pub from: Vec<Source>,
    /// What to do when several of them hold a key.
    pub several: Several,
}

/// What a request holds in the places where a key may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found<'r> {
    /// One key.
    Key(ApiKey<'r>),
    /// No key.
    Missing,
    /// An empty one, and no other.
    Empty,
    /// Several keys, or one place that holds several.
    Ambiguous,
}

impl Found<'_> {
    /// The same, where what it was found in goes.
    #[must_use]
    pub fn into_owned(self) -> Found<'static> {
        match self {
            Self::Key(ApiKey(key)) => Found::Key(ApiKey(Cow::Owned(key.into_owned()))),
            Self::Missing => Found::Missing,
            Self::Empty => Found::Empty,
            Self::Ambiguous => Found::Ambiguous,
        }
    }
}

impl Source {
    /// What this source alone holds.
    #[inline(always)]
    fn look<'r>(&'r self, request: &'r Request<'_, impl Head>) -> Result<Found<'r>, HostError> {
        match self {
            Self::Header(name) => Ok(header(request.first_headers()?.lines(name))),
            _ => self.look_closely(request),
        }
    }

    #[inline(never)]
    fn look_closely<'r>(&'r self, request: &'r Request<'_, impl Head>) -> Result<Found<'r>, HostError> {
        Ok(match self {
            Self::Header(name) => header(request.headers()?.lines(name)),
            Self::Bearer(name) => match request.headers()?.lines(name) {
                Lines::None => Found::Missing,
                Lines::One(_) | Lines::Several => bearer(request.headers()?.values(name)),
            },
            Self::Query(name) => query(request.headers()?.first(":path"), name),
            Self::Cookie(name) => cookie(request.headers()?.values("cookie"), name),
            Self::Metadata(path) => only(request.host().metadata(path)?.as_deref().into_iter()).into_owned(),
        })
    }

    /// Where callers are to put their key; `None` for what is not for them to send.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Bearer(header) => Some(format!("\"{header}: Bearer <key>\"")),
            Self::Header(header) => Some(format!("\"{header}: <key>\"")),
            Self::Query(name) => Some(format!("query parameter \"{name}\"")),
            Self::Cookie(name) => Some(format!("cookie \"{name}\"")),
            Self::Metadata(_) => None,
        }
    }
}

impl Sources {
    /// Looks for the key with one read of the request's headers.
    ///
    /// # Errors
    /// When the host refuses the read.
    #[inline(always)]
    pub fn find<'r>(&'r self, request: &'r Request<'_, impl Head>) -> Result<Found<'r>, HostError> {
        match &*self.from {
            [source] => source.look(request),
            _ => self.find_among(request),
        }
    }

    #[inline(never)]
    fn find_among<'r>(&'r self, request: &'r Request<'_, impl Head>) -> Result<Found<'r>, HostError> {
        let mut found = Found::Missing;
        for source in &self.from {
            found = match (found, source.look_closely(request)?) {
                (found, Found::Missing) => found,
                (Found::Missing, here) | (Found::Empty, here @ Found::Key(_)) => here,
                (found @ (Found::Key(_) | Found::Empty), Found::Empty) => found,
                (Found::Key(first), Found::Key(_)) if self.several == Several::First => Found::Key(first),
                _ => return Ok(Found::Ambiguous),
            };
        }
        Ok(found)
    }
}

/// The one key among candidates, each the bytes of one occurrence. Empty ones count as occurrences: what an upstream makes
/// of `key=&key=…` is unknown.
fn only<'a>(mut candidates: impl Iterator<Item = &'a [u8]>) -> Found<'a> {
    match (candidates.next(), candidates.next()) {
        (_, Some(_)) => Found::Ambiguous,
        (None, None) => Found::Missing,
        (Some(candidate), None) => one(candidate),
    }
}

/// The only candidate.
#[inline]
fn one(candidate: &[u8]) -> Found<'_> {
    if candidate.is_empty() { Found::Empty } else { Found::Key(ApiKey(Cow::Borrowed(candidate))) }
}

#[inline(always)]
fn header(lines: Lines<'_>) -> Found<'_> {
    match lines {
        Lines::None => Found::Missing,
        Lines::One(value) if !has_comma(value) => one(trimmed(value)),
        Lines::One(_) | Lines::Several => Found::Ambiguous,
    }
}

/// Hosts have trimmed it already.
fn trimmed(value: &[u8]) -> &[u8] {
    match value {
        [b'!'..=b'~', .., b'!'..=b'~'] => value,
        _ => value.trim_ascii(),
    }
}

/// Eight bytes at a time: a byte of `word` is 0 where there is a comma, and subtracting 1 sets its highest bit, which was not set. What `contains`
/// has for long texts is more code than there are bytes.
fn has_comma(value: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    let (words, rest) = value.as_chunks::<8>();
    let in_word = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b','; 8]);
        word.wrapping_sub(ONES) & !word & ONES << 7 != 0
    };
    words.iter().any(in_word) || rest.contains(&b',')
}

fn bearer<'a>(values: impl Iterator<Item = &'a [u8]>) -> Found<'a> {
    let mut credentials = values.flat_map(|value| value.split(|byte| *byte == b','));
    match (credentials.next(), credentials.next()) {
        (None, _) => Found::Missing,
        // Other schemes are no keys, not even Digest with its commas; but a key among other credentials is not the only one.
        (Some(first), Some(second)) => {
            let keys = [first, second].into_iter().chain(credentials).filter_map(bearer_token);
            if keys.count() > 0 { Found::Ambiguous } else { Found::Missing }
        }
        (Some(credentials), None) => match bearer_token(credentials) {
            None => Found::Missing,
            // Where an upstream ends a token at a space, what follows would make another key of it.
            Some(token) if token.iter().any(u8::is_ascii_whitespace) => Found::Ambiguous,
            Some(token) => one(token),
        },
    }
}

fn bearer_token(credentials: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer";
    let (scheme, token) = credentials.trim_ascii().split_at_checked(SCHEME.len())?;
    let separated = token.first().is_none_or(|byte| byte.is_ascii_whitespace());
    (scheme.eq_ignore_ascii_case(SCHEME) && separated).then_some(token.trim_ascii())
}

fn query(path: Option<&[u8]>, name: &str) -> Found<'static> {
    let path = path.unwrap_or_default();
    let Some(start) = path.iter().position(|byte| *byte == b'?') else {
        return Found::Missing;
    };
    let query = path.get(start.saturating_add(1)..).unwrap_or_default();
    let query = query.split(|byte| *byte == b'#').next().unwrap_or_default();
    let values: Vec<Vec<u8>> = query
        .split(|byte| *byte == b'&')
        .map(|parameter| split_once(parameter, b'=').unwrap_or((parameter, b"")))
        .filter(|(key, _)| percent_decode(key) == name.as_bytes())
        .map(|(_, value)| percent_decode(value))
        .collect();
    only(values.iter().map(|value| value.trim_ascii())).into_owned()
}

fn cookie<'a>(values: impl Iterator<Item = &'a [u8]>, name: &str) -> Found<'a> {
    only(
        values
            .flat_map(|value| value.split(|byte| *byte == b';'))
            .filter_map(|pair| split_once(pair, b'='))
            .filter(|(key, _)| key.trim_ascii() == name.as_bytes())
            .map(|(_, value)| unquoted(value.trim_ascii())),
    )
}

/// RFC 6265 §4.1.1: a cookie value may stand in double quotes.
fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at.checked_add(1)?..)?))
}
