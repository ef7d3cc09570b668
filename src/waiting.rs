//! Waiting: a request whose body decides, until it is there.

use crate::ask::body::Body;
use crate::ask::{Ask, Target};
use crate::request::Headers;

/// A request that waits for its body.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its head, which the proxy may not show any more when the body is there.
    headers: Headers,
    target: Target,
    body: Body,
    /// The largest body that is read, in bytes.
    max_body: u64,
    /// Its body is compressed, announced as larger than is read, or half of a conversation.
    unread: bool,
}

/// A request whose body is there, as far as it is read.
#[derive(Clone, Debug)]
pub struct Whole {
    /// Its head.
    pub headers: Headers,
    /// What its head asks for.
    pub target: Target,
    /// What its body asks for; `None` where it could not be read.
    pub ask: Option<Ask>,
}

// === impl Waiting ===

impl Waiting {
    /// For a body of at most `max_body` bytes.
    #[must_use]
    pub fn new(headers: Headers, max_body: u64) -> Self {
        let target = Target::of(&headers);
        let compressed = headers
            .values("content-encoding")
            .any(|coding| !coding.is_empty() && !coding.trim_ascii().eq_ignore_ascii_case(b"identity"));
        // Whoever talks both ways says nothing before it is answered: its body never ends, or never begins.
        let first = |name| headers.first(name).unwrap_or_default();
        let both_ways = !first("upgrade").is_empty()
            || first(":method").eq_ignore_ascii_case(b"CONNECT")
            || first("content-type").get(..16).is_some_and(|kind| kind.eq_ignore_ascii_case(b"application/grpc"));
        let announced =
            headers.first("content-length").and_then(|length| std::str::from_utf8(length).ok()?.parse().ok());
        let unread = compressed || both_ways || announced.is_some_and(|length: u64| length > max_body);
        Self { headers, target, body: Body::default(), max_body, unread }
    }

    /// What its head asks for.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Its head.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Whether more of the body changes nothing: it is compressed, larger than is read, or half of a conversation.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.unread || self.body.size() > self.max_body
    }

    /// Bytes of the body so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.body.size()
    }

    /// Reads on in the body.
    pub fn push(&mut self, bytes: &[u8]) {
        self.body.push(bytes);
    }

    /// The body is there.
    #[must_use]
    pub fn whole(self) -> Whole {
        let unread = self.is_decided();
        Whole { headers: self.headers, target: self.target, ask: (!unread).then(|| self.body.finish()) }
    }

    /// Whether the upstream may answer in an encoding that cannot be read: then it is to be asked for none.
    #[must_use]
    pub fn wants_plain(&self) -> bool {
        let codings = self.headers.values("accept-encoding").flat_map(|value| value.split(|byte| *byte == b','));
        codings.map(|coding| coding.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()).any(|coding| {
            let readable: [&[u8]; 5] = [b"", b"gzip", b"x-gzip", b"deflate", b"identity"];
            !readable.iter().any(|known| coding.eq_ignore_ascii_case(known))
        })
    }
}
