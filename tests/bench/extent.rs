//! How much is measured.

/// How many rounds and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// How often the Envoy of all variants is started.
    pub(crate) sets: usize,
    /// Rounds over all variants each time.
    pub(crate) rounds: usize,
    /// Requests of each variant in each round and protocol.
    pub(crate) requests: u64,
    /// Requests of each variant before the first round.
    pub(crate) warm_up: u64,
    /// Requests whose latencies are looked at, of each variant and protocol.
    pub(crate) timed: u64,
    /// How often the Envoys of each question about growth are started.
    pub(crate) growth_sets: usize,
    /// Rounds over its sizes each time.
    pub(crate) growth_rounds: usize,
    /// Requests of each size in each round.
    pub(crate) growth_requests: u64,
    /// The most consumers.
    pub(crate) consumers: u64,
    /// The most tracked keys.
    pub(crate) tracked: u64,
}

impl Extent {
    /// Forty minutes on a slow machine.
    pub(crate) fn full() -> Self {
        Self {
            sets: 5,
            rounds: 10,
            requests: 5_000,
            warm_up: 5_000,
            timed: 3_000,
            growth_sets: 3,
            growth_rounds: 7,
            growth_requests: 8_000,
            consumers: 100_000,
            tracked: 1_000_000,
        }
    }

    /// Four minutes on a slow machine.
    pub(crate) fn quick() -> Self {
        Self {
            sets: 1,
            rounds: 7,
            requests: 2_500,
            warm_up: 2_000,
            timed: 300,
            growth_sets: 1,
            growth_rounds: 3,
            growth_requests: 2_000,
            consumers: 10_000,
            tracked: 50_000,
        }
    }
}
