//! The rules of counting: pure transitions of one counter, integers only.
//!
//! With t the time in nanoseconds, W the window's length and x the time into the current window:
//!
//! * `fixed_window`: used + cost ≤ max in the aligned window.
//! * `sliding_window`: ⌊previous·(W−x)/W⌋ + current + cost ≤ max.
//! * `token_bucket`: a level in unit·nanoseconds falls by `max` per nanosecond, level + cost·W ≤ burst·W; used = ⌈level/W⌉.
//!   This is the generic cell rate algorithm (ITU-T I.371) as a meter. What is stored does not depend on `max`, so another
//!   `max` re-bases exactly.
//!
//! **Clock.** Workers read the clock at slightly different times and clocks are set back. A counter up to one window ahead of
//! now is used as of its own window's start. Further ahead, the clock made a big step back ([`Rule::set_back`]): what was used
//! when it was last written moves into the current window, and is stored there even if nothing is charged, or it would move
//! along with every later request. Either way nobody gets a fresh allowance, and no counter stands still for longer than one
//! window.

use crate::plan::Algorithm;
use crate::window::{Timestamp, Window};
use std::num::{NonZeroU64, NonZeroU128};

/// What one counter remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Units used in the window that starts at `start`.
    Fixed {
        /// Start of the aligned window.
        start: Timestamp,
        /// Units charged in it.
        used: u64,
    },
    /// Units of the window that holds `at` and of the one before it.
    Sliding {
        /// When the counter was last written.
        at: Timestamp,
        /// Units charged in the window before.
        previous: u64,
        /// Units charged in the window that holds `at`.
        current: u64,
    },
    /// A level that falls steadily.
    Bucket {
        /// When the level was taken.
        at: Timestamp,
        /// Used units times the window's nanoseconds.
        level: u128,
    },
}

/// When a cost can be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// After this many nanoseconds without another charge, and not a nanosecond earlier. 0: now.
    For(u64),
    /// Never: the cost is above what the limit can hold.
    Never,
}

/// How a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which of the three rules.
    pub algorithm: Algorithm,
    /// Units per window.
    pub max: NonZeroU64,
    /// The window; a duration unless the algorithm is the fixed window.
    pub window: Window,
    /// Units a token bucket holds; the other algorithms do not look at it.
    pub burst: NonZeroU64,
}

// === impl Rule ===

impl Rule {
    /// The most units that can be used at once.
    #[must_use]
    pub fn capacity(&self) -> NonZeroU64 {
        match self.algorithm {
            Algorithm::TokenBucket => self.burst,
            Algorithm::FixedWindow | Algorithm::SlidingWindow => self.max,
        }
    }

    /// Nanoseconds in which `burst` units come back at `max` per window, rounded up.
    #[must_use]
    pub fn refill(&self) -> u64 {
        self.drains_in(self.volume(self.burst.get()))
    }

    /// The counter as it stands at `now`. Nothing stored, or something of another algorithm, is an unused counter.
    #[must_use]
    pub fn advance(&self, stored: Option<Counter>, now: Timestamp) -> Counter {
        match self.algorithm {
            Algorithm::FixedWindow => self.advance_fixed(stored, now),
            Algorithm::SlidingWindow => self.advance_sliding(stored, now),
            Algorithm::TokenBucket => self.advance_bucket(stored, now),
        }
    }

    /// Whether `stored` is more than one window ahead of `now`: the clock made a big step back.
    #[must_use]
    pub fn set_back(&self, stored: &Counter, now: Timestamp) -> bool {
        let at = match *stored {
            Counter::Fixed { start: at, .. } | Counter::Sliding { at, .. } | Counter::Bucket { at, .. } => at,
        };
        if at <= now {
            return false;
        }
        let own = match *stored {
            Counter::Fixed { start: at, .. } | Counter::Sliding { at, .. } => self.window.bounds(at).0,
            Counter::Bucket { at, .. } => at,
        };
        own.since(now) > self.window.span().get()
    }

    fn advance_fixed(&self, stored: Option<Counter>, now: Timestamp) -> Counter {
        let (start, _) = self.window.bounds(now);
        let Some(counter @ Counter::Fixed { start: written, used }) = stored else {
            return Counter::Fixed { start, used: 0 };
        };
        if written == start {
            return counter;
        }
        let (own_start, _) = self.window.bounds(written);
        if own_start < start {
            Counter::Fixed { start, used: 0 }
        } else if self.set_back(&counter, now) {
            Counter::Fixed { start, used }
        } else {
            Counter::Fixed { start: own_start, used }
        }
    }

