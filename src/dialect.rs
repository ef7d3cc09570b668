//! Dialects: how one provider's API writes a refusal, so that its SDKs understand it.
//!
//! A provider is one file below this one: how requests to it are recognised, the envelope, its own header fields. Adding one is that file and
//! a line in the table `ALL`, and what it is known by in [`Header`] and `STARTS`, which the tests here see to.

mod anthropic;
mod azure;
mod gemini;
mod grpc;
mod json;
mod mistral;
mod openai;
mod problem;
mod text;
mod writer;

use crate::fields::Fields;
use crate::headers::Provider;
use crate::refusal::Facts;
use crate::request::{Headers, Lines, percent_decode};
use std::borrow::Cow;
use std::fmt;

/// How one kind of client is answered.
pub struct Dialect {
    /// Its name in the configuration.
    pub name: &'static str,
    /// What tells of a request that it is for this provider's API, for `auto`.
    signs: Signs,
    /// The body's type; `None` where the proxy sets it.
    pub content_type: Option<&'static str>,
    /// The body.
    pub body: fn(&Facts<'_>, &Asked<'_>) -> Vec<u8>,
    /// Adds header fields of its own on a refusal.
    pub fields: fn(&Facts<'_>, &Asked<'_>, &mut Fields),
    /// Whether it says nothing of a single request: then what it is once told is the same as long as its facts are.
    pub alike: bool,
    /// The header fields in which it says what is left, if it does.
    pub left: Option<Provider>,
}

/// By what a request for a provider's API is known: any of it. Paths are decoded, and without their query.
#[derive(Clone, Copy, Debug)]
struct Signs {
    /// The path ends so.
    ends: &'static [&'static str],
    /// The path goes through this, which starts with a slash.
    through: &'static [&'static str],
    /// There is this header.
    header: Option<Header>,
}

/// Every dialect that can be configured; `auto` takes the first whose signs a request has, or else problem details or JSON.
const ALL: [&Dialect; 8] = [
    &gemini::DIALECT,
    &azure::DIALECT,
    &anthropic::DIALECT,
    &openai::DIALECT,
    &mistral::DIALECT,
    &problem::DIALECT,
    &json::DIALECT,
    &text::DIALECT,
];

/// How the parts of a path start that are signs, but for those that start with a colon. In paths of other APIs nothing does, which this tells at once.
const STARTS: [[u8; 8]; 7] =
    [*b"/v1/chat", *b"/v1/comp", *b"/v1/embe", *b"/v1/mess", *b"/v1/resp", *b"/v1beta/", *b"/openai/"];

/// Which dialect a configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The caller's, as far as its path and headers tell; else JSON.
    #[default]
    Auto,
    /// This one.
    Fixed(&'static Dialect),
}

/// A header of a request that how it is answered can depend on.
#[derive(Clone, Copy, Debug)]
pub enum Header {
    /// `:path`.
    Path,
    /// `content-type`.
    ContentType,
    /// `accept`.
    Accept,
    /// `origin`.
    Origin,
    /// `x-request-id`.
    RequestId,
    /// `anthropic-version`.
    AnthropicVersion,
    /// `x-goog-api-key`.
    GoogleKey,
}

/// What of a request tells which API it is for.
#[derive(Clone, Debug)]
pub struct Asked<'h> {
    /// The path, decoded, without query and without a slash at its end.
    path: Cow<'h, [u8]>,
    query: &'h [u8],
    headers: &'h Headers,
    /// What there is of each [`Header`].
    lines: [Lines<'h>; Header::NAMES.len()],
}

// === impl Header ===

impl Header {
    /// In the order of the variants.
    const NAMES: [&str; 7] =
        [":path", "content-type", "accept", "origin", "x-request-id", "anthropic-version", "x-goog-api-key"];

    fn name(self) -> &'static str {
        Self::NAMES.get(self as usize).copied().unwrap_or_default()
    }
}

// === impl Signs ===

impl Signs {
    const NONE: Self = Self { ends: &[], through: &[], header: None };

    fn are_in(&self, asked: &Asked<'_>) -> bool {
        asked.path_ends_with(self.ends)
            || self.through.iter().any(|part| asked.path_has(part))
            || self.header.is_some_and(|header| asked.has(header))
    }
}

// === impl Dialect ===

