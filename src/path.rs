//! Paths, in the one form that rules compare: up to `?`, unreserved escapes decoded, dot segments removed, slashes merged (RFC 3986 §6.2.2).
//!
//! Not every upstream reads a path so. What some take for another one (an escaped slash, a backslash, `//..`, a segment's parameters) has
//! more readings; what has none that all agree on, like a bad escape, is ambiguous too.

use crate::request::escaped;

/// A path, in normal form, in every reading that an upstream can make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath {
    /// First the reading that configurations are written in: escaped slashes and backslashes are slashes.
    readings: Vec<Vec<u8>>,
    ambiguous: bool,
}

impl NormalPath {
    /// The normal form of a `:path`.
    #[must_use]
    pub fn of(path: &[u8]) -> Self {
        let path = path.split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default();
        let decoded = decode(path, true, true);
        let both = |differs: bool| if differs { [true, false].as_slice() } else { &[true] };
        let mut readings: Vec<Vec<u8>> = Vec::new();
        for slash in both(decoded.slash) {
            for backslash in both(decoded.backslash) {
                let text = decode(path, *slash, *backslash).text;
                for parameters in both(text.contains(&b';')) {
                    let text = if *parameters { text.clone() } else { without_parameters(&text) };
                    // Nor do all agree whether `..` takes away an empty segment.
                    for merge in [false, true] {
                        let reading = resolve(&text, merge);
                        if !readings.contains(&reading) {
                            readings.push(reading);
                        }
                    }
                }
            }
        }
        let ambiguous = decoded.slash || decoded.backslash || decoded.malformed || !path.starts_with(b"/");
        Self { readings, ambiguous }
    }

    /// Every reading; first the one that configurations are written in.
    pub fn readings(&self) -> impl Iterator<Item = &[u8]> {
        self.readings.iter().map(Vec::as_slice)
    }

    /// Whether it holds what no two upstreams need to agree on: an escaped slash, a backslash, a NUL, a bad escape.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// The form, if there is only one: what a configuration may ask for.
    #[must_use]
    pub fn unambiguous(self) -> Option<String> {
        let text = self.readings.into_iter().next().unwrap_or_default();
        String::from_utf8(text).ok().filter(|_| !self.ambiguous)
    }
}

/// Every segment up to its first `;` (RFC 3986 §3.3: parameters of a segment, which some servers do not route by).
fn without_parameters(path: &[u8]) -> Vec<u8> {
    let segments = path.split(|byte| *byte == b'/');
    let bare: Vec<&[u8]> =
        segments.map(|segment| segment.split(|byte| *byte == b';').next().unwrap_or_default()).collect();
    bare.join(&b'/')
}

/// Removes dot segments and merges slashes, in this order or, with `merge`, in the other. A slash at the end stays.
fn resolve(path: &[u8], merge: bool) -> Vec<u8> {
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut directory = false;
    for segment in path.strip_prefix(b"/").unwrap_or(path).split(|byte| *byte == b'/') {
        directory = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" if merge => {}
            b"." => {}
            b".." => {
                segments.pop();
            }
            _ => segments.push(segment),
        }
    }
    segments.retain(|segment| !segment.is_empty());
    let mut text = vec![b'/'];
    text.extend(segments.join(&b'/'));
    if directory && text.len() > 1 {
        text.push(b'/');
    }
    text
}

/// A path with its escapes decoded, and what was met in it.
struct Decoded {
    text: Vec<u8>,
    /// An escaped slash.
    slash: bool,
    /// A backslash, escaped or not.
    backslash: bool,
    /// A bad escape or a NUL.
    malformed: bool,
}

/// Decodes escapes of unreserved characters (RFC 3986 §2.3), and takes an escaped slash (`slash`) and a backslash (`backslash`) for a slash.
fn decode(path: &[u8], slash: bool, backslash: bool) -> Decoded {
    let mut decoded =
        Decoded { text: Vec::with_capacity(path.len()), slash: false, backslash: false, malformed: false };
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        let Some((escaped, after_escape)) = escaped(rest) else {
            decoded.backslash |= byte == b'\\';
            decoded.malformed |= byte == b'%';
            decoded.text.push(if byte == b'\\' && backslash { b'/' } else { byte });
            rest = after;
            continue;
        };
        decoded.slash |= escaped == b'/';
        decoded.backslash |= escaped == b'\\';
        decoded.malformed |= escaped == 0;
        match escaped {
            b'/' if slash => decoded.text.push(b'/'),
            b'\\' if backslash => decoded.text.push(b'/'),
            _ if escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped) => decoded.text.push(escaped),
            _ => {
                decoded.text.push(b'%');
                decoded.text.extend(after.iter().take(2).map(u8::to_ascii_uppercase));
            }
        }
        rest = after_escape;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> String {
        String::from_utf8(NormalPath::of(path.as_bytes()).readings[0].clone()).unwrap()
    }

    #[test]
    fn a_path_has_one_form() {
        for (path, form) in [
            ("/", "/"),
            ("", "/"),
            ("//", "/"),
            ("/a/../b", "/b"),
            ("/a/./b", "/a/b"),
            ("/../../a", "/a"),
            ("//v1//images", "/v1/images"),
            ("/v1/%69mages", "/v1/images"),
            ("/public/%2e%2E/v1", "/v1"),
            ("/v1/images/", "/v1/images/"),
            ("/a?b=/c", "/a"),
            ("/a#b", "/a"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/%7euser", "/~user"),
            ("/a%2fb", "/a/b"),
            ("/a%5Cb", "/a/b"),
            ("/a\\b", "/a/b"),
            ("/%e4", "/%E4"),
            ("/a%20b", "/a%20b"),
            ("/%2", "/%2"),
            ("/%zz", "/%zz"),
        ] {
            assert_eq!(normal(path), form, "{path}");
        }
    }

    #[test]
    fn what_upstreams_read_differently_is_ambiguous() {
        for path in ["/a%2fb", "/a%5cb", "/a\\b", "/a%00", "/%zz", "/%2", "*", "", "http://host/a"] {
            assert!(NormalPath::of(path.as_bytes()).ambiguous, "{path}");
        }
        for path in ["/", "/a/../b", "/%69", "/a;b", "/a%20b", "/a?x=%2f"] {
            assert!(!NormalPath::of(path.as_bytes()).ambiguous, "{path}");
        }
    }

    proptest! {
        #[test]
        fn the_normal_form_of_a_normal_form_is_itself(path in "[/a.%2efF5c\\\\;?]{0,24}") {
            let once = NormalPath::of(path.as_bytes());
            let twice = NormalPath::of(&once.readings[0]);
            prop_assert!(once.ambiguous || once.readings[0] == twice.readings[0], "{:?} {:?}", once, twice);
            prop_assert!(once.readings().all(|reading| reading.starts_with(b"/") && !reading.windows(2).any(|pair| pair == b"//")));
            prop_assert!(once.readings.len() <= 16);
        }

        #[test]
        fn any_bytes_are_safe(path in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = NormalPath::of(&path);
        }
    }
}
