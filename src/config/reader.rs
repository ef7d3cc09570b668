//! Reads a document into the types of the language, and collects every mistake with its path instead of stopping at the first.
//!
//! It is a serde [`Deserializer`], so that the language is written as types with derived implementations. What a type cannot
//! take is noted where it stands, and [`Field`] swallows the error: the rest is read on.

use super::document::Value;
use super::{Mistake, Mistakes};
use serde::de::value::StrDeserializer;
use serde::de::{
    self, Deserialize, DeserializeOwned, DeserializeSeed, Deserializer, Expected, IntoDeserializer, MapAccess,
    SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::marker::PhantomData;

/// A field of the language: left out, wrong (and noted), or there.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Field<T> {
    #[default]
    Absent,
    Wrong,
    Given(T),
}

/// An object with names of the user's choice, in the order given.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entries<T>(pub(super) Vec<(String, Field<T>)>);

const NOT_YET: &str = "not supported by this version";

/// What there is to know of a language besides its types.
#[derive(Clone, Copy)]
pub(super) struct Grammar {
    /// Fields and words that this version does not have yet, by the Rust name of their type.
    pub(super) later: &'static [(&'static str, &'static [&'static str])],
    /// Whether what stands at a path may be a secret: then no mistake says it.
    pub(super) is_secret: fn(&str) -> bool,
}

/// Reads `T`; every mistake goes to `mistakes`.
pub(super) fn read<T: DeserializeOwned>(value: &Value, grammar: Grammar, mistakes: &mut Mistakes) -> Field<T> {
    let noted = RefCell::new(std::mem::take(&mut mistakes.0));
    let reader = Reader { value, path: String::new(), grammar, mistakes: &noted };
    let field = Field::deserialize(reader).unwrap_or(Field::Wrong);
    mistakes.0 = noted.into_inner();
    field
}

/// `parent.name`; names that could be misread are quoted.
pub(super) fn child(parent: &str, name: &str) -> String {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    match (plain, parent) {
        (true, "") => name.to_owned(),
        (true, _) => format!("{parent}.{name}"),
        (false, _) => format!("{parent}[{name:?}]"),
    }
}

// === impl Field ===

impl<T> Field<T> {
    pub(super) fn given(self) -> Option<T> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Wrong => None,
        }
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(T::deserialize(deserializer).map_or(Self::Wrong, Self::Given))
    }
}

// === impl Entries ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for EntriesVisitor<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a field for each name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Entries<T>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = fields.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }

        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

// === impl Reader ===

/// A value and where it stands.
struct Reader<'a> {
    value: &'a Value,
    path: String,
    grammar: Grammar,
    mistakes: &'a RefCell<Vec<Mistake>>,
}

impl<'a> Reader<'a> {
    fn note(&self, path: String, message: String) {
        self.mistakes.borrow_mut().push(Mistake { path, message });
    }

    /// Notes an error here, unless it was noted further down.
    fn noted<T>(&self, result: Result<T, Refused>) -> Result<T, Refused> {
        result.map_err(|Refused(message)| {
            if let Some(message) = message {
                self.note(self.path.clone(), message);
            }
            Refused(None)
        })
    }

    /// Whether a field or a word of the type `name` comes with a later version.
    fn is_later(&self, name: &str, word: &str) -> bool {
        self.grammar.later.iter().any(|(of, later)| *of == name && later.contains(&word))
    }

    fn at(&self, path: String, value: &'a Value) -> Self {
        Self { value, path, grammar: self.grammar, mistakes: self.mistakes }
    }

    /// Whether what stands here may be a secret.
    fn is_secret(&self) -> bool {
        let said = matches!(self.value, Value::Text(_) | Value::Integer(_) | Value::Fraction(_));
        said && (self.grammar.is_secret)(&self.path)
    }