impl Dialect {
    /// Every dialect that can be configured.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.into_iter()
    }
}

/// There is one of each.
impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for Dialect {}

impl fmt::Debug for Dialect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

// === impl Format ===

impl Format {
    /// The dialect a request is answered in. A gRPC client understands nothing but gRPC, whatever the configuration says.
    #[must_use]
    pub fn dialect(self, asked: &Asked<'_>) -> &'static Dialect {
        if grpc::speaks(asked) {
            return &grpc::DIALECT;
        }
        match self {
            Self::Fixed(dialect) => dialect,
            Self::Auto => match asked.api() {
                Some(dialect) => dialect,
                None if problem::speaks(asked) => &problem::DIALECT,
                None => &json::DIALECT,
            },
        }
    }
}

// === impl Asked ===

impl<'h> Asked<'h> {
    /// Of a request with these headers.
    #[must_use]
    pub fn new(headers: &'h Headers) -> Self {
        let mut asked = Self { path: Cow::default(), query: &[], headers, lines: headers.find(&Header::NAMES) };
        let target = asked.header(Header::Path).unwrap_or_default();
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let written = parts.next().unwrap_or_default();
        asked.query = parts.next().unwrap_or_default();
        asked.path = if written.contains(&b'%') {
            let mut path = percent_decode(written);
            path.truncate(without_slash(&path).len());
            Cow::Owned(path)
        } else {
            Cow::Borrowed(without_slash(written))
        };
        asked
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &'h Headers {
        self.headers
    }

    /// What there is of a header.
    fn lines(&self, header: Header) -> Lines<'h> {
        self.lines.get(header as usize).copied().unwrap_or(Lines::None)
    }

    /// Whether there is such a header.
    #[must_use]
    pub fn has(&self, header: Header) -> bool {
        !matches!(self.lines(header), Lines::None)
    }

    /// The first value of a header.
    fn header(&self, header: Header) -> Option<&'h [u8]> {
        match self.lines(header) {
            Lines::None => None,
            Lines::One(value) => Some(value),
            Lines::Several => self.headers.first(header.name()),
        }
    }

    /// The provider whose API it is for, if that can be told.
    #[inline]
    fn api(&self) -> Option<&'static Dialect> {
        let may_be = self.has(Header::AnthropicVersion) || self.has(Header::GoogleKey) || may_have_signs(&self.path);
        if may_be { self.api_by_signs() } else { None }
    }

    #[inline(never)]
    fn api_by_signs(&self) -> Option<&'static Dialect> {
        ALL.into_iter().find(|dialect| dialect.signs.are_in(self))
    }

    /// The proxy's id of the request, if it can be repeated: clients may have had a hand in it.
    fn request_id(&self) -> Option<&str> {
        let id = std::str::from_utf8(self.header(Header::RequestId)?).ok()?;
        let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        ((1..=64).contains(&id.len()) && id.bytes().all(plain)).then_some(id)
    }

    fn path_ends_with(&self, ends: &[&str]) -> bool {
        ends.iter().any(|end| self.path.ends_with(end.as_bytes()))
    }

    /// Whether the path goes through `part`, which starts with a slash: only there is it compared.
    fn path_has(&self, part: &str) -> bool {
        let mut rest = &*self.path;
        while let Some(slash) = rest.iter().position(|byte| *byte == b'/') {
            let (_, from) = rest.split_at(slash);
            if from.starts_with(part.as_bytes()) {
                return true;
            }
            rest = from.get(1..).unwrap_or_default();
        }
        false
    }
}

/// Whether some part of a path starts as a sign does.
fn may_have_signs(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some((byte, after)) = rest.split_first() {
        let start = if *byte == b'/' { rest.first_chunk() } else { None };
        if *byte == b':' || start.is_some_and(|start| STARTS.contains(start)) {
            return true;
        }
        rest = after;
    }
    false
}

/// A path without the slashes at its end.
fn without_slash(mut path: &[u8]) -> &[u8] {
    while let Some(before) = path.strip_suffix(b"/") {
        path = before;
    }
    path
}

