//! An upstream that speaks like LLM providers: `envoy/upstream.py`, ended with its owner.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use super::http::Connection;

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    child: Child,
    addr: SocketAddr,
}

/// One request that reached it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in milliseconds since some start.
    pub time: u64,
    /// The path without its query.
    pub path: String,
    /// What it was answered.
    pub status: u64,
}

impl Upstream {
    /// Starts it on a free port.
    pub fn start() -> Self {
        let python = python();
        let mut child = Command::new(&python)
            .args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/envoy/upstream.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} cannot be run: {error}"));
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("its output is ours"));
        output.read_line(&mut line).expect("its output can be read");
        let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("the upstream did not start: {line:?}"));
        Self { child, addr: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// An Envoy cluster of that name with nothing but this.
    pub fn cluster(&self, name: &str) -> String {
        let port = self.addr.port();
        format!(
            "- name: {name}
  type: STATIC
  load_assignment:
    cluster_name: {name}
    endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"
        )
    }

    /// The requests that reached it so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        let answer = Connection::open(self.addr).get("/-/seen", &[]).json();
        let requests = answer.as_array().expect("a list").iter().map(|request| Seen {
            time: request["time"].as_u64().expect("a number"),
            path: request["path"].as_str().expect("a text").to_owned(),
            status: request["status"].as_u64().expect("a number"),
        });
        requests.collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Python that tests run.
pub fn python() -> String {
    std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned())
}
