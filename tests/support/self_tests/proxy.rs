//! The in-process host, with a hand-written module.

use std::sync::Arc;

use crate::support::proxy::{Action, Exchange, Instance, LogLevel, Module, Options, SharedData};

/// A limiter of so many requests per key.
pub(super) fn module() -> Module {
    Module::compile(include_bytes!("counter.wat"))
}

fn started(configuration: &str) -> Instance {
    Instance::new(&module(), Arc::default(), Options::new(configuration)).unwrap()
}

#[test]
fn a_request_makes_the_calls_and_entries_that_a_real_proxy_would_see() {
    let mut instance = started("2");
    let outcome = instance.request(&[("X-Api-Key", "k")]);
    assert_eq!(outcome.action, Action::Continue);
    assert_eq!(
        outcome.call_names(),
        [
            "proxy_get_header_map_value",
            "proxy_get_shared_data",
            "proxy_set_shared_data",
            "proxy_increment_metric",
            "proxy_add_header_map_value",
            "proxy_get_property",
            "proxy_set_property",
        ]
    );
    // The first get found nothing, so only the header and the property cost an allocation.
    assert_eq!(
        outcome.entries,
        [
            "proxy_on_context_create",
            "proxy_on_request_headers",
            "proxy_on_memory_allocate",
            "proxy_on_response_headers",
            "proxy_on_log",
            "proxy_on_memory_allocate",
        ]
    );
    assert_eq!(outcome.returning_calls().iter().map(|call| call.returned_bytes).collect::<Vec<_>>(), [1, 1]);
    assert_eq!(outcome.calls[2].args, "k if version 4294967295, 4 bytes");
    assert_eq!(outcome.calls[1].during, "proxy_on_request_headers");
    assert_eq!(outcome.status(), Some(200));
    assert_eq!(outcome.header("x-limit").as_deref(), Some("2"));
    assert_eq!(outcome.response_headers_added.lines(), [(b"x-limit".to_vec(), b"2".to_vec())]);
    assert_eq!(outcome.response_body, b"upstream\n");
    assert_eq!(outcome.properties_set, [("allowance".to_owned(), b"k".to_vec())]);
    assert_eq!(instance.metrics().value("requests_total"), Some(1));
}

#[test]
fn a_local_reply_runs_through_the_response_callbacks_too() {
    let mut instance = started("1");
    instance.request(&[("x-api-key", "k")]);
    let outcome = instance.request(&[("x-api-key", "k")]);
    let reply = outcome.local_reply.as_ref().unwrap();
    assert_eq!((reply.status, reply.details.as_str(), reply.grpc_status), (429, "over_limit", 8));
    assert_eq!(reply.body, b"over_limit");
    assert_eq!(outcome.status(), Some(429));
    assert_eq!(outcome.header("retry-after").as_deref(), Some("17"));
    assert_eq!(outcome.header("content-length").as_deref(), Some("10"));
    assert_eq!(outcome.header("x-limit").as_deref(), Some("1"), "the filter's own reply meets its response callback");
    assert_eq!(outcome.response_body, b"over_limit");
}

#[test]
fn header_values_are_bytes_and_properties_join_them() {
    let mut instance = started("9");
    let outcome = instance.request(&[("x-api-key", &b"\xff"[..]), ("x-api-key", b"two")]);
    assert_eq!(outcome.properties_set, [("allowance".to_owned(), b"\xff,two".to_vec())]);
    assert_eq!(instance.shared().keys(), [b"\xff"], "a single get returns the first of several");
    assert_eq!(instance.request(&[("x-other", "")]).status(), Some(401));
}

#[test]
fn a_refused_configuration_says_why_and_leaves_the_old_one() {
    let refused = Instance::new(&module(), Arc::default(), Options::new("!")).unwrap_err();
    assert_eq!(refused.text(), "refused this configuration\n");
    assert!(refused.trap.is_none());

    let mut instance = started("1");
    instance.request(&[("x-api-key", "k")]);
    assert_eq!(instance.configure(b"!").unwrap_err().text(), "refused this configuration\n");
    assert_eq!(instance.request(&[("x-api-key", "k")]).status(), Some(429));
    instance.configure(b"2").unwrap();
    assert_eq!(
        instance.request(&[("x-api-key", "k")]).status(),
        Some(200),
        "1 of 2 used before the change, now 2 of 2"
    );
}

#[test]
fn instances_share_what_they_are_given() {
    let (shared, options) = (Arc::new(SharedData::default()), Options::new("2"));
    let mut workers = [(); 2].map(|()| Instance::new(&module(), Arc::clone(&shared), options.clone()).unwrap());
    let statuses = [0, 1, 0].map(|worker| workers[worker].request(&[("x-api-key", "k")]).status().unwrap());
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(options.metrics.value("requests_total"), Some(2));
    assert_eq!(shared.get(b"k").unwrap().0, [2, 0, 0, 0]);
    assert!(shared.dump().contains(&(b"k".to_vec(), vec![1, 0, 0, 0])));
}

#[test]
fn the_module_reads_this_hosts_clock_and_random_numbers() {
    let mut options = Options::new("1");
    options.seed = Some(7);
    let names = |instance: &Instance| instance.startup_calls().iter().map(|call| call.name.clone()).collect::<Vec<_>>();
    let instance = Instance::new(&module(), Arc::default(), options.clone()).unwrap();
    assert_eq!(names(&instance), ["proxy_get_buffer_bytes", "proxy_define_metric", "random_get", "clock_time_get"]);
    options.clock.advance(std::time::Duration::from_millis(1500));
    assert_eq!(instance.clock().now_ns(), 1_767_225_601_500_000_000, "a clone is the same clock");
}

#[test]
fn death_is_reported_with_what_was_being_done() {
    let trap = started("1").try_exchange(&Exchange::new(&[("x-api-key", "!")])).unwrap_err();
    assert_eq!(trap.during, "proxy_on_request_headers");
    assert!(trap.message.contains("unreachable"), "{}", trap.message);
}

#[test]
fn unscripted_imports_link_and_say_so() {
    let mut instance = started("1");
    let calls: Vec<_> = instance.tick().into_iter().map(|call| (call.name, call.status)).collect();
    let (unimplemented, no_such_call, logged) = (12, 52, 0);
    let expected =
        [("proxy_grpc_cancel", unimplemented), ("fd_sync", no_such_call), ("proxy_log", logged), ("proxy_log", logged)];
    assert_eq!(calls, expected.map(|(name, status)| (name.to_owned(), status)));
}

#[test]
fn only_what_is_loud_enough_is_logged() {
    let at = |level| {
        let mut options = Options::new("1");
        options.log_level = level;
        let mut instance = Instance::new(&module(), Arc::default(), options).unwrap();
        instance.tick();
        instance.configure(b"!").unwrap_err().logs.iter().map(|log| log.level).collect::<Vec<_>>()
    };
    assert_eq!(at(LogLevel::Error), [LogLevel::Error]);
    assert_eq!(at(LogLevel::Critical), []);
}
