//! The limits of one caller, with the windows that they are in: those of a request are nearly always those of the one before, and finding them again
//! would be a division for each limit.

use crate::plan::Limit;
use crate::window::Timestamp;
use std::cell::{Ref, RefCell};
use std::ops::Deref;

/// All limits of a caller, in order.
#[derive(Clone, Debug)]
pub struct Limits {
    all: Box<[Limit]>,
    current: RefCell<Current>,
}

/// First instant of a window, and first instant of the one after it.
pub type Bounds = (Timestamp, Timestamp);

/// The windows of all limits that hold the times from `since` up to `until`.
#[derive(Clone, Debug, Default)]
struct Current {
    since: Timestamp,
    until: Timestamp,
    windows: Vec<Bounds>,
}

// === impl Limits ===

impl Limits {
    /// Of a caller that has these.
    #[must_use]
    pub fn new(all: Vec<Limit>) -> Self {
        Self { all: all.into(), current: RefCell::default() }
    }

    /// Which window each limit is in at that time, in their order. Not to be asked again while that is looked at.
    #[inline(always)]
    pub fn windows(&self, now: Timestamp) -> Ref<'_, [Bounds]> {
        let mut current = self.current.borrow();
        if now < current.since || current.until <= now {
            drop(current);
            self.look(now);
            current = self.current.borrow();
        }
        Ref::map(current, |current| &*current.windows)
    }

    #[inline(never)]
    fn look(&self, now: Timestamp) {
        let windows: Vec<Bounds> = self.all.iter().map(|limit| limit.window().bounds(now)).collect();
        let all = (Timestamp(0), Timestamp(u64::MAX));
        let (since, until) = windows.iter().fold(all, |all, window| (all.0.max(window.0), all.1.min(window.1)));
        self.current.replace(Current { since, until, windows });
    }
}

impl Deref for Limits {
    type Target = [Limit];

    fn deref(&self) -> &[Limit] {
        &self.all
    }
}
