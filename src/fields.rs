//! Header fields of a response, in the order in which they are sent. Their values are one text: a reply has a dozen, most of them short.

use crate::digits::Digits;

/// A field's name in lower case, and where its value ends.
type Part = (&'static str, usize);

/// Header fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields {
    values: String,
    parts: Vec<Part>,
}

impl Fields {
    /// None yet, and room for so many with so many bytes of values.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Self {
        Self { values: String::with_capacity(bytes), parts: Vec::with_capacity(fields) }
    }

    /// Adds a field; `name` is in lower case.
    pub fn push(&mut self, name: &'static str, value: &str) {
        self.values.push_str(value);
        self.parts.push((name, self.values.len()));
    }

    /// Adds a field with a number.
    pub fn push_number(&mut self, name: &'static str, value: u64) {
        self.push_with(name, |text| Digits::of(value).append_to(text));
    }

    /// Adds a field whose value is what `write` appends to the text.
    pub fn push_with(&mut self, name: &'static str, write: impl FnOnce(&mut String)) {
        write(&mut self.values);
        self.parts.push((name, self.values.len()));
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parts.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Takes back all but the first `fields`.
    pub fn truncate(&mut self, fields: usize) {
        self.parts.truncate(fields);
        self.values.truncate(self.parts.last().map_or(0, |(_, end)| *end));
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> + Clone {
        let mut start = 0;
        self.parts.iter().map(move |(name, end)| {
            let value = self.values.get(start..*end).unwrap_or_default();
            start = *end;
            (*name, value)
        })
    }

    /// Names alone.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_has_the_value_it_was_given() {
        let mut fields = Fields::default();
        fields.push("a", "x");
        fields.push("b", "");
        fields.push_number("c", 17);
        fields.push_with("d", |value| value.push('ä'));
        fields.truncate(3);
        fields.push("e", "y");
        assert_eq!(fields.iter().collect::<Vec<_>>(), [("a", "x"), ("b", ""), ("c", "17"), ("e", "y")]);
        assert_eq!(fields.names().collect::<Vec<_>>(), ["a", "b", "c", "e"]);
        fields.truncate(0);
        assert!(fields.is_empty() && fields.iter().next().is_none());
    }
}
