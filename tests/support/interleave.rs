//! Every interleaving of a few workers, one after the other.
//!
//! A race found by luck is a race lost by luck. Here nobody races: each worker stops before each host call, and a
//! scheduler lets exactly one of them go on, to its next host call or to its end. Which one is a choice; the choices
//! are gone through depth first until none is left, so a promise like "no update is ever lost" is checked against all
//! orders that exist, retries included. The same choices always give the same run, and a failed check prints them.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::proxy::Instance;

/// A worker that neither calls the host nor ends within this time hangs.
const HANGS: Duration = Duration::from_secs(60);

/// Before which host calls workers take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Granularity {
    /// Before every host call.
    EveryHostCall,
    /// Before those that read or write shared data; all others commute, so this covers the same outcomes in far fewer
    /// schedules.
    SharedData,
}

impl Granularity {
    fn stops_before(self, call: &str) -> bool {
        self == Self::EveryHostCall || matches!(call, "proxy_get_shared_data" | "proxy_set_shared_data")
    }
}

/// What one worker does in one schedule.
pub type Job<R> = Box<dyn FnOnce(&mut Instance) -> R + Send>;

/// One turn: this worker made this host call, and went on to its next one or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The worker's index.
    pub worker: usize,
    /// The host call.
    pub call: String,
}

/// The turns of one schedule, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Schedule(pub Vec<Turn>);

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|turn| write!(f, "{}:{} ", turn.worker, turn.call.trim_start_matches("proxy_")))
    }
}

/// How far an exploration went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Explored {
    /// The schedules that were run, all different.
    pub schedules: usize,
    /// Whether these are all that exist; `false` when the limit came first.
    pub complete: bool,
    /// The turns of the longest one.
    pub longest: usize,
}

/// Runs the workers through every interleaving of their host calls, at most `limit` schedules.
///
/// Before each schedule `make`, given its number, says what each worker does in it. It must give every schedule the
/// same start: a fresh API key, or better the same shared data
/// ([`SharedData::restore`](super::proxy::SharedData::restore)). After each one `check` is given the turns and the
/// results. The instances are used again from schedule to schedule, since starting them costs more than running them.
///
/// # Panics
///
/// When a job or `check` panics (the schedule is printed), or when the same choices gave another run than before.
pub fn explore<const N: usize, R: Send + 'static>(
    instances: [&mut Instance; N],
    granularity: Granularity,
    limit: usize,
    mut make: impl FnMut(usize) -> [Job<R>; N],
    mut check: impl FnMut(&Schedule, [R; N]),
) -> Explored {
    let table = Arc::new(Table::new(N));
    std::thread::scope(|scope| {
        let start_worker = |(worker, instance): (usize, _)| {
            let (start, jobs) = channel();
            let table = Arc::clone(&table);
            scope.spawn(move || work(instance, &table, worker, granularity, &jobs));
            start
        };
        let starts: Vec<Sender<Job<R>>> = instances.into_iter().enumerate().map(start_worker).collect();
        let mut explored = Explored { schedules: 0, complete: false, longest: 0 };
        while !explored.complete && explored.schedules < limit {
            let (schedule, results) = run(&table, &starts, make(explored.schedules));
            explored.schedules += 1;
            explored.longest = explored.longest.max(schedule.0.len());
            let results = results.map(|result| result.unwrap_or_else(|panic| fail(&schedule, panic)));
            catch_unwind(AssertUnwindSafe(|| check(&schedule, results))).unwrap_or_else(|panic| fail(&schedule, panic));
            explored.complete = !table.lock().advance();
        }
        explored
    })
}

type Ended<R> = Result<R, Box<dyn Any + Send>>;

/// A choice that was made: which of those that could go on went on.
struct Choice {
    taken: usize,
    ready: Vec<usize>,
}

/// Where the workers meet. Whoever stops chooses who goes on, so that a worker which is chosen again just continues.
struct Table<R> {
    board: Mutex<Board<R>>,
    workers: Vec<Condvar>,
    explorer: Condvar,
}

struct Board<R> {
    /// The choices of this schedule: up to the last one that changed they are given, from there on they are made.
    path: Vec<Choice>,
    schedule: Schedule,
    /// The host call before which a worker stands.
    waiting: Vec<Option<String>>,
    ended: Vec<Option<Ended<R>>>,
    /// Whose turn it is; nobody's while workers are being started, and when all have ended.
    turn: Option<usize>,
    starting: bool,
    /// What was different from an earlier run with the same choices.
    deviation: Option<String>,
}

