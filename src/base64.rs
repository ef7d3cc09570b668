//! Base64 (RFC 4648 §4), one way.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Whether the end is filled up with `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// As structured fields have it (RFC 9651).
    Padded,
    /// As gRPC's binary metadata has it.
    Bare,
}

/// Encodes bytes as text.
#[must_use]
pub fn encode(bytes: &[u8], padding: Padding) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3).saturating_mul(4));
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or_default());
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (digit, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let six = usize::try_from(word >> shift & 63).unwrap_or_default();
            match ALPHABET.get(six).filter(|_| digit <= group.len()) {
                Some(letter) => text.push(char::from(*letter)),
                None if padding == Padding::Padded => text.push('='),
                None => {}
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 §10, and every digit.
    #[test]
    fn encodes_as_the_standard_says() {
        for (plain, padded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(plain.as_bytes(), Padding::Padded), padded);
            assert_eq!(encode(plain.as_bytes(), Padding::Bare), padded.trim_end_matches('='));
        }
        assert_eq!(encode(&[0xfb, 0xef, 0xbe, 0xff, 0xff, 0xff], Padding::Padded), "++++////");
    }
}
