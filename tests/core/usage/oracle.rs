//! What must hold for any bytes, however they are cut. Property tests and fuzzers ask the same questions.

#![allow(dead_code, reason = "each of those who ask needs some of it")]

use allowance::usage::dropper::LARGEST;
use allowance::usage::{Dropper, Reader, Report};
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;
use std::io::Write;

/// Content types of every form that is read.
pub(crate) const TYPES: [&str; 4] = ["application/json", "text/event-stream", "application/x-ndjson", ""];

/// The report of a response that comes in these pieces.
pub(crate) fn read<'a>(content_type: &str, encoding: &str, pieces: impl IntoIterator<Item = &'a [u8]>) -> Report {
    let mut reader = Reader::new(content_type.as_bytes(), encoding.as_bytes());
    for piece in pieces {
        reader.push(piece);
    }
    reader.finish()
}

/// What a stream becomes that comes in these pieces. Never is more held than it may be, or anything that is known to go on.
pub(crate) fn pass<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut dropper = Dropper::new();
    let mut out = Vec::new();
    for piece in pieces {
        dropper.push(piece, &mut out);
    }
    dropper.finish(&mut out);
    out
}

/// Bytes in pieces that the bytes themselves choose, up to `longest` each.
pub(crate) fn cut(bytes: &[u8], longest: usize) -> Vec<&[u8]> {
    // FNV-1a, then xorshift: any cuts, and the same again for the same bytes.
    let mut seed = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3))
        | 1;
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    while !rest.is_empty() {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let length = usize::try_from(seed % (longest as u64 + 1)).unwrap();
        let (piece, after) = rest.split_at(length.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Every form, as it is and compressed in no known way: cuts make no difference.
pub(crate) fn reader_does_not_mind_cuts(bytes: &[u8]) {
    for content_type in TYPES {
        let whole = read(content_type, "", [bytes]);
        assert_eq!(read(content_type, "", cut(bytes, 5)), whole, "{content_type}, cut");
        assert_eq!(read(content_type, "", bytes.chunks(1)), whole, "{content_type}, byte by byte");
        if let Some(usage) = whole.usage {
            assert!(usage.cached <= usage.input && usage.reasoning <= usage.output, "{usage:?}");
        }
    }
}

/// Bytes that say they are compressed: cuts make no difference.
pub(crate) fn decoder_does_not_mind_cuts(bytes: &[u8]) {
    for encoding in ["gzip", "deflate"] {
        let whole = read("text/event-stream", encoding, [bytes]);
        assert_eq!(read("text/event-stream", encoding, cut(bytes, 40)), whole, "{encoding}, cut");
        assert_eq!(read("text/event-stream", encoding, bytes.chunks(1)), whole, "{encoding}, byte by byte");
    }
}

/// What is compressed reads as if it were not, in whichever way.
pub(crate) fn compression_makes_no_difference(bytes: &[u8], way: usize) {
    let plain = read("application/json", "", [bytes]);
    let (encoding, bytes) = compress(bytes, way);
    assert_eq!(read("application/json", encoding, [bytes.as_slice()]), plain, "{encoding}");
    assert_eq!(read("application/json", encoding, cut(&bytes, 40)), plain, "{encoding}, cut");
}

/// The same in every way to compress it.
pub(crate) fn compressed(bytes: &[u8]) -> [(&'static str, Vec<u8>); 4] {
    [0, 1, 2, 3].map(|way| compress(bytes, way))
}

/// One of the ways to compress: gzip, two members of gzip, zlib, raw deflate; at any level.
fn compress(bytes: &[u8], way: usize) -> (&'static str, Vec<u8>) {
    let level = Compression::new(u32::try_from(bytes.len() % 10).unwrap());
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), level);
        // As a server does that flushes after an event.
        for part in bytes.chunks(1 + bytes.len() / 3) {
            encoder.write_all(part).unwrap();
            encoder.flush().unwrap();
        }
        encoder.finish().unwrap()
    };
    match way % 4 {
        0 => ("gzip", gzip(bytes)),
        1 => {
            let (first, second) = bytes.split_at(bytes.len() / 2);
            ("gzip", [gzip(first), gzip(second)].concat())
        }
        2 => {
            let mut zlib = ZlibEncoder::new(Vec::new(), level);
            zlib.write_all(bytes).unwrap();
            ("deflate", zlib.finish().unwrap())
        }
        _ => {
            let mut raw = DeflateEncoder::new(Vec::new(), level);
            raw.write_all(bytes).unwrap();
            ("deflate", raw.finish().unwrap())
        }
    }
}