    fn advance_sliding(&self, stored: Option<Counter>, now: Timestamp) -> Counter {
        let (start, end) = self.window.bounds(now);
        let Some(counter @ Counter::Sliding { at, previous, current }) = stored else {
            return Counter::Sliding { at: now, previous: 0, current: 0 };
        };
        if (start..end).contains(&at) {
            return Counter::Sliding { at: now, previous, current };
        }
        let (own_start, own_end) = self.window.bounds(at);
        if own_end == start {
            Counter::Sliding { at: now, previous: current, current: 0 }
        } else if own_start < start {
            Counter::Sliding { at: now, previous: 0, current: 0 }
        } else if self.set_back(&counter, now) {
            // Not the bare counts: the part of the previous window that had already aged stays aged.
            Counter::Sliding { at: now, previous: 0, current: self.used(&counter) }
        } else {
            Counter::Sliding { at: own_start, previous, current }
        }
    }

    fn advance_bucket(&self, stored: Option<Counter>, now: Timestamp) -> Counter {
        let Some(counter @ Counter::Bucket { at, level }) = stored else {
            return Counter::Bucket { at: now, level: 0 };
        };
        if at <= now {
            Counter::Bucket { at: now, level: level.saturating_sub(product(now.since(at), self.max.get())) }
        } else if self.set_back(&counter, now) {
            Counter::Bucket { at: now, level }
        } else {
            Counter::Bucket { at, level }
        }
    }

    /// Units used, as of the counter's own time; may be above the capacity after the configuration lowered it.
    #[must_use]
    pub fn used(&self, counter: &Counter) -> u64 {
        match *counter {
            Counter::Fixed { used, .. } => used,
            Counter::Sliding { previous: 0, current, .. } => current,
            Counter::Sliding { at, previous, current } => {
                let (start, _) = self.window.bounds(at);
                let left = self.window.span().get().saturating_sub(at.since(start));
                aged(previous, left, self.window.span()).saturating_add(current)
            }
            Counter::Bucket { level, .. } => divide_up(level, self.window.span()),
        }
    }

    /// Whether `cost` more units fit. Exact for buckets too: used is rounded up, the level is not.
    #[must_use]
    pub fn admits(&self, counter: &Counter, cost: u64) -> bool {
        self.admits_beside(counter, self.used(counter), cost)
    }

    /// The same where it is known how much is [used](Self::used).
    #[must_use]
    pub fn admits_beside(&self, counter: &Counter, used: u64, cost: u64) -> bool {
        match *counter {
            Counter::Fixed { .. } | Counter::Sliding { .. } => {
                used.checked_add(cost).is_some_and(|sum| sum <= self.max.get())
            }
            Counter::Bucket { level, .. } => level.saturating_add(self.volume(cost)) <= self.volume(self.burst.get()),
        }
    }

    /// The counter with `cost` more units used.
    #[must_use]
    pub fn charge(&self, counter: Counter, cost: u64) -> Counter {
        match counter {
            Counter::Fixed { start, used } => Counter::Fixed { start, used: used.saturating_add(cost) },
            Counter::Sliding { at, previous, current } => {
                Counter::Sliding { at, previous, current: current.saturating_add(cost) }
            }
            Counter::Bucket { at, level } => Counter::Bucket { at, level: level.saturating_add(self.volume(cost)) },
        }
    }

    /// The counter with `cost` more units used at `now`, which are some, how much is [used](Self::used) then, and when it is [empty](Self::empty_at): of one that
    /// was written in this very window or an earlier one, and admits them. `None` says nothing. The [window](Window::bounds) that holds `now` goes
    /// from `start` to `end`.
    #[must_use]
    #[inline(always)]
    pub fn pass(
        &self,
        stored: Counter,
        cost: u64,
        now: Timestamp,
        (start, end): (Timestamp, Timestamp),
    ) -> Option<(Counter, u64, Timestamp)> {
        let fits = |used: u64| used.checked_add(cost).filter(|used| *used <= self.max.get());
        match (self.algorithm, stored) {
            (Algorithm::FixedWindow, Counter::Fixed { start: own, used }) if own <= start => {
                let used = fits(if own == start { used } else { 0 })?;
                Some((Counter::Fixed { start, used }, used, end))
            }
            (Algorithm::SlidingWindow, Counter::Sliding { at, previous, current }) if at <= now => {
                // All its windows are as long.
                let span = NonZeroU64::new(end.since(start))?;
                let (previous, current) = match start.since(at) {
                    0 => (previous, current),
                    // The window before, and the one before that.
                    past if past <= span.get() => (current, 0),
                    _ => (0, 0),
                };
                let aged = if previous == 0 { 0 } else { aged(previous, end.since(now), span) };
                let used = fits(aged.saturating_add(current))?;
                let current = NonZeroU64::new(current.saturating_add(cost))?;
                // See `ages_to`: ⌈W/units⌉ − 1 nanoseconds before the next window's end nothing of them is left.
                let left = span.get().saturating_sub(1) / current;
                let empty_at = end.after(span.get().saturating_sub(left));
                Some((Counter::Sliding { at: now, previous, current: current.get() }, used, empty_at))
            }
            (Algorithm::TokenBucket, Counter::Bucket { at, .. }) if at <= now => self.pass_bucket(stored, cost, now),
            _ => None,
        }
    }

