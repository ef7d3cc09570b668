//! The head of a request, as bytes: nothing in it needs to be UTF-8.

use crate::store::HostError;
use std::cell::OnceCell;
use std::iter;
use std::ops::Range;

/// A request's head: what the core needs of the host. Headers come all at once: that costs a host less than a property that has all values
/// of one, and the call for a single header tells only the first of repeated ones.
pub trait Head {
    /// All headers, `:path` and its like among them.
    ///
    /// # Errors
    /// When the host refuses.
    fn headers(&self) -> Result<Headers, HostError>;

    /// A value in the request's dynamic metadata: the namespace of the filter that set it, then keys. `None` where it is absent.
    ///
    /// # Errors
    /// When the host refuses.
    fn metadata(&self, path: &[String]) -> Result<Option<Vec<u8>>, HostError>;

    /// The client's address as the host has it, with its port.
    ///
    /// # Errors
    /// When the host refuses.
    fn source_address(&self) -> Result<Vec<u8>, HostError>;
}

/// A request while it is looked at: whatever was read once is not asked of the host again.
pub struct Request<'h, H> {
    host: &'h H,
    headers: OnceCell<Headers>,
}

impl<'h, H: Head> Request<'h, H> {
    /// Nothing read yet.
    pub fn new(host: &'h H) -> Self {
        Self { host, headers: OnceCell::new() }
    }

    /// A request whose headers are kept, since the host does not show them any more.
    pub fn of(host: &'h H, headers: Headers) -> Self {
        Self { host, headers: OnceCell::from(headers) }
    }

    /// The host.
    pub fn host(&self) -> &'h H {
        self.host
    }

    /// All headers, read once.
    ///
    /// # Errors
    /// See [`Head::headers`].
    pub fn headers(&self) -> Result<&Headers, HostError> {
        match self.headers.get() {
            Some(headers) => Ok(headers),
            None => self.read(),
        }
    }

    #[inline(never)]
    fn read(&self) -> Result<&Headers, HostError> {
        self.first_headers()
    }

    /// The same where they were most likely not read yet.
    ///
    /// # Errors
    /// See [`Head::headers`].
    #[inline(always)]
    pub fn first_headers(&self) -> Result<&Headers, HostError> {
        if let Some(headers) = self.headers.get() {
            return Ok(headers);
        }
        let headers = self.host.headers()?;
        Ok(self.headers.get_or_init(|| headers))
    }

    /// All headers, none where the host refuses: to answer a request, which must not fail.
    pub fn headers_or_none(&self) -> &Headers {
        self.headers().unwrap_or_else(|_| self.headers.get_or_init(Headers::default))
    }
}

/// All headers of a request in the order they came, looked at in the host's own serialization: `u32` count, per pair `u32` length of name
/// and of value, then per pair the name, a NUL, the value, a NUL; little-endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    bytes: Vec<u8>,
    /// Where names and values begin, behind all lengths. 0: there are none.
    texts: usize,
}

/// What there is of a header that should be there once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines<'a> {
    /// Nothing.
    None,
    /// One line's value.
    One(&'a [u8]),
    /// Several lines.
    Several,
}

impl Headers {
    /// Takes what the host serialized; `None` where it has fewer lengths than it says. Texts that end before their lengths do are absent.
    #[must_use]
    pub fn decode(bytes: Vec<u8>) -> Option<Self> {
        let Some((count, rest)) = bytes.split_first_chunk::<4>() else {
            return bytes.is_empty().then(Self::default);
        };
        let lengths = usize::try_from(u32::from_le_bytes(*count)).ok()?.checked_mul(8)?;
        if rest.len() < lengths {
            return None;
        }
        Some(Self { bytes, texts: lengths.saturating_add(4) })
    }

    /// The lengths of names and values, and then names and values.
    #[inline]
    fn parts(&self) -> (&[[u8; 8]], &[u8]) {
        let (lengths, texts) = self.bytes.split_at_checked(self.texts).unwrap_or_default();
        (lengths.get(4..).unwrap_or_default().as_chunks().0, texts)
    }

