//! Reads a document into the types of the language, and collects every mistake with its path instead of stopping at the first.
//!
//! A type says what it takes of a [`Reader`] and names what it expects. What it cannot take is noted where it stands, and [`Field`]
//! swallows the error: the rest is read on. Not serde: what its derived code weighs would be half of the module.

use super::decimal::{ONE, millionths};
use super::document::{List, Object, Value};
use super::{Mistake, Mistakes};
use crate::cost::Thousandths;
use crate::order::sorted;
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

/// A list that may be long: its items are read one by one, when they are asked for.
#[derive(Debug)]
pub(super) struct Items<'a, T> {
    list: List<'a>,
    read: usize,
    path: String,
    grammar: Grammar,
    item: PhantomData<T>,
}

/// What can be read of a document.
pub(super) trait Read<'a>: Sized {
    /// Reads what stands here.
    ///
    /// # Errors
    /// When that is something else, which has been noted.
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused>;
}

/// A field that waits for its value. One walk over an object's fields serves all objects, whatever the types of their fields are: a walk for each
/// would be a fiftieth of the module.
pub(super) trait Slot<'a> {
    /// Reads what stands here; it may be wrong.
    fn fill(&mut self, reader: Reader<'a, '_>);
}

/// A value was refused, and that has been noted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused;

/// A value, where it stands, and where mistakes are noted.
pub(super) struct Reader<'a, 'n> {
    value: Value<'a>,
    notes: &'n mut Notes,
}

/// Where the reader is, and the mistakes so far.
struct Notes {
    path: String,
    grammar: Grammar,
    mistakes: Vec<Mistake>,
}

/// What there is to know of a language besides its types.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grammar {
    /// Whether what stands at a path may be a secret: then no mistake says it.
    pub(super) is_secret: fn(&str) -> bool,
}

/// Reads `T`; every mistake goes to `mistakes`.
pub(super) fn read<'a, T: Read<'a>>(value: Value<'a>, grammar: Grammar, mistakes: &mut Mistakes) -> Field<T> {
    let mut notes = Notes { path: String::new(), grammar, mistakes: std::mem::take(&mut mistakes.0) };
    let field = Field::read(Reader { value, notes: &mut notes });
    mistakes.0 = notes.mistakes;
    field
}

/// `parent.name`; names that could be misread are quoted.
pub(super) fn child(parent: &str, name: &str) -> String {
    let mut path = parent.to_owned();
    step_into(&mut path, name);
    path
}

fn step_into(path: &mut String, name: &str) {
    let plain = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
    if plain && !path.is_empty() {
        path.push('.');
    }
    if plain {
        path.push_str(name);
    } else {
        path.push_str(&format!("[{name:?}]"));
    }
}

