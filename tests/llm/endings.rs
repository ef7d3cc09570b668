//! Ten thousand streams that end in every way there is: in the end the counter is what they really took, and nothing is reserved.

use crate::gateway::{DONE, answer, ask, chat, configuration, delta, envoy, post, usage_chunk, used};
use crate::support::envoy::{Envoy, Policy};
use crate::support::http::{Connection, TIMEOUT};
use crate::support::scripted::{Scripted, Talk, Then};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

const STREAMS: usize = 10_000;
const MAX_TOKENS: u64 = 40;

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// As it should, and says what it took.
    Json,
    Stream,
    /// The upstream closes the connection in the middle, after some text.
    CutText,
    /// The same after it said what it took.
    CutUsage,
    /// Before it answers.
    CutHead,
    /// The upstream fails, is busy, or refuses.
    Fails,
    Busy,
    Refuses,
    /// The route's timeout is over: before there is an answer, in the middle of one.
    Timeout,
    Stalls,
    /// The client leaves: after some text, before there is an answer.
    Gone,
    GoneEarly,
    /// In an encoding that nobody asked for.
    Unreadable,
}

use End::*;

/// Those that take their time are few.
const ENDS: [End; 40] = [
    Json, Stream, CutText, CutUsage, CutHead, Fails, Busy, Refuses, Gone, GoneEarly, Unreadable, Json, Stream, CutText,
    CutUsage, CutHead, Fails, Busy, Refuses, Gone, Json, Stream, CutText, CutUsage, Stream, Stream, Fails, Json,
    Stream, CutText, CutUsage, Timeout, Json, Stream, Json, Stream, Stalls, Stream, Json, Stream,
];

/// What the upstream says before it goes quiet: 9 bytes of text.
const TEXT: &str = "some text";
const WEIRD: &[u8] = &[0x42; 100];

fn script(talk: &mut Talk<'_>, arrived: &Arrived) -> io::Result<Then> {
    let end = talk.header("x-end").to_owned();
    match end.as_str() {
        "" => talk.answer(200, "application/json", "{}"),
        "Json" => talk.answer(200, "application/json", answer(7, 5)),
        "Fails" => talk.answer(500, "application/json", r#"{"error":{"message":"no"}}"#),
        "Busy" => talk.answer(429, "application/json", r#"{"error":{"message":"busy"}}"#),
        "Refuses" => talk.answer(400, "application/json", r#"{"error":{"message":"what?"}}"#),
        "CutHead" => Ok(Then::Close),
        "Timeout" => Ok(talk.until_gone()),
        "GoneEarly" => {
            arrived.tell(talk.header("x-number"));
            Ok(talk.until_gone())
        }
        "Unreadable" => talk.encoded("br", WEIRD),
        _ => {
            talk.begin_with(delta(TEXT))?;
            match end.as_str() {
                "Stream" => {
                    talk.piece([usage_chunk(11, 9).as_str(), DONE].concat())?;
                    talk.end()
                }
                "CutUsage" => {
                    talk.piece(usage_chunk(11, 9))?;
                    Ok(Then::Close)
                }
                "Gone" | "Stalls" => Ok(talk.until_gone()),
                _ => Ok(Then::Close),
            }
        }
    }
}

/// Requests that have reached the upstream.
#[derive(Default)]
struct Arrived {
    numbers: Mutex<HashSet<String>>,
    more: Condvar,
}

impl Arrived {
    fn tell(&self, number: &str) {
        self.numbers.lock().unwrap().insert(number.to_owned());
        self.more.notify_all();
    }

    fn wait(&self, number: &str) {
        let numbers = self.numbers.lock().unwrap();
        let (numbers, waited) =
            self.more.wait_timeout_while(numbers, TIMEOUT, |numbers| !numbers.contains(number)).unwrap();
        assert!(!waited.timed_out(), "{number} has not arrived");
        drop(numbers);
    }
}

/// Tokens that a stream is to be charged, and requests.
fn charged(end: End, body: &Value) -> (u64, u64) {
    // Nothing said what it took: a third of the bytes that were asked, and a quarter of those that were answered.
    let asked = (body.to_string().len() as u64).div_ceil(3);
    match end {
        Json => (12, 1),
        Stream | CutUsage => (20, 1),
        CutText | Gone | Stalls => (asked + (TEXT.len() as u64).div_ceil(4), 1),
        Unreadable => (asked + (WEIRD.len() as u64).div_ceil(4), 1),
        // Nothing came of it, and it may have been anything.
        GoneEarly => (asked + MAX_TOKENS, 1),
        Refuses => (0, 1),
        CutHead | Fails | Busy | Timeout => (0, 0),
    }
}

/// Sends one request and sees it end; how it did.
fn run(envoy: &Envoy, kept: &mut Option<Connection>, end: End, number: usize, body: &Value, arrived: &Arrived) -> End {
    let path = if matches!(end, Timeout | Stalls) { "/slow/v1/chat/completions" } else { "/v1/chat/completions" };
    let number = number.to_string();
    let request = post(path, "k", body).header("x-end", format!("{end:?}")).header("x-number", &number);
    if matches!(end, Gone | GoneEarly) {
        let mut stream = TcpStream::connect(envoy.addr()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.write_all(&request.to_bytes()).unwrap();
        if end == GoneEarly {
            arrived.wait(&number);
            return end;
        }
        let mut seen = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&seen).contains(TEXT) {
            let read = stream.read(&mut piece).expect("the first event arrives");
            assert!(read > 0, "{}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&piece[..read]);
        }
        return end;
    }
    let mut connection = kept.take().unwrap_or_else(|| Connection::open(envoy.addr()));
    connection.send(&request.to_bytes());
    let response = connection.try_read_response(false);
    // On a busy machine its timeout may be over before it has begun.
    let end =
        if end == Stalls && response.as_ref().is_ok_and(|response| response.status == 504) { Timeout } else { end };
    if matches!(end, CutText | CutUsage | Stalls) {
        assert!(response.is_err(), "{end:?}: {response:?}");
        return end;
    }
    let status = response.unwrap_or_else(|error| panic!("{end:?}: {error}"));
    let expected = match end {
        Fails => 500,
        Busy => 429,
        Refuses => 400,
        CutHead => 503,
        Timeout => 504,
        _ => 200,
    };
    assert_eq!(status.status, expected, "{end:?}: {status:?}");
    if status.header("connection").as_deref() != Some("close") {
        *kept = Some(connection);
    }
    end
}

const ROUTES: &str = "- {match: {prefix: /slow}, route: {cluster: llm, timeout: 0.2s}}
- {match: {prefix: /}, route: {cluster: llm, timeout: 0s}}";

/// Waits until no request is under way.
fn quiet(envoy: &Envoy) {
    let deadline = Instant::now() + TIMEOUT;
    while envoy.stat("http.main.downstream_rq_active") != Some(0) {
        assert!(Instant::now() < deadline, "a stream does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn ten_thousand_streams_that_end_in_every_way_are_charged_what_they_took() {
    let arrived = Arc::new(Arrived::default());
    let seen = arrived.clone();
    let upstream = Scripted::start(move |talk| script(talk, &seen));
    let limits =
        |tokens: u64, requests: u64| format!("[{{tokens: {tokens}, per: 300d}}, {{requests: {requests}, per: 300d}}]");
    let configured = |tokens, requests| configuration(&limits(tokens, requests), &["k"], "");
    let envoy = envoy(&configured(10_000_000, 1_000_000_000_000), &upstream.cluster("llm"))
        .routes(ROUTES)
        .connection_manager("delayed_close_timeout: 0.01s") // what is cut is closed, not held for a second
        .ecds()
        .concurrency(2)
        .start();
    let (next, tokens, requests) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let mut kept = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= STREAMS {
                        return;
                    }
                    let end = ENDS[number % ENDS.len()];
                    // Half of those that stream ask for usage, and half do not know that they do.
                    let streams = !matches!(end, Json | Fails | Busy | Refuses);
                    let more = match number % 2 {
                        _ if !streams => json!({}),
                        0 => json!({"stream": true}),
                        _ => json!({"stream": true, "stream_options": {"include_usage": true}}),
                    };
                    let body = chat(MAX_TOKENS, more);
                    let end = run(&envoy, &mut kept, end, number, &body, &arrived);
                    let (took, counts) = charged(end, &body);
                    tokens.fetch_add(took, Ordering::Relaxed);
                    requests.fetch_add(counts, Ordering::Relaxed);
                }
            });
        }
    });
    quiet(&envoy);
    let (tokens, requests) = (tokens.into_inner(), requests.into_inner());
    assert_eq!(used(&envoy, "k"), tokens, "what they took, and nothing is reserved");
    // Told of the other limit: the requests that were not given back, and those that ask here.
    envoy.reconfigure(&configured(1_000_000_000_000, 1_000_000)).unwrap();
    assert_eq!(used(&envoy, "k"), requests + 2);
}