    /// Writes the same serialization.
    #[must_use]
    pub fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
        Self::encode_all(pairs.iter().copied())
    }

    /// Of header fields that this module sends.
    #[must_use]
    pub fn of<'n, 'v>(pairs: impl Iterator<Item = (&'n str, &'v str)> + Clone) -> Self {
        Self::decode(Self::encode_all(pairs)).unwrap_or_default()
    }

    fn encode_all<'n, 'v>(pairs: impl Iterator<Item = (&'n str, &'v str)> + Clone) -> Vec<u8> {
        let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let length = |name: &str, value: &str| name.len().saturating_add(value.len()).saturating_add(10);
        let (count, whole) = pairs.clone().fold((0_usize, 4_usize), |(count, whole), (name, value)| {
            (count.saturating_add(1), whole.saturating_add(length(name, value)))
        });
        let mut bytes = Vec::with_capacity(whole);
        bytes.extend_from_slice(&word(count).to_le_bytes());
        for (name, value) in pairs.clone() {
            let lengths = u64::from(word(name.len())) | u64::from(word(value.len())) << 32;
            bytes.extend_from_slice(&lengths.to_le_bytes());
        }
        for (name, value) in pairs {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(0);
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        bytes
    }

    /// What there is of each of these headers, all of them different, by one look at all that there are.
    #[must_use]
    pub fn find<const N: usize>(&self, names: &[&str; N]) -> [Lines<'_>; N] {
        let bit = |length: usize| 1_u64 << (length & 63);
        let of_length = names.iter().fold(0, |bits, name| bits | bit(name.len()));
        let (lengths, texts) = self.parts();
        let (mut text, mut found) = (0, [Lines::None; N]);
        for pair in lengths {
            let line = Line::at(&mut text, pair);
            // Most are passed over by their length.
            if bit(line.name_length) & of_length != 0 {
                let wanted = names.iter().zip(&mut found).find(|(name, _)| line.is(name, texts));
                if let Some(((_, found), value)) = wanted.zip(texts.get(line.value())) {
                    *found = if matches!(found, Lines::None) { Lines::One(value) } else { Lines::Several };
                }
            }
        }
        found
    }

    /// Names and values.
    pub fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let (lengths, texts) = self.parts();
        let mut text = 0;
        lengths.iter().filter_map(move |pair| {
            let line = Line::at(&mut text, pair);
            Some((texts.get(line.name())?, texts.get(line.value())?))
        })
    }

    /// The host's serialization.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the first value of a header is.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<Range<usize>> {
        let (lengths, texts) = self.parts();
        let mut text = 0;
        let line = lengths.iter().map(|pair| Line::at(&mut text, pair)).find(|line| line.is(name, texts))?;
        let Range { start, end } = line.value();
        Some(self.texts.checked_add(start)?..self.texts.checked_add(end)?)
    }

    /// What is at a [place](Self::place), to write something else of the same length there.
    #[must_use]
    pub fn value_mut(&mut self, place: &Range<usize>) -> Option<&mut [u8]> {
        self.bytes.get_mut(place.clone())
    }

    /// The values of a header; `name` is lower-case, as the host gives names.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let (lengths, texts) = self.parts();
        let (mut lengths, mut text) = (lengths.iter(), 0);
        iter::from_fn(move || lengths.by_ref().find_map(|pair| Line::at(&mut text, pair).value_of(name, texts)))
    }

    /// The first value of a header. Not inlined, as everybody asks for some.
    #[must_use]
    #[inline(never)]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        let (lengths, texts) = self.parts();
        let (mut lengths, mut text) = (lengths.iter(), 0);
        while let Some(line) = Line::of_length(name.len(), &mut text, &mut lengths) {
            if let Some(value) = line.value_of(name, texts) {
                return Some(value);
            }
        }
        None
    }

    /// The value of a header that should be there once.
    #[must_use]
    #[inline(never)]
    pub fn lines(&self, name: &str) -> Lines<'_> {
        let (lengths, texts) = self.parts();
        let (mut lengths, mut text, mut found) = (lengths.iter(), 0, Lines::None);
        // Two loops: most lines are passed over by their length, with nothing else at hand.
        while let Some(line) = Line::of_length(name.len(), &mut text, &mut lengths) {
            if let Some(value) = line.value_of(name, texts) {
                if found != Lines::None {
                    return Lines::Several;
                }
                found = Lines::One(value);
            }
        }
        found
    }
}

/// Where a header's name and value are among all texts. Lengths that fit no memory may wrap, and find nothing or another text.
struct Line {
    start: usize,
    name_length: usize,
    value_length: usize,
}

impl Line {
    /// The one whose text is next; moves on to the one behind it.
    #[inline]
    fn at(text: &mut usize, lengths: &[u8; 8]) -> Self {
        let (start, (name_length, value_length)) = (*text, lengths_of(lengths));
        *text = start.wrapping_add(name_length).wrapping_add(value_length).wrapping_add(2);
        Self { start, name_length, value_length }
    }

    /// The next one whose name has that length.
    #[inline(always)]
    fn of_length<'l>(length: usize, text: &mut usize, lengths: &mut impl Iterator<Item = &'l [u8; 8]>) -> Option<Self> {
        lengths.map(|pair| Self::at(text, pair)).find(|line| line.name_length == length)
    }

    fn name(&self) -> Range<usize> {
        self.start..self.start.wrapping_add(self.name_length)
    }

    fn value(&self) -> Range<usize> {
        let start = self.name().end.wrapping_add(1);
        start..start.wrapping_add(self.value_length)
    }

    /// Whether that is its name. Most are passed over by their length.
    #[inline(always)]
    fn is(&self, name: &str, texts: &[u8]) -> bool {
        self.name_length == name.len() && texts.get(self.name()).is_some_and(|header| is_name(header, name))
    }

    /// Its value, if that is its name.
    #[inline(always)]
    fn value_of<'t>(&self, name: &str, texts: &'t [u8]) -> Option<&'t [u8]> {
        if self.is(name, texts) { texts.get(self.value()) } else { None }
    }
}

