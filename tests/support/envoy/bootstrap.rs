//! What the Envoy of a test is made of, and the bootstrap that says so.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{PATIENCE, from_environment};

/// How the plugin's configuration is handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// A `google.protobuf.Struct`: the text becomes part of the bootstrap and goes through Envoy's own YAML loader.
    #[default]
    Struct,
    /// A `StringValue` with JSON, as Istio sends it; YAML is turned into JSON first.
    Json,
    /// A `StringValue` with the text as it stands, whatever it is.
    Text,
    /// No configuration at all.
    Absent,
}

/// What Envoy does when the filter's VM dies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// 503 from then on.
    #[default]
    Closed,
    /// Requests pass unfiltered from then on.
    Open,
    /// A new VM at the next request, after a tenth of a second.
    Reload,
}

/// An Envoy to be started. All texts are YAML, may be indented as a whole, and are put where their name says.
#[derive(Clone, Debug)]
pub struct Builder {
    config: Option<String>,
    form: Form,
    policy: Policy,
    concurrency: u32,
    log_levels: String,
    name: String,
    vm_id: String,
    module: Option<PathBuf>,
    ecds: bool,
    holds_headers: bool,
    connection_manager: String,
    filters_before: String,
    filters_after: String,
    routes: String,
    clusters: String,
    stats: String,
    access_log: Option<String>,
    bootstrap: Option<String>,
    program: Option<PathBuf>,
    under: Vec<String>,
    options: Vec<String>,
}

impl Builder {
    pub(super) fn new(config: &str) -> Self {
        Self { config: Some(config.to_owned()), ..Self::bare() }
    }

    pub(super) fn bare() -> Self {
        // Shared data lives and dies with the vm_id: no test may meet another's.
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let vm_id = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let direct = r#"- {match: {prefix: /}, direct_response: {status: 200, body: {inline_string: "upstream\n"}}}"#;
        Self {
            config: None,
            form: Form::default(),
            policy: Policy::default(),
            concurrency: 2,
            log_levels: "wasm:info".to_owned(),
            name: "allowance".to_owned(),
            vm_id,
            module: None,
            ecds: false,
            holds_headers: false,
            connection_manager: String::new(),
            filters_before: String::new(),
            filters_after: String::new(),
            routes: direct.to_owned(),
            clusters: String::new(),
            stats: String::new(),
            access_log: None,
            bootstrap: None,
            program: None,
            under: Vec::new(),
            options: Vec::new(),
        }
    }

    /// How the configuration is handed over; as a Struct if not said.
    pub fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    /// What happens when the filter dies; fail closed if not said.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// How many workers; 2 if not said.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Log levels by component, like `wasm:trace,filter:debug`; `wasm:info` if not said.
    pub fn log_levels(mut self, levels: &str) -> Self {
        self.log_levels = levels.to_owned();
        self
    }

    /// The plugin's name; `allowance` if not said.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    /// The `vm_id`; one that no other test has if not said.
    pub fn vm_id(mut self, vm_id: &str) -> Self {
        self.vm_id = vm_id.to_owned();
        self
    }

    /// Another module file than the one that `ALLOWANCE_WASM` names.
    pub fn module(mut self, path: impl AsRef<Path>) -> Self {
        self.module = Some(path.as_ref().to_owned());
        self
    }

    /// The filter comes by extension config discovery from a file, so that [`reconfigure`](super::Envoy::reconfigure)
    /// works.
    ///
    /// An Envoy whose first configuration is refused starts all the same, and answers every request 500.
    pub fn ecds(mut self) -> Self {
        self.ecds = true;
        self
    }

    /// The filter sees a request's body while its head waits (`allow_on_headers_stop_iteration`).
    pub fn holds_headers(mut self) -> Self {
        self.holds_headers = true;
        self
    }

    /// More fields of the HTTP connection manager, like `use_remote_address: true`.
    pub fn connection_manager(mut self, yaml: &str) -> Self {
        self.connection_manager = yaml.to_owned();
        self
    }

    /// HTTP filters before the one under test: a list.
    pub fn filters_before(mut self, yaml: &str) -> Self {
        self.filters_before = yaml.to_owned();
        self
    }

