//! The chunk of a stream that a client did not ask for.
//!
//! OpenAI's chat completions report usage in a stream only if the request asks for it (`stream_options.include_usage`), and then in a chunk of
//! its own, whose `choices` are empty. When the filter asked and the client did not, that event is taken out again. The other chunks
//! then say `"usage":null`, where without the question they say nothing: that is left, as clients take the one for the other. Usage on a chunk with
//! choices (Together, vLLM, Mistral) stays where it is.
//!
//! This works on plain streams only: who asks for usage also asks the upstream not to compress (`accept-encoding: identity`).

use super::events::{Events, Piece};
use super::scanner::{self, Kind, Scanner, Sink, Want};
use std::fmt;

/// Takes that event out of a stream. It holds at most [`LARGEST`] bytes.
pub struct Dropper {
    events: Events,
    scanner: Scanner<Place>,
    chunk: Chunk,
    /// Bytes of an event that is not complete and may be the one.
    held: Vec<u8>,
    /// What the last piece became, for the rest of a line end that was cut.
    fate: Fate,
}

/// Bytes of the largest event that is taken out, without the empty line that ends it. Providers send some 500.
pub const LARGEST: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    Passed,
    Dropped,
}

/// What is known of an event.
#[derive(Clone, Copy, Debug, Default)]
struct Chunk {
    /// It is not the one.
    other: bool,
    choices: bool,
    usage: bool,
    whole: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root,
    Choices,
    Choice,
    Usage,
}

// === impl Dropper ===

impl Dropper {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self {
            events: Events::new(),
            scanner: Scanner::new(),
            chunk: Chunk::default(),
            held: Vec::new(),
            fate: Fate::Passed,
        }
    }

    /// Appends what of the stream goes on to `out`: everything but the event that was not asked for. Bytes wait only while they are those of an
    /// event that is not complete and may be that one; what an event with choices says goes on with the first byte of its first choice.
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            let (piece, length) = self.events.take(bytes);
            let (taken, rest) = bytes.split_at_checked(length).unwrap_or_default();
            self.piece(piece, taken, out);
            bytes = rest;
        }
    }

    /// Appends what was held: an event that the stream did not complete.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
    }

    fn piece(&mut self, piece: Piece, bytes: &[u8], out: &mut Vec<u8>) {
        match piece {
            Piece::Tail => {}
            Piece::End => {
                let chunk = std::mem::take(&mut self.chunk);
                let unasked = chunk.is_unasked() && !self.scanner.is_lost();
                self.scanner.reset();
                if unasked {
                    self.held.clear();
                    self.fate = Fate::Dropped;
                } else {
                    self.fate = Fate::Passed;
                }
            }
            // Before an event starts, it is not part of any.
            Piece::Comment if self.held.is_empty() => self.fate = Fate::Passed,
            Piece::Comment | Piece::Field if self.chunk.other => self.fate = Fate::Passed,
            Piece::Comment | Piece::Field => self.fate = Fate::Held,
            Piece::Data | Piece::Break => {
                if !self.chunk.other {
                    let data = if piece == Piece::Data { bytes } else { b"\n" };
                    self.scanner.push(data, &mut self.chunk);
                }
                self.fate = if self.chunk.other { Fate::Passed } else { Fate::Held };
            }
        }
        if self.fate == Fate::Held && self.held.len().saturating_add(bytes.len()) > LARGEST {
            self.chunk.other = true;
            self.fate = Fate::Passed;
        }
        match self.fate {
            Fate::Held => self.hold(bytes),
            Fate::Passed => {
                out.append(&mut self.held);
                out.extend_from_slice(bytes);
            }
            Fate::Dropped => {}
        }
    }

    /// Holds bytes for which there is room, in no more than [`LARGEST`].
    fn hold(&mut self, bytes: &[u8]) {
        let length = self.held.len().saturating_add(bytes.len());
        if length > self.held.capacity() {
            let room = length.next_power_of_two();
            self.held.reserve_exact(room.saturating_sub(self.held.len()));
        }
        self.held.extend_from_slice(bytes);
    }
}

/// Not what it holds: what is said is nobody's business.
impl fmt::Debug for Dropper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes held", self.held.len())
    }
}

impl Default for Dropper {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Chunk ===

impl Chunk {
    fn is_unasked(self) -> bool {
        self.whole && self.choices && self.usage && !self.other
    }
}

impl Sink for Chunk {
    type Place = Place;

    fn begin(&mut self, place: Place, kind: Kind) {
        match (place, kind) {
            (Place::Root, Kind::Object) if !self.whole => {}
            (Place::Choices, Kind::Array) => self.choices = true,
            (Place::Usage, Kind::Object) => self.usage = true,
            _ => self.other = true,
        }
    }

    fn end(&mut self, place: Place, _: Kind) {
        self.whole |= place == Place::Root;
    }

    fn length(&mut self, _: u64) {}

    fn text(&mut self, _: Place, _: &[u8]) {}

    fn word(&mut self, _: Place, _: &[u8]) {}
}

// === impl Place ===

impl scanner::Place for Place {
    const ROOT: Self = Self::Root;

    fn member(self, name: &[u8]) -> Option<Self> {
        match (self, name) {
            (Self::Root, b"choices") => Some(Self::Choices),
            (Self::Root, b"usage") => Some(Self::Usage),
            _ => None,
        }
    }

    fn item(self) -> Self {
        Self::Choice
    }

    fn want(self) -> Want {
        Want::Nothing
    }
}
