//! How much is measured.

/// How many rounds and requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extent {
    /// Rounds over all variants.
    pub(crate) rounds: usize,
    /// Requests of each variant in each round and protocol.
    pub(crate) requests: u64,
    /// Requests of each variant before the first round.
    pub(crate) warm_up: u64,
    /// Requests whose latencies are looked at, of each variant and protocol.
    pub(crate) timed: u64,
}

impl Extent {
    /// About a quarter of an hour.
    pub(crate) fn full() -> Self {
        Self { rounds: 15, requests: 20_000, warm_up: 10_000, timed: 6_000 }
    }

    /// Two minutes.
    pub(crate) fn quick() -> Self {
        Self { rounds: 5, requests: 6_000, warm_up: 3_000, timed: 1_000 }
    }
}
