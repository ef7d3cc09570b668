//! Starting, watching and stopping a real Envoy, without the filter under test.

use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Request, storm};

#[test]
fn serves_counts_and_is_gone_afterwards() {
    let envoy = Envoy::bare().access_log("%REQ(:PATH)% %RESPONSE_CODE%").start();
    let response = envoy.get("/hello", &[("x-any", "value")]);
    assert_eq!((response.status, response.text().as_str()), (200, "upstream\n"));
    assert_eq!(envoy.access_log(1), ["/hello 200"]);
    assert_eq!(envoy.stat("http.main.downstream_rq_2xx"), Some(1));
    assert_eq!(envoy.stat("no.such.stat"), None);
    assert_eq!(
        envoy.metric(
            "envoy_http_downstream_rq_xx",
            &[("envoy_http_conn_manager_prefix", "main"), ("envoy_response_code_class", "2")]
        ),
        1
    );
    assert!(envoy.log().contains("starting workers"));
    assert!(envoy.rss_kib() > 10_000);
    assert!(!envoy.cpu().is_zero());
    let (addr, dir) = (envoy.addr(), envoy.dir().to_owned());
    drop(envoy);
    assert!(Connection::try_open(addr).is_err());
    assert!(!dir.exists());
}

#[test]
fn knows_which_worker_a_connection_sits_on() {
    let envoy = Envoy::bare().concurrency(4).start();
    let mut connections = envoy.connections_on_distinct_workers(4);
    assert_eq!(connections.iter().map(|(worker, _)| *worker).collect::<Vec<_>>(), [0, 1, 2, 3]);
    for (_, connection) in &mut connections {
        assert_eq!(connection.get("/", &[]).status, 200);
    }
}

#[test]
fn a_bad_configuration_is_an_exit_with_a_reason() {
    let envoy = || Envoy::bare().routes("- {match: {prefix: /}, no_such_field: 1}");
    for exit in [envoy().try_start().unwrap_err(), envoy().validate()] {
        assert_eq!(exit.status.code(), Some(1));
        assert!(exit.log.contains("no_such_field"), "{}", exit.log);
    }
    assert!(Envoy::bare().validate().status.success());
}

#[test]
fn takes_a_whole_bootstrap_as_it_stands() {
    let bootstrap = Envoy::bare().start();
    let text = std::fs::read_to_string(bootstrap.dir().join("envoy.yaml")).unwrap().replace("upstream", "as it stands");
    assert_eq!(Envoy::with_bootstrap(&text).start().get("/", &[]).text(), "as it stands\n");
}

#[test]
fn a_storm_of_requests_takes_seconds() {
    let envoy = Envoy::bare().start();
    let responses = storm(envoy.addr(), 64, 20_000, |number| Request::get("/").header("x-number", number.to_string()));
    assert_eq!(responses.iter().filter(|response| response.status == 200).count(), 20_000);
    assert_eq!(envoy.stat("http.main.downstream_rq_2xx"), Some(20_000));
}

#[test]
fn a_long_pipeline_is_no_flood() {
    let envoy = Envoy::bare().start();
    let requests: Vec<_> = (0..300).map(|_| Request::get("/")).collect();
    assert!(envoy.connect().pipeline(&requests).iter().all(|response| response.status == 200));
    assert_eq!(envoy.stat("http1.response_flood"), Some(0));
}
