//! The rules of counting, one by one, and what is not a response at all.

use super::oracle::{self, compressed, read};
use allowance::usage::{Report, Usage};

fn json(text: &str) -> Report {
    read("application/json", "", [text.as_bytes()])
}

fn tokens(text: &str) -> Option<[u64; 4]> {
    json(text).usage.map(|Usage { input, cached, output, reasoning }| [input, cached, output, reasoning])
}

#[test]
fn cached_tokens_are_inside_of_openais_input_and_outside_of_anthropics() {
    let openai = r#"{"usage":{"input_tokens":100,"output_tokens":1,"input_tokens_details":{"cached_tokens":60}}}"#;
    assert_eq!(tokens(openai), Some([100, 60, 1, 0]));
    let anthropic = r#"{"usage":{"input_tokens":40,"output_tokens":1,"cache_read_input_tokens":60,"cache_creation_input_tokens":7}}"#;
    assert_eq!(tokens(anthropic), Some([107, 60, 1, 0]));
    // A gateway that speaks like OpenAI and repeats what Anthropic said.
    let both = r#"{"usage":{"prompt_tokens":107,"completion_tokens":1,"total_tokens":108,"cache_read_input_tokens":60,"cache_creation_input_tokens":7}}"#;
    assert_eq!(tokens(both), Some([107, 60, 1, 0]));
}

