//! What the process costs.

use std::time::Duration;

use super::Envoy;

impl Envoy {
    /// The process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Resident memory.
    pub fn rss_kib(&self) -> u64 {
        let status = self.proc("status");
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a running process has resident memory");
        line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
    }

    /// The processor time that all its threads have used so far, to the nanosecond; threads that ended are not in it.
    pub fn cpu(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("Envoy runs");
        let used = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok());
        let nanoseconds = used.filter_map(|text| text.split(' ').next()?.parse::<u64>().ok()).sum();
        Duration::from_nanos(nanoseconds)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("Envoy runs")
    }
}
