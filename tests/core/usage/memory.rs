//! What reading takes, measured where memory is given out, whatever the response.

use allocation_counter::measure;
use allowance::usage::{Dropper, Reader};
use std::hint::black_box;

/// Bytes of a response that is this text, then that one again and again, and that goes on until it is this long.
fn endless<'a>(start: &'a str, again: &'a str, length: usize) -> impl Iterator<Item = &'a [u8]> {
    std::iter::once(start.as_bytes()).chain(std::iter::repeat_n(again.as_bytes(), length / again.len()))
}

/// Responses that never end, of the worst kinds: texts, names, numbers, depths, lines, events, fields, comments.
const ENDLESS: [(&str, &str); 14] = [
    (r#"{"choices":[{"message":{"content":""#, "text text text text text text text "),
    (r#"{"model":""#, "name"),
    (r#"{"usage":{""#, "name"),
    (r#"{"usage":{"prompt_tokens":"#, "9"),
    (r#"{"usage":{"prompt_tokens":0."#, "0"),
    ("", "["),
    ("", r#"{"a":"#),
    ("", r#"{"choices":["#),
    ("", "{\"model\":\"a\",\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1}}\n"),
    ("", "data: {\"choices\":[{\"delta\":{\"content\":\"token\"}}]}\n\n"),
    ("", "data: {\"choices\":[],\"usage\":{}}\n\n"),
    ("data: {\"choices\":[],\"x\":\"", "held"),
    ("", "data: \n"),
    (":", "comment"),
];

#[test]
fn a_reader_takes_less_than_a_kilobyte_however_long_the_response() {
    assert!(size_of::<Reader>() < 1024, "{} bytes", size_of::<Reader>());
    for content_type in ["application/json", "text/event-stream", "application/x-ndjson", ""] {
        for (start, again) in ENDLESS {
            let mut reader = Reader::new(content_type.as_bytes(), b"");
            let taken = measure(|| {
                for bytes in endless(start, again, 1 << 20) {
                    reader.push(bytes);
                }
            });
            // The model's name, where there is one.
            assert!(taken.bytes_max <= 128, "{content_type}: {start}{again}…: {taken:?}");
            black_box(reader.finish());
        }
    }
}

#[test]
fn a_dropper_takes_no_more_than_the_largest_event_it_takes_out() {
    assert!(size_of::<Dropper>() < 512, "{} bytes", size_of::<Dropper>());
    for (start, again) in ENDLESS {
        // What has gone on is not the dropper's.
        let mut out = Vec::with_capacity(2 << 20);
        let mut dropper = Dropper::new();
        let taken = measure(|| {
            for bytes in endless(start, again, 1 << 20) {
                dropper.push(bytes, &mut out);
            }
        });
        // What it holds grows by doubling: for a moment the old half is there, too.
        assert!(taken.bytes_current <= 4096, "{start}{again}…: {taken:?}");
        assert!(taken.bytes_max <= 4096 + 2048, "{start}{again}…: {taken:?}");
        black_box(dropper);
    }
}

#[test]
fn a_compressed_response_takes_the_window_of_its_format_also_if_it_grows_a_thousandfold() {
    let mut bomb = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for bytes in endless(r#"{"choices":[{"message":{"content":""#, &"x".repeat(1 << 16), 64 << 20) {
        std::io::Write::write_all(&mut bomb, bytes).unwrap();
    }
    std::io::Write::write_all(&mut bomb, br#""}}],"usage":{"prompt_tokens":5,"completion_tokens":7}}"#).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 70_000, "{} bytes", bomb.len());
    let mut report = None;
    let taken = measure(|| {
        let mut reader = Reader::new(b"application/json", b"gzip");
        reader.push(&bomb);
        report = Some(reader.finish());
    });
    assert!(taken.bytes_max <= 44 * 1024, "{taken:?}");
    let usage = report.unwrap().usage.unwrap();
    assert_eq!((usage.input, usage.output), (5, 7));
    // What is not compressed takes none of it.
    let plain = measure(|| drop(black_box(Reader::new(b"application/json", b""))));
    assert!(plain.bytes_max <= 64, "{plain:?}");
}