fn no_fields(_: &Facts<'_>, _: &Asked<'_>, _: &mut Fields) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn recognized(path: &str, headers: &[(&str, &str)]) -> &'static str {
        let pairs: Vec<_> = [(":path", path)].into_iter().chain(headers.iter().copied()).collect();
        Format::Auto.dialect(&Asked::new(&Headers::decode(Headers::encode(&pairs)).unwrap())).name
    }

    #[test]
    fn the_api_is_recognized_by_path_and_headers() {
        for (path, dialect) in [
            ("/v1/chat/completions", "openai"),
            ("/any/prefix/v1/chat/completions?x=y", "openai"),
            ("/v1/responses/", "openai"),
            ("/v1/responses/resp_1/cancel", "openai"),
            ("/v1/embeddings", "openai"),
            ("/v1/completions", "openai"),
            ("/openai/deployments/gpt/chat/completions?api-version=1", "azure"),
            ("/openai/v1/responses", "azure"),
            ("/v1/messages", "anthropic"),
            ("/v1/messages/count_tokens", "anthropic"),
            ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini"),
            ("/v1/models/gemini-2.5-flash:streamGenerateContent?alt=sse", "gemini"),
            ("/v1/models/gemini-2.5-flash%3AgenerateContent", "gemini"),
            ("/v1beta/openai/chat/completions", "gemini"),
            ("/v1/chat/completionsx", "json"),
            ("/v2/chat", "json"),
            ("/v1/models/a:b", "json"),
            ("/?/v1/messages", "json"),
            ("/", "json"),
            ("*", "json"),
            ("", "json"),
        ] {
            assert_eq!(recognized(path, &[]), dialect, "{path}");
        }
        assert_eq!(recognized("/v1/models", &[("anthropic-version", "2026-10-21")]), "anthropic");
        assert_eq!(recognized("/v1/models", &[("x-goog-api-key", "k")]), "gemini");
    }

    #[test]
    fn no_sign_is_passed_over() {
        for (dialect, Signs { ends, through, header }) in ALL.iter().map(|dialect| (dialect.name, dialect.signs)) {
            for end in ends {
                assert_eq!(recognized(&format!("/a/b{end}"), &[]), dialect, "{end}");
            }
            for part in through {
                assert_eq!(recognized(&format!("/a{part}b"), &[]), dialect, "{part}");
            }
            if let Some(name) = header.map(Header::name) {
                assert_eq!(recognized("/a", &[(name, "b")]), dialect, "{name}");
            }
        }
    }

    #[test]
    fn problems_are_for_those_who_ask_for_them() {
        for (accept, dialect) in [
            ("application/problem+json", "problem"),
            ("text/html, Application/Problem+JSON;q=0.5", "problem"),
            ("application/problem+json;q=0", "json"),
            ("application/problem+json; q=0.000", "json"),
            ("application/problem+jsonx", "json"),
            ("*/*", "json"),
            ("application/json", "json"),
        ] {
            assert_eq!(recognized("/", &[("accept", accept)]), dialect, "{accept}");
        }
        assert_eq!(recognized("/", &[("accept", "text/html"), ("accept", "application/problem+json")]), "problem");
        assert_eq!(recognized("/v1/embeddings", &[("accept", "application/problem+json")]), "openai");
    }

    #[test]
    fn grpc_is_never_answered_in_another_way() {
        for content_type in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert_eq!(recognized("/v1/messages", &[("content-type", content_type)]), "grpc", "{content_type}");
        }
        assert_eq!(recognized("/", &[("content-type", "application/grpc-web")]), "json");
        let headers = Headers::decode(Headers::encode(&[("content-type", "application/grpc")])).unwrap();
        assert_eq!(Format::Fixed(&openai::DIALECT).dialect(&Asked::new(&headers)).name, "grpc");
        assert!(Dialect::all().all(|dialect| dialect.name != "grpc"), "it is never asked for");
    }

    #[test]
    fn only_plain_ids_are_repeated() {
        let id = |id: &str| {
            let headers = Headers::decode(Headers::encode(&[("x-request-id", id)])).unwrap();
            Asked::new(&headers).request_id().map(str::to_owned)
        };
        assert_eq!(id("0b1c-2.3_A").as_deref(), Some("0b1c-2.3_A"));
        let long = "a".repeat(65);
        for refused in ["", "a b", "a\r\nset-cookie: b", "ä", "\"", &long] {
            assert_eq!(id(refused), None, "{refused:?}");
        }
    }
}