#[test]
fn a_total_says_what_its_parts_leave_out() {
    assert_eq!(
        tokens(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#),
        Some([10, 0, 5, 0])
    );
    assert_eq!(
        tokens(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":22}}"#),
        Some([10, 0, 12, 0])
    );
    // A total that is too small says nothing.
    assert_eq!(tokens(r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":0}}"#), Some([10, 0, 5, 0]));
    assert_eq!(tokens(r#"{"usage":{"total_tokens":9}}"#), Some([9, 0, 0, 0]));
    assert_eq!(tokens(r#"{"usage":{"completion_tokens":5,"total_tokens":9}}"#), Some([4, 0, 5, 0]));
}

#[test]
fn parts_are_never_more_than_their_whole() {
    let more = r#"{"usage":{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":11},
        "completion_tokens_details":{"reasoning_tokens":6}}}"#;
    assert_eq!(tokens(more), Some([10, 10, 5, 5]));
}

#[test]
fn the_last_usage_of_a_stream_wins() {
    let stream = "[{\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":1,\"thoughtsTokenCount\":4}},\
                   {\"usageMetadata\":{\"promptTokenCount\":9,\"candidatesTokenCount\":8}}]";
    assert_eq!(tokens(stream), Some([9, 0, 8, 0]));
    // As a whole: a usage that is null says nothing, and takes nothing back.
    let stream = r#"{"usage":{"prompt_tokens":3,"completion_tokens":2}} {"usage":null} {"usage":{}}"#;
    assert_eq!(tokens(stream), Some([3, 0, 2, 0]));
    let stream = r#"{"usage":{"prompt_tokens":3,"completion_tokens":2}} {"usage":{"completion_tokens":4}}"#;
    assert_eq!(tokens(stream), Some([0, 0, 4, 0]));
    // Also after one that would be added to.
    let stream = r#"{"usage":{"input_tokens":5,"cache_read_input_tokens":9,"output_tokens":1}}
        {"usage":{"prompt_tokens":7,"completion_tokens":2}}"#;
    assert_eq!(tokens(stream), Some([7, 0, 2, 0]));
}

#[test]
fn anthropics_later_events_replace_what_they_say_and_leave_the_rest() {
    let start = r#"{"type":"message_start","message":{"usage":{"input_tokens":5,"cache_read_input_tokens":100,"output_tokens":1}}}"#;
    let delta = r#"{"type":"message_delta","usage":{"output_tokens":40}}"#;
    assert_eq!(tokens(&format!("{start}{delta}")), Some([105, 100, 40, 0]));
    let input =
        r#"{"type":"message_delta","usage":{"input_tokens":6,"cache_read_input_tokens":null,"output_tokens":41}}"#;
    assert_eq!(tokens(&format!("{start}{delta}{input}")), Some([106, 100, 41, 0]));
}

#[test]
fn numbers_of_any_size_and_spelling() {
    for (spelled, counted) in [
        ("0", 0),
        ("12.0", 12),
        ("12.000", 12),
        ("1.25e1", 13),
        ("1E2", 100),
        ("100e-2", 1),
        ("0.001", 1),
        ("-5", 0),
        ("-0.5", 0),
        ("18446744073709551615", u64::MAX),
        ("18446744073709551616", u64::MAX),
        ("1e400", u64::MAX),
        ("9007199254740993", 9_007_199_254_740_993),
    ] {
        let text = format!(r#"{{"usage":{{"prompt_tokens":{spelled},"completion_tokens":1}}}}"#);
        assert_eq!(tokens(&text), Some([counted, 0, 1, 0]), "{spelled}");
        let spaced = format!("{{\"usage\" : {{ \"prompt_tokens\"\t:\n{spelled} , \"completion_tokens\" : 1 }} }}");
        assert_eq!(tokens(&spaced), Some([counted, 0, 1, 0]), "{spelled}");
    }
    let long = "9".repeat(1000);
    assert_eq!(tokens(&format!(r#"{{"usage":{{"prompt_tokens":{long}}}}}"#)), Some([u64::MAX, 0, 0, 0]));
    // Sums stay where numbers end.
    let most = u64::MAX;
    let sum =
        format!(r#"{{"usage":{{"input_tokens":{most},"cache_read_input_tokens":{most},"output_tokens":{most}}}}}"#);
    assert_eq!(tokens(&sum), Some([most, most, most, 0]));
    for none in ["null", "true", "\"12\"", "NaN", "inf", "nan", "{}", "[]", "-", "1x", "\"\""] {
        let text = format!(r#"{{"usage":{{"prompt_tokens":{none},"completion_tokens":1}}}}"#);
        assert_eq!(tokens(&text), Some([0, 0, 1, 0]), "{none}");
    }
}

#[test]
fn names_may_be_escaped_and_texts_are_not_names() {
    assert_eq!(tokens(r#"{"\u0075sage":{"prompt\u005ftokens":7,"\u0063ompletion_tokens":1}}"#), Some([7, 0, 1, 0]));
    assert_eq!(tokens(r#"{"text":"\"usage\":{\"prompt_tokens\":9}","usage":{"prompt_tokens":7}}"#), Some([7, 0, 0, 0]));
    assert_eq!(tokens(r#"{"a":"usage","b":["usage",{"usage":{"prompt_tokens":9}}]}"#), None);
    assert_eq!(tokens(r#"{"choices":[{"message":{"usage":{"prompt_tokens":9}}}]}"#), None);
    assert_eq!(
        tokens(r#"{"usagex":{"prompt_tokens":9},"usag":{"prompt_tokens":9},"\u0000usage":{"prompt_tokens":9}}"#),
        None
    );
    // A quote after half an escape ends the string, as anything else would be guessing.
    assert_eq!(tokens(r#"{"a":"\u12","usage":{"prompt_tokens":7}}"#), Some([7, 0, 0, 0]));
    for none in [r#"{"usage\u12":{"prompt_tokens":7}}"#, r#"{"usage\ud800":{"prompt_tokens":7}}"#] {
        assert_eq!(tokens(none), None, "{none}");
    }
    // Without a comma before it, it is no name.
    assert_eq!(tokens(r#"{"choices":{} "usage":{"prompt_tokens":9}}"#), None);
}

#[test]
fn a_metric_has_its_own_value_or_none() {
    let metrics = |more: &str| {
        format!(
            r#"{{"metrics":[{{"metric":"num_prompt_tokens","value":5}},{{"metric":"num_completion_tokens"{more}}}]}}"#
        )
    };
    assert_eq!(tokens(&metrics(r#","value":7"#)), Some([5, 0, 7, 0]));
    assert_eq!(tokens(&metrics("")), Some([5, 0, 0, 0]));
    assert_eq!(tokens(r#"{"metrics":[{"metric":"num_prompt_tokens"},{"value":5}]}"#), None);
}

#[test]
fn of_a_repeated_member_the_last_counts() {
    assert_eq!(tokens(r#"{"usage":{"prompt_tokens":1,"prompt_tokens":2}}"#), Some([2, 0, 0, 0]));
    assert_eq!(tokens(r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":2}}"#), Some([2, 0, 0, 0]));
}

#[test]
fn any_depth_is_stepped_over() {
    let deep = format!("{}\"}}]\"{}", "[{\"usage\":".repeat(100_000), "}]".repeat(100_000));
    assert_eq!(tokens(&format!(r#"{{"a":{deep},"usage":{{"prompt_tokens":3}}}}"#)), Some([3, 0, 0, 0]));
    // Also where it is followed as long as it may lead somewhere.
    let deep = format!("{}\"usage\"{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(tokens(&format!(r#"{{"choices":{deep},"usage":{{"prompt_tokens":3}}}}"#)), Some([3, 0, 0, 0]));
}

#[test]
fn a_usage_that_is_not_complete_is_none() {
    assert_eq!(tokens(r#"{"usage":{"prompt_tokens":3,"completion_tokens":1"#), None);
    let stream = "data: {\"usage\":{\"prompt_tokens\":3\n\ndata: {\"usage\":{\"completion_tokens\":1}}\n\n";
    let usage = read("text/event-stream", "", [stream.as_bytes()]).usage;
    assert_eq!(usage, Some(Usage { output: 1, ..Usage::default() }), "nothing is left of the event before");
}

#[test]
fn an_event_that_is_broken_does_not_hurt_the_next_one() {
    let stream = "data: {\"a\":[}\n\ndata: {{{{\n\ndata: \"\\u12\n\ndata: {\"usage\":{\"prompt_tokens\":3}}\n\n";
    assert_eq!(read("text/event-stream", "", [stream.as_bytes()]).usage.unwrap().input, 3);
    let lines = "{\"a\":[}\n{{{\n\"\n{\"prompt_eval_count\":3,\"eval_count\":2}\n";
    assert_eq!(read("application/x-ndjson", "", [lines.as_bytes()]).usage.unwrap().input, 3);
}

#[test]
fn data_of_several_lines_is_one_document() {
    let stream = "data: {\"usage\":\ndata: {\"prompt_tokens\":\r\ndata:3\rdata\ndata: }}\n\n";
    assert_eq!(read("text/event-stream", "", [stream.as_bytes()]).usage.unwrap().input, 3);
    assert_eq!(read("text/event-stream", "", stream.as_bytes().chunks(1)).usage.unwrap().input, 3);
    // Lines are not run together: what this is not is 12.
    let stream = "data: {\"usage\":{\"prompt_tokens\":1\ndata:2}}\n\n";
    assert_eq!(read("text/event-stream", "", [stream.as_bytes()]).usage.unwrap().input, 1);
    // Half a byte order mark is part of a name.
    let stream = b"\xef\xbbdata: {\"usage\":{\"prompt_tokens\":3}}\n\n";
    assert_eq!(read("text/event-stream", "", [stream.as_slice()]).usage, None);
    // Fields that only look like data.
    for other in ["date: ", "dat: ", "datax: ", " data: ", "Data: ", ": data: ", "data : "] {
        let stream = format!("{other}{{\"usage\":{{\"prompt_tokens\":3}}}}\n\n");
        assert_eq!(read("text/event-stream", "", [stream.as_bytes()]).usage, None, "{other}");
    }
}

#[test]
fn the_estimate_is_a_quarter_of_the_text_without_escapes() {
    let stream = |text: &str| {
        let stream = format!("data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n");
        read("text/event-stream", "", [stream.as_bytes()]).estimate
    };
    for (text, estimate) in [
        ("", 0),
        ("a", 1),
        ("abcd", 1),
        ("abcde", 2),
        ("ä", 1),
        // Three bytes each, however they are spelled.
        ("你好你好", 3),
        (r"\u4f60\u597d\u4f60\u597d", 3),
        // Four bytes in two escapes.
        (r"\ud83d\ude00", 1),
        (r"\ud83d\ude00a", 2),
        (r"\n\t\\\/", 1),
    ] {
        assert_eq!(stream(text), estimate, "{text}");
    }
    assert_eq!(json(r#"{"message":{"content":[{"type":"tool_use","id":"toolu_1234567890"}]}}"#).estimate, 0);
    // Strings of arguments at any depth, their names among them: 8 and 3 bytes.
    let call = r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":["Rome"],"b":{"c":"Bari"}}}}]}}]}"#;
    assert_eq!(json(call).estimate, 3);
}

#[test]
fn usage_covers_all_text_of_its_document_wherever_it_stands() {
    for text in [
        r#"{"choices":[{"message":{"content":"abcd"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}}"#,
        r#"{"usage":{"prompt_tokens":1,"completion_tokens":1},"choices":[{"message":{"content":"abcd"}}]}"#,
    ] {
        assert_eq!((json(text).estimate, json(text).estimated()), (0, false), "{text}");
    }
    // Nor does it matter that the document breaks off after it.
    let cut = r#"{"choices":[{"message":{"content":"abcd"}}],"usage":{"prompt_tokens":1,"completion_tokens":1}"#;
    assert_eq!((json(cut).estimate, json(cut).estimated()), (0, false));
    // Output is not covered by a usage that does not count it.
    let prompt = r#"{"candidates":[{"content":{"parts":[{"text":"abcd"}]}}],"usageMetadata":{"promptTokenCount":1}}"#;
    assert_eq!((json(prompt).estimate, json(prompt).estimated()), (1, true));
}

#[test]
fn models_are_the_first_that_is_said_and_fits() {
    let model = |text: &str| json(text).model.map(|model| String::from_utf8(model.to_vec()).unwrap());
    assert_eq!(model(r#"{"model":""}{"model":"a"}{"model":"b"}"#).as_deref(), Some("a"));
    assert_eq!(model(r#"{"model":"meta-llama\/Llama-3\u002e3"}"#).as_deref(), Some("meta-llama/Llama-3.3"));
    assert_eq!(model(&format!(r#"{{"model":"{}"}}"#, "m".repeat(128))), Some("m".repeat(128)));
    assert_eq!(model(&format!(r#"{{"model":"{}"}}"#, "m".repeat(129))), None);
    assert_eq!(model(r#"{"model":{"model":"a"},"choices":[{"model":"b"}]}"#), None);
}

#[test]
fn content_types_and_codings_are_told_apart() {
    let body = br#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.as_slice();
    let stream = [b"data: ", body, b"\n\n"].concat();
    let readable = |content_type: &str, encoding: &str, body: &[u8]| {
        let report = read(content_type, encoding, [body]);
        assert_eq!(report.usage.is_some(), report.readable, "{content_type} {encoding}");
        report.readable
    };
    for content_type in
        ["application/json", "Application/JSON;charset=utf-8", "application/vnd.api+json", "text/plain", ""]
    {
        assert!(readable(content_type, "", body), "{content_type}");
        assert!(readable(content_type, " Identity ", body), "{content_type}");
    }
    for content_type in ["text/event-stream", "TEXT/Event-Stream ; charset=utf-8", "text/plain", ""] {
        assert!(readable(content_type, "identity", &stream), "{content_type}");
    }
    for (encoding, compressed) in compressed(body) {
        assert!(readable("application/json", encoding, &compressed));
        assert!(readable("application/json", &format!("{} , identity", encoding.to_uppercase()), &compressed));
    }
    let [(_, gzip), ..] = compressed(body);
    assert!(readable("application/json", "x-gzip", &gzip));
    for encoding in ["br", "zstd", "compress", "gzip, br", "gzip, gzip", "gzip;q=1"] {
        assert!(!readable("application/json", encoding, &gzip), "{encoding}");
    }
    // As it came: 51 bytes.
    assert_eq!(
        read("application/json", "br", [body]),
        Report { usage: None, estimate: 13, model: None, readable: false }
    );
    assert_eq!(read("text/plain", "", [b"twelve bytes".as_slice()]).estimate, 3);
    for content_type in ["audio/mpeg", "image/png", "application/octet-stream"] {
        assert_eq!(read(content_type, "br", [body]), Report { usage: None, estimate: 0, model: None, readable: false });
    }
}

#[test]
fn what_is_not_compressed_as_it_says_is_not_readable() {
    let body = br#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.as_slice();
    let unreadable = Report { usage: None, estimate: 13, model: None, readable: false };
    assert_eq!(read("application/json", "gzip", [body]), unreadable);
    assert_eq!(read("application/json", "gzip", body.chunks(1)), unreadable);
    let [(_, gzip), ..] = compressed(body);
    for (at, flipped) in [(0, 1), (1, 1), (2, 1), (3, 0x80)] {
        let mut broken = gzip.clone();
        broken[at] ^= flipped;
        assert!(!read("application/json", "gzip", [broken.as_slice()]).readable, "byte {at}");
    }
    // zlib with a dictionary.
    assert!(!read("application/json", "deflate", [b"\x78\xbb\x00\x00\x00\x01\x00".as_slice()]).readable);
}

#[test]
fn all_parts_of_a_gzip_header_are_stepped_over() {
    let body = br#"{"usage":{"prompt_tokens":3,"completion_tokens":4}}"#.as_slice();
    for flags in 0..32_u8 {
        let mut builder = flate2::GzBuilder::new();
        if flags & 4 != 0 {
            builder = builder.extra(vec![7; usize::from(flags & 3)]);
        }
        if flags & 8 != 0 {
            builder = builder.filename("name");
        }
        if flags & 16 != 0 {
            builder = builder.comment("comment");
        }
        let mut encoder = builder.write(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, body).unwrap();
        let mut gzip = encoder.finish().unwrap();
        if flags & 2 != 0 {
            // The library does not write the header's checksum; its place is right before the data.
            let plain = compressed_length(body);
            gzip[3] |= 2;
            let at = gzip.len() - plain;
            gzip.splice(at..at, [0xab, 0xcd]);
        }
        // Text or not: says nothing.
        gzip[3] |= flags & 1;
        assert_eq!(gzip[3], flags);
        for pieces in [vec![gzip.as_slice()], gzip.chunks(1).collect()] {
            assert_eq!(read("application/json", "gzip", pieces).usage.unwrap().input, 3, "{flags:#b}");
        }
        // What is no member is not part of the body.
        for rest in [&b"\0\0\0\0"[..], b"\x1f\x8b\x07", b"rest"] {
            let padded = [&gzip, rest].concat();
            assert_eq!(read("application/json", "gzip", [padded.as_slice()]).usage.unwrap().input, 3, "{rest:?}");
        }
    }
}

#[test]
fn everything_is_read_that_a_flush_lets_out() {
    // More than one piece of output, from hardly any input, and then nothing more comes.
    let text = "x".repeat(20_000);
    let body = format!(r#"{{"choices":[{{"text":"{text}"}}],"usage":{{"prompt_tokens":3,"completion_tokens":4}}}}"#);
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, body.as_bytes()).unwrap();
    std::io::Write::flush(&mut encoder).unwrap();
    let gzip = encoder.get_ref().as_slice();
    assert_eq!(read("application/json", "gzip", [gzip]).usage.unwrap().input, 3);
    assert_eq!(read("application/json", "gzip", gzip.chunks(1)).usage.unwrap().input, 3);
}

/// Bytes of data and trailer, at the level that the builder's encoder has.
fn compressed_length(body: &[u8]) -> usize {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, body).unwrap();
    encoder.finish().unwrap().len() + 8
}

#[test]
fn oracles_hold_for_what_is_no_response() {
    for bytes in [
        &b""[..],
        b"{",
        b"\"",
        b"\\",
        b"data:",
        b"\xef\xbb",
        b"\xef\xbbdata: {}\n\n",
        b"\r\r\n\n\r",
        b"[[[[]}",
        b"\x1f\x8b\x08\x04",
        // Found by fuzzing: not JSON, and its last line ends with CR.
        b"data: {\"choices\":[],\"usage\":{},\"a\":x}\rid\r\r\n",
        b"data: {\"choices\":[],\"usage\":{},\"\xff\":0}\rid\r\r\n",
    ] {
        oracle::reader_does_not_mind_cuts(bytes);
        oracle::decoder_does_not_mind_cuts(bytes);
        (0..4).for_each(|way| oracle::compression_makes_no_difference(bytes, way));
        oracle::dropper_takes_out_what_it_is_to(bytes);
    }
}
