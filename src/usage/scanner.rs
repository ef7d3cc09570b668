//! A walk over JSON that comes in pieces, and stops only where somebody wants to look.
//!
//! The scanner follows the members that a [`Place`] knows and tells a [`Sink`] what is there. Everything else is stepped over: of a value
//! that nobody knows only its brackets are counted, to any depth. It never fails; what is not JSON leads nowhere, until [`Scanner::reset`].

use memchr::memchr2;
use std::fmt;

/// Where a value stands in a document, as far as somebody cares.
pub trait Place: Copy {
    /// The document itself.
    const ROOT: Self;

    /// Where the member of that name of an object here stands; `None` if nobody cares.
    fn member(self, name: &[u8]) -> Option<Self>;

    /// Where the items of an array here stand.
    fn item(self) -> Self;

    /// What is wanted of strings here.
    fn want(self) -> Want;
}

/// What is wanted of strings at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Nothing.
    Nothing,
    /// Their length.
    Length,
    /// Their length, and that of every string in an object or array here, names included, which is not looked into otherwise.
    Lengths,
    /// What they say.
    Text,
}

/// The kinds of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// In braces.
    Object,
    /// In brackets.
    Array,
    /// In quotes.
    Text,
    /// A number, `true`, `false` or `null`.
    Word,
}

/// Who is told what is at the places.
pub trait Sink {
    /// The places.
    type Place: Place;

    /// A value starts.
    fn begin(&mut self, place: Self::Place, kind: Kind);

    /// An object or array ends.
    fn end(&mut self, place: Self::Place, kind: Kind);

    /// So many more bytes of strings whose length is wanted, as UTF-8, without escapes.
    fn length(&mut self, bytes: u64);

    /// A string whose text is wanted, without escapes. One longer than [`LONGEST`] bytes, or with a character that takes two escapes, is
    /// not told.
    fn text(&mut self, place: Self::Place, text: &[u8]);

    /// A number, `true`, `false` or `null` as written; of a longer one the first [`LONGEST`] bytes.
    fn word(&mut self, place: Self::Place, word: &[u8]);
}

/// Bytes of the longest name, text or word that is told.
pub const LONGEST: usize = 128;

/// Objects and arrays that are followed inside of each other; deeper ones are stepped over.
const DEEPEST: usize = 16;

/// The walk. It takes some 200 bytes, whatever it walks over.
#[derive(Clone, Debug)]
pub struct Scanner<P> {
    open: [Frame<P>; DEEPEST],
    depth: usize,
    state: State,
    /// Where the next value stands.
    place: Option<P>,
    /// The next string is a member's name.
    naming: bool,
    /// Open brackets of the value that is stepped over.
    skipped: u64,
    escape: Escape,
    token: Token,
}

/// An object or array that is followed.
#[derive(Clone, Copy, Debug)]
struct Frame<P> {
    place: P,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Between names and values.
    Between,
    /// In a string.
    Quoted(Use),
    /// In a number, or one of the words that JSON has.
    Word,
    /// In a value that nobody cares for; whether the lengths of its strings are wanted.
    Skipped(bool),
    /// In what is not JSON.
    Lost,
}

/// What becomes of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Name,
    Text,
    Length,
    Nothing,
    /// It stands in a value that is stepped over; whether its length is wanted.
    Skipped(bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    None,
    /// After a backslash.
    Begun,
    /// After `\u`: digits to come, and the ones so far.
    Digits(u8, u32),
}

/// A name, text or word, as far as it has come.
#[derive(Clone, Copy)]
struct Token {
    bytes: [u8; LONGEST],
    length: usize,
    /// Everything is there that was to be.
    whole: bool,
}

// === impl Scanner ===

impl<P: Place> Scanner<P> {
    /// At the start of a document.
    #[must_use]
    pub fn new() -> Self {
        Self {
            open: [Frame { place: P::ROOT, kind: Kind::Object }; DEEPEST],
            depth: 0,
            state: State::Between,
            place: Some(P::ROOT),
            naming: false,
            skipped: 0,
            escape: Escape::None,
            token: Token { bytes: [0; LONGEST], length: 0, whole: true },
        }
    }

