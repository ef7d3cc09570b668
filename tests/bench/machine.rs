//! What was measured on.

use std::process::Command;

use serde::Serialize;

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    pub(crate) envoy: String,
    pub(crate) h2load: String,
    pub(crate) date: String,
    /// Processes that wanted to run before the benchmark began, averaged over a minute.
    pub(crate) load_before: String,
}

impl Machine {
    pub(crate) fn now() -> Self {
        let cpus = read("/proc/cpuinfo");
        let model = cpus.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let envoy = std::env::var("ENVOY").expect("ENVOY is not set: run \"make bench\"");
        let version = output(&envoy, &["--version"]);
        // "…/envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL"
        let version = version.split("version: ").nth(1).and_then(|text| text.split('/').nth(1)).unwrap_or("unknown");
        Self {
            cpu: model.map_or_else(|| std::env::consts::ARCH.to_owned(), |(_, model)| model.trim().to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            envoy: version.to_owned(),
            h2load: output("h2load", &["--version"]).trim().to_owned(),
            date: output("date", &["-u", "+%F"]).trim().to_owned(),
            load_before: read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
