//! One worker's VM.

mod streams;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wasmi::{Store, WasmParams, WasmResults};

use super::exchange::{Action, Exchange, Outcome};
use super::options::{Options, Refused, Trap};
use super::state::{Clock, OnCall, Phase, Seen, State, Stream};
use super::{Call, Headers, LocalReply, Log, Metrics, Module, SharedData};

pub use streams::Live;
/// More than any test uses up.
const FUEL: u64 = u64::MAX;

/// One VM with one root context that serves requests.
#[derive(Debug)]
pub struct Instance {
    store: Store<State>,
    instance: wasmi::Instance,
    root: u32,
    next_context: u32,
    failed: bool,
    startup: Seen,
}

impl Instance {
    /// Starts a VM and configures it, as a proxy's worker does before it accepts connections.
    ///
    /// # Errors
    ///
    /// The module refused the configuration or died.
    pub fn new(module: &Module, shared: Arc<SharedData>, options: Options) -> Result<Self, Refused> {
        static SEEDS: AtomicU64 = AtomicU64::new(1);
        let state = State {
            shared,
            metrics: options.metrics,
            clock: options.clock,
            log_level: options.log_level,
            environment: options.environment,
            random: options.seed.unwrap_or_else(|| SEEDS.fetch_add(1, Ordering::Relaxed)),
            on_call: None,
            memory: None,
            allocate: None,
            contexts: HashSet::new(),
            effective: 0,
            resumed: Vec::new(),
            metric_names: Vec::new(),
            tick_period_ms: 0,
            plugin_configuration: None,
            vm_configuration: Some(options.vm_configuration),
            stream: Stream::default(),
            seen: Seen::default(),
            call: Call {
                name: String::new(),
                args: String::new(),
                status: 0,
                returned_bytes: 0,
                during: String::new(),
            },
            during: String::new(),
        };
        let mut store = Store::new(module.engine(), state);
        store.set_fuel(FUEL).unwrap_or_else(|error| panic!("{error}"));
        let instance =
            module.instantiate(&mut store).unwrap_or_else(|error| panic!("cannot instantiate the module: {error}"));
        let memory = instance.get_memory(&store, "memory");
        let allocator = ["proxy_on_memory_allocate", "malloc"];
        let allocate = allocator.iter().find_map(|name| instance.get_typed_func(&store, name).ok());
        store.data_mut().memory = memory;
        store.data_mut().allocate = allocate;
        let mut this = Self { store, instance, root: 0, next_context: 1, failed: false, startup: Seen::default() };
        match this.enter::<_, ()>("_initialize", ()) {
            Ok(_) => {}
            Err(trap) => return Err(Refused { logs: trap.logs.clone(), trap: Some(trap) }),
        }
        this.configure(&options.configuration)?;
        Ok(this)
    }

    /// Gives the running VM another configuration, as an update does: a new root context beside the old one, whose
    /// requests are the new one's from then on. When it refuses, the old one keeps serving.
    ///
    /// # Errors
    ///
    /// The module refused the configuration or died.
    pub fn configure(&mut self, configuration: &[u8]) -> Result<(), Refused> {
        // Not cleared first: what happened since the VM was made is part of starting it.
        let configured = self.try_configure(configuration);
        let seen = self.take_seen();
        match configured {
            Ok(Some(root)) => {
                self.root = root;
                self.startup = seen;
                Ok(())
            }
            Ok(None) => Err(Refused { logs: seen.logs, trap: None }),
            Err(trap) => Err(Refused { logs: trap.logs.clone(), trap: Some(trap) }),
        }
    }

    fn try_configure(&mut self, configuration: &[u8]) -> Result<Option<u32>, Trap> {
        self.store.data_mut().stream = Stream::default();
        let root = self.create_context(0)?;
        let size = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a configuration is short");
        let vm_size = size(self.store.data().vm_configuration.as_deref().unwrap_or_default());
        let started = self.enter::<_, u32>("proxy_on_vm_start", (root, vm_size))?;
        if started == Some(0) {
            return Ok(None);
        }
        self.store.data_mut().plugin_configuration = Some(configuration.to_vec());
        let configured = self.enter::<_, u32>("proxy_on_configure", (root, size(configuration)))?;
        self.store.data_mut().plugin_configuration = None;
        Ok((configured != Some(0)).then_some(root))
    }

    /// The last request of every configuration but the present one is over, and so are they.
    pub fn end_other_roots(&mut self) {
        let root = self.root;
        self.store.data_mut().contexts.retain(|context| *context == root);
    }

