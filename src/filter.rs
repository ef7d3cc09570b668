//! The filter: turns the proxy's callbacks into questions to the gate, and its verdicts into host actions. Decides nothing.

#[cfg(feature = "llm")]
mod bodies;
mod callbacks;
mod contexts;

use crate::config::Config;
use crate::gate::{self, Gate, Passed, Verdict};
use crate::host::Proxy;
use crate::reply::Reply;
use crate::sip;
use contexts::Contexts;
use proxy_wasm::hostcalls;
use proxy_wasm::types::{Action, BufferType, LogLevel};
use std::cell::RefCell;
use std::rc::Rc;

thread_local! {
    /// The module has one thread, and the proxy never enters it while it is in it.
    static CONTEXTS: RefCell<Contexts<Root, Kept>> = const { RefCell::new(Contexts::new()) };
}

/// One configuration of the filter on one worker.
#[derive(Default)]
struct Root {
    /// `None` until it is accepted.
    gate: RefCell<Option<Rc<Gate>>>,
    #[cfg(feature = "llm")]
    desk: Rc<bodies::Desk>,
}

/// A stream that has something to do yet.
struct Stream {
    passed: Passed,
    #[cfg(feature = "llm")]
    gate: Rc<Gate>,
    #[cfg(feature = "llm")]
    bodies: bodies::Stream,
}

/// A stream between its callbacks: it is moved about, and large where bodies are seen.
#[cfg(not(feature = "llm"))]
type Kept = Stream;
#[cfg(feature = "llm")]
type Kept = Box<Stream>;

/// When another configuration has taken its place, and its last request is over.
impl Drop for Root {
    fn drop(&mut self) {
        if let Some(gate) = self.gate.take() {
            gate.give_back_leases(&Proxy, true);
        }
    }
}

fn contexts<T>(with: impl FnOnce(&mut Contexts<Root, Kept>) -> T) -> T {
    CONTEXTS.with_borrow_mut(with)
}

/// Whether the proxy still has that context. To be asked last: see [`Proxy::has`].
fn lives(id: u32) -> bool {
    Proxy.has(id)
}

/// A context comes: a configuration where there is no `root`, a stream under it where there is.
fn create(id: u32, root: u32) {
    if root == 0 {
        contexts(|contexts| contexts.add_root(id, Root::new(id)));
    } else if contexts(|contexts| contexts.create(id, root)) {
        look();
    }
}

/// Drops what is over: outside, as it may have something to give back.
#[inline(never)]
fn look() {
    let over = contexts(|contexts| contexts.over(lives));
    drop(over);
}

/// A configuration comes; whether it is accepted.
fn configure(id: u32) -> bool {
    let Some(root) = contexts(|contexts| contexts.root(id)) else {
        return false;
    };
    // What the proxy would not print is not formatted either.
    proxy_wasm::set_log_level(hostcalls::get_log_level().unwrap_or(LogLevel::Info));
    let bytes = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, usize::MAX);
    let bytes = bytes.ok().flatten().unwrap_or_default();
    let config = match Config::parse(&bytes) {
        Ok(config) => config,
        Err(mistakes) => {
            for mistake in mistakes.0 {
                log::error!("configuration refused: {mistake}");
            }
            return false;
        }
    };
    let fingerprint = sip::fingerprint(&bytes);
    // A configuration can be long, and what is made next can use its room.
    drop(bytes);
    let gate = match Gate::open(config, &Proxy, || Proxy.random()) {
        Ok(gate) => gate,
        Err(error) => {
            log::error!("configuration refused: {error}");
            return false;
        }
    };
    // Every worker is configured; one of them says so.
    if gate.namespace().announce(&Proxy, fingerprint) {
        for line in gate.announcement() {
            log::log!(line.0, "{}", line.1);
        }
    }
    #[cfg(feature = "llm")]
    root.desk.tick_usually(gate.renewal_period(), gate.lease());
    #[cfg(not(feature = "llm"))]
    if let Some(lease) = gate.lease() {
        // Without it leases are given back by the next request of the same caller.
        if let Err(status) = hostcalls::set_tick_period(std::time::Duration::from_nanos(lease.get())) {
            log::warn!("leases of idle callers are not given back: status {}", status as u32);
        }
    }
    root.gate.replace(Some(Rc::new(gate)));
    true
}

/// A configuration's timer fired.
fn tick(id: u32) {
    let Some(root) = contexts(|contexts| contexts.root(id)) else {
        return;
    };
    if let Some(gate) = &*root.gate.borrow() {
        gate.give_back_leases(&Proxy, false);
        #[cfg(feature = "llm")]
        root.desk.tick(gate);
    }
    let over = contexts(|contexts| contexts.roots_over(lives));
    drop(over);
}

