//! Plain text: the sentence alone.

use super::{Dialect, never, no_fields};

pub(super) const DIALECT: Dialect = Dialect {
    name: "text",
    speaks: never,
    content_type: Some("text/plain; charset=utf-8"),
    body: |facts, _| facts.message.as_bytes().to_vec(),
    fields: no_fields,
    alike: true,
    left: None,
};
