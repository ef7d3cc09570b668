//! One response, read as it comes.

use super::Usage;
use super::events::{Events, Piece};
#[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
use super::inflate::Inflate;
use super::place::Place;
use super::scanner::Scanner;
use super::tally::Tally;
use memchr::memchr;

/// Reads a response. Its size is all that it takes, but for the model's name and, if the response is compressed, the decoder of some 43 KB.
#[derive(Debug)]
pub struct Reader {
    coding: Coding,
    body: Body,
    /// Bytes of it as they came.
    length: u64,
}

/// What a response said, when it is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The tokens that it reported.
    pub usage: Option<Usage>,
    /// Output tokens that it did not report, as far as anybody can tell: a quarter of the bytes of text, rounded up, that came after the
    /// last usage or without any. English has about four bytes to a token in most vocabularies, and others have no more tokens to a byte. Text
    /// is what models write: answers, reasoning, arguments of calls; as UTF-8, without escapes.
    /// What cannot be [read](Self::readable) counts as text as it came, unless its type says that it is something else.
    /// A response that is there to its end and reports usage has 0 here.
    pub estimate: u64,
    /// The first name of a model that it said, if of at most [`LONGEST`](super::scanner::LONGEST) bytes.
    pub model: Option<Box<[u8]>>,
    /// It could be read. `false`: it is neither JSON nor a stream of that, or it is compressed in another way than gzip or deflate, in several
    /// ways, or not in the way it says.
    pub readable: bool,
}

/// What was done to a response on its way.
#[derive(Debug)]
enum Coding {
    Plain,
    #[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
    Deflated(Inflate),
    Unreadable,
}

/// A response, undone.
#[derive(Debug)]
struct Body {
    form: Form,
    scanner: Scanner<Place>,
    tally: Tally,
}

#[derive(Clone, Debug)]
enum Form {
    /// Documents, one after the other; mostly one.
    Json,
    /// One document a line.
    Lines,
    /// One document an event.
    Events(Events),
    /// The first byte will tell.
    Unsaid,
    /// Text of another kind.
    Text,
    /// Not text.
    Other,
}

// === impl Reader ===

impl Reader {
    /// For a response with these header fields; empty ones are as good as none.
    #[must_use]
    pub fn new(content_type: &[u8], content_encoding: &[u8]) -> Self {
        Self {
            coding: Coding::of(content_encoding),
            body: Body { form: Form::of(content_type), scanner: Scanner::new(), tally: Tally::default() },
            length: 0,
        }
    }

    /// Reads on. Cuts make no difference.
    pub fn push(&mut self, bytes: &[u8]) {
        self.length = self.length.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        match &mut self.coding {
            Coding::Plain => self.body.push(bytes),
            #[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
            Coding::Deflated(inflate) => {
                if inflate.push(bytes, |bytes| self.body.push(bytes)).is_err() {
                    self.coding = Coding::Unreadable;
                }
            }
            Coding::Unreadable => {}
        }
    }

    /// What the response said, if nothing more comes.
    #[must_use]
    pub fn finish(&self) -> Report {
        let tally = &self.body.tally;
        let other = matches!(self.body.form, Form::Other);
        let readable =
            !matches!(self.coding, Coding::Unreadable) && !matches!(self.body.form, Form::Text | Form::Other);
        if readable {
            let model = tally.model().map(Box::from);
            return Report { usage: tally.usage(), estimate: tally.said().div_ceil(4), model, readable };
        }
        let estimate = if other { 0 } else { self.length.div_ceil(4) };
        Report { usage: None, estimate, model: None, readable }
    }
}

// === impl Report ===

impl Report {
    /// The tokens to charge: those that it reported, and the estimate of those that it did not.
    #[must_use]
    pub fn tokens(&self) -> Usage {
        let usage = self.usage.unwrap_or_default();
        Usage { output: usage.output.saturating_add(self.estimate), ..usage }
    }

    /// Whether [`tokens`](Self::tokens) are not, or not only, what the response reported.
    #[must_use]
    pub fn estimated(&self) -> bool {
        self.usage.is_none() || self.estimate > 0
    }
}

// === impl Coding ===

impl Coding {
    /// RFC 9110 §8.4; `x-gzip` is gzip, and `identity` nothing.
    fn of(content_encoding: &[u8]) -> Self {
        let mut codings = content_encoding
            .split(|&byte| byte == b',')
            .map(<[u8]>::trim_ascii)
            .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity"));
        match (codings.next(), codings.next()) {
            (None, _) => Self::Plain,
            #[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
            (Some(one), None) if one.eq_ignore_ascii_case(b"gzip") || one.eq_ignore_ascii_case(b"x-gzip") => {
                Self::Deflated(Inflate::gzip())
            }
            #[cfg(any(feature = "llm", not(target_arch = "wasm32")))]
            (Some(one), None) if one.eq_ignore_ascii_case(b"deflate") => Self::Deflated(Inflate::deflate()),
            _ => Self::Unreadable,
        }
    }
}

// === impl Form ===

impl Form {
    /// By the media type (RFC 9110 §8.3.1), without its parameters.
    fn of(content_type: &[u8]) -> Self {
        let bare =
            content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase();
        match bare.as_slice() {
            b"text/event-stream" => Self::Events(Events::new()),
            b"application/json" | b"text/json" => Self::Json,
            b"application/x-ndjson" | b"application/ndjson" | b"application/jsonl" | b"application/x-jsonlines" => {
                Self::Lines
            }
            bare if bare.ends_with(b"+json") => Self::Json,
            bare if bare.is_empty() || bare.starts_with(b"text/") => Self::Unsaid,
            _ => Self::Other,
        }
    }
}

// === impl Body ===

impl Body {
    fn push(&mut self, mut bytes: &[u8]) {
        if matches!(self.form, Form::Unsaid) {
            // White space, and a byte order mark, say nothing.
            let start =
                bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0xef | 0xbb | 0xbf));
            let Some((&first, _)) = start.and_then(|start| bytes.get(start..)).and_then(<[u8]>::split_first) else {
                return;
            };
            self.form = match first {
                b'{' | b'[' => Form::Json,
                // data, event, id, retry, a comment.
                b'd' | b'e' | b'i' | b'r' | b':' => Form::Events(Events::new()),
                _ => Form::Text,
            };
            bytes = bytes.get(start.unwrap_or(0)..).unwrap_or_default();
        }
        match &mut self.form {
            Form::Json => self.scanner.push(bytes, &mut self.tally),
            Form::Lines => self.lines(bytes),
            Form::Events(events) => {
                while !bytes.is_empty() {
                    let (piece, length) = events.take(bytes);
                    let (taken, rest) = bytes.split_at_checked(length).unwrap_or_default();
                    match piece {
                        Piece::Data => self.scanner.push(taken, &mut self.tally),
                        Piece::Break => self.scanner.push(b"\n", &mut self.tally),
                        Piece::End => {
                            self.scanner.reset();
                            self.tally.end();
                        }
                        Piece::Field | Piece::Comment | Piece::Tail => {}
                    }
                    bytes = rest;
                }
            }
            Form::Unsaid | Form::Text | Form::Other => {}
        }
    }

    fn lines(&mut self, mut bytes: &[u8]) {
        while let Some(end) = memchr(b'\n', bytes) {
            self.scanner.push(bytes.get(..end).unwrap_or_default(), &mut self.tally);
            self.scanner.reset();
            self.tally.end();
            bytes = bytes.get(end.saturating_add(1)..).unwrap_or_default();
        }
        self.scanner.push(bytes, &mut self.tally);
    }
}
