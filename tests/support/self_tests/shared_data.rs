//! Shared data against the table in Envoy's own behaviour.

use crate::support::proxy::{Mode, SharedData, Status};

const ABSENT: u32 = u32::MAX;

#[test]
fn keeps_the_real_hosts_rules() {
    let data = SharedData::default();
    assert_eq!(data.get(b"k"), None);
    assert_eq!(data.set(b"k", b"one", ABSENT), Status::Ok, "an absent key is created whatever the version");
    let (value, version) = data.get(b"k").unwrap();
    assert_eq!(value, b"one");
    assert_eq!(data.set(b"k", b"two", ABSENT), Status::CasMismatch, "it exists now");
    assert_eq!(data.set(b"k", b"two", version), Status::Ok);
    assert_eq!(data.set(b"k", b"three", version), Status::CasMismatch, "that version is gone");
    assert_eq!(data.set(b"k", b"four", 0), Status::Ok, "version 0 always overwrites");
    assert_eq!(data.set(b"k", b"", 0), Status::Ok);
    assert_eq!(data.get(b"k").unwrap().0, b"", "an emptied key still exists");
    assert_eq!(data.keys(), [b"k"]);
    let written: Vec<_> = data.dump().into_iter().map(|(_, value)| value).collect();
    assert_eq!(written, [&b"one"[..], b"two", b"four", b""], "what was overwritten is still to be found");
}

#[test]
fn versions_are_one_counter_over_all_keys_and_skip_zero() {
    let data = SharedData::with_next_version(Mode::Exact, u32::MAX);
    data.set(b"a", b"", ABSENT);
    data.set(b"b", b"", ABSENT);
    data.set(b"c", b"", ABSENT);
    let versions = [b"a", b"b", b"c"].map(|key| data.get(key).unwrap().1);
    assert_eq!(versions, [u32::MAX, 1, 2]);
    // The one version in 2³² with which an exclusive create overwrites.
    assert_eq!(data.set(b"a", b"again", ABSENT), Status::Ok);
}

#[test]
fn a_blind_create_overwrites_only_what_it_saw_absent() {
    let data = SharedData::new(Mode::BlindCreate);
    data.set(b"k", b"one", ABSENT);
    assert_eq!(data.set(b"k", b"two", ABSENT), Status::Ok);
    assert_eq!(data.set(b"k", b"three", 77), Status::CasMismatch);
}

#[test]
fn a_blind_write_always_overwrites() {
    let data = SharedData::new(Mode::BlindWrite);
    assert_eq!([ABSENT, 77, 0].map(|version| data.set(b"k", b"", version)), [Status::Ok; 3]);
}

#[test]
fn a_snapshot_brings_back_values_and_versions() {
    let data = SharedData::default();
    data.set(b"k", b"one", ABSENT);
    let start = data.snapshot();
    let run = || {
        data.restore(&start);
        data.set(b"k", b"two", 0);
        data.set(b"new", b"", 0);
        (data.keys(), data.get(b"k"))
    };
    assert_eq!(run(), run());
    data.restore(&start);
    assert_eq!(data.get(b"k"), Some((b"one".to_vec(), 1)));
    assert_eq!(data.get(b"new"), None);
}