    /// The host calls that the last accepted configuration took.
    pub fn startup_calls(&self) -> &[Call] {
        &self.startup.calls
    }

    /// What the module logged while it took that configuration.
    pub fn startup_logs(&self) -> &[Log] {
        &self.startup.logs
    }

    /// The clock that this VM reads.
    pub fn clock(&self) -> Clock {
        self.store.data().clock.clone()
    }

    /// The metrics that this VM counts in.
    pub fn metrics(&self) -> Metrics {
        self.store.data().metrics.clone()
    }

    /// The shared data that this VM works on.
    pub fn shared(&self) -> Arc<SharedData> {
        Arc::clone(&self.store.data().shared)
    }

    /// The tick period that the module asked for, 0 for none.
    pub fn tick_period_ms(&self) -> u32 {
        self.store.data().tick_period_ms
    }

    /// The size of the module's memory in bytes; it never shrinks.
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Sets or removes the hook that is called before each host call.
    pub fn on_call(&mut self, hook: Option<OnCall>) {
        self.store.data_mut().on_call = hook;
    }

    /// Lets the root context's timer fire, and returns the host calls that this made.
    pub fn tick(&mut self) -> Vec<Call> {
        self.take_seen();
        self.store.data_mut().stream = Stream::default();
        let root = self.root;
        self.enter::<_, ()>("proxy_on_tick", root).unwrap_or_else(|trap| panic!("{trap}"));
        self.take_seen().calls
    }