    /// The same of a bucket, by the steps of the long way, which are there already: written out here they would make what every other limit passes
    /// through a fifth longer.
    #[inline(never)]
    fn pass_bucket(&self, stored: Counter, cost: u64, now: Timestamp) -> Option<(Counter, u64, Timestamp)> {
        let counter = self.advance(Some(stored), now);
        let used = self.used(&counter);
        if !self.admits_beside(&counter, used, cost) {
            return None;
        }
        let counter = self.charge(counter, cost);
        Some((counter, used.saturating_add(cost), self.empty_at(&counter)))
    }

    /// The counter with `units` more used, in the window that holds `charged_at`; in none any more where that is forgotten. A bucket forgets
    /// nothing at once: it is charged now, so that nothing of it has drained before it was known.
    #[must_use]
    pub fn charge_at(&self, counter: Counter, units: u64, charged_at: Timestamp) -> Counter {
        let (start, end) = self.window.bounds(charged_at);
        match counter {
            Counter::Fixed { start: own, .. } if start < own => counter,
            Counter::Sliding { at, previous, current } => match self.window.bounds(at).0 {
                own if own <= start => self.charge(counter, units),
                own if own == end => Counter::Sliding { at, previous: previous.saturating_add(units), current },
                _ => counter,
            },
            _ => self.charge(counter, units),
        }
    }

    /// A time in the window that a charge at `now` goes to: `now`, or later where another worker has begun the next window.
    #[must_use]
    pub fn charged_at(&self, counter: &Counter, now: Timestamp) -> Timestamp {
        match *counter {
            Counter::Fixed { start: at, .. } | Counter::Sliding { at, .. } => at.max(now),
            Counter::Bucket { .. } => now,
        }
    }

    /// The counter without `cost` units that were charged at `charged_at`, in the window that holds them now; forgotten ones are not given back,
    /// and never more than was charged.
    #[must_use]
    pub fn refund(&self, counter: Counter, cost: u64, charged_at: Timestamp) -> Counter {
        let (start, end) = self.window.bounds(charged_at);
        match counter {
            Counter::Fixed { start: own, used } if own == start => {
                Counter::Fixed { start: own, used: used.saturating_sub(cost) }
            }
            Counter::Fixed { .. } => counter,
            Counter::Sliding { at, previous, current } => match self.window.bounds(at).0 {
                own if own == start => Counter::Sliding { at, previous, current: current.saturating_sub(cost) },
                own if own == end => Counter::Sliding { at, previous: previous.saturating_sub(cost), current },
                _ => counter,
            },
            Counter::Bucket { at, level } => Counter::Bucket { at, level: level.saturating_sub(self.volume(cost)) },
        }
    }

    /// How long after `now` `cost` units fit, without any charge in between. `counter` stands at `now` (see [`Rule::advance`]).
    #[must_use]
    pub fn wait(&self, counter: &Counter, cost: u64, now: Timestamp) -> Wait {
        let Some(room) = self.capacity().get().checked_sub(cost) else {
            return Wait::Never;
        };
        if self.admits(counter, cost) {
            return Wait::For(0);
        }
        let passes = match *counter {
            Counter::Fixed { start, .. } => self.window.bounds(start).1,
            Counter::Sliding { at, previous, current } => self.falls_to(at, previous, current, room),
            Counter::Bucket { at, level } => {
                let excess = level.saturating_sub(self.volume(room));
                at.after(self.drains_in(excess))
            }
        };
        Wait::For(passes.since(now))
    }

    /// A counter that at any time reads at least as much as either: what a floor is made of. Both stand at the same time, or one of them
    /// ahead of it.
    #[must_use]
    pub fn larger(one: Counter, other: Counter) -> Counter {
        match (one, other) {
            (Counter::Fixed { start, used }, Counter::Fixed { start: other_start, used: other_used }) => {
                Counter::Fixed { start: start.max(other_start), used: used.max(other_used) }
            }
            (
                Counter::Sliding { at, previous, current },
                Counter::Sliding { at: other_at, previous: other_previous, current: other_current },
            ) => Counter::Sliding {
                at: at.max(other_at),
                previous: previous.max(other_previous),
                current: current.max(other_current),
            },
            (Counter::Bucket { at, level }, Counter::Bucket { at: other_at, level: other_level }) => {
                Counter::Bucket { at: at.max(other_at), level: level.max(other_level) }
            }
            // Two kinds under one id: nothing writes that.
            (one, _) => one,
        }
    }

