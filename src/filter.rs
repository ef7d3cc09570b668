//! The filter: turns the proxy's callbacks into questions to the gate, and its verdicts into host actions. Decides nothing.

#[cfg(feature = "llm")]
mod bodies;

use crate::config::Config;
use crate::gate::{self, Gate, Passed, Verdict};
use crate::headers::Beside;
use crate::host::Proxy;
use crate::reply::Reply;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;

/// Tells the SDK what to make for each configuration; called when the module is initialized.
pub fn register() {
    #[cfg(feature = "llm")]
    proxy_wasm::set_root_context(|id| Box::new(Root { gate: None, desk: Rc::new(bodies::Desk::new(id)) }));
    #[cfg(not(feature = "llm"))]
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}

/// One configuration of the filter on one worker.
#[derive(Default)]
struct Root {
    gate: Option<Rc<Gate>>,
    #[cfg(feature = "llm")]
    desk: Rc<bodies::Desk>,
}

/// One request.
struct Request {
    gate: Option<Rc<Gate>>,
    passed: Passed,
    #[cfg(feature = "llm")]
    stream: bodies::Stream,
}

/// When another configuration has taken its place, and its last request is over.
impl Drop for Root {
    fn drop(&mut self) {
        if let Some(gate) = &self.gate {
            gate.give_back_leases(&Proxy, true);
        }
    }
}

impl Context for Root {}

impl RootContext for Root {
    fn on_configure(&mut self, _size: usize) -> bool {
        // What the proxy would not print is not formatted either.
        proxy_wasm::set_log_level(hostcalls::get_log_level().unwrap_or(LogLevel::Info));
        let bytes = hostcalls::get_buffer(proxy_wasm::types::BufferType::PluginConfiguration, 0, usize::MAX);
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
        let gate = match Gate::open(config, &Proxy, || Proxy.random()) {
            Ok(gate) => gate,
            Err(error) => {
                log::error!("configuration refused: {error}");
                return false;
            }
        };
        // Every worker is configured; one of them says so.
        if gate.namespace().announce(&Proxy, &bytes) {
            for line in gate.announcement() {
                log::log!(line.0, "{}", line.1);
            }
        }
        #[cfg(feature = "llm")]
        self.desk.tick_usually(gate.renewal_period(), gate.lease());
        #[cfg(not(feature = "llm"))]
        if let Some(lease) = gate.lease() {
            // Without it leases are given back by the next request of the same caller.
            if let Err(status) = hostcalls::set_tick_period(std::time::Duration::from_nanos(lease.get())) {
                log::warn!("leases of idle callers are not given back: status {status:?}");
            }
        }
        self.gate = Some(Rc::new(gate));
        true
    }

    fn on_tick(&mut self) {
        if let Some(gate) = &self.gate {
            gate.give_back_leases(&Proxy, false);
            #[cfg(feature = "llm")]
            self.desk.tick(gate);
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request {
            gate: self.gate.clone(),
            passed: Passed::default(),
            #[cfg(feature = "llm")]
            stream: bodies::Stream::new(_id, self.desk.clone()),
        }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end: bool) -> Action {
        // A filter that could not be configured is never given requests.
        let Some(gate) = &self.gate else {
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
        leave(note);
        match action {
            gate::Action::Pass(passed) => {
                self.passed = passed;
                #[cfg(feature = "llm")]
                self.stream.open(&mut self.passed);
                Action::Continue
            }
            gate::Action::Refuse(reply) => {
                answer(&reply);
                Action::Pause
            }
            #[cfg(feature = "llm")]
            gate::Action::Wait(waiting) => {
                let decided = self.stream.wait(gate, waiting);
                self.decided(decided)
            }
            #[cfg(not(feature = "llm"))]
            gate::Action::Wait(_) => Action::Continue,
        }
    }

    #[cfg(feature = "llm")]
    fn on_http_request_body(&mut self, size: usize, end: bool) -> Action {
        let Some(gate) = &self.gate else {
            return Action::Continue;
        };
        let decided = self.stream.request_body(gate, size, end);
        self.decided(decided)
    }

    #[cfg(feature = "llm")]
    fn on_http_request_trailers(&mut self, _trailers: usize) -> Action {
        let Some(gate) = &self.gate else {
            return Action::Continue;
        };
        let decided = self.stream.request_trailers(gate);
        self.decided(decided)
    }

    #[cfg(feature = "llm")]
    fn on_http_response_body(&mut self, size: usize, end: bool) -> Action {
        if let Some(gate) = &self.gate {
            self.stream.response_body(gate, size, end);
        }
        Action::Continue
    }

    #[cfg(feature = "llm")]
    fn on_log(&mut self) {
        if let Some(gate) = &self.gate {
            self.stream.over(gate);
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end: bool) -> Action {
        #[cfg(feature = "llm")]
        if let Some(gate) = &self.gate
            && let Some(passed) = self.stream.response_headers(gate, _end)
        {
            self.passed = passed;
        }
        // Also called for the filter's own replies, which have nothing to add.
        for (name, value, beside) in self.passed.told(&Proxy).iter() {
            let put = match beside {
                Beside::Together => Proxy.add_response_header(name, value),
                Beside::Either { .. } => Proxy.set_response_header(name, value),
            };
            if let Err(error) = put {
                log::debug!("response without {name}: {error}");
            }
        }
        Action::Continue
    }
}

#[cfg(feature = "llm")]
impl Request {
    /// What a body decided.
    fn decided(&mut self, (action, passed): (Action, Option<Passed>)) -> Action {
        if let Some(passed) = passed {
            self.passed = passed;
        }
        action
    }
}

/// Leaves what access logs can say.
fn leave(note: Option<String>) {
    if let Some(Err(error)) = note.map(|note| Proxy.note("allowance", &note)) {
        log::debug!("the access log goes without: {error}");
    }
}

/// Answers instead of the upstream.
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
    if Proxy.headers().is_ok_and(|headers| headers.values("x-crash").next().is_some()) {
        panic!("asked to crash");
    }
}
