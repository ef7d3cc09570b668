//! The head of a request, as bytes: nothing in it needs to be UTF-8.

use crate::store::HostError;
use std::cell::OnceCell;
use std::ops::Range;

/// A request's head: what the core needs of the host. Two ways to read headers, because each costs a call into the host that returns
/// bytes: one header alone is cheaper than all, all are cheaper than two.
pub trait Head {
    /// All values of one header, joined with `,` as RFC 9110 §5.3 has it; `None` where it is absent. `name` is lower-case.
    ///
    /// # Errors
    /// When the host refuses.
    fn header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError>;

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

    /// One header, as [`Head::header`] gives it.
    ///
    /// # Errors
    /// See [`Head::header`].
    pub fn header(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        let Some(headers) = self.headers.get() else {
            return self.host.header(name);
        };
        let values: Vec<&[u8]> = headers.values(name).collect();
        Ok((!values.is_empty()).then(|| values.join(&b',')))
    }
}

/// All headers of a request in the order they came.
#[derive(Clone, Debug, Default)]
pub struct Headers {
    bytes: Vec<u8>,
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

impl Headers {
    /// Reads the proxy-wasm serialization: `u32` count, per pair `u32` length of name and of value, then per pair the name, a
    /// NUL, the value, a NUL; little-endian. `None` for anything else.
    #[must_use]
    pub fn decode(bytes: Vec<u8>) -> Option<Self> {
        if bytes.is_empty() {
            return Some(Self::default());
        }
        let word = |at: usize| -> Option<usize> {
            let word = bytes.get(at..)?.first_chunk::<4>()?;
            usize::try_from(u32::from_le_bytes(*word)).ok()
        };
        let count = word(0)?;
        let mut at = count.checked_mul(8)?.checked_add(4)?;
        let mut pairs = Vec::with_capacity(count.min(bytes.len()));
        let mut next = |length: usize| -> Option<Range<usize>> {
            let range = at..at.checked_add(length)?;
            at = range.end.checked_add(1)?;
            (at <= bytes.len()).then_some(range)
        };
        for index in 0..count {
            let lengths = index.checked_mul(8)?.checked_add(4)?;
            pairs.push((next(word(lengths)?)?, next(word(lengths.checked_add(4)?)?)?));
        }
        Some(Self { bytes, pairs })
    }

    /// Writes the same serialization.
    #[must_use]
    pub fn encode(pairs: &[(&str, &str)]) -> Vec<u8> {
        let word = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let mut bytes = word(pairs.len()).to_vec();
        for (name, value) in pairs {
            bytes.extend([word(name.len()), word(value.len())].concat());
        }
        for (name, value) in pairs {
            bytes.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
        }
        bytes
    }

    /// The values of a header; `name` is lower-case, as the host gives names.
    pub fn values<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let bytes = |range: &Range<usize>| self.bytes.get(range.clone()).unwrap_or_default();
        self.pairs
            .iter()
            .filter(move |(header, _)| bytes(header).eq_ignore_ascii_case(name.as_bytes()))
            .map(move |(_, value)| bytes(value))
    }
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
            }
            let _ = percent_decode(&bytes);
        }

        #[test]
        fn a_huge_count_is_refused_not_allocated(count in 100u32.., rest in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(Headers::decode([count.to_le_bytes().to_vec(), rest].concat()).is_none());
        }
    }
}