impl<R> Board<R> {
    /// Gives the turn to the next worker.
    fn choose(&mut self) {
        let ready: Vec<usize> = (0..self.waiting.len()).filter(|&worker| self.waiting[worker].is_some()).collect();
        let turns = self.schedule.0.len();
        if ready.is_empty() {
            self.turn = None;
            return;
        }
        if self.path.get(turns).is_some_and(|choice| choice.ready != ready) {
            self.deviation.get_or_insert(format!("at turn {turns} other workers were ready than before"));
            self.path.truncate(turns);
        }
        if self.path.len() == turns {
            self.path.push(Choice { taken: 0, ready });
        }
        let choice = &self.path[turns];
        let worker = choice.ready[choice.taken];
        self.schedule.0.push(Turn { worker, call: self.waiting[worker].take().expect("it is ready") });
        self.turn = Some(worker);
    }

    /// Goes to the next schedule in depth-first order: the last choice that has an alternative left takes it.
    fn advance(&mut self) -> bool {
        while let Some(last) = self.path.last_mut() {
            if last.taken + 1 < last.ready.len() {
                last.taken += 1;
                return true;
            }
            self.path.pop();
        }
        false
    }
}

impl<R> Table<R> {
    fn new(workers: usize) -> Self {
        let board = Board {
            path: Vec::new(),
            schedule: Schedule::default(),
            waiting: vec![None; workers],
            ended: (0..workers).map(|_| None).collect(),
            turn: None,
            starting: true,
            deviation: None,
        };
        let workers = (0..workers).map(|_| Condvar::new()).collect();
        Self { board: Mutex::new(board), workers, explorer: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Board<R>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A worker stopped or ended: somebody else goes on, or the explorer does.
    fn pass_on(&self, board: &mut Board<R>) {
        if !board.starting {
            board.choose();
        }
        board.turn.map_or(&self.explorer, |worker| &self.workers[worker]).notify_one();
    }

    /// A worker stands before a host call until it is its turn.
    fn wait_for_turn(&self, worker: usize, call: &str) {
        let mut board = self.lock();
        board.waiting[worker] = Some(call.to_owned());
        self.pass_on(&mut board);
        while board.turn != Some(worker) {
            board = self.workers[worker].wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn end(&self, worker: usize, ended: Ended<R>) {
        let mut board = self.lock();
        board.ended[worker] = Some(ended);
        self.pass_on(&mut board);
    }

    /// The explorer waits for something to become true.
    fn wait_until<'a>(
        &'a self,
        mut board: MutexGuard<'a, Board<R>>,
        done: impl Fn(&Board<R>) -> bool,
    ) -> MutexGuard<'a, Board<R>> {
        while !done(&board) {
            let turns = board.schedule.0.len();
            let (returned, timeout) = self.explorer.wait_timeout(board, HANGS).unwrap_or_else(PoisonError::into_inner);
            board = returned;
            if timeout.timed_out() && !done(&board) && board.schedule.0.len() == turns {
                // Its thread cannot be ended, and a test that waits for it would hang for ever.
                eprintln!("a worker neither called the host nor ended in {HANGS:?}: {}", board.schedule);
                std::process::abort();
            }
        }
        board
    }
}

/// Runs one schedule.
fn run<const N: usize, R>(table: &Table<R>, starts: &[Sender<Job<R>>], jobs: [Job<R>; N]) -> (Schedule, [Ended<R>; N]) {
    let mut board = table.lock();
    (board.starting, board.schedule) = (true, Schedule::default());
    // One after the other, so that what happens before a worker's first turn is in a fixed order too.
    for (worker, job) in jobs.into_iter().enumerate() {
        starts[worker].send(job).expect("the worker is there");
        board = table.wait_until(board, |board| board.waiting[worker].is_some() || board.ended[worker].is_some());
    }
    board.starting = false;
    table.pass_on(&mut board);
    let mut board = table.wait_until(board, |board| board.turn.is_none());
    let schedule = std::mem::take(&mut board.schedule);
    if board.path.len() > schedule.0.len() {
        board.deviation.get_or_insert("it ended sooner than before".to_owned());
    }
    if let Some(deviation) = &board.deviation {
        panic!("the same choices gave another run, {deviation}: {schedule}");
    }
    let results = std::array::from_fn(|worker| board.ended[worker].take().expect("nobody waits, so all ended"));
    (schedule, results)
}

/// One worker's thread.
fn work<R: Send + 'static>(
    instance: &mut Instance,
    table: &Arc<Table<R>>,
    worker: usize,
    granularity: Granularity,
    jobs: &Receiver<Job<R>>,
) {
    let turns = Arc::clone(table);
    instance.on_call(Some(Box::new(move |call| {
        if granularity.stops_before(call) {
            turns.wait_for_turn(worker, call);
        }
    })));
    while let Ok(job) = jobs.recv() {
        let ended = catch_unwind(AssertUnwindSafe(|| job(instance)));
        table.end(worker, ended);
    }
    instance.on_call(None);
}

fn fail(schedule: &Schedule, panic: Box<dyn Any + Send>) -> ! {
    eprintln!("in this schedule: {schedule}");
    resume_unwind(panic)
}
