//! Configuration changes under traffic: counts stay, and what is wrong changes nothing.

use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request, storm};
use crate::unlisted;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

fn status(connection: &mut Connection, key: &str) -> u16 {
    connection.get("/", &[("x-api-key", key)]).status
}

#[test]
fn in_100_reloads_under_load_not_one_request_is_admitted_too_much() {
    let configuration = |reload: usize| {
        format!("{}denial: {{message: 'Reload {reload}'}}\n", unlisted("[{requests: 1000, per: 300d}]"))
    };
    let envoy = Envoy::with(&configuration(0)).concurrency(4).ecds().start();
    let done = AtomicBool::new(false);
    let (mut admitted, mut denied, mut other) = (0, 0, 0);
    thread::scope(|scope| {
        let load: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let mut connection = envoy.connect();
                    let mut statuses = Vec::new();
                    while !done.load(Ordering::Relaxed) {
                        statuses.push(status(&mut connection, "k"));
                    }
                    statuses
                })
            })
            .collect();
        for reload in 1..=100 {
            envoy.reconfigure(&configuration(reload)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for status in load.into_iter().flat_map(|load| load.join().unwrap()) {
            match status {
                200 => admitted += 1,
                429 => denied += 1,
                _ => other += 1,
            }
        }
    });
    assert_eq!((admitted, other), (1000, 0), "{denied} denied");
    assert!(denied > 1000, "the load went on through the reloads: {denied} denied");
    let body = envoy.get("/", &[("x-api-key", "k")]).text();
    assert!(body.contains("Reload 100"), "{body}");
}

#[test]
fn another_maximum_re_bases_what_was_used_on_the_open_connection() {
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        // A month's window, so that neither aging nor refilling can be seen: 100 per 3000d refill one in a month.
        let configuration =
            |max: u64| unlisted(&format!("[{{name: l, requests: {max}, per: 3000d, algorithm: {algorithm}}}]"));
        let envoy = Envoy::with(&configuration(100)).concurrency(2).ecds().start();
        let mut connection = envoy.connect();
        for _ in 0..60 {
            assert_eq!(status(&mut connection, "k"), 200, "{algorithm}");
        }
        envoy.reconfigure(&configuration(50)).unwrap();
        assert_eq!(status(&mut connection, "k"), 429, "{algorithm}: 60 of 50 used");
        envoy.reconfigure(&configuration(200)).unwrap();
        let admitted = (0..200).filter(|_| status(&mut connection, "k") == 200).count();
        assert_eq!(admitted, 140, "{algorithm}: 60 of 200 used");
    }
}

#[test]
fn a_change_of_plan_keeps_the_counts_of_limits_that_keep_their_name_and_window() {
    let configuration = |plan: &str| {
        format!(
            "plans:
  small: {{limits: [{{name: l, requests: 5, per: 300d}}]}}
  large: {{limits: [{{name: other, requests: 50, per: 300d}}, {{name: l, requests: 8, per: 300d}}]}}
consumers:
  - {{name: acme, plan: {plan}, keys: ['sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad']}}
"
        )
    };
    let envoy = Envoy::with(&configuration("small")).ecds().start();
    let mut connection = envoy.connect();
    let admitted = |connection: &mut Connection| (0..20).filter(|_| status(connection, "abc") == 200).count();
    assert_eq!(admitted(&mut connection), 5);
    envoy.reconfigure(&configuration("large")).unwrap();
    assert_eq!(admitted(&mut connection), 3); // 5 of 8 used
    envoy.reconfigure(&configuration("small")).unwrap();
    assert_eq!(admitted(&mut connection), 0); // 8 of 5 used
}

#[test]
fn a_configuration_with_a_mistake_is_refused_and_the_old_one_keeps_serving() {
    let envoy = Envoy::with(&unlisted("[{requests: 5, per: 300d}]")).concurrency(2).ecds().start();
    assert_eq!(envoy.get("/", &[("x-api-key", "k")]).status, 200);
    let refused = envoy.reconfigure(&unlisted("[{requests: 50, per: 1 minute}]")).unwrap_err();
    let message = r#"configuration refused: plans.free.limits[0].per: expected a duration like "1m" or a word like day, got "1 minute""#;
    crate::refusals::assert_right_before_envoys(&refused.log, message);
    let responses = storm(envoy.addr(), 4, 20, |_| Request::get("/").header("x-api-key", "k"));
    assert_eq!(responses.iter().filter(|response| response.status == 200).count(), 4); // 1 of 5 was used
    envoy.reconfigure(&unlisted("[{requests: 7, per: 300d}]")).unwrap();
    assert_eq!(envoy.get("/", &[("x-api-key", "k")]).status, 200); // 5 of 7 were used
}

#[test]
fn another_size_of_the_table_waits_for_a_restart_and_says_so() {
    let configuration = |keys: u32| format!("max_tracked_keys: {keys}\n{}", unlisted("[{requests: 2, per: 300d}]"));
    let envoy = Envoy::with(&configuration(64)).concurrency(2).ecds().start();
    assert_eq!(envoy.get("/", &[("x-api-key", "k")]).status, 200);
    assert_eq!(envoy.metric("allowance_geometry_kept", &[("namespace", "default")]), 0);
    envoy.reconfigure(&configuration(6400)).unwrap();
    assert_eq!(envoy.metric("allowance_geometry_kept", &[("namespace", "default")]), 1);
    let warning = "max_tracked_keys stays 64 until a restart, not 6400: the table cannot be resized";
    envoy.wait_for_log(warning);
    assert_eq!(envoy.log().matches(warning).count(), 1, "once, not by every worker");
    let statuses = [(); 2].map(|()| envoy.get("/", &[("x-api-key", "k")]).status);
    assert_eq!(statuses, [200, 429], "the counts are still there");
    envoy.reconfigure(&configuration(64)).unwrap();
    assert_eq!(envoy.metric("allowance_geometry_kept", &[("namespace", "default")]), 0);
}