/// The dropper takes out what it is to take out and nothing else, in any cuts, and holds no more than it may.
pub(crate) fn dropper_takes_out_what_it_is_to(stream: &[u8]) {
    let expected = without_unasked(stream);
    let same =
        |out: Vec<u8>, how| assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{how}");
    same(pass([stream]), "whole");
    same(pass(cut(stream, 7)), "cut");
    let (mut dropper, mut out, mut pushed) = (Dropper::new(), Vec::new(), 0);
    for byte in stream.chunks(1) {
        dropper.push(byte, &mut out);
        pushed += 1;
        let gone = expected.len().abs_diff(stream.len());
        assert!(out.len() + LARGEST + gone + 1 >= pushed, "{pushed} bytes pushed, {} out", out.len());
    }
    dropper.finish(&mut out);
    same(out, "byte by byte");
}

/// The stream without the events that report usage and have no choices, worked out in the plainest way.
pub(crate) fn without_unasked(stream: &[u8]) -> Vec<u8> {
    let (mut out, mut event) = (Vec::new(), Vec::<&[u8]>::new());
    let mark = stream.iter().zip(b"\xef\xbb\xbf").take_while(|(one, other)| one == other).count();
    let (begun, rest) = stream.split_at(mark);
    out.extend_from_slice(begun);
    // What starts with half a mark is some other field, of which the mark has gone on.
    let mut other = mark % 3 != 0;
    for line in lines(rest) {
        let other = std::mem::take(&mut other);
        if event.is_empty() && line.starts_with(b":") && !other {
            out.extend_from_slice(line);
        } else if bare(line).is_empty() && !other {
            let bytes = event.concat();
            if bytes.len() > LARGEST || !is_unasked(&event, &bytes) {
                out.extend_from_slice(&bytes);
                out.extend_from_slice(line);
            }
            event.clear();
        } else {
            event.push(line);
        }
    }
    out.extend(event.concat());
    out
}

/// Lines, with their ends.
fn lines(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    while !bytes.is_empty() {
        let end = bytes
            .iter()
            .position(|byte| matches!(byte, b'\n' | b'\r'))
            .map_or(bytes.len(), |at| if bytes[at..].starts_with(b"\r\n") { at + 2 } else { at + 1 });
        let (line, rest) = bytes.split_at(end);
        lines.push(line);
        bytes = rest;
    }
    lines
}

fn bare(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn is_unasked(event: &[&[u8]], bytes: &[u8]) -> bool {
    let said: Vec<&[u8]> = event
        .iter()
        .filter_map(|line| bare(line).strip_prefix(b"data"))
        .filter_map(|rest| if rest.is_empty() { Some(rest) } else { rest.strip_prefix(b":") })
        .map(|said| said.strip_prefix(b" ").unwrap_or(said))
        .collect();
    match serde_json::from_str::<Chunk>(&String::from_utf8_lossy(&said.join(&b'\n'))) {
        Ok(Chunk { choices, usage }) => {
            let all = |kinds: &[Kind], kind| !kinds.is_empty() && kinds.iter().all(|one| *one == kind);
            all(&choices, Kind::EmptyList) && all(&usage, Kind::Object)
        }
        // What is not JSON may go either way, but always the same: here after a line, and with a line end that no CR before it can take for its own.
        Err(_) => pass([&b"\n"[..], bytes, b"\r\n"]).len() == 1,
    }
}

/// What an object has as `choices` and `usage`: everything, if more than once.
#[derive(Default)]
struct Chunk {
    choices: Vec<Kind>,
    usage: Vec<Kind>,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    EmptyList,
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Chunk {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Chunk;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Chunk, A::Error> {
                let mut chunk = Chunk::default();
                while let Some(name) = members.next_key::<String>()? {
                    match name.as_str() {
                        "choices" => chunk.choices.push(members.next_value()?),
                        "usage" => chunk.usage.push(members.next_value()?),
                        _ => drop(members.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(chunk)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Chunk, A::Error> {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Chunk::default())
            }

            fn visit_unit<E>(self) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }

            fn visit_bool<E>(self, _: bool) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }

            fn visit_i64<E>(self, _: i64) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }

            fn visit_u64<E>(self, _: u64) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }

            fn visit_f64<E>(self, _: f64) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }

            fn visit_str<E>(self, _: &str) -> Result<Chunk, E> {
                Ok(Chunk::default())
            }
        }
        deserializer.deserialize_any(Members)
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::Array(items) if items.is_empty() => Self::EmptyList,
            serde_json::Value::Object(_) => Self::Object,
            _ => Self::Other,
        })
    }
}
