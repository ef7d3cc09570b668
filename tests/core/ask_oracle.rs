//! What holds of any body of a request, however it is cut: for tests and for fuzzing.

use allowance::ask::body::{Body, LONGEST_MODEL};
use serde_json::Value;

/// The first byte says where to cut, the rest is the body.
pub(crate) fn asks_the_same_in_any_pieces(bytes: &[u8]) {
    let (Some(&seed), body) = (bytes.first(), bytes.get(1..).unwrap_or_default()) else { return };
    let mut whole = Body::default();
    whole.push(body);
    assert_eq!(whole.size(), body.len() as u64);
    let ask = whole.finish();
    let mut cut = Body::default();
    let size = usize::from(seed) % 23 + 1;
    body.chunks(size).for_each(|piece| cut.push(piece));
    assert_eq!(cut.finish(), ask, "cut every {size}");
    assert!(ask.model.as_ref().is_none_or(|model| model.len() <= 3 * LONGEST_MODEL), "bounded");
    assert!(ask.attached <= ask.size && ask.answers >= 1);
    let Ok(Value::Object(value)) = serde_json::from_slice::<Value>(body) else { return };
    assert!(ask.whole, "what a parser takes for an object is one");
    assert_eq!(ask.stream, value.get("stream") == Some(&Value::Bool(true)));
    assert_eq!(ask.reports, value.get("stream_options").is_some_and(|options| options["include_usage"] == true));
    if let Some(splice) = &ask.splice {
        let changed = splice.apply(body).expect("the place is in it");
        let Ok(Value::Object(mut changed)) = serde_json::from_slice::<Value>(&changed) else {
            panic!("no JSON any more: {}", changed.escape_ascii());
        };
        assert_eq!(changed["stream_options"]["include_usage"], true);
        // And nothing else is another.
        let mut before = value;
        for (options, given) in [(&mut changed, true), (&mut before, false)] {
            if let Some(Value::Object(options)) = options.get_mut("stream_options") {
                options.remove("include_usage");
            } else if given {
                panic!("no options");
            }
        }
        let empty =
            |value: Option<&Value>| value.is_none_or(|value| value.is_null() || *value == serde_json::json!({}));
        if empty(before.get("stream_options")) && empty(changed.get("stream_options")) {
            before.remove("stream_options");
            changed.remove("stream_options");
        }
        assert_eq!(changed, before);
    }
}
