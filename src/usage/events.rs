//! Event streams, split into pieces that belong together, whatever they are cut into.
//!
//! The format is that of the HTML standard, "Server-sent events", section "Parsing an event stream": lines end with LF, CR or CRLF, an event ends
//! with an empty line, its data is what its `data` fields say, joined by LF. Lines that start with a colon are comments, and a byte order
//! mark may come first.

use memchr::memchr2;

/// A walk over an event stream.
#[derive(Clone, Debug)]
pub struct Events {
    state: State,
    /// What came last ended with a CR; an LF right after it is the same line's end.
    returned: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// At the start of the stream, after so many bytes of a byte order mark.
    Mark(usize),
    /// At the start of a line.
    Line,
    /// In a field's name, of which so many bytes are those of `data`.
    Name(usize),
    /// In the name of another field, or in what it says.
    Field,
    /// After `data:`.
    Colon,
    /// In what a data field says.
    Data,
    /// In a comment.
    Comment,
}

/// What the next bytes of a stream are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What a data field says.
    Data,
    /// The line end of a data field: an LF in the event's data, if more comes.
    Break,
    /// Names, other fields, and their line ends.
    Field,
    /// A comment, its line end included, or the byte order mark.
    Comment,
    /// The empty line that ends an event.
    End,
    /// The LF of a line end whose CR was the last byte of the piece before.
    Tail,
}

const MARK: &[u8] = b"\xef\xbb\xbf";
const NAME: &[u8] = b"data";

// === impl Events ===

impl Events {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Mark(0), returned: false }
    }

    /// What the first of these bytes are, and how many of them are that: at least one, if there is one. The next call is given the rest.
    pub fn take(&mut self, bytes: &[u8]) -> (Piece, usize) {
        let Some(&first) = bytes.first() else {
            return (Piece::Field, 0);
        };
        if std::mem::take(&mut self.returned) && first == b'\n' {
            return (Piece::Tail, 1);
        }
        match self.state {
            State::Mark(so_far) if MARK.get(so_far) == Some(&first) => {
                let so_far = so_far.saturating_add(1);
                self.state = if so_far == MARK.len() { State::Line } else { State::Mark(so_far) };
                return (Piece::Comment, 1);
            }
            State::Mark(0) => self.state = State::Line,
            // Half a mark is the name of some field.
            State::Mark(_) => self.state = State::Field,
            _ => {}
        }
        match (self.state, first) {
            (State::Line, b'\n' | b'\r') => self.end(first, Piece::End),
            (State::Name(4) | State::Colon | State::Data, b'\n' | b'\r') => self.end(first, Piece::Break),
            (State::Comment, b'\n' | b'\r') => self.end(first, Piece::Comment),
            (_, b'\n' | b'\r') => self.end(first, Piece::Field),
            (State::Line, b':') => self.rest(bytes, State::Comment, Piece::Comment),
            (State::Line, _) => self.name(0, first),
            (State::Name(4), b':') => {
                self.state = State::Colon;
                (Piece::Field, 1)
            }
            (State::Name(matching), _) => self.name(matching, first),
            (State::Colon, b' ') => {
                self.state = State::Data;
                (Piece::Field, 1)
            }
            (State::Colon | State::Data, _) => self.rest(bytes, State::Data, Piece::Data),
            (State::Comment, _) => self.rest(bytes, State::Comment, Piece::Comment),
            (State::Field | State::Mark(_), _) => self.rest(bytes, State::Field, Piece::Field),
        }
    }

    fn end(&mut self, byte: u8, piece: Piece) -> (Piece, usize) {
        self.state = State::Line;
        self.returned = byte == b'\r';
        (piece, 1)
    }

    fn name(&mut self, matching: usize, byte: u8) -> (Piece, usize) {
        let matches = NAME.get(matching) == Some(&byte);
        self.state = if matches { State::Name(matching.saturating_add(1)) } else { State::Field };
        (Piece::Field, 1)
    }

    /// The rest of the line, as far as it is there.
    fn rest(&mut self, bytes: &[u8], state: State, piece: Piece) -> (Piece, usize) {
        self.state = state;
        (piece, memchr2(b'\n', b'\r', bytes).unwrap_or(bytes.len()))
    }
}

impl Default for Events {
    fn default() -> Self {
        Self::new()
    }
}
