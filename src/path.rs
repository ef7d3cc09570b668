//! Paths, in the one form that rules compare: up to `?`, unreserved escapes decoded, dot segments removed, slashes merged (RFC 3986 §6.2.2).
//!
//! Not every upstream reads a path so. What some take for another one (an escaped slash, a backslash, `//..`, a segment's parameters) has
//! more readings; what has none that all agree on, like a bad escape, is ambiguous too.

/// A path, in normal form, in every reading that an upstream can make of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath {
    /// The reading that configurations are written in: escaped slashes and backslashes are slashes.
    text: Vec<u8>,
    /// Other readings, if there are any.
    others: Vec<Vec<u8>>,
    /// Whether it can be read differently; also by what has no form of its own here, like a bad escape.
    ambiguous: bool,
}

impl NormalPath {
    /// The normal form of a `:path`.
    #[must_use]
    pub fn of(path: &[u8]) -> Self {
        let path = path.split(|byte| *byte == b'?' || *byte == b'#').next().unwrap_or_default();
        let (decoded, slashes, malformed) = decode_unreserved(path, true);
        let text = resolve(&decoded, false);
        // Nor do all agree whether `..` takes away an empty segment.
        let merged = resolve(&decoded, true);
        let climbs = merged != text;
        let mut others = vec![merged];
        if slashes {
            let literal = decode_unreserved(path, false).0;
            others.extend([false, true].map(|merge| resolve(&literal, merge)));
        }
        if decoded.contains(&b';') {
            let bare = without_parameters(&decoded);
            others.extend([false, true].map(|merge| resolve(&bare, merge)));
        }
        others.sort_unstable();
        others.dedup();
        others.retain(|reading| *reading != text);
        // Exempt paths may have parameters, unless these hide a dot segment.
        let hidden = decoded
            .split(|byte| *byte == b'/')
            .any(|segment| segment.starts_with(b"..;") || segment.starts_with(b".;"));
        let ambiguous = slashes || malformed || hidden || climbs || !path.starts_with(b"/");
        Self { text, others, ambiguous }
    }

    /// The reading that configurations are written in.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The other readings.
    pub fn others(&self) -> impl Iterator<Item = &[u8]> {
        self.others.iter().map(Vec::as_slice)
    }

    /// Whether some upstream can read another path than others do.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// The form, if nothing in it is read differently by upstreams: what a configuration may ask for.
    #[must_use]
    pub fn unambiguous(self) -> Option<String> {
        String::from_utf8(self.text).ok().filter(|_| !self.ambiguous)
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

/// Decodes escapes of unreserved characters (RFC 3986 §2.3), and with `slashes` takes escaped slashes, backslashes and escaped ones for slashes.
/// Beside it, whether there are such; and whether there is a bad escape or a NUL.
fn decode_unreserved(path: &[u8], slashes: bool) -> (Vec<u8>, bool, bool) {
    let hex = |digit: Option<&u8>| char::from(*digit?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut decoded = Vec::with_capacity(path.len());
    let (mut has_slashes, mut malformed) = (false, false);
    let mut rest = path;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' {
            has_slashes = true;
            decoded.push(if slashes { b'/' } else { byte });
            continue;
        }
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (Some(high), Some(low)) = (hex(after.first()), hex(after.get(1))) else {
            malformed = true;
            decoded.push(byte);
            continue;
        };
        let escaped = high << 4 | low;
        rest = after.get(2..).unwrap_or_default();
        let slash = matches!(escaped, b'/' | b'\\');
        has_slashes |= slash;
        malformed |= escaped == 0;
        match escaped {
            _ if slash && slashes => decoded.push(b'/'),
            _ if escaped.is_ascii_alphanumeric() || b"-._~".contains(&escaped) => decoded.push(escaped),
            _ => {
                decoded.push(b'%');
                decoded.extend(after.iter().take(2).map(u8::to_ascii_uppercase));
            }
        }
    }
    (decoded, has_slashes, malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(path: &str) -> String {
        String::from_utf8(NormalPath::of(path.as_bytes()).text).unwrap()
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
        for path in
            ["/a%2fb", "/a%5cb", "/a\\b", "/a%00", "/%zz", "/%2", "/..;/a", "/a/..;x/b", "*", "", "http://host/a"]
        {
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
            let twice = NormalPath::of(once.text());
            prop_assert!(once.ambiguous || once.text == twice.text, "{:?} {:?}", once, twice);
            prop_assert!(!once.text.windows(2).any(|pair| pair == b"//"));
        }

        #[test]
        fn any_bytes_are_safe(path in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = NormalPath::of(&path);
        }
    }
}
