//! Whatever a client sends, and whatever lies in the shared data: an answer, and the same VM afterwards.

use crate::support::proxy::{Mode, Options, SharedData};
use crate::{ABC, LOOKED_AT_AGAIN, instance, status, with};
use proptest::prelude::*;
use std::cell::RefCell;
use std::sync::Arc;

const EVERY_SOURCE: &str = r#"{"api_key": {"from": [{"bearer": "authorization"}, {"header": "x-api-key"}, {"query": "key"},
    {"cookie": "api_key"}]}, "unlisted": {"plan": "free"}, "plans": {"free": {"limits": [{"requests": 5, "per": "1m"}]}}}"#;

#[test]
fn any_bytes_in_header_path_and_cookie_are_answered_by_a_vm_that_lives_on() {
    let instance = RefCell::new(instance(EVERY_SOURCE, &Arc::new(SharedData::default())));
    let bytes = || prop::collection::vec(any::<u8>(), 0..80);
    proptest!(ProptestConfig::with_cases(2000), |(path in bytes(), auth in bytes(), key in bytes(), cookie in bytes())| {
        let auth = [b"Bearer ", auth.as_slice()].concat();
        let cookie = [b"api_key=", cookie.as_slice()].concat();
        let headers: [(&[u8], &[u8]); 4] = [(b":path", &path), (b"authorization", &auth), (b"x-api-key", &key), (b"cookie", &cookie)];
        for subset in [&headers[..], &headers[1..2], &headers[2..3], &headers[3..]] {
            let outcome = instance.borrow_mut().request(subset);
            let status = outcome.status().unwrap_or(200);
            prop_assert!([200, 400, 401, 429].contains(&status), "{status}");
        }
    });
    assert_eq!(status(&mut instance.borrow_mut(), "honest"), 200);
}

#[test]
fn a_key_of_sixty_kibibytes_is_a_key() {
    let mut instance = instance(EVERY_SOURCE, &Arc::new(SharedData::default()));
    let long = "k".repeat(60 * 1024);
    assert_eq!((0..7).map(|_| status(&mut instance, &long)).collect::<Vec<_>>(), [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(status(&mut instance, &long[1..]), 200, "another key");
}

/// Another plugin that writes where our records are, or a later version of ours.
#[test]
fn a_record_that_is_none_counts_as_empty_and_is_told() {
    let configuration = format!(
        r#"{{"plans": {{"pro": {{"limits": [{{"requests": 1, "per": "300d"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
    );
    for garbage in [b"garbage".as_slice(), b"\x02\x00", b"\x01\x01", &[1; 64], &[255; 4096]] {
        let shared = Arc::new(SharedData::new(Mode::Exact));
        let mut instance = with(Options::new(&configuration), &shared);
        assert_eq!([status(&mut instance, "abc"), status(&mut instance, "abc")], [200, 429]);
        shared.set(&only_record(&shared), garbage, 0);
        instance.clock().advance(LOOKED_AT_AGAIN);
        assert_eq!([status(&mut instance, "abc"), status(&mut instance, "abc")], [200, 429]);
        assert_eq!(instance.metrics().value("reason=.=record;.;allowance_errors_total"), Some(1));
    }
}

#[test]
fn an_emptied_record_is_an_empty_record() {
    let shared = Arc::new(SharedData::default());
    let configuration = format!(
        r#"{{"plans": {{"pro": {{"limits": [{{"requests": 1, "per": "300d"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "pro", "keys": ["{ABC}"]}}]}}"#
    );
    let mut instance = with(Options::new(configuration), &shared);
    assert_eq!([status(&mut instance, "abc"), status(&mut instance, "abc")], [200, 429]);
    shared.set(&only_record(&shared), b"", 0);
    instance.clock().advance(LOOKED_AT_AGAIN);
    assert_eq!([status(&mut instance, "abc"), status(&mut instance, "abc")], [200, 429]);
}

/// Where the record of the only caller is.
fn only_record(shared: &SharedData) -> Vec<u8> {
    let names = shared.keys().into_iter().filter(|name| name.starts_with(b"allowance1"));
    let names: Vec<_> = names.collect();
    let [name] = names.try_into().unwrap();
    name
}