/// Declares an object of the language: a struct of [`Field`]s that is read from the fields of their names. A lifetime is `'a`, the document's.
macro_rules! object {
    (
        $(#[$doc:meta])*
        $visible:vis struct $object:ident $(<$lifetime:lifetime>)? {
            $($(#[$field_doc:meta])* $field_visible:vis $field:ident: Field<$value:ty>,)*
        }
    ) => {
        #[derive(Debug, Default)]
        #[cfg_attr(test, derive(JsonSchema), schemars(default, deny_unknown_fields))]
        $(#[$doc])*
        $visible struct $object $(<$lifetime>)? {
            $($(#[$field_doc])* $field_visible $field: Field<$value>,)*
        }

        impl<'a> $crate::config::reader::Read<'a> for $object $(<$lifetime>)? {
            fn read(
                reader: $crate::config::reader::Reader<'a, '_>,
            ) -> Result<Self, $crate::config::reader::Refused> {
                let mut object = Self::default();
                reader.object(&mut [$((
                    const { $crate::config::reader::unraw(stringify!($field)) },
                    &mut object.$field as &mut dyn $crate::config::reader::Slot<'a>,
                )),*])?;
                Ok(object)
            }
        }
    };
}

/// Declares a choice between words.
macro_rules! words {
    (
        $(#[$doc:meta])*
        $visible:vis enum $choice:ident { $($variant:ident = $word:tt,)* }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        #[cfg_attr(test, derive(JsonSchema))]
        $visible enum $choice {
            $(#[cfg_attr(test, schemars(rename = $word))] $variant,)*
        }

        impl<'a> $crate::config::reader::Read<'a> for $choice {
            fn read(
                reader: $crate::config::reader::Reader<'a, '_>,
            ) -> Result<Self, $crate::config::reader::Refused> {
                reader.word(&[$(($word, Self::$variant)),*])
            }
        }
    };
}

pub(super) use {object, words};

/// A field's name without what lets it be a keyword of Rust.
pub(super) const fn unraw(name: &str) -> &str {
    match name.as_bytes() {
        [b'r', b'#', plain @ ..] => match std::str::from_utf8(plain) {
            Ok(plain) => plain,
            Err(_) => name,
        },
        _ => name,
    }
}

/// What only the build that counts tokens has. In the other one it is refused, and has no code.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OfTokens<T>(T);

const LOAD: &str = "not supported by allowance.wasm: load allowance-llm.wasm, which counts tokens";

// === impl OfTokens ===

impl<'a, T: Read<'a>> Read<'a> for OfTokens<T> {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        if cfg!(feature = "llm") {
            return T::read(reader).map(Self);
        }
        reader.notes.note(LOAD.to_owned());
        Err(Refused)
    }
}

impl<T> Field<OfTokens<T>> {
    /// What is in it, wherever it may be said.
    pub(super) fn known(self) -> Field<T> {
        match self {
            Self::Absent => Field::Absent,
            Self::Given(OfTokens(value)) if cfg!(feature = "llm") => Field::Given(value),
            Self::Wrong | Self::Given(_) => Field::Wrong,
        }
    }
}

// === impl Field ===

impl<T> Field<T> {
    pub(super) fn read<'a>(reader: Reader<'a, '_>) -> Self
    where
        T: Read<'a>,
    {
        T::read(reader).map_or(Self::Wrong, Self::Given)
    }

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

impl<'a, T: Read<'a>> Slot<'a> for Field<T> {
    fn fill(&mut self, reader: Reader<'a, '_>) {
        *self = Self::read(reader);
    }
}

// === impl Items ===

impl<'a, T: Read<'a>> Items<'a, T> {
    /// How many items are left.
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Reads the next item; its mistakes go to `mistakes`.
    pub(super) fn next(&mut self, mistakes: &mut Mistakes) -> Option<Field<T>> {
        let value = self.list.next()?;
        let mut notes = Notes {
            path: std::mem::take(&mut self.path),
            grammar: self.grammar,
            mistakes: std::mem::take(&mut mistakes.0),
        };
        let item = notes.at_item(self.read, |notes| Field::read(Reader { value, notes }));
        self.read = self.read.saturating_add(1);
        (self.path, mistakes.0) = (notes.path, notes.mistakes);
        Some(item)
    }
}

// === impl Read ===

impl<'a> Read<'a> for bool {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        match reader.value {
            Value::Bool(value) => Ok(value),
            _ => Err(reader.refuse(&"a boolean")),
        }
    }
}

impl<'a, T: Read<'a>> Read<'a> for Vec<Field<T>> {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        let mut items = Self::new();
        reader.list(&mut |reader| items.push(Field::read(reader)))?;
        Ok(items)
    }
}

impl<'a, T> Read<'a> for Items<'a, T> {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        let Notes { ref path, grammar, .. } = *reader.notes;
        match reader.value {
            Value::List(list) => Ok(Self { list, read: 0, path: path.clone(), grammar, item: PhantomData }),
            _ => Err(reader.refuse(&LIST)),
        }
    }
}

impl<'a, T: Read<'a>> Read<'a> for Entries<T> {
    fn read(reader: Reader<'a, '_>) -> Result<Self, Refused> {
        let mut entries = Vec::new();
        reader.entries(&mut |name, reader| entries.push((name.to_owned(), Field::read(reader))))?;
        Ok(Self(entries))
    }
}

// === impl Notes ===

impl Notes {
    fn note(&mut self, message: String) {
        self.mistakes.push(Mistake { path: self.path.clone(), message });
    }

    /// Goes to an item of a list and back.
    fn at_item<T>(&mut self, index: usize, visit: impl FnOnce(&mut Self) -> T) -> T {
        let here = self.path.len();
        self.path.push_str(&format!("[{index}]"));
        let answer = visit(self);
        self.path.truncate(here);
        answer
    }

