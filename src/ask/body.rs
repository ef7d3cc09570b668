//! Reads a request's body as it arrives: one JSON object, cut anywhere, in a bounded state.
//!
//! Only two levels matter, the object itself and a few objects in it; deeper ones are counted, not kept, so no nesting is too deep. Keys are compared
//! with their escapes decoded. Of a key that is repeated, the last value counts as upstreams take it, and the largest of a bound.

use super::{Ask, Splice};

/// The longest name of a model that is kept, in bytes; of a longer one the beginning.
pub const LONGEST_MODEL: usize = 256;

/// A string longer than this, in bytes, that is nothing but base64 is an attachment.
pub const LONGEST_WORD: u64 = 4096;

/// The state between two pieces of a body.
#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Bytes so far: where the next one stands.
    size: u64,
    depth: u32,
    stage: Stage,
    token: Token,
    /// The next string in this object is a key.
    key_next: bool,
    /// The key of the outer object whose value this is.
    outer: Outer,
    /// What the second level is.
    inside: Inside,
    /// The key within it.
    inner: Inner,
    text: Text,
    /// Where the scalar or string at hand began.
    start: u64,
    found: Found,
}

/// How far the object has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Before,
    Object,
    After,
    /// It is no object, or more than one.
    Other,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Token {
    #[default]
    Between,
    Scalar,
    String(Role),
}

/// What a string is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Key,
    Value,
    /// Nothing that matters.
    Word,
}

/// Keys of the outer object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Outer {
    #[default]
    Unknown,
    Model,
    Stream,
    Bound,
    Choices,
    /// What the model is asked.
    Asked,
    /// What it is asked, or a list of such.
    Prompt,
    StreamOptions,
    Generation,
}

/// What the second level is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Unknown,
    StreamOptions,
    Generation,
    Prompts,
}

/// Keys of the objects in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inner {
    #[default]
    Unknown,
    IncludeUsage,
    Bound,
    Choices,
}

/// A decoded string or a scalar, the first bytes of it.
#[derive(Clone, Debug, Default)]
struct Text {
    bytes: Vec<u8>,
    escape: Escape,
    /// A high surrogate that waits for its other half.
    high: Option<u32>,
    /// Raw bytes.
    length: u64,
    /// Not base64.
    worded: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Backslash,
    /// `\u` and this many digits.
    Unicode(u8, u32),
}

#[derive(Clone, Debug, Default)]
struct Found {
    model: Option<String>,
    stream: bool,
    asks: bool,
    bound: Option<u64>,
    choices: u64,
    prompts: u64,
    attached: u64,
    /// After the brace that opens the outer object.
    opened: u64,
    options: Options,
}

/// What is known of `stream_options`.
#[derive(Clone, Copy, Debug, Default)]
enum Options {
    #[default]
    Absent,
    /// `null` there.
    Null(u64),
    /// Opened before there, with members or not, and `include_usage` with this value at that place.
    Object { opened: u64, members: bool, usage: Option<(bool, u64, u64)> },
    /// Something that no upstream takes.
    Wrong,
}

// === impl Body ===

