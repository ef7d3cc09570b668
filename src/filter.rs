//! The filter: turns the proxy's callbacks into questions to the gate, and its verdicts into host actions. Decides nothing.

use crate::config::Config;
use crate::gate::{self, Gate, Passed, Verdict};
use crate::headers::Beside;
use crate::host::Proxy;
use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};
use std::rc::Rc;
use std::time::Duration;

/// Tells the SDK what to make for each configuration; called when the module is initialized.
pub fn register() {
    proxy_wasm::set_root_context(|_| Box::new(Root::default()));
}

/// One configuration of the filter on one worker.
#[derive(Default)]
struct Root {
    gate: Option<Rc<Gate>>,
}

/// One request.
struct Request {
    gate: Option<Rc<Gate>>,
    passed: Passed,
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
        if let Some(lease) = gate.lease() {
            // Without it leases are given back by the next request of the same caller.
            if let Err(status) = hostcalls::set_tick_period(Duration::from_nanos(lease.get())) {
                log::warn!("leases of idle callers are not given back: status {status:?}");
            }
        }
        self.gate = Some(Rc::new(gate));
        true
    }

    fn on_tick(&mut self) {
        if let Some(gate) = &self.gate {
            gate.give_back_leases(&Proxy, false);
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Request { gate: self.gate.clone(), passed: Passed::default() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl Context for Request {}

impl HttpContext for Request {
    fn on_http_request_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        // A filter that could not be configured is never given requests.
        let Some(gate) = &self.gate else {
            return Action::Continue;
        };
        let Verdict { action, note } = gate.admit(&Proxy);
        #[cfg(feature = "crash")]
        crash_if_asked();
        if let Some(Err(error)) = note.map(|note| Proxy.note("allowance", &note)) {
            log::debug!("the access log goes without: {error}");
        }
        match action {
            gate::Action::Pass(passed) => {
                self.passed = passed;
                Action::Continue
            }
            gate::Action::Refuse(reply) => {
                if let Err(error) = Proxy.reply(&reply) {
                    log::error!("a refused request waits for its timeout: {error}");
                }
                Action::Pause
            }
        }
    }

    fn on_http_response_headers(&mut self, _headers: usize, _end_of_stream: bool) -> Action {
        // Also called for the filter's own replies, which have nothing to add.
        for group in self.passed.told(&Proxy) {
            for (name, value) in group.fields {
                let put = match group.beside {
                    Beside::Together => Proxy.add_response_header(name, &value),
                    Beside::Either { .. } => Proxy.set_response_header(name, &value),
                };
                if let Err(error) = put {
                    log::debug!("response without {name}: {error}");
                }
            }
        }
        Action::Continue
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
