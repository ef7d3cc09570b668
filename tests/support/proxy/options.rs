//! How a VM is set up, and how that or a request ends it.

use std::fmt;

use super::state::Clock;
use super::{Log, LogLevel, Metrics};

/// How an instance is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The plugin's configuration, as the bytes that `proxy_on_configure` reads.
    pub configuration: Vec<u8>,
    /// The VM's configuration.
    pub vm_configuration: Vec<u8>,
    /// Its clock; a clone given to another instance makes them share it.
    pub clock: Clock,
    /// The process's metrics; a clone given to another instance makes them share them.
    pub metrics: Metrics,
    /// The host's log level: what is less loud is dropped.
    pub log_level: LogLevel,
    /// What the module finds in its environment.
    pub environment: Vec<(String, String)>,
    /// Where its random numbers start; `None` gives every instance others, as real workers have.
    pub seed: Option<u64>,
}

impl Options {
    /// Everything usual, with this plugin configuration.
    pub fn new(configuration: impl AsRef<[u8]>) -> Self {
        Self {
            configuration: configuration.as_ref().to_vec(),
            vm_configuration: Vec::new(),
            clock: Clock::default(),
            metrics: Metrics::default(),
            log_level: LogLevel::Info,
            environment: Vec::new(),
            seed: None,
        }
    }
}

/// The module refused its configuration, or died of it.
#[derive(Debug)]
pub struct Refused {
    /// What it logged, which should say why.
    pub logs: Vec<Log>,
    /// How it died, if it did.
    pub trap: Option<Trap>,
}

impl Refused {
    /// All that it logged, a line each.
    pub fn text(&self) -> String {
        self.logs.iter().map(|log| format!("{}\n", log.message)).collect()
    }
}

/// The module died: on a real proxy every request on that worker is answered 503 from now on.
#[derive(Debug)]
pub struct Trap {
    /// The exported function that was entered.
    pub during: String,
    /// What the interpreter said.
    pub message: String,
    /// What the module logged before; a panic's message is there.
    pub logs: Vec<Log>,
}

impl fmt::Display for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the module died in {}: {}{}", self.during, self.message, Log::lines(&self.logs))
    }
}
