//! Runs of an official SDK: what an application sees, and what Envoy saw of it.

use crate::gateway::{Gateway, PLANS, PROVIDERS, key};
use crate::support::upstream::python;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::process::{Command, Stdio};

/// A client, and the script that knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client {
    pub(crate) script: Script,
    pub(crate) name: &'static str,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Script {
    Python,
    Node,
}

/// One client object with a key of its own, making the same call so many times.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Names it, and its consumer.
    pub(crate) name: &'static str,
    pub(crate) call: &'static str,
    pub(crate) times: usize,
    /// What the client is made with, besides address and key.
    pub(crate) options: Value,
}

impl Run {
    pub(crate) fn new(name: &'static str, call: &'static str, times: usize) -> Self {
        Self { name, call, times, options: json!({}) }
    }

    pub(crate) fn with(self, options: Value) -> Self {
        Self { options, ..self }
    }
}

/// What one call came to.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// What the model said, or nothing.
    pub(crate) text: Option<String>,
    /// The class of the error.
    pub(crate) error: Option<String>,
    pub(crate) message: String,
    pub(crate) status: Option<u16>,
    #[serde(rename = "type")]
    pub(crate) kind: Value,
    pub(crate) code: Value,
    pub(crate) state: Value,
    pub(crate) body: String,
    /// What the error's response headers say.
    pub(crate) retry_after: Option<String>,
    /// How long the application waited for the call.
    pub(crate) seconds: f64,
}

#[derive(Debug, Deserialize)]
struct Report {
    version: String,
    runs: BTreeMap<String, Vec<Outcome>>,
}

/// What came of all runs of a client.
pub(crate) struct Came {
    runs: BTreeMap<String, Vec<Outcome>>,
}

impl Came {
    /// The outcomes of one run.
    pub(crate) fn of(&self, run: &str) -> &[Outcome] {
        self.runs.get(run).unwrap_or_else(|| panic!("no run {run}"))
    }

    /// The last outcome of one run.
    pub(crate) fn last(&self, run: &str) -> &Outcome {
        self.of(run).last().unwrap_or_else(|| panic!("no outcome of {run}"))
    }
}

impl Outcome {
    /// It was answered.
    pub(crate) fn assert_answered(&self) {
        assert_eq!(self.text.as_deref(), Some("You said: hello"), "{self:?}");
    }

    /// It raised this, because the quota was used up, and carries our message with its facts.
    pub(crate) fn assert_denied(&self, class: &str, limit: &str) {
        assert_eq!((self.error.as_deref(), self.status), (Some(class), Some(429)), "{self:?}");
        let wait = self.retry_after.as_deref().unwrap_or_else(|| panic!("no retry-after: {self:?}"));
        let message = format!("Exceeded the allowed number of requests: {limit}. Retry after {wait} s.");
        assert!(self.message.contains(&message), "{message} is not in {self:?}");
    }

    /// It raised this, because the key is not known.
    pub(crate) fn assert_unauthorized(&self, class: &str) {
        assert_eq!((self.error.as_deref(), self.status), (Some(class), Some(401)), "{self:?}");
        assert!(self.message.contains("Invalid API key."), "{self:?}");
    }
}

impl Client {
    /// Makes these runs, all at once.
    pub(crate) fn run(self, url: &str, runs: &[Run]) -> Came {
        let runs: Vec<Value> = runs
            .iter()
            .map(|run| {
                json!({
                    "name": run.name, "key": key(run.name), "call": run.call, "times": run.times, "options": run.options,
                })
            })
            .collect();
        let job = json!({"client": self.name, "address": url, "runs": runs}).to_string();
        let mut command = self.script.command();
        let output = command.arg(job).output().unwrap_or_else(|error| panic!("{command:?} cannot be run: {error}"));
        let report: Report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{self:?} {}: {error}\n{}", output.status, String::from_utf8_lossy(&output.stderr))
        });
        println!("{self:?} {}\n{:#?}", report.version, report.runs);
        Came { runs: report.runs }
    }
}

impl Script {
    fn command(self) -> Command {
        let file = |name: &str| format!("{}/tests/clients/{name}", env!("CARGO_MANIFEST_DIR"));
        match self {
            Self::Python => python_with_sdks(&file("sdk.py")),
            Self::Node => {
                let folder = folder("ALLOWANCE_NODE");
                let mut command = Command::new(format!("{folder}/node"));
                command.args(["--input-type=module", "-"]).current_dir(&folder);
                command.stdin(Stdio::from(File::open(file("sdk.mjs")).unwrap()));
                undisturbed(command)
            }
        }
    }
}

/// Python, about to run this script with the SDKs.
pub(crate) fn python_with_sdks(script: &str) -> Command {
    let mut command = Command::new(python());
    command.args(["-B", script]).env("PYTHONPATH", folder("ALLOWANCE_SDKS"));
    undisturbed(command)
}

