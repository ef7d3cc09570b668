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

    /// The processor time that all its threads have used so far, to the nanosecond; threads that ended are not in it. Kernels without
    /// that figure know it to the hundredth of a second.
    pub fn cpu(&self) -> Duration {
        self.threads_cpu("").unwrap_or_else(|| {
            let stat = self.proc("stat");
            // The name before may contain anything.
            let fields: Vec<&str> = stat.rsplit_once(") ").expect("a stat has a name").1.split(' ').collect();
            let ticks = |field: usize| fields[field].parse::<u64>().expect("a number of ticks");
            Duration::from_millis(10 * (ticks(11) + ticks(12)))
        })
    }

    /// The same of those threads whose name begins so (`wrk:` are the workers); nothing where the kernel does not say.
    pub fn threads_cpu(&self, name: &str) -> Option<Duration> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).expect("Envoy runs");
        let used = tasks.filter_map(|task| {
            let task = task.ok()?.path();
            let named = std::fs::read_to_string(task.join("comm")).ok()?.starts_with(name);
            let text = if named { std::fs::read_to_string(task.join("schedstat")).ok()? } else { return None };
            text.split(' ').next()?.parse().ok()
        });
        used.map(Duration::from_nanos).reduce(|all, one| all + one)
    }

    fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).expect("Envoy runs")
    }
}
