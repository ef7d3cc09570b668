//! Loads that take turns: each goes on for some milliseconds while all others are stopped, until all are through.
//!
//! What neighbours do to a machine changes within tenths of a second. Loads that run one after the other meet different moments of it, and what
//! is measured of them differs by far more than they do; in turns all of them meet much the same.

use std::time::Duration;

use crate::load::{Load, Stopped};
use crate::support::envoy::Envoy;

/// How long each goes on: some hundreds of requests. The first of them find caches that others have filled, and shorter turns are made of them.
const TURN: Duration = Duration::from_millis(30);

/// After a turn: requests that are under way are still being answered.
const ANSWERED: Duration = Duration::from_millis(2);

/// After the last turn: closed connections are still being cleared away.
const CLEARED: Duration = Duration::from_millis(20);

/// Loads that go on at the same time, and the Envoy that they are for.
pub(crate) struct Task<'a> {
    pub(crate) envoy: &'a Envoy,
    pub(crate) loads: Vec<Load<'a>>,
    /// What all requests are answered.
    pub(crate) status: u16,
}

impl Task<'_> {
    /// What each of these tasks takes of its Envoy's processor time, per request in microseconds.
    pub(crate) fn run_all(tasks: &[Self], round: usize) -> Vec<f64> {
        let mut running: Vec<Running<'_>> = tasks.iter().map(Running::new).collect();
        for turn in round.. {
            let mut all_through = true;
            for place in order(tasks.len(), turn) {
                all_through &= running[place].go_on();
            }
            if all_through {
                break;
            }
        }
        running.into_iter().map(Running::finish).collect()
    }
}

/// A task that was begun.
struct Running<'a> {
    task: &'a Task<'a>,
    loads: Vec<Stopped<'a>>,
    used: Duration,
    through: bool,
}

impl<'a> Running<'a> {
    fn new(task: &'a Task<'a>) -> Self {
        Self { task, loads: task.loads.iter().map(Load::stopped).collect(), used: Duration::ZERO, through: false }
    }

    /// One turn; whether it is through.
    fn go_on(&mut self) -> bool {
        if !self.through {
            let before = self.task.envoy.cpu();
            self.loads.iter().for_each(Stopped::go_on);
            std::thread::sleep(TURN);
            self.through = self.loads.iter_mut().map(Stopped::stop).fold(true, bool::min);
            std::thread::sleep(if self.through { CLEARED } else { ANSWERED });
            self.used += self.task.envoy.cpu() - before;
        }
        self.through
    }

    fn finish(self) -> f64 {
        let requests: u64 = self.task.loads.iter().map(|load| load.requests).sum();
        for load in self.loads {
            load.finish(self.task.status);
        }
        self.used.as_secs_f64() * 1e6 / requests as f64
    }
}

/// The order of one turn: each begins elsewhere and every other one runs backwards, so that nobody always follows the same neighbour.
fn order(length: usize, turn: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..length).collect();
    order.rotate_left(turn * 5 % length);
    if turn % 2 == 1 {
        order.reverse();
    }
    order
}
