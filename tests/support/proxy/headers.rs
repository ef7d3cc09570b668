//! A header map, and the way it crosses into the module.

use std::fmt;

/// Header lines in order, names in lower case, duplicates kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(Vec<u8>, Vec<u8>)>);

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, value)| format!("{}: {}", name.escape_ascii(), value.escape_ascii())))
            .finish()
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(lines: I) -> Self {
        let mut headers = Self::default();
        lines.into_iter().for_each(|(name, value)| headers.add(name.as_ref(), value.as_ref()));
        headers
    }
}

impl Headers {
    /// The lines, in order.
    pub fn lines(&self) -> &[(Vec<u8>, Vec<u8>)] {
        &self.0
    }

    /// The values of every line with that name, in order.
    pub fn all(&self, name: impl AsRef<[u8]>) -> Vec<&[u8]> {
        let name = name.as_ref().to_ascii_lowercase();
        self.0.iter().filter(|(given, _)| *given == name).map(|(_, value)| value.as_slice()).collect()
    }

    /// The first value of a header as text; bytes that are not UTF-8 are replaced.
    pub fn text(&self, name: impl AsRef<[u8]>) -> Option<String> {
        self.all(name).first().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// Adds a line.
    pub fn add(&mut self, name: &[u8], value: &[u8]) {
        self.0.push((name.to_ascii_lowercase(), value.to_vec()));
    }

    /// Removes every line with that name.
    pub fn remove(&mut self, name: &[u8]) {
        let name = name.to_ascii_lowercase();
        self.0.retain(|(given, _)| *given != name);
    }

    /// Leaves one line with that name: the first one's place is kept, as in Envoy.
    pub fn set(&mut self, name: &[u8], value: &[u8]) {
        let lower = name.to_ascii_lowercase();
        let place = self.0.iter().position(|(given, _)| *given == lower);
        self.remove(name);
        self.0.insert(place.unwrap_or(self.0.len()), (lower, value.to_vec()));
    }

    /// All values of a header in one, joined by commas: how properties show a repeated header.
    pub(super) fn joined(&self, name: &[u8]) -> Option<Vec<u8>> {
        let all = self.all(name);
        (!all.is_empty()).then(|| all.join(&b","[..]))
    }

    /// The ABI's encoding of pairs: count, then both lengths of each pair, then each text with a NUL behind it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let number = |bytes: &mut Vec<u8>, number: usize| bytes.extend((number as u32).to_le_bytes());
        number(&mut bytes, self.0.len());
        for (name, value) in &self.0 {
            number(&mut bytes, name.len());
            number(&mut bytes, value.len());
        }
        for text in self.0.iter().flat_map(|(name, value)| [name, value]) {
            bytes.extend_from_slice(text);
            bytes.push(0);
        }
        bytes
    }

    /// Reads the same encoding. Envoy takes what is wrongly encoded as an empty list; a test should hear of it, so this
    /// is `None`.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let number = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?) as usize);
        let count = number(0)?;
        let mut at = count.checked_mul(8)?.checked_add(4)?;
        let mut headers = Self::default();
        for pair in 0..count {
            let mut text = |length: usize| {
                let text = bytes.get(at..at + length)?;
                at += length + 1;
                (bytes.get(at - 1) == Some(&0)).then_some(text)
            };
            let name = text(number(4 + pair * 8)?)?;
            let value = text(number(8 + pair * 8)?)?;
            headers.add(name, value);
        }
        (at == bytes.len()).then_some(headers)
    }
}