    fn unexpected(&self) -> Unexpected<'a> {
        match self.value {
            _ if self.is_secret() => Unexpected::Other("something else"),
            Value::Null => Unexpected::Unit,
            Value::Bool(value) => Unexpected::Bool(*value),
            Value::Integer(value) => Unexpected::Signed(*value),
            Value::Fraction(value) => Unexpected::Float(*value),
            Value::Text(value) => Unexpected::Str(value),
            Value::List(_) => Unexpected::Seq,
            Value::Object(_) => Unexpected::Map,
        }
    }

    /// What to say where text is wanted. YAML makes booleans and numbers of some words: those need quotes.
    fn not_text(&self, expected: &dyn Expected) -> Refused {
        let Refused(message) = de::Error::invalid_type(self.unexpected(), expected);
        let quote = matches!(self.value, Value::Bool(_) | Value::Integer(_) | Value::Fraction(_));
        Refused(message.map(|message| if quote { message + ": quote it" } else { message }))
    }

    /// The entries of an object that are to be read: each name once, and only `fields` where they are fixed.
    fn entries(&self, name: &str, fields: Option<&[&str]>) -> Vec<(&'a str, Self)> {
        let Value::Object(object) = self.value else {
            return Vec::new();
        };
        let mut seen = HashSet::new();
        let mut entries = Vec::with_capacity(object.len());
        for (key, value) in object {
            let path = child(&self.path, key);
            if !seen.insert(key.as_str()) {
                self.note(path, "expected this field once, got it twice".to_owned());
            } else if fields.is_none_or(|fields| fields.contains(&key.as_str())) {
                entries.push((key.as_str(), self.at(path, value)));
            } else if self.is_later(name, key) {
                self.note(path, NOT_YET.to_owned());
            } else {
                // The name itself may be one, where a space is missing behind a colon.
                let path = if (self.grammar.is_secret)(&path) { self.path.clone() } else { path };
                self.note(path, format!("unknown field, expected one of {}", fields.unwrap_or_default().join(", ")));
            }
        }
        entries
    }
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Refused;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let result = match self.value {
            _ if self.is_secret() => Err(de::Error::invalid_type(self.unexpected(), &visitor)),
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Fraction(value) => visitor.visit_f64(*value),
            Value::Text(value) => visitor.visit_borrowed_str(value),
            Value::List(list) => visitor.visit_seq(Items {
                items: list
                    .iter()
                    .enumerate()
                    .map(|(i, item)| self.at(format!("{}[{i}]", self.path), item))
                    .collect::<Vec<_>>()
                    .into_iter(),
            }),
            Value::Object(_) => visitor.visit_map(Fields { entries: self.entries("", None).into_iter(), value: None }),
        };
        self.noted(result)
    }

    /// Text; what stands there instead is said in the mistake.
    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let result = match self.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            _ => Err(self.not_text(&visitor)),
        };
        self.noted(result)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        self.deserialize_str(visitor)
    }

    /// Text that may be a secret: what stands there instead is not said. For an object the visitor is asked as for a newtype, to read it as
    /// what it likes.
    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let here = self.at(self.path.clone(), self.value);
        let result = match self.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Object(_) => visitor.visit_newtype_struct(here),
            _ => Err(de::Error::invalid_type(Unexpected::Other("something else"), &visitor)),
        };
        self.noted(result)
    }

    /// A whole number, or one in text: the host's YAML loader makes text of integers from 2³¹ on.
    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Refused> {
        let result = match self.value {
            Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => match text.parse() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => Err(de::Error::invalid_value(Unexpected::Str(text), &visitor)),
            },
            Value::Integer(number) => match u64::try_from(*number) {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_i64(*number),
            },
            _ => return self.deserialize_any(visitor),
        };
        self.noted(result)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let result = match self.value {
            Value::Text(text) if self.is_later(name, text) => Err(de::Error::custom(format!("{text} is {NOT_YET}"))),
            Value::Text(text) => visitor.visit_enum(StrDeserializer::new(text)),
            _ => Err(self.not_text(&OneOf(variants))),
        };
        self.noted(result)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Refused> {
        let result = match self.value {
            Value::Object(_) => {
                visitor.visit_map(Fields { entries: self.entries(name, Some(fields)).into_iter(), value: None })
            }
            _ => Err(de::Error::invalid_type(self.unexpected(), &WithFields(fields))),
        };
        self.noted(result)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char byte_buf option unit unit_struct newtype_struct
        seq tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a> {
    items: std::vec::IntoIter<Reader<'a>>,
}

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Refused;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Refused> {
        self.items.next().map(|item| seed.deserialize(item)).transpose()
    }
}

struct Fields<'a> {
    entries: std::vec::IntoIter<(&'a str, Reader<'a>)>,
    value: Option<Reader<'a>>,
}

impl<'a> MapAccess<'a> for Fields<'a> {
    type Error = Refused;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Refused> {
        let Some((key, value)) = self.entries.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        let key: StrDeserializer<'a, Refused> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Refused> {
        match self.value.take() {
            Some(value) => seed.deserialize(value),
            None => Err(de::Error::custom("a value was asked for before its name")),
        }
    }
}

// === impl Refused ===

/// Why a value was refused; `None` when that has been noted already.
#[derive(Debug)]
struct Refused(Option<String>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("refused"))
    }
}

impl std::error::Error for Refused {}

impl de::Error for Refused {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self(Some(message.to_string()))
    }

    fn invalid_type(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        // serde's word for what users know as a list.
        let expected = expected.to_string().replace("a sequence", "a list");
        Self(Some(format!("expected {expected}, got {}", Got(unexpected))))
    }

    fn invalid_value(unexpected: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(unexpected, expected)
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        Self::invalid_type(Unexpected::Str(variant), &OneOf(expected))
    }
}

/// A value as a mistake shows it.
struct Got<'a>(Unexpected<'a>);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Unexpected::Bool(value) => write!(f, "{value}"),
            Unexpected::Unsigned(value) => write!(f, "{value}"),
            Unexpected::Signed(value) => write!(f, "{value}"),
            Unexpected::Float(value) => write!(f, "{value}"),
            Unexpected::Str(text) => write!(f, "{text:?}"),
            Unexpected::Unit => f.write_str("null"),
            Unexpected::Seq => f.write_str("a list"),
            Unexpected::Map | Unexpected::NewtypeStruct => f.write_str("an object"),
            ref other => write!(f, "{other}"),
        }
    }
}

struct OneOf(&'static [&'static str]);

impl Expected for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => f.write_str(only),
            names => write!(f, "one of {}", names.join(", ")),
        }
    }
}

struct WithFields(&'static [&'static str]);

impl Expected for WithFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [only] => write!(f, "an object with the field {only}"),
            names => write!(f, "an object with some of the fields {}", names.join(", ")),
        }
    }
}