/// What a crashed VM had reserved comes back by itself, once; what others took stays.
#[test]
fn what_a_crashed_vm_had_reserved_is_given_back() {
    let module: PathBuf =
        std::env::var("ALLOWANCE_CRASH_WASM").expect("ALLOWANCE_CRASH_WASM is not set: run \"make test\"").into();
    let upstream = Scripted::start(|talk| script(talk, &Arrived::default()));
    let configuration = configuration("[{tokens: 1000000, per: 300d}]", &["k"], "llm: {reservation: 1s}\n");
    let envoy =
        envoy(&configuration, &upstream.cluster("llm")).module(module).policy(Policy::Reload).concurrency(1).start();
    let body = chat(MAX_TOKENS, json!({}));
    let reserved = (body.to_string().len() as u64).div_ceil(3) + MAX_TOKENS;
    let alive = || {
        let deadline = Instant::now() + TIMEOUT;
        while envoy.get("/v1/models", &[("x-api-key", "k")]).status != 200 {
            assert!(Instant::now() < deadline, "the VM did not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    for crash in 1..=5 {
        let passed = post("/v1/chat/completions", "k", &body).header("x-end", "Json");
        assert_eq!(ask(&envoy, &passed).status, 200);
        assert_eq!(ask(&envoy, &passed.header("x-crash", "1")).status, 503, "{crash}");
        alive();
        let now = used(&envoy, "k");
        assert!(
            (12 * crash..=12 * crash + reserved * crash).contains(&now) && (now - 12 * crash).is_multiple_of(reserved),
            "{now}"
        );
    }
    assert_eq!(envoy.log().matches("Proxy-Wasm plugin in-VM backtrace").count(), 5);
    let deadline = Instant::now() + TIMEOUT;
    while used(&envoy, "k") != 12 * 5 {
        assert!(Instant::now() < deadline, "{} is still used", used(&envoy, "k"));
        std::thread::sleep(Duration::from_millis(50));
    }
}
