//! Modules written by hand that take of the proxy what a request takes under Allowance, and do nothing else: what is measured above them is
//! this filter's own code.

use std::fmt::Write as _;

use allowance::request::Headers;

/// Where the texts of a denial are, in bytes from the start of memory.
const TEXTS: usize = 1280;

/// The same as a denial under the limits that [`crate::variant`] denies with.
const NOTE: &str = "consumer=acme plan=denying limit=3650d decision=denied";
const DETAILS: &str = "allowance_over_limit{3650d}";
const BODY: &str = r#"{"error":{"message":"Exceeded the allowed number of requests: 1 per 3650d. Retry after 97200000 s.","type":"requests","param":null,"code":"rate_limit_exceeded"},"limit":{"name":"3650d","plan":"denying","unit":"requests","max":1,"per":"3650d","cost":1,"remaining":0,"retry_after":97200000}}"#;
const FIELDS: [(&str, &str); 10] = [
    ("content-type", "application/json"),
    ("cache-control", "no-store"),
    ("retry-after", "97200000"),
    ("retry-after-ms", "97200000000"),
    ("ratelimit-policy", r#""1s";q=1000000000000;w=1, "1m";q=1000000000000;w=60, "3650d";q=1;w=315360000"#),
    ("ratelimit", r#""3650d";r=0;t=97200000"#),
    ("x-ratelimit-limit", "1"),
    ("x-ratelimit-remaining", "0"),
    ("x-ratelimit-reset", "97200000"),
    ("x-should-retry", "false"),
];

/// The module's text; `denies`: all requests but the first.
pub(crate) fn module(denies: bool) -> String {
    let fields = Headers::encode(&FIELDS);
    let mut text = include_str!("by_hand.wat").replace("DENIES", if denies { "1" } else { "0" });
    let (mut data, mut at) = (String::new(), TEXTS);
    for (name, bytes) in
        [("NOTE", NOTE.as_bytes()), ("DETAILS", DETAILS.as_bytes()), ("BODY", BODY.as_bytes()), ("FIELDS", &fields)]
    {
        let escaped = bytes.iter().fold(String::new(), |mut escaped, byte| {
            write!(escaped, "\\{byte:02x}").expect("a text takes text");
            escaped
        });
        writeln!(data, "(data (i32.const {at}) \"{escaped}\")").expect("a text takes text");
        text = text.replace(name, &format!("(i32.const {at}) (i32.const {})", bytes.len()));
        at += bytes.len();
    }
    assert!(at <= 4096, "what the proxy returns is behind them");
    text.replace(";; TEXTS", &data)
}