    /// HTTP filters between the one under test and the router: a list.
    pub fn filters_after(mut self, yaml: &str) -> Self {
        self.filters_after = yaml.to_owned();
        self
    }

    /// The routes: a list. If not said, every request is answered 200 with the body `upstream` and a newline.
    pub fn routes(mut self, yaml: &str) -> Self {
        self.routes = yaml.to_owned();
        self
    }

    /// Clusters: a list.
    pub fn clusters(mut self, yaml: &str) -> Self {
        self.clusters = yaml.to_owned();
        self
    }

    /// More fields of `stats_config`, like a `stats_matcher`.
    pub fn stats(mut self, yaml: &str) -> Self {
        self.stats = yaml.to_owned();
        self
    }

    /// Writes one line like this for each request, to be read with [`access_log`](super::Envoy::access_log).
    pub fn access_log(mut self, format: &str) -> Self {
        self.access_log = Some(format.to_owned());
        self
    }

    /// Another Envoy than the one that `ENVOY` names.
    pub fn envoy(mut self, program: impl AsRef<Path>) -> Self {
        self.program = Some(program.as_ref().to_owned());
        self
    }

    /// More options of the command line.
    pub fn options(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// Runs it in this tool, like valgrind, which is given Envoy's command line behind its own; it may take ten times as long to start then.
    pub fn under(mut self, tool: &[&str]) -> Self {
        self.under = tool.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// What starts it, without Envoy's arguments.
    pub(super) fn command(&self) -> Command {
        let envoy = self.program.clone().unwrap_or_else(|| from_environment("ENVOY").into());
        let Some((tool, options)) = self.under.split_first() else { return Command::new(envoy) };
        let mut command = Command::new(tool);
        command.args(options).arg(envoy);
        command
    }

    /// The longest that it may take to start.
    pub(super) fn patience(&self) -> Duration {
        if self.under.is_empty() { PATIENCE } else { 10 * PATIENCE }
    }

    /// This bootstrap instead of one made of the other settings.
    pub(super) fn bootstrap(mut self, text: &str) -> Self {
        self.bootstrap = Some(text.to_owned());
        self
    }

    pub(super) fn is_ecds(&self) -> bool {
        self.ecds
    }

    pub(super) fn set_config(&mut self, config: &str) {
        self.config = Some(config.to_owned());
    }

    pub(super) fn arguments(&self) -> Vec<String> {
        let concurrency = self.concurrency.to_string();
        // At start "main" tells everything that was compiled in; a failing test should show what went wrong.
        let levels = format!("main:warning,{}", self.log_levels);
        let arguments =
            ["--concurrency", &concurrency, "--component-log-level", &levels, "--file-flush-interval-msec", "10"];
        arguments.iter().map(|argument| (*argument).to_owned()).chain(self.options.iter().cloned()).collect()
    }

    pub(super) fn bootstrap_text(&self, dir: &Path) -> String {
        if let Some(text) = &self.bootstrap {
            return text.clone();
        }
        let mut tags = String::new();
        for tag in ["decision", "plan", "limit", "reason", "model", "kind", "consumer", "namespace"] {
            tags += &format!("  - {{tag_name: {tag}, regex: '({tag}=\\.=(.*?);\\.;)'}}\n");
        }
        let filter = if self.ecds { self.discovered_filter(dir) } else { self.filter(0) };
        format!(
            r#"node: {{id: allowance-test, cluster: allowance-test}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
stats_config:
  stats_tags:
{tags}{stats}static_resources:
  clusters:
{clusters}  listeners:
  - name: main
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: main
{access_log}{connection_manager}          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
{routes}          http_filters:
{before}{filter}{after}          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#,
            stats = indent(&self.stats, 2),
            clusters = indent(&self.clusters, 2),
            access_log = self.access_log_text(dir),
            connection_manager = indent(&self.connection_manager, 10),
            routes = indent(&self.routes, 14),
            before = indent(&self.filters_before, 10),
            filter = indent(&filter, 10),
            after = indent(&self.filters_after, 10),
        )
    }

    /// The filter as a resource for discovery. Each version differs from the others also where nothing was changed:
    /// Envoy skips a resource that equals the last one, even when it had refused that.
    pub(super) fn ecds_text(&self, version: u32) -> String {
        let filter = indent(&self.filter(version), 0);
        let (name, typed_config) = filter.split_once('\n').expect("a filter has a name and a configuration");
        let name = name.trim_start_matches("- ");
        let head = r#""@type": type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig"#;
        format!("version_info: \"{version}\"\nresources:\n- {head}\n  {name}\n{typed_config}")
    }

    fn discovered_filter(&self, dir: &Path) -> String {
        format!(
            "- name: {name}
  config_discovery:
    config_source: {{path_config_source: {{path: {path:?}}}, resource_api_version: V3}}
    type_urls: [type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm]
",
            name = self.name,
            path = super::ecds::path(dir),
        )
    }

    fn filter(&self, version: u32) -> String {
        let Some(config) = &self.config else { return String::new() };
        let (policy, milliseconds) = match self.policy {
            Policy::Closed => ("FAIL_CLOSED", 1000),
            Policy::Open => ("FAIL_OPEN", 1000),
            Policy::Reload => ("FAIL_RELOAD", 100),
        };
        let module = self.module.clone().unwrap_or_else(|| from_environment("ALLOWANCE_WASM").into());
        // Envoy may run elsewhere than the test.
        let module =
            std::fs::canonicalize(&module).unwrap_or_else(|error| panic!("no module at {}: {error}", module.display()));
        format!(
            r#"- name: {name}
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
    config:
      name: {name}
      failure_policy: {policy}
      allow_on_headers_stop_iteration: {holds_headers}
      reload_config: {{backoff: {{base_interval: {seconds}.{fraction:09}s}}}}
      vm_config: {{vm_id: {vm_id:?}, runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {module:?}}}}}}}
{configuration}"#,
            name = self.name,
            holds_headers = self.holds_headers,
            // Some billionths of a second more change nothing but make the resource another one; see ecds_text.
            seconds = milliseconds / 1000,
            fraction = milliseconds % 1000 * 1_000_000 + version,
            vm_id = self.vm_id,
            configuration = indent(&configuration(config, self.form), 6),
        )
    }

    fn access_log_text(&self, dir: &Path) -> String {
        let Some(format) = &self.access_log else { return String::new() };
        let text = format!(
            r#"access_log:
- name: envoy.access_loggers.file
  typed_config:
    "@type": type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog
    path: {path:?}
    log_format: {{text_format_source: {{inline_string: {line}}}}}
"#,
            path = dir.join("access.log"),
            line = quoted(&format!("{format}\n")),
        );
        indent(&text, 10)
    }
}

