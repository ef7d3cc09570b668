//! A module that Envoy fetches itself: what comes must be what was named, and the server may be late.

use crate::files::{assert_trial, bootstrap, envoys, module};
use crate::server::{Server, free_port};
use crate::support::envoy::{Envoy, PATIENCE};
use crate::support::http::Connection;
use sha2::{Digest, Sha256};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An Envoy with the sample, which does not wait for its listener, and that listener's port. Tries follow each other faster than in the sample.
fn spawn(program: &Path, port: u16, hash: &str) -> (Envoy, u16) {
    let (server, own) = (format!("port_value: {port}"), free_port());
    let listener = format!("port_value: {own}");
    let replaced = [
        ("port_value: 8000", server.as_str()),
        (&"0".repeat(64), hash),
        ("port_value: 10000", &listener),
        ("{base_interval: 0.5s, max_interval: 5s}", "{base_interval: 0.05s, max_interval: 0.1s}"),
    ];
    (bootstrap("attach/remote.yaml", &replaced).envoy(program).spawn().unwrap(), own)
}

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_module_with_another_hash_is_refused_and_no_request_passes_without_the_filter() {
    let bytes = std::fs::read(module()).unwrap();
    let mut other = bytes.clone();
    // A custom section more, of no name and no content: another module that does the same.
    other.extend([0, 1, 0]);
    for program in envoys() {
        let server = Server::start(0, other.clone());
        let (envoy, port) = spawn(&program, server.port(), &hash(&bytes));
        wait("it was asked again", || server.asked() > 3);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
        assert_eq!(envoy.exited(), None);
        let mut envoy = envoy;
        // Once the right one is there, all is well.
        let port = server.port();
        drop(server);
        let _server = Server::start(port, bytes.clone());
        envoy.serve().unwrap();
        assert_trial("the right module", &envoy, "/");
    }
}

#[test]
fn a_server_that_comes_up_late_is_asked_again() {
    let bytes = std::fs::read(module()).unwrap();
    for program in envoys() {
        let later = free_port();
        let (mut envoy, port) = spawn(&program, later, &hash(&bytes));
        let failed = || envoy.stat("cluster.modules.upstream_cx_connect_fail").unwrap_or_default();
        wait("it was not there", || failed() > 1);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "nobody listens");
        let server = Server::start(later, bytes.clone());
        envoy.serve().unwrap();
        assert_trial("late", &envoy, "/");
        assert_eq!(server.asked(), 1);
        assert!(Connection::try_open(envoy.addr()).is_ok());
    }
}