/// Without what the owner of the machine set for clients of their own, and a proxy is not for this machine's own addresses.
fn undisturbed(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        if ["OPENAI_", "AZURE_OPENAI_", "ANTHROPIC_", "MISTRAL_", "GOOGLE_", "GEMINI_", "PORTKEY_"]
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command.env("no_proxy", "127.0.0.1").env("NO_PROXY", "127.0.0.1");
    command
}

fn folder(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run \"make test\""))
}

/// How a client retries by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Retries {
    /// Not at all.
    Never,
    /// It waits as long as it is told, and not at all where it is told not to retry.
    AsTold,
}

/// All that a client must do; `calls` are the ways it has of asking, the first of them stands for all.
pub(crate) struct Row {
    pub(crate) client: Client,
    pub(crate) sources: &'static str,
    pub(crate) calls: &'static [&'static str],
    pub(crate) denied: &'static str,
    pub(crate) unauthorized: &'static str,
    pub(crate) retries: Retries,
    /// More runs, with their plans.
    pub(crate) more: Vec<(Run, &'static str)>,
    /// More of the filter's configuration.
    pub(crate) configuration: &'static str,
}

impl Row {
    pub(crate) fn new(script: Script, name: &'static str, calls: &'static [&'static str]) -> Self {
        Self {
            client: Client { script, name },
            sources: PROVIDERS,
            calls,
            denied: "",
            unauthorized: "",
            retries: Retries::AsTold,
            more: Vec::new(),
            configuration: "",
        }
    }

    /// Runs it, asserts what all clients have in common, and returns the rest.
    pub(crate) fn assert(self) -> (Came, Gateway) {
        let first = self.calls[0];
        let mut runs: Vec<(Run, &str)> = self.calls.iter().map(|call| (Run::new(call, call, 1), "roomy")).collect();
        runs.push((Run::new("over-minutes", first, 2), "minutes"));
        runs.push((Run::new("over-days", first, 2), "days"));
        runs.push((Run::new("over-seconds", first, 2), "seconds"));
        // Each way of asking meets the end of its quota.
        let streaming = self.calls.iter().find(|call| call.ends_with("stream"));
        runs.extend(streaming.map(|call| (Run::new("over-streaming", call, 2), "days")));
        runs.extend(self.more);
        let consumers: Vec<(&str, &str)> = runs.iter().map(|(run, plan)| (run.name, *plan)).collect();
        let gateway = Gateway::start(self.sources, PLANS, &consumers, self.configuration);

        let mut runs: Vec<Run> = runs.iter().map(|(run, _)| run.clone()).collect();
        runs.push(Run::new("nobody", first, 1));
        let came = self.client.run(&gateway.url(), &runs);
        let attempts = gateway.attempts();

        for call in self.calls {
            came.last(call).assert_answered();
            assert_eq!(attempts.statuses(call), [200], "{call}");
        }

        // A wait that is too long raises at once.
        for (run, limit) in
            [("over-minutes", "1 per 90s"), ("over-days", "1 per 300d"), ("over-streaming", "1 per 300d")]
        {
            if run == "over-streaming" && streaming.is_none() {
                continue;
            }
            came.of(run)[0].assert_answered();
            came.last(run).assert_denied(self.denied, limit);
            assert_eq!(attempts.statuses(run), [200, 429], "{run}");
        }

        // A short one is waited for, by those who do, and then it was long enough.
        came.of("over-seconds")[0].assert_answered();
        match self.retries {
            Retries::Never => {
                came.last("over-seconds").assert_denied(self.denied, "1 per 2s");
                assert_eq!(attempts.statuses("over-seconds"), [200, 429]);
            }
            Retries::AsTold => {
                came.last("over-seconds").assert_answered();
                assert_waited(&gateway, "over-seconds");
                let last = came.last("over-seconds");
                assert!(last.seconds > 0.5, "it cannot have waited: {last:?}");
            }
        }

        // And a bad key is no reason to try again.
        came.last("nobody").assert_unauthorized(self.unauthorized);
        assert_eq!(attempts.unauthorized(), 1);
        (came, gateway)
    }
}

/// It was denied once, waited as long as it was told, and that was enough.
pub(crate) fn assert_waited(gateway: &Gateway, consumer: &str) {
    let attempts = gateway.attempts().of(consumer);
    let statuses: Vec<u16> = attempts.iter().map(|attempt| attempt.status).collect();
    assert_eq!(statuses, [200, 429, 200], "{consumer}");
    let told = attempts[1].told.expect("a denial says when to come back");
    assert!((1..=2000).contains(&told), "{told}");
    let waited = attempts[2].at - attempts[1].at;
    // Both times are cut to whole milliseconds.
    assert!(waited + 1 >= told, "waited {waited} ms where {told} were told");
}
