//! Compressed bodies, undone as they come.
//!
//! gzip (RFC 1952, of several members, too) and `deflate`, which is zlib (RFC 1950) by its definition and raw deflate (RFC 1951) with some who send
//! it: the two are told apart by zlib's header, with which raw deflate does not start. Checksums are the client's to compare.
//!
//! What comes out is handed on in pieces of at most 4 KB, so that a body that grows a thousandfold takes no more memory than another. The
//! decoder itself takes 32 KB for the window that the format needs, and 11 KB for tables.

use flate2::{Decompress, FlushDecompress, Status};

/// A body in the middle of being undone.
#[derive(Debug)]
pub struct Inflate {
    decoder: Decompress,
    stage: Stage,
    /// A gzip member was there before.
    another: bool,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The first of a `deflate` body.
    First,
    /// The second, after that first one.
    Second(u8),
    /// Compressed; whether more members may follow.
    Deflated(bool),
    /// In a gzip member's fixed header, at so many bytes, with these flags.
    Header(u8, Flags),
    /// In the length of its extra field: the first byte, the second one.
    ExtraLow(Flags),
    ExtraHigh(Flags, u8),
    /// So many bytes of it.
    Extra(Flags, u16),
    /// In its name, its comment.
    Name(Flags),
    Comment(Flags),
    /// So many bytes of its header's checksum.
    Checksum(u8),
    /// So many bytes of its checksum and size.
    Trailer(u8),
    /// After the end.
    Over,
    /// What came is not what it should have been.
    Broken,
}

/// Which parts a gzip header has (RFC 1952 §2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Flags(u8);

const CHECKSUM: u8 = 2;
const EXTRA: u8 = 4;
const NAME: u8 = 8;
const COMMENT: u8 = 16;
const RESERVED: u8 = 0xe0;

/// Not what the encoding says: nothing more can be read of the body, and what was is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

const PIECE: usize = 4096;

// === impl Inflate ===

impl Inflate {
    /// A body in gzip.
    #[must_use]
    pub fn gzip() -> Self {
        Self { decoder: Decompress::new(false), stage: Stage::Header(0, Flags(0)), another: false }
    }

    /// A body in what is called deflate.
    #[must_use]
    pub fn deflate() -> Self {
        Self { decoder: Decompress::new(false), stage: Stage::First, another: false }
    }

    /// Undoes more of it. What follows the end is ignored.
    ///
    /// # Errors
    ///
    /// [`Broken`], from then on.
    pub fn push(&mut self, mut bytes: &[u8], mut write: impl FnMut(&[u8])) -> Result<(), Broken> {
        while let Some((&first, after)) = bytes.split_first() {
            bytes = match self.stage {
                Stage::Over => return Ok(()),
                Stage::Broken => return Err(Broken),
                Stage::Deflated(members) => self.inflate(bytes, members, &mut write),
                Stage::Second(before) if !is_zlib(before, first) => {
                    self.stage = Stage::Deflated(false);
                    // One byte is no whole body, nor the end of one.
                    self.inflate(&[before], false, &mut write);
                    bytes
                }
                _ => {
                    self.stage = self.header(first);
                    after
                }
            };
        }
        if self.stage == Stage::Broken { Err(Broken) } else { Ok(()) }
    }

    /// Undoes what is compressed, up to its end or that of the bytes; the bytes after it.
    fn inflate<'a>(&mut self, mut bytes: &'a [u8], members: bool, write: &mut impl FnMut(&[u8])) -> &'a [u8] {
        let mut piece = [0; PIECE];
        loop {
            let (read, written) = (self.decoder.total_in(), self.decoder.total_out());
            let Ok(status) = self.decoder.decompress(bytes, &mut piece, FlushDecompress::None) else {
                self.stage = Stage::Broken;
                return &[];
            };
            let (read, written) = (
                usize::try_from(self.decoder.total_in().saturating_sub(read)).unwrap_or(0),
                usize::try_from(self.decoder.total_out().saturating_sub(written)).unwrap_or(0),
            );
            bytes = bytes.get(read..).unwrap_or_default();
            write(piece.get(..written).unwrap_or_default());
            if status == Status::StreamEnd {
                self.stage = if members { Stage::Trailer(0) } else { Stage::Over };
                return bytes;
            }
            // A piece that is not full is all there is.
            if bytes.is_empty() && written < PIECE {
                return &[];
            }
            if read == 0 && written == 0 {
                // After a full piece that was the last one; otherwise the decoder is stuck, which it never should be.
                self.stage = if bytes.is_empty() { self.stage } else { Stage::Broken };
                return &[];
            }
        }
    }

    /// What comes after this byte of what is around the compressed data.
    fn header(&mut self, byte: u8) -> Stage {
        match self.stage {
            Stage::First => Stage::Second(byte),
            // zlib's second byte, which says whether the data stand on a dictionary that nobody has.
            Stage::Second(_) if byte & 0x20 != 0 => Stage::Broken,
            Stage::Second(_) => Stage::Deflated(false),
            Stage::Header(at, flags) => match (at, byte) {
                (0, 0x1f) | (1, 0x8b) | (2, 8) => Stage::Header(at.saturating_add(1), flags),
                // Whatever else is there after a member is not part of the body.
                (0..=2, _) => {
                    if self.another {
                        Stage::Over
                    } else {
                        Stage::Broken
                    }
                }
                (3, flags) if flags & RESERVED != 0 => Stage::Broken,
                (3, flags) => Stage::Header(4, Flags(flags)),
                (9.., _) => flags.after(0),
                _ => Stage::Header(at.saturating_add(1), flags),
            },
            Stage::ExtraLow(flags) => Stage::ExtraHigh(flags, byte),
            Stage::ExtraHigh(flags, low) => match u16::from_le_bytes([low, byte]) {
                0 => flags.after(EXTRA),
                length => Stage::Extra(flags, length),
            },
            Stage::Extra(flags, 0..=1) => flags.after(EXTRA),
            Stage::Extra(flags, left) => Stage::Extra(flags, left.saturating_sub(1)),
            Stage::Name(flags) if byte == 0 => flags.after(NAME),
            Stage::Comment(flags) if byte == 0 => flags.after(COMMENT),
            Stage::Checksum(0) => Stage::Checksum(1),
            Stage::Checksum(_) => Stage::Deflated(true),
            Stage::Trailer(7..) => {
                self.another = true;
                self.decoder.reset(false);
                Stage::Header(0, Flags(0))
            }
            Stage::Trailer(at) => Stage::Trailer(at.saturating_add(1)),
            same => same,
        }
    }
}

/// Whether two bytes are a zlib header (RFC 1950 §2.2).
fn is_zlib(first: u8, second: u8) -> bool {
    first & 0x8f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31)
}

// === impl Flags ===

impl Flags {
    /// The part of the header that comes after that one; 0 is the fixed one.
    fn after(self, part: u8) -> Stage {
        let next = |flag: u8| flag > part && self.0 & flag != 0;
        if part < EXTRA && next(EXTRA) {
            Stage::ExtraLow(self)
        } else if next(NAME) {
            Stage::Name(self)
        } else if next(COMMENT) {
            Stage::Comment(self)
        } else if self.0 & CHECKSUM != 0 {
            Stage::Checksum(0)
        } else {
            Stage::Deflated(true)
        }
    }
}
