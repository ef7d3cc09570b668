//! Plain text: the sentence alone.

use super::{Dialect, Signs, no_fields};

pub(super) static DIALECT: Dialect = Dialect {
    name: "text",
    signs: Signs::NONE,
    content_type: Some("text/plain; charset=utf-8"),
    body: |facts, _| facts.message.as_bytes().to_vec(),
    fields: no_fields,
    alike: true,
    left: None,
};