    /// Goes to a field of an object and back.
    fn at_field(&mut self, name: &str, visit: impl FnOnce(&mut Self)) {
        let here = self.path.len();
        step_into(&mut self.path, name);
        visit(self);
        self.path.truncate(here);
    }

    /// Reads the fields of an object, each name once.
    fn fields<'a>(&mut self, object: &Object<'a>, read: &mut dyn FnMut(&str, Reader<'a, '_>)) {
        let fields = object.fields();
        let names: Vec<(&str, usize)> = fields.iter().enumerate().map(|(at, (name, _))| (&**name, at)).collect();
        let names = sorted(names);
        let again = names.iter().zip(names.iter().skip(1)).filter(|(one, other)| one.0 == other.0);
        let again: Vec<usize> = again.map(|(_, (_, at))| *at).collect();
        for (at, (name, value)) in fields.iter().enumerate() {
            self.at_field(name, |notes| {
                if again.contains(&at) {
                    notes.note("expected this field once, got it twice".to_owned());
                } else {
                    read(name, Reader { value: value.clone(), notes });
                }
            });
        }
    }

    fn is_secret(&self, path: &str) -> bool {
        (self.grammar.is_secret)(path)
    }
}

// === impl Reader ===

impl<'a> Reader<'a, '_> {
    pub(super) fn is_object(&self) -> bool {
        matches!(self.value, Value::Object(_))
    }

    /// Notes that something else was expected.
    fn refuse(self, expected: &dyn fmt::Display) -> Refused {
        self.refuse_but(expected, "")
    }

    /// Notes that something else was expected, and advice.
    fn refuse_but(self, expected: &dyn fmt::Display, advice: &str) -> Refused {
        let said = matches!(self.value, Value::Text(_) | Value::Integer(_) | Value::Fraction(_));
        let got = if said && self.notes.is_secret(&self.notes.path) { Got(None) } else { Got(Some(&self.value)) };
        self.notes.note(format!("expected {expected}, got {got}{advice}"));
        Refused
    }

    /// Notes that text was expected. YAML makes booleans and numbers of some words: those need quotes.
    fn refuse_as_text(self, expected: &dyn fmt::Display) -> Refused {
        let quote = matches!(self.value, Value::Bool(_) | Value::Integer(_) | Value::Fraction(_));
        self.refuse_but(expected, if quote { ": quote it" } else { "" })
    }

    /// Text; what stands there instead is said in the mistake.
    pub(super) fn text<T>(self, expected: &str, parse: fn(&str) -> Option<T>) -> Result<T, Refused> {
        match &self.value {
            Value::Text(text) => parse(text).ok_or_else(|| self.refuse(&expected)),
            _ => Err(self.refuse_as_text(&expected)),
        }
    }

    /// Text, or a whole number as text.
    pub(super) fn number_or_text<T>(self, expected: &str, parse: fn(&str) -> Option<T>) -> Result<T, Refused> {
        let parsed = match &self.value {
            Value::Text(text) => parse(text),
            Value::Integer(number) => parse(&number.to_string()),
            _ => None,
        };
        parsed.ok_or_else(|| self.refuse(&expected))
    }

    /// Text that may be a secret: what stands there instead is not said.
    pub(super) fn secret<T>(
        self,
        expected: &dyn fmt::Display,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Refused> {
        let parsed = match &self.value {
            Value::Text(text) => parse(text),
            Value::Object(_) => return Err(self.refuse(expected)),
            _ => None,
        };
        parsed.ok_or_else(|| {
            self.notes.note(format!("expected {expected}, got {}", Got(None)));
            Refused
        })
    }

    /// A whole number, or one in text: the host's YAML loader makes text of integers from 2³¹ on.
    pub(super) fn number(self, from: u64, to: u64) -> Result<u64, Refused> {
        let number = match &self.value {
            Value::Text(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok(),
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        let number = number.filter(|number| (from..=to).contains(number));
        number.ok_or_else(|| self.refuse(&format_args!("a whole number from {from} to {to}")))
    }

    /// A number between 0 and 1, in millionths.
    pub(super) fn fraction(self) -> Result<u32, Refused> {
        let number = self.decimal().filter(|number| *number <= ONE).and_then(|number| u32::try_from(number).ok());
        number.ok_or_else(|| self.refuse(&"a number from 0 to 1"))
    }

    /// A number up to 1000, in thousandths, of which there are at least so many.
    pub(super) fn thousandths(self, least: u32) -> Result<Thousandths, Refused> {
        let whole =
            self.decimal().filter(|number| number.is_multiple_of(ONE / 1000)).map(|number| number / (ONE / 1000));
        let thousandths =
            whole.and_then(|number| u32::try_from(number).ok()).filter(|n| (least..=1_000_000).contains(n));
        let least = if least == 0 { "0" } else { "0.001" };
        let expected = format!("a number from {least} to 1000 with at most three decimals");
        thousandths.map(Thousandths).ok_or_else(|| self.refuse(&expected))
    }

    /// A number in millionths. Also one in text: the host's YAML loader makes text of what is not whole.
    fn decimal(&self) -> Option<u64> {
        match &self.value {
            Value::Text(text) => millionths(text),
            Value::Integer(number) => u64::try_from(*number).ok().and_then(|number| number.checked_mul(ONE)),
            Value::Fraction(number) => number.millionths(),
            _ => None,
        }
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(self, words: &[(&str, T)]) -> Result<T, Refused> {
        let Value::Text(text) = &self.value else {
            return Err(self.refuse_as_text(&one_of(words)));
        };
        let found = words.iter().find(|(word, _)| word == text);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| self.refuse(&one_of(words)))
    }

    /// A list.
    fn list(self, read: &mut dyn FnMut(Reader<'a, '_>)) -> Result<(), Refused> {
        let Value::List(list) = self.value else {
            return Err(self.refuse(&LIST));
        };
        for (index, value) in list.enumerate() {
            self.notes.at_item(index, |notes| read(Reader { value, notes }));
        }
        Ok(())
    }

    /// An object with names of the user's choice.
    fn entries(self, read: &mut dyn FnMut(&str, Reader<'a, '_>)) -> Result<(), Refused> {
        let Value::Object(object) = &self.value else {
            return Err(self.refuse(&"an object with a field for each name"));
        };
        self.notes.fields(object, read);
        Ok(())
    }

    /// An object with some of these fields.
    pub(super) fn object(self, slots: &mut [(&str, &mut dyn Slot<'a>)]) -> Result<(), Refused> {
        let Value::Object(object) = &self.value else {
            let expected = match slots {
                [(only, _)] => format!("an object with the field {only}"),
                slots => format!("an object with some of the fields {}", names(slots)),
            };
            return Err(self.refuse(&expected));
        };
        let here = self.notes.path.len();
        self.notes.fields(object, &mut |field, reader| {
            if let Some((_, slot)) = slots.iter_mut().find(|(name, _)| *name == field) {
                slot.fill(reader);
            } else {
                let notes = reader.notes;
                // The name itself may be one, where a space is missing behind a colon.
                if notes.is_secret(&notes.path) {
                    notes.path.truncate(here);
                }
                notes.note(format!("unknown field, expected one of {}", names(slots)));
            }
        });
        Ok(())
    }
}

const LIST: &str = "a list";

fn one_of<T>(words: &[(&str, T)]) -> String {
    match words {
        [(only, _)] => (*only).to_owned(),
        words => format!("one of {}", names(words)),
    }
}

fn names<T>(named: &[(&str, T)]) -> String {
    let names: Vec<&str> = named.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// A value as a mistake shows it; none where it may be a secret.
struct Got<'a>(Option<&'a Value<'a>>);

impl fmt::Display for Got<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("something else"),
            Some(Value::Null) => f.write_str("null"),
            Some(Value::Bool(value)) => write!(f, "{value}"),
            Some(Value::Integer(value)) => write!(f, "{value}"),
            Some(Value::Fraction(value)) => write!(f, "{value}"),
            Some(Value::Text(text)) => write!(f, "{text:?}"),
            Some(Value::List(_)) => f.write_str("a list"),
            Some(Value::Object(_)) => f.write_str("an object"),
        }
    }
}
