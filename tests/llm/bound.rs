//! Many calls at once against a limit that a few use up.

use crate::gateway::{answer, ask, chat, configuration, envoy, post, used};
use crate::support::envoy::Envoy;
use crate::support::http::TIMEOUT;
use crate::support::scripted::Scripted;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

const CALLS: usize = 100;
const FIT: u64 = 10;
const MAX_TOKENS: u64 = 50;

/// What one call reserves: a third of its bytes, and what it may be answered.
fn reserved() -> u64 {
    let bytes = chat(MAX_TOKENS, json!({})).to_string().len() as u64;
    bytes.div_ceil(3) + MAX_TOKENS
}

/// All calls come before any is answered; each answer then says that it took so much. Returns how many the upstream saw, and the Envoy.
fn storm(input: u64, output: u64) -> (usize, Envoy) {
    let (arrived, open) = (Arc::new(AtomicUsize::new(0)), Arc::new((Mutex::new(false), Condvar::new())));
    let (seen, gate) = (arrived.clone(), open.clone());
    let upstream = Scripted::start(move |talk| {
        if talk.path == "/v1/models" {
            return talk.answer(200, "application/json", "{}");
        }
        seen.fetch_add(1, Ordering::SeqCst);
        let (open, opened) = &*gate;
        drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        talk.answer(200, "application/json", answer(input, output))
    });
    let limits = |max: u64| format!("[{{tokens: {max}, per: 300d}}]");
    let configured = |max| configuration(&limits(max), &["k"], "");
    let envoy = envoy(&configured(FIT * reserved()), &upstream.cluster("llm")).ecds().concurrency(2).start();
    let request = post("/v1/chat/completions", "k", &chat(MAX_TOKENS, json!({})));
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..CALLS).map(|_| scope.spawn(|| ask(&envoy, &request).status)).collect();
        let deadline = Instant::now() + TIMEOUT;
        while envoy.metric("allowance_requests_total", &[]) < CALLS as u64 {
            assert!(Instant::now() < deadline, "not all calls were decided");
            std::thread::yield_now();
        }
        *open.0.lock().unwrap() = true;
        open.1.notify_all();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(arrived.load(Ordering::SeqCst), passed, "what passed is what the upstream saw");
    // The counter itself, also where it is above the maximum: it outlives a configuration.
    envoy.reconfigure(&configured(100 * FIT * reserved())).unwrap();
    (passed, envoy)
}

#[test]
fn a_hundred_calls_at_once_never_charge_more_than_the_limit_when_none_takes_more_than_it_reserved() {
    let (passed, envoy) = storm(7, MAX_TOKENS);
    assert_eq!(passed as u64, FIT, "exactly those that fit");
    assert_eq!(used(&envoy, "k"), FIT * (7 + MAX_TOKENS), "what they took, and nothing is reserved any more");
    assert!(FIT * (7 + MAX_TOKENS) <= FIT * reserved());
}

#[test]
fn calls_that_take_more_than_they_reserved_exceed_the_limit_by_just_that() {
    const MORE: u64 = 30;
    let (passed, envoy) = storm(reserved() - MAX_TOKENS + MORE, MAX_TOKENS);
    assert_eq!(passed as u64, FIT);
    assert_eq!(used(&envoy, "k"), FIT * reserved() + FIT * MORE, "the maximum, and the sum of what was not reserved");
}