    /// Sends a request with these header lines through the filter, and an ordinary response back.
    pub fn request<N: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, headers: &[(N, V)]) -> Outcome {
        self.exchange(&Exchange::new(headers))
    }

    /// Runs a whole exchange; fails the test when the module dies of it.
    pub fn exchange(&mut self, exchange: &Exchange) -> Outcome {
        self.try_exchange(exchange).unwrap_or_else(|trap| panic!("{trap}"))
    }

    /// Runs a whole exchange, with every callback that the module exports, in Envoy's order.
    ///
    /// # Errors
    ///
    /// The module died; it cannot be used any more.
    pub fn try_exchange(&mut self, exchange: &Exchange) -> Result<Outcome, Trap> {
        assert!(!self.failed, "this VM died of an earlier request");
        self.take_seen();
        let before = self.fuel();
        let stream = Stream {
            request: exchange.request_headers.clone(),
            properties: exchange.properties.clone(),
            ..Stream::default()
        };
        self.store.data_mut().stream = Stream { phase: Phase::Stream, request_visible: true, ..stream };
        let context = self.create_context(self.root)?;

        let (action, local_reply) = self.request_phase(context, exchange)?;
        let request_headers = self.stream().request.clone();
        let upstream = (exchange.response_headers.clone(), exchange.response_body.clone());
        let response = match &local_reply {
            Some(reply) => Some(reply.response()),
            None => (action == Action::Continue).then_some(upstream),
        };
        let mut outcome = Outcome {
            action,
            local_reply,
            request_headers,
            response_headers: Headers::default(),
            response_headers_added: Headers::default(),
            response_body: Vec::new(),
            calls: Vec::new(),
            entries: Vec::new(),
            copied_bytes: 0,
            fuel: 0,
            logs: Vec::new(),
            properties_set: Vec::new(),
        };
        if let Some((headers, body)) = response {
            self.response_phase(context, headers, &body, &mut outcome)?;
        }
        self.log_phase(context, outcome.response_headers.clone())?;

        let seen = self.take_seen();
        (outcome.calls, outcome.entries, outcome.logs) = (seen.calls, seen.entries, seen.logs);
        (outcome.copied_bytes, outcome.fuel) = (seen.copied_bytes, before - self.fuel());
        outcome.properties_set = std::mem::take(&mut self.stream().properties_set);
        Ok(outcome)
    }

    fn request_phase(&mut self, context: u32, exchange: &Exchange) -> Result<(Action, Option<LocalReply>), Trap> {
        let end = u32::from(exchange.request_body.is_empty());
        let lines = count(exchange.request_headers.lines());
        let mut action = self.action("proxy_on_request_headers", (context, lines, end))?;
        // Once the request has gone on its headers are out of reach; a filter that waits or answers keeps them.
        self.stream().request_visible = action == Action::Pause || self.stream().reply.is_some();
        if action == Action::Continue {
            action = self.body("proxy_on_request_body", context, 0, &exchange.request_body)?;
        }
        Ok((action, self.stream().reply.take()))
    }

    fn response_phase(
        &mut self,
        context: u32,
        headers: Headers,
        body: &[Vec<u8>],
        outcome: &mut Outcome,
    ) -> Result<(), Trap> {
        self.stream().response = headers.clone();
        self.stream().response_visible = true;
        let end = u32::from(body.is_empty());
        self.action("proxy_on_response_headers", (context, count(headers.lines()), end))?;
        self.stream().response_visible = false;
        // An answer given here takes the place of the response; no callback sees it again.
        if let Some(reply) = self.stream().reply.take() {
            let (headers, body) = reply.response();
            (outcome.response_headers, outcome.response_body) = (headers, body.concat());
            outcome.local_reply = Some(reply);
            return Ok(());
        }
        let seen = self.stream().response.clone();
        let added = seen.lines().iter().filter(|line| !headers.lines().contains(line));
        outcome.response_headers_added = added.map(|(name, value)| (name, value)).collect();
        (outcome.response_headers, outcome.response_body) = (seen, body.concat());
        self.body("proxy_on_response_body", context, 1, body)?;
        Ok(())
    }

    fn log_phase(&mut self, context: u32, response: Headers) -> Result<(), Trap> {
        let stream = self.stream();
        (stream.phase, stream.request_visible, stream.response_visible) =
            (Phase::Log, true, !response.lines().is_empty());
        stream.response = response;
        self.enter::<_, ()>("proxy_on_log", context)?;
        self.enter::<_, u32>("proxy_on_done", context)?;
        self.enter::<_, ()>("proxy_on_delete", context)?;
        self.store.data_mut().contexts.remove(&context);
        Ok(())
    }

    /// Delivers a body in pieces; while the module says "pause" they pile up, as in a buffering proxy.
    fn body(&mut self, export: &'static str, context: u32, buffer: u32, chunks: &[Vec<u8>]) -> Result<Action, Trap> {
        let mut action = Action::Continue;
        let mut waiting = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            waiting.extend_from_slice(chunk);
            let length = u32::try_from(waiting.len()).expect("a body is short");
            self.stream().body = Some((buffer, std::mem::take(&mut waiting)));
            action = self.action(export, (context, length, u32::from(index + 1 == chunks.len())))?;
            let (_, bytes) = self.stream().body.take().unwrap_or_default();
            if self.stream().reply.is_some() {
                return Ok(Action::Pause);
            }
            if action == Action::Pause {
                waiting = bytes;
            }
        }
        Ok(action)
    }

    fn create_context(&mut self, root: u32) -> Result<u32, Trap> {
        let context = self.next_context;
        self.next_context += 1;
        self.store.data_mut().contexts.insert(context);
        self.enter::<_, ()>("proxy_on_context_create", (context, root))?;
        Ok(context)
    }

    fn action(&mut self, export: &'static str, params: (u32, u32, u32)) -> Result<Action, Trap> {
        let action = self.enter::<_, u32>(export, params)?;
        Ok(if action.unwrap_or_default() == 0 { Action::Continue } else { Action::Pause })
    }

    /// Enters the module; `None` when it does not export that function.
    fn enter<P: WasmParams, R: WasmResults>(&mut self, export: &'static str, params: P) -> Result<Option<R>, Trap> {
        let Some(function) = self.instance.get_func(&self.store, export) else { return Ok(None) };
        let function = function
            .typed::<P, R>(&self.store)
            .unwrap_or_else(|error| panic!("{export} has another signature: {error}"));
        self.store.data_mut().seen.entries.push(export.to_owned());
        self.store.data_mut().during = export.to_owned();
        function.call(&mut self.store, params).map(Some).map_err(|error| {
            self.failed = true;
            Trap { during: export.to_owned(), message: error.to_string(), logs: self.take_seen().logs }
        })
    }

    fn fuel(&self) -> u64 {
        self.store.get_fuel().unwrap_or_else(|error| panic!("{error}"))
    }

    fn stream(&mut self) -> &mut Stream {
        &mut self.store.data_mut().stream
    }

    fn take_seen(&mut self) -> Seen {
        std::mem::take(&mut self.store.data_mut().seen)
    }
}

fn count(lines: &[(Vec<u8>, Vec<u8>)]) -> u32 {
    u32::try_from(lines.len()).expect("few header lines")
}
