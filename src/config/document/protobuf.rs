//! A serialized `google.protobuf.Struct`, read in place.
//!
//! ```text
//! Struct     1: entry {1: name, 2: Value}, repeated
//! Value      1: null │ 2: double │ 3: string │ 4: bool │ 5: Struct │ 6: ListValue
//! ListValue  1: Value, repeated
//! ```

use super::{List, Object, Source, Value};
use std::borrow::Cow;
use std::fmt;

/// How many messages may stand in each other: checking takes a piece of the stack for each.
const MAX_DEPTH: usize = 100;

/// Checks that `bytes` are a Struct; fields that a Struct does not have are stepped over.
pub(super) fn parse(bytes: &[u8]) -> Option<Value<'_>> {
    check(Message::Struct, bytes, MAX_DEPTH)?;
    Some(Value::Object(Object(Source::Protobuf(Fields(bytes)))))
}

/// The fields of a message that are left.
#[derive(Clone, PartialEq)]
pub(super) struct Fields<'a>(&'a [u8]);

/// Not the bytes: keys may be in them.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of protobuf", self.0.len())
    }
}

/// What a field holds, by its wire type.
#[derive(Clone, Copy)]
pub(super) enum Wire<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32,
}

/// A message that a Struct is made of.
#[derive(Clone, Copy)]
enum Message {
    Struct,
    Entry,
    Value,
    List,
}

/// The entries of a Struct.
pub(super) fn entries<'a>(fields: Fields<'a>) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
    fields.filter_map(|field| {
        let (1, Wire::Bytes(entry)) = field else {
            return None;
        };
        // What has its default value may be left out.
        let (mut name, mut found) = ("", Value::Null);
        for field in Fields(entry) {
            match field {
                (1, Wire::Bytes(text)) => name = std::str::from_utf8(text).ok()?,
                (2, Wire::Bytes(message)) => found = value(message),
                _ => {}
            }
        }
        Some((Cow::Borrowed(name), found))
    })
}

/// A Value. Of several the last one counts.
fn value(message: &[u8]) -> Value<'_> {
    let kinds = Fields(message).filter_map(|field| {
        Some(match field {
            (1, Wire::Varint(_)) => Value::Null,
            (2, Wire::Fixed64(bytes)) => Value::number(f64::from_le_bytes(bytes)),
            (3, Wire::Bytes(text)) => Value::Text(Cow::Borrowed(std::str::from_utf8(text).ok()?)),
            (4, Wire::Varint(value)) => Value::Bool(value != 0),
            (5, Wire::Bytes(message)) => Value::Object(Object(Source::Protobuf(Fields(message)))),
            (6, Wire::Bytes(message)) => Value::List(List(Source::Protobuf(Fields(message)))),
            _ => return None,
        })
    });
    kinds.last().unwrap_or(Value::Null)
}

/// Checks a message with all that is in it.
fn check(message: Message, bytes: &[u8], depth: usize) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let mut fields = Fields(bytes);
    while !fields.0.is_empty() {
        let (number, wire) = fields.field()?;
        match (message, number, wire) {
            (Message::Struct, 1, Wire::Bytes(entry)) => check(Message::Entry, entry, depth)?,
            (Message::Entry, 2, Wire::Bytes(value)) | (Message::List, 1, Wire::Bytes(value)) => {
                check(Message::Value, value, depth)?;
            }
            (Message::Value, 5, Wire::Bytes(message)) => check(Message::Struct, message, depth)?,
            (Message::Value, 6, Wire::Bytes(message)) => check(Message::List, message, depth)?,
            (Message::Entry, 1, Wire::Bytes(text)) | (Message::Value, 3, Wire::Bytes(text)) => {
                std::str::from_utf8(text).ok()?;
            }
            (Message::Value, 1 | 4, Wire::Varint(_)) | (Message::Value, 2, Wire::Fixed64(_)) => {}
            (Message::Struct | Message::List, 1, _) | (Message::Entry, 1 | 2, _) | (Message::Value, 1..=6, _) => {
                return None;
            }
            // As newer versions of a message may bring them.
            _ => {}
        }
    }
    Some(())
}

impl<'a> Fields<'a> {
    /// The next value of a ListValue.
    pub(super) fn item(&mut self) -> Option<Value<'a>> {
        self.find_map(|field| match field {
            (1, Wire::Bytes(item)) => Some(value(item)),
            _ => None,
        })
    }

    fn field(&mut self) -> Option<(u64, Wire<'a>)> {
        let tag = u32::try_from(self.varint()?).ok()?;
        let wire = match tag & 7 {
            0 => Wire::Varint(self.varint()?),
            1 => Wire::Fixed64(*self.take(8)?.first_chunk()?),
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Wire::Fixed32)?,
            // Groups, which nobody writes any more.
            _ => return None,
        };
        // Fields are numbered from 1.
        (tag >> 3 != 0).then_some((u64::from(tag >> 3), wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for shift in (0_u32..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            let bits = u64::from(byte & 0x7f);
            value |= bits.checked_shl(shift)?;
            if byte & 0x80 == 0 {
                // The tenth byte has room for one bit.
                return (shift < 63 || bits <= 1).then_some(value);
            }
        }
        None
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Wire<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.field()
    }
}
