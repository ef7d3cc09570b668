//! Which worker a connection sits on: a race between workers needs connections that are known to be on different ones.

use super::stats::parse;
use super::{Envoy, wait};
use crate::support::http::{Connection, TIMEOUT};

/// Connections that are opened in search of a worker before giving up; the kernel spreads them evenly.
const TRIES: usize = 1000;

impl Envoy {
    /// How many connections each worker has taken so far.
    pub fn worker_connections(&self) -> Vec<u64> {
        count(&self.admin_get("/stats?filter=worker_"))
    }

    /// Opens a connection and says which worker took it. Nobody else may open one to this Envoy meanwhile.
    pub fn connect_to_some_worker(&self) -> (usize, Connection) {
        let before = self.worker_connections();
        let connection = self.connect();
        let worker = wait(TIMEOUT, "a worker to take the connection", || {
            let now = self.worker_connections();
            now.iter().zip(&before).position(|(now, before)| now > before)
        });
        (worker, connection)
    }

    /// One connection on each of `n` different workers, with the worker's index, sorted by it.
    pub fn connections_on_distinct_workers(&self, n: usize) -> Vec<(usize, Connection)> {
        let mut found: Vec<(usize, Connection)> = Vec::new();
        for _ in 0..TRIES {
            if found.len() == n {
                found.sort_by_key(|(worker, _)| *worker);
                return found;
            }
            let (worker, connection) = self.connect_to_some_worker();
            if !found.iter().any(|(known, _)| *known == worker) {
                found.push((worker, connection));
            }
        }
        panic!("{TRIES} connections reached {} workers, not {n}", found.len());
    }
}

/// The connections that each worker took, from Envoy's stats.
pub(super) fn count(stats: &str) -> Vec<u64> {
    let mut workers = Vec::new();
    for (name, count) in parse(stats) {
        let worker = name.strip_suffix(".downstream_cx_total").and_then(|name| name.rsplit_once(".worker_"));
        let Some(index) = worker.and_then(|(_, index)| index.parse::<usize>().ok()) else { continue };
        workers.resize(workers.len().max(index + 1), 0);
        workers[index] += count;
    }
    workers
}
