//! What is outside the filter's power: its VM dies, and somebody else writes into the same shared data. No count is lost.

use crate::asking::{consumer, counted, decisions, left};
use crate::support::envoy::{Envoy, Policy};
use crate::support::http::{Connection, Request, Response, TIMEOUT, storm};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

/// The module built with the feature `crash`: with the header `x-crash` a request dies once its charge is stored.
fn crashing() -> PathBuf {
    std::env::var("ALLOWANCE_CRASH_WASM")
        .unwrap_or_else(|_| panic!("ALLOWANCE_CRASH_WASM is not set: run \"make test\""))
        .into()
}

/// A listed consumer and unlisted keys, `max` requests each; what is exempt tells whether the VM lives and charges nothing.
fn configuration(max: u64) -> String {
    format!(
        "unlisted: {{plan: free}}
plans: {{free: {{limits: [{{name: l, requests: {max}, per: 300d}}, {{name: day, requests: 1000000, per: 3000d}}]}}}}
consumers: [{}]
rules: [{{name: health, match: {{path: {{exact: /healthz}}}}, exempt: true}}]
",
        consumer("acme", "free", &["listed"], "")
    )
}

fn get(connection: &mut Connection, path: &str, headers: &[(&str, &str)]) -> Response {
    let response = connection.get(path, headers);
    assert_ne!(response.header("connection").as_deref(), Some("close"), "a worker's connection must stay");
    response
}

/// Waits until this connection's worker has its VM again: in between it answers 503 and charges nothing.
fn wait_until_alive(connection: &mut Connection) {
    let deadline = Instant::now() + TIMEOUT;
    while get(connection, "/healthz", &[]).status != 200 {
        assert!(Instant::now() < deadline, "the VM did not come back");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_crash_of_the_vm_loses_no_count() {
    const MAX: u64 = 60;
    const CRASHES: u64 = 5;
    let envoy = Envoy::with(&configuration(MAX)).module(crashing()).policy(Policy::Reload).concurrency(2).start();
    let mut connections = envoy.connections_on_distinct_workers(2);
    // Each of the two dies again and again, with requests of both callers in between.
    let mut used = 0;
    for crash in 0..CRASHES {
        for (worker, connection) in &mut connections {
            for key in ["listed", "unlisted"] {
                wait_until_alive(connection);
                let before = get(connection, "/", &[("x-api-key", key)]);
                assert_eq!((before.status, left(&before).1), (200, MAX - used - 1), "{key} {crash} on worker {worker}");
                let died = get(connection, "/", &[("x-api-key", key), ("x-crash", "1")]);
                assert_eq!(died.status, 503, "{key} {crash} on worker {worker}");
            }
            used += 2;
        }
    }
    assert_eq!(used, 20);
    let log = envoy.log();
    assert_eq!(
        log.matches("Proxy-Wasm plugin in-VM backtrace").count() as u64,
        4 * CRASHES,
        "each of them was a crash"
    );
    // Each request that died has been charged and stays charged; none of the others was lost.
    for (_, connection) in &mut connections {
        wait_until_alive(connection);
    }
    let mut connection = connections.swap_remove(0).1;
    for key in ["listed", "unlisted"] {
        for expected in (0..MAX - used).rev() {
            let response = get(&mut connection, "/", &[("x-api-key", key)]);
            assert_eq!((response.status, left(&response).1), (200, expected), "{key}");
        }
        assert_eq!(get(&mut connection, "/", &[("x-api-key", key)]).status, 429);
    }
}

/// While one worker's VM dies and comes back, the other counts on, and both on the same record.
#[test]
fn while_one_worker_dies_the_others_count_exactly() {
    const MAX: u64 = 5000;
    let envoy = Envoy::with(&configuration(MAX)).module(crashing()).policy(Policy::Reload).concurrency(2).start();
    let mut connections = envoy.connections_on_distinct_workers(2);
    let (_, mut steady) = connections.pop().unwrap();
    let (_, mut dying) = connections.pop().unwrap();
    let (steadily, charged) = thread::scope(|scope| {
        let load = scope.spawn(move || {
            let keyed = |_| get(&mut steady, "/", &[("x-api-key", "k")]).status;
            (0..3000).map(keyed).filter(|status| *status == 200).count() as u64
        });
        let mut charged = 0;
        for _ in 0..5 {
            wait_until_alive(&mut dying);
            for _ in 0..20 {
                assert_eq!(get(&mut dying, "/", &[("x-api-key", "k")]).status, 200);
                charged += 1;
            }
            assert_eq!(get(&mut dying, "/", &[("x-api-key", "k"), ("x-crash", "1")]).status, 503);
            charged += 1;
        }
        (load.join().unwrap(), charged)
    });
    assert_eq!((steadily, charged), (3000, 105), "the worker whose VM lives answers as ever");
    wait_until_alive(&mut dying);
    let last = get(&mut dying, "/", &[("x-api-key", "k")]);
    assert_eq!((last.status, left(&last).1), (200, MAX - steadily - charged - 1));
}

/// The keys that the other plugin writes on each request.
const WRITTEN: u64 = 12;

/// A plugin that writes into the shared data of this `vm_id`, as a filter.
fn writer(vm_id: &str) -> String {
    let module = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("writer-{}.wasm", std::process::id()));
    std::fs::write(&module, wat::parse_str(include_str!("writer.wat")).expect("writer.wat is a module")).unwrap();
    format!(
        r#"- name: writer
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: writer
      vm_config: {{vm_id: {vm_id:?}, runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {module:?}}}}}}}
"#
    )
}

#[test]
fn another_plugin_that_writes_into_the_shared_data_does_no_harm() {
    const MAX: u64 = 1000;
    const REQUESTS: u64 = 6000;
    let vm_id = format!("shared-{}", std::process::id());
    // Before and after: it writes whether the filter lets the request pass or not, and around the filter's own writes.
    let writer = writer(&vm_id);
    let envoy = Envoy::with(&configuration(MAX))
        .vm_id(&vm_id)
        .concurrency(4)
        .filters_before(&writer)
        .filters_after(&writer.replace("name: writer", "name: writer-after"))
        .ecds()
        .start();
    let load = || {
        let responses = storm(envoy.addr(), 32, REQUESTS as usize, |number| {
            Request::get("/").header("x-api-key", ["listed", "unlisted", "another"][number % 3])
        });
        let mut admitted = [0; 3];
        for (number, response) in responses.iter().enumerate() {
            assert!([200, 429].contains(&response.status), "{response:?}");
            admitted[number % 3] += u64::from(response.status == 200);
        }
        admitted
    };
    assert_eq!(load(), [MAX; 3]);
    // Another configuration opens the namespace anew, and meets what the plugin left there.
    envoy.reconfigure(&configuration(MAX + 10)).unwrap();
    assert_eq!(load(), [10; 3]);
    let allowed = 3 * (MAX + 10);
    assert_eq!(decisions(&envoy), counted(&[("allowed", allowed), ("denied", 2 * REQUESTS - allowed)]));
    // It did write: all keys on each request, and once more on those that passed.
    assert_eq!(envoy.stat("wasmcustom.writer_writes"), Some(WRITTEN * (2 * REQUESTS + allowed)));
}
