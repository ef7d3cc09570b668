//! A configuration as it arrives, in either form, before anybody knows what it means.
//!
//! It is checked as a whole at once, and then read in place: a list or an object is the bytes it stands in, and is taken apart one
//! level at a time. Memory of a module never shrinks, so a tree of a hundred thousand consumers would be paid for ever.

mod json;
mod protobuf;

use super::decimal::Fraction;
use crate::order::sorted;
use std::borrow::Cow;

/// A value; what is in a list or an object has not been looked at yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Integer(i64),
    Fraction(Fraction),
    Text(Cow<'a, str>),
    List(List<'a>),
    Object(Object<'a>),
}

/// The items of a list, taken one by one.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct List<'a>(Source<'a>);

/// The fields of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object<'a>(Source<'a>);

/// What is left to take apart.
#[derive(Clone, Debug, PartialEq)]
enum Source<'a> {
    Json(json::Scanner<'a>),
    Protobuf(protobuf::Fields<'a>),
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Reads JSON text, or the serialized `google.protobuf.Struct` that Envoy makes of native YAML. Both can start with byte
    /// 0x0a (a line feed; field 1 of a message), so JSON is tried first and the other form only when that fails.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            return Err("expected a configuration, got nothing".to_owned());
        }
        json::parse(bytes).or_else(|error| {
            let message = protobuf::parse(bytes);
            message.ok_or_else(|| format!("expected JSON or a google.protobuf.Struct, got neither: {error}"))
        })
    }

    /// A number as the host's formats carry it. Doubles are exact for every integer a configuration may hold.
    fn number(number: f64) -> Self {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if number.fract() == 0.0 && number.abs() < EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "integral and below 2^53")]
            return Self::Integer(number as i64);
        }
        Self::Fraction(Fraction(number))
    }
}

// === impl List ===

impl List<'_> {
    /// How many items are left.
    pub(super) fn len(&self) -> usize {
        match self.0.clone() {
            Source::Json(mut text) => std::iter::from_fn(|| text.skip_item()).count(),
            Source::Protobuf(mut fields) => std::iter::from_fn(|| fields.item()).count(),
        }
    }
}

impl<'a> Iterator for List<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        match &mut self.0 {
            Source::Json(text) => text.item(),
            Source::Protobuf(fields) => fields.item(),
        }
    }
}

// === impl Object ===

impl<'a> Object<'a> {
    /// The fields. Those of JSON text are in its order and with its duplicates, so that duplicates can be refused. A Struct has no order of
    /// its own, nor duplicates: its fields are sorted by name, lest its sender's hash function decide what comes first.
    pub(super) fn fields(&self) -> Vec<(Cow<'a, str>, Value<'a>)> {
        match self.0.clone() {
            Source::Json(mut text) => std::iter::from_fn(|| text.field()).collect(),
            Source::Protobuf(fields) => {
                let mut fields: Vec<_> = protobuf::entries(fields).map(Some).collect();
                let names = fields.iter().enumerate().filter_map(|(at, field)| Some((&*field.as_ref()?.0, at)));
                let order = sorted(names.collect());
                // Of several the last one counts, as everywhere in protobuf.
                let after = order.iter().skip(1).map(|(name, _)| Some(name)).chain([None]);
                let last = order.iter().zip(after).filter(|((name, _), after)| Some(name) != *after);
                let last: Vec<usize> = last.map(|((_, at), _)| *at).collect();
                last.into_iter().filter_map(|at| fields.get_mut(at)?.take()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests;