impl Body {
    /// Reads the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((&byte, after)) = rest.split_first() {
            if let Token::String(role) = self.token {
                let taken = self.text.take(rest, role != Role::Word);
                let (_, left) = rest.split_at_checked(taken.bytes).unwrap_or((rest, &[]));
                self.step(taken.bytes);
                rest = left;
                if taken.closed {
                    self.token = Token::Between;
                    self.string(role);
                }
                continue;
            }
            if self.token == Token::Scalar
                && !matches!(byte, b',' | b'}' | b']' | b':' | b'"' | b'{' | b'[' | b' ' | b'\t' | b'\r' | b'\n')
            {
                self.text.keep(&[byte]);
            } else {
                if self.token == Token::Scalar {
                    self.token = Token::Between;
                    self.scalar();
                }
                self.between(byte);
            }
            self.step(1);
            rest = after;
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What it asks, as far as it came.
    #[must_use]
    pub fn finish(self) -> Ask {
        let Found { model, stream, asks, bound, choices, prompts, attached, opened, options } = self.found;
        let whole = self.stage == Stage::After && self.token == Token::Between;
        let reports = matches!(options, Options::Object { usage: Some((true, ..)), .. });
        let splice = match options {
            _ if !whole || !stream || reports => None,
            Options::Absent => Some(Splice::new(opened, 0, r#""stream_options":{"include_usage":true},"#)),
            Options::Null(at) => Some(Splice::new(at, 4, r#"{"include_usage":true}"#)),
            Options::Object { usage: Some((_, at, length)), .. } => Some(Splice::new(at, length, "true")),
            Options::Object { opened, members: true, .. } => Some(Splice::new(opened, 0, r#""include_usage":true,"#)),
            Options::Object { opened, .. } => Some(Splice::new(opened, 0, r#""include_usage":true"#)),
            Options::Wrong => None,
        };
        Ask {
            size: self.size,
            attached,
            whole,
            model,
            stream,
            asks,
            bound,
            answers: choices.max(1).saturating_mul(prompts.max(1)),
            reports,
            splice,
        }
    }

    fn step(&mut self, bytes: usize) {
        self.size = self.size.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// One byte that is in no string.
    fn between(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            // A mark that says it is UTF-8, which some clients put in front.
            0xef | 0xbb | 0xbf if self.stage == Stage::Before => {}
            b'{' | b'[' => self.open(byte),
            b'}' | b']' => self.close(),
            b',' => {
                if self.depth == 1 {
                    (self.outer, self.key_next) = (Outer::Unknown, true);
                } else if self.depth == 2 {
                    (self.inner, self.key_next) = (Inner::Unknown, self.inside != Inside::Prompts);
                }
            }
            b':' => self.key_next = false,
            _ => {
                self.begin();
                if byte == b'"' {
                    let keyed = self.depth == 1 || self.depth == 2 && self.inside != Inside::Unknown;
                    self.token = Token::String(match (keyed, self.key_next) {
                        (true, true) => Role::Key,
                        (true, false) if self.matters() => Role::Value,
                        _ => Role::Word,
                    });
                    self.prompt();
                } else {
                    self.token = Token::Scalar;
                    self.text.keep(&[byte]);
                }
            }
        }
    }

    fn begin(&mut self) {
        self.text.clear();
        self.start = self.size;
        if self.depth == 0 {
            self.stage = Stage::Other;
        }
    }

    /// Whether the value at hand is one to keep.
    fn matters(&self) -> bool {
        match self.depth {
            1 => self.outer != Outer::Unknown,
            2 => self.inner != Inner::Unknown,
            _ => false,
        }
    }

    /// A list of prompts has another member.
    fn prompt(&mut self) {
        if self.depth == 2 && self.inside == Inside::Prompts {
            self.found.prompts = self.found.prompts.saturating_add(1);
        }
    }

    fn open(&mut self, byte: u8) {
        let here = self.size.saturating_add(1);
        match self.depth {
            0 if self.stage == Stage::Before && byte == b'{' => {
                (self.stage, self.key_next) = (Stage::Object, true);
                self.found.opened = here;
            }
            0 => self.stage = Stage::Other,
            1 => {
                self.inner = Inner::Unknown;
                self.inside = match (self.outer, byte) {
                    (Outer::StreamOptions, b'{') => {
                        self.found.options = Options::Object { opened: here, members: false, usage: None };
                        Inside::StreamOptions
                    }
                    (Outer::Generation, b'{') => Inside::Generation,
                    (Outer::Prompt, b'[') => Inside::Prompts,
                    _ => Inside::Unknown,
                };
                match self.outer {
                    Outer::Asked | Outer::Prompt => self.found.asks = true,
                    Outer::StreamOptions if byte == b'[' => self.found.options = Options::Wrong,
                    _ => {}
                }
                self.key_next = !matches!(self.inside, Inside::Unknown | Inside::Prompts);
            }
            _ => {
                if byte == b'[' {
                    self.prompt();
                }
                self.key_next = false;
            }
        }
        self.depth = self.depth.saturating_add(1);
    }

    fn close(&mut self) {
        self.key_next = false;
        match self.depth.checked_sub(1) {
            None => self.stage = Stage::Other,
            Some(0) if self.stage == Stage::Object => (self.depth, self.stage) = (0, Stage::After),
            Some(depth) => self.depth = depth,
        }
    }

    /// A string has ended.
    fn string(&mut self, role: Role) {
        if role != Role::Key && self.text.length > LONGEST_WORD && !self.text.worded {
            self.found.attached = self.found.attached.saturating_add(self.text.length);
        }
        match (role, self.depth) {
            (Role::Key, 1) => self.outer = Outer::of(&self.text.bytes),
            (Role::Key, _) => {
                self.inner = Inner::of(self.inside, &self.text.bytes);
                if let Options::Object { members, .. } = &mut self.found.options {
                    *members |= self.inside == Inside::StreamOptions;
                }
            }
            (Role::Value, 1) => {
                match self.outer {
                    Outer::Model => self.found.model = Some(String::from_utf8_lossy(&self.text.bytes).into_owned()),
                    Outer::Asked | Outer::Prompt => self.found.asks = true,
                    Outer::StreamOptions => self.found.options = Options::Wrong,
                    _ => {}
                }
                self.number();
            }
            (Role::Value, _) => {
                self.number();
                self.usage(false);
            }
            (Role::Word, _) => {}
        }
    }

    /// A number, `true`, `false` or `null` has ended.
    fn scalar(&mut self) {
        let yes = self.text.bytes == b"true";
        match self.depth {
            1 => match self.outer {
                Outer::Stream => self.found.stream = yes,
                Outer::StreamOptions if self.text.bytes == b"null" => self.found.options = Options::Null(self.start),
                Outer::StreamOptions => self.found.options = Options::Wrong,
                _ => self.number(),
            },
            2 => {
                self.number();
                self.usage(yes);
            }
            _ => {}
        }
    }

    fn usage(&mut self, yes: bool) {
        if let (Inner::IncludeUsage, Options::Object { usage, .. }) = (self.inner, &mut self.found.options) {
            *usage = Some((yes, self.start, self.size.saturating_sub(self.start)));
        }
    }

    /// What bounds the answer; also as text, which lenient upstreams take for a number.
    fn number(&mut self) {
        let (bound, choices) = match self.depth {
            1 => (self.outer == Outer::Bound, self.outer == Outer::Choices),
            _ => (self.inner == Inner::Bound, self.inner == Inner::Choices),
        };
        if !bound && !choices {
            return;
        }
        if let Some(number) = whole_number(&self.text.bytes) {
            if bound {
                self.found.bound = self.found.bound.max(Some(number));
            } else {
                self.found.choices = self.found.choices.max(number);
            }
        }
    }
}

/// A number that is not negative, rounded up.
fn whole_number(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(number) = text.parse::<u64>() {
        return Some(number);
    }
    let number: f64 = text.parse().ok().filter(|number: &f64| *number >= 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is not negative; what is too large saturates"
    )]
    Some(number.ceil() as u64)
}

// === impl Outer ===

impl Outer {
    fn of(key: &[u8]) -> Self {
        match key {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"max_tokens" | b"max_completion_tokens" | b"max_output_tokens" | b"max_tokens_to_sample" => Self::Bound,
            b"n" | b"best_of" => Self::Choices,
            b"messages" | b"input" | b"inputs" | b"contents" | b"content" | b"message" | b"requests" => Self::Asked,
            b"prompt" => Self::Prompt,
            b"stream_options" => Self::StreamOptions,
            b"generationConfig" | b"generation_config" | b"options" => Self::Generation,
            _ => Self::Unknown,
        }
    }
}

// === impl Inner ===

impl Inner {
    fn of(inside: Inside, key: &[u8]) -> Self {
        match (inside, key) {
            (Inside::StreamOptions, b"include_usage") => Self::IncludeUsage,
            (Inside::Generation, b"maxOutputTokens" | b"max_output_tokens" | b"num_predict") => Self::Bound,
            (Inside::Generation, b"candidateCount" | b"candidate_count") => Self::Choices,
            _ => Self::Unknown,
        }
    }
}

// === impl Text ===

/// What of a piece belonged to a string.
struct Taken {
    bytes: usize,
    closed: bool,
}

impl Text {
    fn clear(&mut self) {
        self.bytes.clear();
        (self.escape, self.high, self.length, self.worded) = (Escape::None, None, 0, false);
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = LONGEST_MODEL.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// Reads on in a string, through its end if that is there.
    fn take(&mut self, bytes: &[u8], kept: bool) -> Taken {
        let plain = if self.escape == Escape::None { self.plain(bytes) } else { 0 };
        let (text, rest) = bytes.split_at_checked(plain).unwrap_or((bytes, &[]));
        self.length = self.length.saturating_add(u64::try_from(plain).unwrap_or(u64::MAX));
        if kept && !text.is_empty() {
            self.high = None;
            self.keep(text);
        }
        let Some(&byte) = rest.first() else {
            return Taken { bytes: plain, closed: false };
        };
        let closed = self.escape == Escape::None && byte == b'"';
        if !closed {
            self.worded = true;
            self.escaped(byte);
        }
        Taken { bytes: plain.saturating_add(1), closed }
    }

    /// How many bytes stand for themselves.
    fn plain(&mut self, bytes: &[u8]) -> usize {
        let end = |byte: &u8| matches!(byte, b'"' | b'\\');
        let mut base64 = 0;
        if !self.worded {
            // Data URLs, and both alphabets of RFC 4648.
            let coded = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/=-_:;,.".contains(byte);
            base64 = bytes.iter().position(|byte| !coded(byte)).unwrap_or(bytes.len());
            match bytes.get(base64) {
                None => return bytes.len(),
                Some(byte) if end(byte) => return base64,
                Some(_) => self.worded = true,
            }
        }
        let rest = bytes.get(base64..).unwrap_or_default();
        base64.saturating_add(rest.iter().position(end).unwrap_or(rest.len()))
    }

    /// One byte of an escape.
    fn escaped(&mut self, byte: u8) {
        match self.escape {
            Escape::None => self.escape = Escape::Backslash,
            Escape::Backslash if byte == b'u' => self.escape = Escape::Unicode(0, 0),
            Escape::Backslash => {
                let decoded = match byte {
                    b'b' => 8,
                    b'f' => 12,
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                };
                (self.escape, self.high) = (Escape::None, None);
                self.keep(&[decoded]);
            }
            Escape::Unicode(digits, code) => {
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                let code = code << 4 | digit;
                self.escape = if digits < 3 { Escape::Unicode(digits.saturating_add(1), code) } else { Escape::None };
                if digits >= 3 {
                    self.unit(code);
                }
            }
        }
    }

    /// One UTF-16 unit.
    fn unit(&mut self, code: u32) {
        if (0xd800..0xdc00).contains(&code) {
            self.high = Some(code);
            return;
        }
        let code = match self.high.take() {
            Some(high) if (0xdc00..0xe000).contains(&code) => {
                (high & 0x3ff).wrapping_shl(10).saturating_add(code & 0x3ff).saturating_add(0x1_0000)
            }
            _ => code,
        };
        let decoded = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
        self.keep(decoded.encode_utf8(&mut [0; 4]).as_bytes());
    }
}
