//! Dialects: how one provider's API writes a refusal, so that its SDKs understand it.
//!
//! A provider is one file below this one: how requests to it are recognised, the envelope, its own header fields. Adding one is that file and
//! a line in the table `ALL`.

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
    /// Whether a request speaks it, for `auto`.
    speaks: fn(&Asked<'_>) -> bool,
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

/// Every dialect that can be configured; `auto` takes the first that the request speaks, or JSON.
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

/// Which dialect a configuration asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// The caller's, as far as its path and headers tell; else JSON.
    #[default]
    Auto,
    /// This one.
    Fixed(&'static Dialect),
}

/// What of a request tells which API it is for.
#[derive(Clone, Debug)]
pub struct Asked<'h> {
    /// The path, decoded, without query and without a slash at its end.
    path: Cow<'h, [u8]>,
    query: &'h [u8],
    headers: &'h Headers,
    /// How long the names of the headers are, a bit for each length. Most that are looked for are not there, which this tells at once.
    lengths: u64,
}

// === impl Dialect ===

impl Dialect {
    /// Every dialect that can be configured.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        ALL.into_iter()
    }
}

/// The name tells.
impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
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
            Self::Auto => ALL.into_iter().find(|dialect| (dialect.speaks)(asked)).unwrap_or(&json::DIALECT),
        }
    }
}

// === impl Asked ===

impl<'h> Asked<'h> {
    /// Of a request with these headers.
    #[must_use]
    pub fn new(headers: &'h Headers) -> Self {
        let lengths = headers.name_lengths().fold(0, |lengths, length| lengths | of_length(length));
        let target = headers.first(":path").unwrap_or_default();
        let mut parts = target.splitn(2, |byte| *byte == b'?');
        let written = parts.next().unwrap_or_default();
        let query = parts.next().unwrap_or_default();
        let path = if written.contains(&b'%') {
            let mut path = percent_decode(written);
            path.truncate(without_slash(&path).len());
            Cow::Owned(path)
        } else {
            Cow::Borrowed(without_slash(written))
        };
        Self { path, query, headers, lengths }
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &'h Headers {
        self.headers
    }

    /// The first value of a header.
    #[must_use]
    pub fn header<'a>(&'a self, name: &'a str) -> Option<&'a [u8]> {
        if self.lengths & of_length(name.len()) == 0 { None } else { self.headers.first(name) }
    }

    /// What there is of a header.
    fn lines(&self, name: &str) -> Lines<'_> {
        if self.lengths & of_length(name.len()) == 0 { Lines::None } else { self.headers.lines(name) }
    }

    /// The proxy's id of the request, if it can be repeated: clients may have had a hand in it.
    fn request_id(&self) -> Option<&str> {
        let id = std::str::from_utf8(self.header("x-request-id")?).ok()?;
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

/// The bit that stands for names of this length, and of lengths that no name has which is looked for.
fn of_length(length: usize) -> u64 {
    1 << (length & 63)
}

/// A path without the slashes at its end.
fn without_slash(mut path: &[u8]) -> &[u8] {
    while let Some(before) = path.strip_suffix(b"/") {
        path = before;
    }
    path
}

fn never(_: &Asked<'_>) -> bool {
    false
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