/// Whether a header's name, as long as this one, is it in any case. Hosts give names in lower case: then a look at both ends tells of nearly all.
#[inline(never)]
fn is_name(header: &[u8], name: &str) -> bool {
    let name = name.as_bytes();
    let same = match name.len() {
        4..8 => header.first_chunk::<4>() == name.first_chunk() && header.last_chunk::<4>() == name.last_chunk(),
        8..=16 => header.first_chunk::<8>() == name.first_chunk() && header.last_chunk::<8>() == name.last_chunk(),
        _ => false,
    };
    same || is_name_in_some_case(header, name)
}

#[inline(never)]
fn is_name_in_some_case(header: &[u8], name: &[u8]) -> bool {
    header.eq_ignore_ascii_case(name)
}

/// The lengths of a pair's name and value.
fn lengths_of(pair: &[u8; 8]) -> (usize, usize) {
    let [a, b, c, d, e, f, g, h] = *pair;
    let length = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    (length([a, b, c, d]), length([e, f, g, h]))
}

/// Decodes `%XX` (RFC 3986 §2.1); an escape that is none stays as it is. `+` is a plus.
#[must_use]
pub fn percent_decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = escaped(rest).unwrap_or((byte, after));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

/// The byte of an escape that `text` starts with, and what follows it.
#[must_use]
pub fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let ([b'%', digits @ ..], rest) = text.split_first_chunk::<3>()? else {
        return None;
    };
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    Some((u8::try_from(high? << 4 | low?).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_every_value_of_a_repeated_header() {
        let mut bytes = Headers::encode(&[(":path", "/"), ("x-key", "a"), ("x-other", ""), ("x-key", "b\0")]);
        let not_utf8 = bytes.len() - 3;
        bytes[not_utf8] = 0xff;
        let headers = Headers::decode(bytes).unwrap_or_default();
        assert_eq!(headers.values("x-key").collect::<Vec<_>>(), [b"a".as_slice(), b"\xff\0"]);
        assert_eq!(headers.values("x-other").collect::<Vec<_>>(), [b""]);
        assert_eq!(headers.values("x-none").count(), 0);
        let found = headers.find(&["x-key", "X-OTHER", "x-none", "x-kex", ":path"]);
        assert_eq!(found, [Lines::Several, Lines::One(b""), Lines::None, Lines::None, Lines::One(b"/")]);
    }

    #[test]
    fn names_of_any_length_are_told_apart() {
        // As long as `:path`, and 64 letters longer.
        let long = "x".repeat(69);
        let headers = Headers::decode(Headers::encode(&[(&long, "long"), ("cooki", "short"), (":path", "/")])).unwrap();
        assert_eq!(headers.find(&[":path", &long]), [Lines::One(b"/"), Lines::One(b"long")]);
        assert_eq!(headers.find(&[&long, "x"]), [Lines::One(b"long"), Lines::None]);
    }

    #[test]
    fn decodes_escapes_once() {
        assert_eq!(percent_decode(b"a%2Db%2fc+%25%32%35"), b"a-b/c+%25");
        assert_eq!(percent_decode(b"%%4%4g%"), b"%%4%4g%");
        assert_eq!(percent_decode(b"%ff%00"), b"\xff\0");
    }

    proptest! {
        #[test]
        fn any_bytes_are_safe_to_decode(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(headers) = Headers::decode(bytes.clone()) {
                let _ = headers.values("x").count();
                let names = ["x", ":path", ""];
                prop_assert_eq!(headers.find(&names), names.map(|name| headers.lines(name)));
            }
            let _ = percent_decode(&bytes);
        }

        #[test]
        fn one_look_finds_what_a_look_for_each_does(
            pairs in prop::collection::vec(("[ab]{0,2}|[xX]{67}", "[a-c]{0,3}"), 0..12), cut in 0..40_usize,
        ) {
            let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (&**name, &**value)).collect();
            let mut bytes = Headers::encode(&pairs);
            // Some are not whole.
            bytes.truncate(bytes.len().saturating_sub(cut.saturating_sub(20)));
            if let Some(headers) = Headers::decode(bytes) {
                let long = "x".repeat(67);
                let names = ["a", "ab", "ba", "", &long];
                prop_assert_eq!(headers.find(&names), names.map(|name| headers.lines(name)));
                for name in names {
                    prop_assert_eq!(headers.first(name), headers.values(name).next());
                }
            }
        }

        #[test]
        fn a_huge_count_is_refused_not_allocated(count in 100u32.., rest in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Headers::decode([count.to_le_bytes().to_vec(), rest].concat()).is_none());
        }
    }
}
