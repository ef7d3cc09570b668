//! What writes a body in JSON: members in their order, straight into the bytes that are sent. A body is strings and numbers, and its shape is
//! known where it is written; what serializes anything at all would take many times the code and the time.

use crate::digits::Digits;

/// A JSON text so far.
pub(super) struct Writer(Vec<u8>);

/// Most bodies are shorter.
const ROOM: usize = 512;

impl Writer {
    /// A text that is one object.
    pub(super) fn object(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self(Vec::with_capacity(ROOM));
        writer.item(write);
        writer.0
    }

    /// A text that is an array of one object.
    pub(super) fn array(write: impl FnOnce(&mut Self)) -> Vec<u8> {
        let mut writer = Self(Vec::with_capacity(ROOM));
        writer.0.push(b'[');
        writer.item(write);
        writer.0.push(b']');
        writer.0
    }

    /// A member that is a string; `name` needs no escapes, here and below.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.string(value);
    }

    /// A member that is a string without quotes, backslashes and control characters: a word of ours, or a name from the configuration.
    pub(super) fn word(&mut self, name: &str, value: &str) {
        self.name(name);
        self.plain(value);
    }

    /// A member that is a number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        self.0.extend_from_slice(Digits::of(value).as_bytes());
    }

    /// A member that is `null`.
    pub(super) fn null(&mut self, name: &str) {
        self.name(name);
        self.0.extend_from_slice(b"null");
    }

    /// A member that is an object.
    pub(super) fn nested(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }

    /// A member that is an array, of what `write` adds.
    pub(super) fn list(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.0.push(b'[');
        write(self);
        self.0.push(b']');
    }

    /// An object in an array.
    pub(super) fn item(&mut self, write: impl FnOnce(&mut Self)) {
        self.separate();
        self.0.push(b'{');
        write(self);
        self.0.push(b'}');
    }

    /// A string in an array, as [`Self::word`] has it.
    pub(super) fn item_word(&mut self, value: &str) {
        self.separate();
        self.plain(value);
    }

    /// The operator's own members.
    pub(super) fn members(&mut self, members: &[(&str, String)]) {
        for (name, value) in members {
            self.text(name, value);
        }
    }

    fn name(&mut self, name: &str) {
        self.separate();
        self.0.push(b'"');
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    /// Nothing that is complete ends in an opening bracket: a string ends in its quote.
    fn separate(&mut self) {
        if !matches!(self.0.last(), None | Some(b'{' | b'[')) {
            self.0.push(b',');
        }
    }

    fn plain(&mut self, word: &str) {
        self.0.push(b'"');
        self.0.extend_from_slice(word.as_bytes());
        self.0.push(b'"');
    }

    fn string(&mut self, text: &str) {
        if is_plain(text) {
            return self.plain(text);
        }
        self.0.push(b'"');
        for byte in text.bytes() {
            match byte {
                0..=0x1f | b'"' | b'\\' => self.escape(byte),
                plain => self.0.push(plain),
            }
        }
        self.0.push(b'"');
    }

    fn escape(&mut self, byte: u8) {
        let short = match byte {
            b'"' | b'\\' => byte,
            0x08 => b'b',
            0x0c => b'f',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            _ => {
                let digit = match byte & 0xf {
                    digit @ 0..=9 => b'0' | digit,
                    digit => b'a'.saturating_add(digit.saturating_sub(10)),
                };
                self.0.extend_from_slice(&[b'\\', b'u', b'0', b'0', b'0' | byte >> 4, digit]);
                return;
            }
        };
        self.0.extend_from_slice(&[b'\\', short]);
    }
}

/// Whether a text needs no escapes. Eight bytes at once, for sentences are long and rarely need any.
fn is_plain(text: &str) -> bool {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    const HIGHS: u64 = ONES << 7;
    // The highest bit of some byte is set where one is smaller than `least`, which is at most 128.
    let any_below = |word: u64, least: u8| word.wrapping_sub(ONES.wrapping_mul(least.into())) & !word & HIGHS;
    let any_is = |word: u64, byte: u8| any_below(word ^ ONES.wrapping_mul(byte.into()), 1);
    let (words, rest) = text.as_bytes().as_chunks::<8>();
    words.iter().all(|word| {
        let word = u64::from_le_bytes(*word);
        any_below(word, 0x20) | any_is(word, b'"') | any_is(word, b'\\') == 0
    }) && rest.iter().all(|byte| !matches!(byte, 0..=0x1f | b'"' | b'\\'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_is_written_is_what_was_meant() {
        let text = Writer::object(|writer| {
            writer.text("a", "{");
            writer.null("b");
            writer.nested("c", |nested| {
                nested.number("d", 0);
                nested.nested("e", |_| ());
            });
            writer.list("f", |list| {
                list.item(|item| item.text("g", "["));
                list.item(|item| item.members(&[("h", "[".to_owned()), ("i", String::new())]));
                list.item_word("j");
            });
            writer.list("k", |_| ());
        });
        let value = json!({
            "a": "{", "b": null, "c": {"d": 0, "e": {}}, "f": [{"g": "["}, {"h": "[", "i": ""}, "j"], "k": [],
        });
        assert_eq!(String::from_utf8(text).unwrap(), value.to_string());
        assert_eq!(Writer::array(|item| item.number("a", 1)), br#"[{"a":1}]"#);
    }

    proptest! {
        #[test]
        fn any_text_is_escaped_as_serde_does(text in "(\\PC|[\\x00-\\x1f\"\\\\\\x7f]){0,40}") {
            let written = Writer::object(|writer| writer.text("text", &text));
            prop_assert_eq!(String::from_utf8(written).unwrap(), json!({"text": text}).to_string());
        }
    }
}