/// The head of a request comes.
fn request_headers(id: u32, _end: bool) -> Action {
    // A filter that could not be configured is never given requests.
    let Some(root) = contexts(|contexts| contexts.begin(id)) else {
        return Action::Continue;
    };
    let gate = root.gate.borrow();
    let Some(gate) = &*gate else {
        return Action::Continue;
    };
    #[cfg(feature = "llm")]
    let verdict = if _end { gate.admit(&Proxy) } else { gate.meet(&Proxy) };
    #[cfg(not(feature = "llm"))]
    let verdict = gate.admit(&Proxy);
    let Verdict { action, note } = verdict;
    #[cfg(feature = "crash")]
    if !matches!(action, gate::Action::Wait(_)) {
        crash_if_asked();
    }
    if let Some(note) = note {
        leave(&note);
    }
    match action {
        #[cfg(not(feature = "llm"))]
        gate::Action::Pass(passed) => {
            Stream { passed }.keep(id);
            Action::Continue
        }
        #[cfg(feature = "llm")]
        gate::Action::Pass(mut passed) => {
            let mut bodies = bodies::Stream::new(id, root.desk.clone());
            bodies.open(&mut passed);
            Stream { passed, gate: gate.clone(), bodies }.keep(id);
            Action::Continue
        }
        gate::Action::Refuse(reply) => {
            answer(&reply);
            Action::Pause
        }
        #[cfg(feature = "llm")]
        gate::Action::Wait(waiting) => {
            let mut stream = Stream {
                passed: Passed::default(),
                gate: gate.clone(),
                bodies: bodies::Stream::new(id, root.desk.clone()),
            };
            let action = stream.decide(|bodies, gate| bodies.wait(gate, waiting));
            stream.keep(id);
            action
        }
        #[cfg(not(feature = "llm"))]
        gate::Action::Wait(_) => Action::Continue,
    }
}

/// The head of a response comes, the filter's own among them, which have nothing to add.
fn response_headers(id: u32, _end: bool) {
    let Some(mut stream) = contexts(|contexts| contexts.take(id)) else {
        return;
    };
    #[cfg(feature = "llm")]
    if let Some(passed) = stream.bodies.response_headers(&stream.gate, _end) {
        stream.passed = passed;
    }
    std::mem::take(&mut stream.passed).tell(&Proxy);
    stream.keep(id);
}

#[cfg(feature = "llm")]
fn request_body(id: u32, size: usize, end: bool) -> Action {
    on(id, |stream| stream.decide(|bodies, gate| bodies.request_body(gate, size, end))).unwrap_or(Action::Continue)
}

#[cfg(feature = "llm")]
fn request_trailers(id: u32) -> Action {
    on(id, |stream| stream.decide(bodies::Stream::request_trailers)).unwrap_or(Action::Continue)
}

#[cfg(feature = "llm")]
fn response_body(id: u32, size: usize, end: bool) {
    on(id, |stream| stream.bodies.response_body(&stream.gate, size, end));
}

/// A stream is over, however it ended.
#[cfg(feature = "llm")]
fn log(id: u32) {
    if let Some(mut stream) = contexts(|contexts| contexts.take(id)) {
        stream.bodies.over(&stream.gate);
    }
}

/// Does something for a stream, if there is anything to do.
#[cfg(feature = "llm")]
fn on<T>(id: u32, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
    let mut stream = contexts(|contexts| contexts.take(id))?;
    let done = act(&mut stream);
    stream.keep(id);
    Some(done)
}

impl Root {
    fn new(_id: u32) -> Self {
        Self {
            gate: RefCell::default(),
            #[cfg(feature = "llm")]
            desk: Rc::new(bodies::Desk::new(_id)),
        }
    }
}

impl Stream {
    /// Keeps it until its next callback, if that has anything to do.
    #[inline]
    fn keep(self, id: u32) {
        let waits = self.passed.is_told();
        #[cfg(feature = "llm")]
        let waits = waits || !self.bodies.is_over();
        if waits {
            self.put(id);
        }
    }

    #[inline(never)]
    fn put(self, id: u32) {
        contexts(|contexts| contexts.put(id, Kept::from(self), lives));
    }

    /// What a body decided.
    #[cfg(feature = "llm")]
    fn decide(&mut self, ask: impl FnOnce(&mut bodies::Stream, &Gate) -> (Action, Option<Passed>)) -> Action {
        let (action, passed) = ask(&mut self.bodies, &self.gate);
        if let Some(passed) = passed {
            self.passed = passed;
        }
        action
    }
}

/// Leaves what access logs can say.
#[inline(never)]
fn leave(note: &str) {
    if let Err(error) = Proxy.note("allowance", note) {
        log::debug!("the access log goes without: {error}");
    }
}

/// Answers instead of the upstream.
#[inline(never)]
fn answer(reply: &Reply) {
    if let Err(error) = Proxy.reply(reply) {
        log::error!("a refused request waits for its timeout: {error}");
    }
}

/// What a defect would do, at the worst moment: the charge is stored, the request is not answered.
#[cfg(feature = "crash")]
#[expect(clippy::panic, reason = "the purpose of this build")]
fn crash_if_asked() {
    use crate::request::Head;
    if Proxy.headers().is_ok_and(|headers| headers.first("x-crash").is_some()) {
        panic!("asked to crash");
    }
}
