//! What a caller is allowed: a plan is a named list of limits, a limit is at most `max` units per window.

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
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Requests => "requests",
        })
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
}

impl Limit {
    /// A limit of a plan or a consumer (`scope` empty), or of the rule `scope`. Its counter is identified by scope, name, unit, window
    /// and algorithm; `max`, burst and shadow may change and the count stays.
    #[must_use]
    pub fn new(scope: &str, name: &str, unit: Unit, rule: Rule) -> Self {
        let id = CounterId::of(scope, name, unit, rule.window, rule.algorithm);
        let label = if scope.is_empty() { name.into() } else { format!("{scope}/{name}").into() };
        Self { label, unit, rule, shadow: false, id }
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