fn configuration(config: &str, form: Form) -> String {
    let string = |text: &str| {
        format!(
            "configuration: {{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: {}}}",
            quoted(text)
        )
    };
    match form {
        Form::Struct if config.trim().is_empty() => {
            "configuration: {\"@type\": type.googleapis.com/google.protobuf.Struct, value: {}}".to_owned()
        }
        Form::Struct => {
            format!(
                "configuration:\n  \"@type\": type.googleapis.com/google.protobuf.Struct\n  value:\n{}",
                indent(config, 4)
            )
        }
        Form::Json if serde_json::from_str::<serde_json::Value>(config).is_ok() => string(config),
        Form::Json => {
            let value: serde_json::Value =
                serde_saphyr::from_str(config).unwrap_or_else(|error| panic!("neither JSON nor YAML: {error}"));
            string(&value.to_string())
        }
        Form::Text => string(config),
        Form::Absent => String::new(),
    }
}

/// A text as a YAML scalar; JSON's quoted strings are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The text at this depth, each line ended: what all its lines are indented by is replaced.
fn indent(text: &str, depth: usize) -> String {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let common = lines().map(|line| line.len() - line.trim_start_matches(' ').len()).min().unwrap_or(0);
    let pad = " ".repeat(depth);
    lines().map(|line| format!("{pad}{}\n", &line[common..])).collect()
}