    /// Forgets the document, ended or not; another one starts. Documents that follow each other need no reset between them.
    pub fn reset(&mut self) {
        self.depth = 0;
        self.state = State::Between;
        self.place = Some(P::ROOT);
        self.naming = false;
        self.escape = Escape::None;
    }

    /// What came is not JSON, and nothing more is told until the next document.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.state == State::Lost
    }

    /// Walks on.
    pub fn push(&mut self, mut bytes: &[u8], sink: &mut impl Sink<Place = P>) {
        while !bytes.is_empty() {
            let taken = match self.state {
                State::Between => self.between(bytes, sink),
                State::Quoted(used) => self.quoted(bytes, used, sink),
                State::Word => self.word(bytes, sink),
                State::Skipped(measured) => self.skip(bytes, measured),
                State::Lost => return,
            };
            bytes = bytes.get(taken..).unwrap_or_default();
        }
    }

    /// Takes what stands between names and values, up to the first that starts.
    fn between(&mut self, bytes: &[u8], sink: &mut impl Sink<Place = P>) -> usize {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' | b':' => continue,
                b',' => {
                    self.naming = self.frame().is_some_and(|frame| frame.kind == Kind::Object);
                    continue;
                }
                b'"' => self.quote(sink),
                b'{' => self.enter(Kind::Object, sink),
                b'[' => self.enter(Kind::Array, sink),
                b'}' => self.leave(Kind::Object, sink),
                b']' => self.leave(Kind::Array, sink),
                _ => {
                    self.token.clear();
                    self.state = State::Word;
                    if let Some(place) = self.place {
                        sink.begin(place, Kind::Word);
                    }
                    // The byte is the word's.
                    return at;
                }
            }
            if self.state != State::Between {
                return at.saturating_add(1);
            }
        }
        bytes.len()
    }

    fn frame(&self) -> Option<&Frame<P>> {
        self.open.get(self.depth.checked_sub(1)?)
    }

    /// A string starts.
    fn quote(&mut self, sink: &mut impl Sink<Place = P>) {
        let used = if self.naming {
            Use::Name
        } else if let Some(place) = self.place {
            sink.begin(place, Kind::Text);
            match place.want() {
                Want::Nothing => Use::Nothing,
                Want::Length | Want::Lengths => Use::Length,
                Want::Text => Use::Text,
            }
        } else {
            Use::Nothing
        };
        self.token.clear();
        self.state = State::Quoted(used);
    }

    /// An object or array starts.
    fn enter(&mut self, kind: Kind, sink: &mut impl Sink<Place = P>) {
        let Some(place) = self.place else {
            return self.step_over(false);
        };
        if place.want() == Want::Lengths {
            return self.step_over(true);
        }
        let Some(frame) = self.open.get_mut(self.depth) else {
            return self.step_over(false);
        };
        *frame = Frame { place, kind };
        self.depth = self.depth.saturating_add(1);
        sink.begin(place, kind);
        self.naming = kind == Kind::Object;
        self.settle();
    }

    fn step_over(&mut self, measured: bool) {
        self.skipped = 1;
        self.state = State::Skipped(measured);
    }

    /// An object or array ends.
    fn leave(&mut self, kind: Kind, sink: &mut impl Sink<Place = P>) {
        let Some(&Frame { place, .. }) = self.frame().filter(|frame| frame.kind == kind) else {
            self.state = State::Lost;
            return;
        };
        self.depth = self.depth.saturating_sub(1);
        self.naming = false;
        self.settle();
        sink.end(place, kind);
    }

    /// Where the value stands that comes next, if no name comes before it.
    fn settle(&mut self) {
        self.place = match self.frame() {
            None => Some(P::ROOT),
            Some(Frame { place, kind: Kind::Array }) => Some(place.item()),
            Some(_) => None,
        };
    }

    fn quoted(&mut self, bytes: &[u8], used: Use, sink: &mut impl Sink<Place = P>) -> usize {
        if self.escape != Escape::None {
            return self.escaped(bytes, used, sink);
        }
        let end = memchr2(b'"', b'\\', bytes).unwrap_or(bytes.len());
        let (plain, rest) = bytes.split_at_checked(end).unwrap_or_default();
        self.take(plain, used, sink);
        match rest.first() {
            None => return end,
            Some(b'\\') => self.escape = Escape::Begun,
            Some(_) => self.unquote(used, sink),
        }
        end.saturating_add(1)
    }

    /// Takes a byte of an escape, or none if it cannot be one of it.
    fn escaped(&mut self, bytes: &[u8], used: Use, sink: &mut impl Sink<Place = P>) -> usize {
        let &[byte, ..] = bytes else {
            return 0;
        };
        self.escape = match (self.escape, byte) {
            (Escape::Begun, b'u') => Escape::Digits(4, 0),
            (Escape::Digits(left, so_far), _) => {
                let Some(digit) = char::from(byte).to_digit(16) else {
                    self.token.whole = false;
                    self.escape = Escape::None;
                    return 0;
                };
                let code = (so_far << 4) | digit;
                match left.saturating_sub(1) {
                    0 => {
                        self.character(code, used, sink);
                        Escape::None
                    }
                    left => Escape::Digits(left, code),
                }
            }
            _ => {
                let plain = match byte {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 8,
                    b'f' => 12,
                    other => other,
                };
                self.take(&[plain], used, sink);
                Escape::None
            }
        };
        1
    }

    /// Takes the character of a `\u` escape; of those that take two of them, half.
    fn character(&mut self, code: u32, used: Use, sink: &mut impl Sink<Place = P>) {
        if let Some(character) = char::from_u32(code) {
            self.take(character.encode_utf8(&mut [0; 4]).as_bytes(), used, sink);
        } else {
            self.take(&[0; 2], used, sink);
            self.token.whole = false;
        }
    }

    fn take(&mut self, bytes: &[u8], used: Use, sink: &mut impl Sink<Place = P>) {
        match used {
            Use::Name | Use::Text => self.token.extend(bytes),
            Use::Length | Use::Skipped(true) => sink.length(u64::try_from(bytes.len()).unwrap_or(u64::MAX)),
            Use::Nothing | Use::Skipped(false) => {}
        }
    }

    /// A string ends.
    fn unquote(&mut self, used: Use, sink: &mut impl Sink<Place = P>) {
        self.state = State::Between;
        match used {
            Use::Name => {
                self.naming = false;
                self.place = match self.frame() {
                    Some(frame) if self.token.whole => frame.place.member(self.token.bytes()),
                    _ => None,
                };
                return;
            }
            Use::Text if self.token.whole => {
                if let Some(place) = self.place {
                    sink.text(place, self.token.bytes());
                }
            }
            Use::Skipped(measured) => {
                self.state = State::Skipped(measured);
                return;
            }
            _ => {}
        }
        self.settle();
    }

    fn word(&mut self, bytes: &[u8], sink: &mut impl Sink<Place = P>) -> usize {
        let end = bytes.iter().position(|byte| {
            matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':' | b',' | b'"' | b'[' | b']' | b'{' | b'}')
        });
        let taken = end.unwrap_or(bytes.len());
        self.token.extend(bytes.get(..taken).unwrap_or_default());
        if end.is_some() {
            if let Some(place) = self.place {
                sink.word(place, self.token.bytes());
            }
            self.state = State::Between;
            self.settle();
        }
        taken
    }

    /// Steps over a value of which only brackets count.
    fn skip(&mut self, bytes: &[u8], measured: bool) -> usize {
        let Some(at) = bytes.iter().position(|byte| matches!(byte, b'"' | b'[' | b']' | b'{' | b'}')) else {
            return bytes.len();
        };
        match bytes.get(at) {
            Some(b'"') => self.state = State::Quoted(Use::Skipped(measured)),
            Some(b'[' | b'{') => self.skipped = self.skipped.saturating_add(1),
            _ => {
                self.skipped = self.skipped.saturating_sub(1);
                if self.skipped == 0 {
                    self.state = State::Between;
                    self.settle();
                }
            }
        }
        at.saturating_add(1)
    }
}

impl<P: Place> Default for Scanner<P> {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Token ===

impl Token {
    fn clear(&mut self) {
        self.length = 0;
        self.whole = true;
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = self.bytes.get_mut(self.length..).unwrap_or_default();
        let fitting = bytes.len().min(room.len());
        for (to, from) in room.iter_mut().zip(bytes) {
            *to = *from;
        }
        self.length = self.length.saturating_add(fitting);
        self.whole &= fitting == bytes.len();
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Not what it says: what is said is nobody's business.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.length)
    }
}
