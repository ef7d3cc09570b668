//! JSON text, read in place.

use super::{List, Object, Source, Value};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Checks that `bytes` are one JSON value and nothing else.
pub(super) fn parse(bytes: &[u8]) -> Result<Value<'_>, serde_json::Error> {
    Any { keep_text: false }.read(bytes)?;
    Ok(Scanner::of(bytes).value().unwrap_or(Value::Null))
}

/// Walks over text that has been checked. What could not be there if it had been ends the walk.
#[derive(Clone, PartialEq)]
pub(super) struct Scanner<'a> {
    rest: &'a [u8],
}

/// Not the text: keys may be in it.
impl fmt::Debug for Scanner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of JSON", self.rest.len())
    }
}

impl<'a> Scanner<'a> {
    pub(super) fn of(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// The next item of a list.
    pub(super) fn item(&mut self) -> Option<Value<'a>> {
        self.separator();
        self.value()
    }

    /// Steps over the next item of a list.
    pub(super) fn skip_item(&mut self) -> Option<()> {
        self.separator();
        match self.rest.first()? {
            b'"' => self.string().map(drop),
            b'[' | b'{' => self.nested().map(drop),
            _ => self.word().map(drop),
        }
    }

    /// The next field of an object.
    pub(super) fn field(&mut self) -> Option<(Cow<'a, str>, Value<'a>)> {
        self.separator();
        let name = self.string()?;
        self.separator();
        Some((name, self.value()?))
    }

    fn value(&mut self) -> Option<Value<'a>> {
        self.separator();
        Some(match self.rest.first()? {
            b'"' => Value::Text(self.string()?),
            b'[' => Value::List(List(Source::Json(self.nested()?))),
            b'{' => Value::Object(Object(Source::Json(self.nested()?))),
            _ => scalar(self.word()?),
        })
    }

    /// Steps over what stands between values.
    fn separator(&mut self) {
        while let Some((b' ' | b'\t' | b'\r' | b'\n' | b',' | b':', rest)) = self.rest.split_first() {
            self.rest = rest;
        }
    }

    /// Takes the first `length` bytes.
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// A string; only one with escapes is copied.
    fn string(&mut self) -> Option<Cow<'a, str>> {
        let quoted = self.take(string_length(self.rest)?)?;
        let text = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
        if text.contains(&b'\\') {
            let read = Any { keep_text: true }.read(quoted);
            return if let Ok(Scalar::Text(text)) = read { Some(Cow::Owned(text)) } else { None };
        }
        std::str::from_utf8(text).ok().map(Cow::Borrowed)
    }

    /// What is inside of the list or object that starts here.
    fn nested(&mut self) -> Option<Self> {
        let (mut depth, mut at) = (0_usize, 0_usize);
        loop {
            let length = match self.rest.get(at)? {
                b'"' => string_length(self.rest.get(at..)?)?,
                b'[' | b'{' => {
                    depth = depth.checked_add(1)?;
                    1
                }
                b']' | b'}' => {
                    depth = depth.checked_sub(1)?;
                    1
                }
                _ => 1,
            };
            at = at.checked_add(length)?;
            if depth == 0 {
                let [_, inside @ .., _] = self.take(at)? else {
                    return None;
                };
                return Some(Self { rest: inside });
            }
        }
    }

    /// A number, or one of the words that JSON has.
    fn word(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']' | b'}'));
        let word = self.take(end.unwrap_or(self.rest.len()))?;
        (!word.is_empty()).then_some(word)
    }
}

/// The length of the string that `text` starts with, quotes included.
fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1_usize;
    loop {
        at = at.checked_add(match text.get(at)? {
            b'"' => return at.checked_add(1),
            b'\\' => 2,
            _ => 1,
        })?;
    }
}

fn scalar<'a>(word: &[u8]) -> Value<'a> {
    match word {
        b"null" => Value::Null,
        b"true" => Value::Bool(true),
        b"false" => Value::Bool(false),
        number => match std::str::from_utf8(number).ok().and_then(|number| number.parse().ok()) {
            Some(integer) => Value::Integer(integer),
            None => match (Any { keep_text: false }).read(number) {
                Ok(Scalar::Number(number)) => Value::number(number),
                _ => Value::Null,
            },
        },
    }
}

/// What is kept of a value that was read.
enum Scalar {
    Number(f64),
    Text(String),
    /// Anything else; and text that was not asked for.
    Other,
}

/// Reads any value. One reader for all, which takes whatever comes: the library's words for what a reader does not take, with all that prints
/// numbers, are a tenth of the module.
#[derive(Clone, Copy)]
struct Any {
    keep_text: bool,
}

impl Any {
    /// Reads one value and nothing else.
    fn read(self, bytes: &[u8]) -> Result<Scalar, serde_json::Error> {
        let mut document = serde_json::Deserializer::from_slice(bytes);
        let scalar = self.deserialize(&mut document)?;
        document.end()?;
        Ok(scalar)
    }
}

impl<'de> DeserializeSeed<'de> for Any {
    type Value = Scalar;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Scalar, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any {
    type Value = Scalar;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Scalar, E> {
        Ok(Scalar::Other)
    }

    fn visit_i64<E>(self, number: i64) -> Result<Scalar, E> {
        #[expect(clippy::cast_precision_loss, reason = "as every reader of doubles has it")]
        Ok(Scalar::Number(number as f64))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
        #[expect(clippy::cast_precision_loss, reason = "as every reader of doubles has it")]
        Ok(Scalar::Number(number as f64))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Scalar, E> {
        Ok(Scalar::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
        Ok(if self.keep_text { Scalar::Text(text.to_owned()) } else { Scalar::Other })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Scalar, A::Error> {
        while items.next_element_seed(self)?.is_some() {}
        Ok(Scalar::Other)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Scalar, A::Error> {
        while fields.next_key_seed(self)?.is_some() {
            fields.next_value_seed(self)?;
        }
        Ok(Scalar::Other)
    }
}