    /// From when on nothing is used any more, without further charges.
    #[must_use]
    pub fn empty_at(&self, counter: &Counter) -> Timestamp {
        match *counter {
            Counter::Fixed { start, used: 0 } => start,
            Counter::Fixed { start, .. } => self.window.bounds(start).1,
            Counter::Sliding { at, previous, current } => self.falls_to(at, previous, current, 0),
            Counter::Bucket { at, level } => at.after(self.drains_in(level)),
        }
    }

    /// From when on a later charge in the same windows does not meet it any more either: part of a unit that is not used any more may be one
    /// together with what comes.
    #[must_use]
    pub fn forgotten_at(&self, counter: &Counter) -> Timestamp {
        match *counter {
            Counter::Sliding { at, previous, current } if previous > 0 || current > 0 => {
                let (_, end) = self.window.bounds(at);
                if current > 0 { end.after(self.window.span().get()) } else { end }
            }
            _ => self.empty_at(counter),
        }
    }

    /// When a sliding counter has fallen to `room` units used.
    fn falls_to(&self, at: Timestamp, previous: u64, current: u64, room: u64) -> Timestamp {
        let (start, end) = self.window.bounds(at);
        let in_this = room.checked_sub(current).and_then(|room| self.ages_to(previous, room));
        match in_this {
            Some(x) => start.after(x).max(at),
            None => self.falls_after(end, current, room),
        }
    }

    /// When it has, if that is not before the current window's end: from then on what is current now is the previous window's, and there is
    /// nothing else.
    fn falls_after(&self, end: Timestamp, current: u64, room: u64) -> Timestamp {
        end.after(self.ages_to(current, room).unwrap_or(self.window.span().get()))
    }

    /// The smallest time x into a window with ⌊units·(W−x)/W⌋ ≤ room; `None` where that is not before its end.
    /// From units·(W−x) < (room+1)·W: W−x is at most the largest integer below (room+1)·W/units.
    fn ages_to(&self, units: u64, room: u64) -> Option<u64> {
        if units <= room {
            return Some(0);
        }
        let units = NonZeroU64::new(units)?;
        let reach = match product_in_64(room.saturating_add(1), self.window.span().get()) {
            Some(product) => product.div_ceil(units.get()),
            None => divide_up(product(room.saturating_add(1), self.window.span().get()), units),
        };
        let left = reach.saturating_sub(1);
        (left > 0).then(|| self.window.span().get().saturating_sub(left))
    }

    /// Nanoseconds in which `level` drains, rounded up.
    fn drains_in(&self, level: u128) -> u64 {
        divide_up(level, self.max)
    }

    /// Units as a bucket's level.
    fn volume(&self, units: u64) -> u128 {
        product(units, self.window.span().get())
    }
}

/// ⌊units·left/W⌋, `left` nanoseconds before the end of the current window of `span`.
#[inline]
fn aged(units: u64, left: u64, span: NonZeroU64) -> u64 {
    match product_in_64(units, left) {
        Some(product) => product / span,
        None => divide(product(units, left), span),
    }
}

/// The product, which always fits.
pub(crate) fn product(one: u64, other: u64) -> u128 {
    u128::from(one).wrapping_mul(u128::from(other))
}

/// The product, where it surely fits: a Wasm machine multiplies 64 bits in one step, and 128 in a subroutine.
pub(crate) fn product_in_64(one: u64, other: u64) -> Option<u64> {
    (one.leading_zeros().saturating_add(other.leading_zeros()) >= u64::BITS).then(|| one.wrapping_mul(other))
}

/// The quotient, at most `u64::MAX`. Nearly all dividends fit 64 bits, whose division a Wasm machine has; that of 128 bits is a long subroutine.
fn divide(dividend: u128, divisor: NonZeroU64) -> u64 {
    match u64::try_from(dividend) {
        Ok(dividend) => dividend / divisor,
        Err(_) => u64::try_from(dividend / NonZeroU128::from(divisor)).unwrap_or(u64::MAX),
    }
}

/// The same, rounded up.
fn divide_up(dividend: u128, divisor: NonZeroU64) -> u64 {
    match u64::try_from(dividend) {
        Ok(dividend) => dividend.div_ceil(divisor.get()),
        Err(_) => u64::try_from(dividend.div_ceil(divisor.get().into())).unwrap_or(u64::MAX),
    }
}
