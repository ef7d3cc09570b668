//! Load, from h2load.

use std::io::Read as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::folder;

/// The header fields of every request besides the key: about what an SDK of an HTTP API sends.
const HEADERS: [&str; 5] = [
    "accept: application/json",
    "accept-encoding: gzip, deflate, br",
    "accept-language: *",
    "content-type: application/json",
    "user-agent: example-sdk/1.42.0 (linux; x86_64) runtime/22.3",
];

/// Requests per second when latencies are looked at, far from what Envoy can do. What h2load waits with knows milliseconds.
pub(crate) const RATE: u64 = 1000;

/// The protocol of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(crate) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// Requests to one listener.
pub(crate) struct Load<'a> {
    pub(crate) addr: SocketAddr,
    pub(crate) protocol: Protocol,
    pub(crate) connections: u64,
    /// Requests under way on each connection.
    pub(crate) streams: u64,
    pub(crate) requests: u64,
    /// The request header of the key; none where it is in the URIs.
    pub(crate) key: Option<&'a str>,
    /// A file of URIs, asked for in this order by every connection; `/` if none.
    pub(crate) uris: Option<&'a Path>,
}

impl Load<'_> {
    /// Sends the requests as fast as they are answered; all of them must be, with this status.
    pub(crate) fn run(&self, status: u16) {
        self.check(&said_by(self.command()), status);
    }

    /// The same, not going on yet.
    pub(crate) fn stopped(&self) -> Stopped<'_> {
        let child = self.command().stdout(Stdio::piped()).spawn().expect("h2load can be started");
        let mut stopped = Stopped { load: self, child, through: false };
        stopped.stop();
        stopped
    }

    /// Sends them one each millisecond on one connection: the microseconds that each took, sorted.
    ///
    /// At moments of their own, not with `--rps`: with that h2load sends what is due every ten milliseconds, all at once, and most of what it
    /// then sees is their waiting for each other.
    pub(crate) fn timed(&self, status: u16) -> Vec<f64> {
        let (script, log) = (folder().join("moments"), folder().join("latencies"));
        let uri = format!("http://{}/", self.addr);
        // In milliseconds.
        let moments: String = (0..self.requests).map(|number| format!("{}\t{uri}\n", number * 1000 / RATE)).collect();
        std::fs::write(&script, moments).expect("target is writable");
        let _ = std::fs::remove_file(&log);
        let mut command = self.command_on(1);
        command.arg("--timing-script-file").arg(&script).arg("--log-file").arg(&log);
        self.check(&said_by(command), status);
        let text = std::fs::read_to_string(&log).expect("h2load writes its log");
        // Start, status, microseconds.
        let mut times: Vec<f64> =
            text.lines().map(|line| line.rsplit('\t').next().unwrap().trim().parse().expect("a time")).collect();
        assert_eq!(times.len() as u64, self.requests, "a time of each request");
        times.sort_by(f64::total_cmp);
        times
    }

    fn command(&self) -> Command {
        let mut command = self.command_on(self.connections);
        command.arg("-n").arg(self.requests.to_string()).arg("-m").arg(self.streams.to_string());
        let base = format!("http://{}/", self.addr);
        match self.uris {
            Some(file) => command.arg("-B").arg(base).arg("-i").arg(file),
            None => command.arg(base),
        };
        command
    }

    fn command_on(&self, connections: u64) -> Command {
        let mut command = Command::new("h2load");
        if self.protocol == Protocol::Http1 {
            command.arg("--h1");
        }
        command.arg("-t").arg("1").arg("-c").arg(connections.to_string());
        for header in HEADERS {
            command.args(["-H", header]);
        }
        if let Some(key) = self.key {
            command.arg("-H").arg(format!("x-api-key: {key}"));
        }
        command
    }

    /// That all requests were answered with this status.
    fn check(&self, text: &str, status: u16) {
        // "status codes: 20000 2xx, 0 3xx, 0 4xx, 0 5xx"
        let class = format!(" {}xx", status / 100);
        let answered = text
            .lines()
            .find_map(|line| line.strip_prefix("status codes: "))
            .and_then(|counts| counts.split(',').find_map(|count| count.trim().strip_suffix(class.trim_start())))
            .and_then(|count| count.trim().parse::<u64>().ok());
        assert_eq!(answered, Some(self.requests), "{text}");
    }
}

/// What it writes until it ends.
fn said_by(mut command: Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().expect("h2load can be started");
    String::from_utf8(output.stdout).expect("h2load writes text")
}

/// A load that goes on only when it is told to. Ended where it is dropped.
pub(crate) struct Stopped<'a> {
    load: &'a Load<'a>,
    child: Child,
    through: bool,
}

impl Stopped<'_> {
    pub(crate) fn go_on(&self) {
        self.send(Signal::CONT);
    }

    /// Until it is told to go on again; whether it is through.
    pub(crate) fn stop(&mut self) -> bool {
        self.through = self.through || self.child.try_wait().expect("it can be waited for").is_some();
        self.send(Signal::STOP);
        self.through
    }

    /// Checks the answers.
    pub(crate) fn finish(mut self, status: u16) {
        assert!(self.through, "all requests are sent");
        let mut text = String::new();
        let output = self.child.stdout.as_mut().expect("it is piped");
        output.read_to_string(&mut text).expect("h2load writes text");
        self.load.check(&text, status);
    }

    /// To a process that there is for certain.
    fn send(&self, signal: Signal) {
        if !self.through {
            kill_process(Pid::from_child(&self.child), signal).expect("it was not waited for");
        }
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
