//! What a caller is allowed: a plan is a named list of limits, a limit is at most `max` units per window.

use crate::cost::{Cost, Weights};
use crate::counter::Rule;
use crate::record::CounterId;
use crate::window::Window;
use std::fmt;
use std::num::NonZeroU64;
use std::rc::Rc;

/// The most a configuration may ask for: 10¹⁵ units, exact in every number format on the way (JSON, protobuf double).
pub const MAX_UNITS: u64 = 1_000_000_000_000_000;
/// The most limits one caller may have, and the most live counters one record holds.
pub const MAX_LIMITS: usize = 16;

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests, each at its cost.
    Requests,
    /// Tokens of responses, each at its weight.
    Tokens(Count),
}

/// Which tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// All of them.
    Total,
    /// Those read.
    Input,
    /// Those written.
    Output,
}

impl Unit {
    /// All there are.
    pub const ALL: [Self; 4] =
        [Self::Requests, Self::Tokens(Count::Total), Self::Tokens(Count::Input), Self::Tokens(Count::Output)];

    /// Which tokens it counts, if it counts tokens. None in a build without them, which has so none of their code.
    #[must_use]
    pub const fn tokens(self) -> Option<Count> {
        match self {
            Self::Tokens(count) if cfg!(feature = "llm") => Some(count),
            _ => None,
        }
    }

    /// `requests` or `tokens`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        if self.tokens().is_some() { "tokens" } else { "requests" }
    }

    /// What exactly is counted: `requests`, `tokens`, `input tokens`, `output tokens`.
    #[must_use]
    pub const fn counted(self) -> &'static str {
        match self.tokens() {
            None => "requests",
            Some(Count::Total) => "tokens",
            Some(Count::Input) => "input tokens",
            Some(Count::Output) => "output tokens",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a limit counts; the rules are in [`crate::counter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// used + cost ≤ max in the aligned window.
    FixedWindow,
    /// As the fixed window, plus the part of the window before that still reaches into the last window's length.
    SlidingWindow,
    /// A bucket that holds `burst` units and gains `max` units per window.
    TokenBucket,
}

/// At most `max` units per window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What callers are told: the limit's name, a rule's with the rule's in front (`images/1m`). Unique among those of one request.
    pub label: Rc<str>,
    /// What is counted.
    pub unit: Unit,
    /// Algorithm, numbers and window.
    pub rule: Rule,
    /// Whether it only counts and never denies.
    pub shadow: bool,
    /// Names the counter in the caller's record.
    pub id: CounterId,
    /// What each token counts.
    pub weights: Weights,
    /// For how long the bound of a request's tokens is reserved, in nanoseconds; `None`: usage is charged afterwards only.
    pub reserve: Option<NonZeroU64>,
}

/// What one request asks of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Units that have to be left for it to be admitted.
    pub needed: u64,
    /// Units charged at once.
    pub charged: u64,
    /// Units reserved until its usage is known, and for how long, in nanoseconds.
    pub reserved: Option<(u64, NonZeroU64)>,
}

impl Demand {
    /// Whether its counter is another one once it is admitted.
    #[must_use]
    pub fn changes(&self) -> bool {
        self.charged > 0 || self.reserved.is_some_and(|(amount, _)| amount > 0)
    }
}

impl Limit {
    /// A limit of a plan or a consumer (`scope` empty), or of the rule `scope`. Its counter is identified by scope, name, unit, window
    /// and algorithm; `max`, burst and shadow may change and the count stays.
    #[must_use]
    pub fn new(scope: &str, name: &str, unit: Unit, rule: Rule) -> Self {
        let id = CounterId::of(scope, name, unit, rule.window, rule.algorithm);
        let label = if scope.is_empty() { name.into() } else { format!("{scope}/{name}").into() };
        Self { label, unit, rule, shadow: false, id, weights: Weights::EVEN, reserve: None }
    }

    /// What a request asks of it: its cost in requests; or its bound in tokens, where they are reserved and a bound is known; or else that any
    /// is left, and its usage afterwards.
    #[must_use]
    pub fn demand(&self, cost: &Cost) -> Demand {
        let Some(count) = self.unit.tokens() else {
            return Demand { needed: cost.requests, charged: cost.requests, reserved: None };
        };
        match self.reserve.zip(cost.estimate) {
            Some((lifetime, estimate)) => {
                let bound = self.weights.bound(count, &estimate, cost.token_cost);
                Demand { needed: bound, charged: 0, reserved: Some((bound, lifetime)) }
            }
            None => Demand { needed: 1, charged: 0, reserved: None },
        }
    }

    /// Becomes the stricter of both in everything that may differ between two limits of one counter.
    pub fn tighten(&mut self, other: &Self) {
        self.rule.max = self.rule.max.min(other.rule.max);
        self.rule.burst = self.rule.burst.min(other.rule.burst);
        self.shadow &= other.shadow;
        self.weights = self.weights.larger(other.weights);
        self.reserve = self.reserve.max(other.reserve);
    }

    /// The most units that can be used at once: `max`, or a bucket's burst.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.rule.capacity().get()
    }

    /// Units per window.
    #[must_use]
    pub fn max(&self) -> NonZeroU64 {
        self.rule.max
    }

    /// The window the limit counts in.
    #[must_use]
    pub fn window(&self) -> Window {
        self.rule.window
    }
}

/// A named list of limits, in the order of the configuration. No limits: unlimited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The plan's name in the configuration.
    pub name: Rc<str>,
    /// Whether none of its limits ever denies.
    pub shadow: bool,
    /// At most [`MAX_LIMITS`], with different names.
    pub limits: Vec<Limit>,
}
