//! All variants in one Envoy with one worker, a listener each, measured in turns.
//!
//! One process, so that all variants share its fate, and started several times, since two modules that do the same differ by some percent for as
//! long as they lie where they do; in turns of milliseconds, so that what drifts meanwhile (clock rates, neighbours on the machine) meets all of
//! them, and each is compared with what was measured in the same round.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::by_hand;
use crate::extent::Extent;
use crate::figures::at;
use crate::folder;
use crate::load::{Load, Protocol, RATE};
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, Response};
use crate::turns::Task;
use crate::variant::{self, Filter, KEY, Module, Variant};

/// What was measured of one variant with one protocol.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) id: &'static str,
    pub(crate) protocol: Protocol,
    /// Processor time per request in microseconds, of each round.
    pub(crate) cpu: Vec<f64>,
    /// Median and 99th percentile of the time to an answer in microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// Connections, and requests under way on each: sixteen in all, since with few of them what is measured is mostly the kernel waking
/// Envoy up, which takes as long as it likes.
const CONNECTIONS: [(Protocol, u64, u64); 2] = [(Protocol::Http1, 16, 1), (Protocol::Http2, 4, 4)];

/// How long leases last: about what an operator would choose.
const LEASE: &str = "50ms";

/// An Envoy with some variants.
pub(crate) struct Arena {
    pub(crate) envoy: Envoy,
    pub(crate) variants: Vec<Variant>,
    addrs: BTreeMap<String, SocketAddr>,
}

/// Measures all variants.
pub(crate) fn run(extent: &Extent) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for set in 0..extent.sets {
        let arena = Arena::start(variant::all(LEASE), &[]);
        let denials: BTreeSet<String> =
            arena.variants.iter().filter_map(|variant| wording(&arena.check(variant))).collect();
        assert_eq!(
            denials.len(),
            1,
            "by hand and by the filter, a denial is the same but for its numbers: {denials:#?}"
        );
        if rows.is_empty() {
            let row = |protocol| move |variant: &Variant| Row::new(variant, protocol);
            rows = Protocol::ALL.into_iter().flat_map(|protocol| arena.variants.iter().map(row(protocol))).collect();
        }
        for row in &rows {
            let variant = arena.variant(row.id);
            arena.load(variant, row.protocol, extent.warm_up).run(variant.status);
        }
        for round in set * extent.rounds..(set + 1) * extent.rounds {
            eprintln!("round {} of {}", round + 1, extent.sets * extent.rounds);
            for protocol in Protocol::ALL {
                let measured = arena.measure(protocol, extent.requests, round);
                let rows = rows.iter_mut().filter(|row| row.protocol == protocol);
                rows.zip(measured).for_each(|(row, cpu)| row.cpu.push(cpu));
            }
        }
        if set + 1 == extent.sets {
            eprintln!("latencies at {RATE} requests per second");
            for row in &mut rows {
                let variant = arena.variant(row.id);
                let times = arena.load(variant, row.protocol, extent.timed).timed(variant.status);
                (row.p50, row.p99) = (at(&times, 0.5), at(&times, 0.99));
            }
        }
    }
    rows
}

impl Row {
    /// Nothing measured yet.
    fn new(variant: &Variant, protocol: Protocol) -> Self {
        Self { name: variant.name, id: variant.id, protocol, cpu: Vec::new(), p50: 0.0, p99: 0.0 }
    }
}

/// What a denial says, without its numbers; `None` of other answers.
fn wording(answer: &Response) -> Option<String> {
    let fields = answer.headers.iter().filter(|(name, _)| name != "date");
    let text = fields.map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value))).collect::<String>();
    let text = text + &String::from_utf8_lossy(&answer.body);
    (answer.status == 429).then(|| text.chars().filter(|letter| !letter.is_ascii_digit()).collect())
}

impl Arena {
    /// Starts it, in this tool if it is not nothing.
    pub(crate) fn start(variants: Vec<Variant>, tool: &[&str]) -> Self {
        let listeners_text: String = variants.iter().map(|variant| listener(variant.id, &filter(variant))).collect();
        let envoy = Envoy::with_bootstrap(&bootstrap(&listeners_text)).concurrency(1).log_levels("wasm:warning");
        let envoy = envoy.under(tool).start();
        let addrs = listeners(&envoy);
        Self { envoy, variants, addrs }
    }

    fn variant(&self, id: &str) -> &Variant {
        self.variants.iter().find(|variant| variant.id == id).expect("rows are made of variants")
    }

    /// That it does what it says, before what that costs is of interest.
    pub(crate) fn check(&self, variant: &Variant) -> Response {
        let mut connection = Connection::open(self.addrs[variant.id]);
        if variant.status == 429 {
            assert_eq!(
                connection.get("/", &[("x-api-key", KEY)]).status,
                200,
                "{}: there is one to use up",
                variant.id
            );
        }
        let before = self.counts(variant);
        let answer = connection.get("/", &[("x-api-key", KEY)]);
        assert_eq!(answer.status, variant.status, "{}: {answer:?}", variant.id);
        assert_eq!(variant::said(|name| answer.header(name).is_some()), variant.fields, "{}: {answer:?}", variant.id);
        self.counted(variant, before, 1, 1);
        let answer = connection.get("/", &[]);
        assert_eq!(answer.status, variant.without_key, "{} without a key: {answer:?}", variant.id);
        let answer = connection.get("/", &[("x-api-key", KEY)]);
        assert_eq!(answer.status, variant.status, "{}: {answer:?}", variant.id);
        answer
    }

    /// Processor time of Envoy per request in microseconds, of all variants in this round. Each request must have been what its variant says, by
    /// Envoy's own count.
    fn measure(&self, protocol: Protocol, requests: u64, round: usize) -> Vec<f64> {
        let task = |variant: &Variant| {
            let loads = vec![self.load(variant, protocol, requests)];
            Task { envoy: &self.envoy, loads, status: variant.status }
        };
        let tasks: Vec<Task<'_>> = self.variants.iter().map(task).collect();
        let counts: Vec<(u64, u64)> = self.variants.iter().map(|variant| self.counts(variant)).collect();
        let measured = Task::run_all(&tasks, round);
        for (variant, counts) in self.variants.iter().zip(counts) {
            // Modules of the same kind count together.
            let kind = self.variants.iter().filter(|other| other.counter == variant.counter).count() as u64;
            self.counted(variant, counts, requests, requests * kind);
        }
        measured
    }

    pub(crate) fn load(&self, variant: &Variant, protocol: Protocol, requests: u64) -> Load<'_> {
        let (_, connections, streams) =
            CONNECTIONS.into_iter().find(|(other, ..)| *other == protocol).expect("both are there");
        let addr = self.addrs[variant.id];
        Load { addr, protocol, connections, streams, requests, key: Some(KEY), uris: None }
    }

    /// What Envoy answered on the variant's listener with the variant's status, and what its filter counted.
    fn counts(&self, variant: &Variant) -> (u64, u64) {
        let stats = self.envoy.stats("(requests_total|downstream_rq_.xx|rate_limit.ok)");
        let answered = format!("http.{}.downstream_rq_{}xx", variant.id, variant.status / 100);
        let counted = variant.counter.iter().flat_map(|parts| {
            stats
                .iter()
                .filter(|(name, _)| parts.iter().all(|part| name.contains(part.as_str())))
                .map(|(_, value)| *value)
        });
        (stats[&answered], counted.sum())
    }

    /// That since then so many were answered, and so many counted.
    fn counted(&self, variant: &Variant, before: (u64, u64), answered: u64, counted: u64) {
        let after = self.counts(variant);
        let counted = if variant.counter.is_some() { counted } else { 0 };
        assert_eq!((after.0 - before.0, after.1 - before.1), (answered, counted), "{}: requests counted", variant.id);
    }
}

/// An Envoy with these listeners.
pub(crate) fn bootstrap(listeners: &str) -> String {
    // Statistics are flushed once in five minutes at most: that is work too.
    format!(
        "node: {{id: bench, cluster: bench}}
admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}
stats_flush_interval: 299s
static_resources:
  listeners:
{listeners}"
    )
}

/// A listener that answers every request itself, behind this filter.
pub(crate) fn listener(id: &str, filter: &str) -> String {
    format!(
        r#"  - name: {id}
    address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: {id}
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: /}}, direct_response: {{status: 200, body: {{inline_string: "upstream\n"}}}}}}]}}]}}
          http_filters:
{filter}          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
"#
    )
}

/// A Wasm filter with this configuration, a message with its type in YAML.
pub(crate) fn wasm(id: &str, module: &std::path::Path, configuration: &str) -> String {
    format!(
        r#"          - name: {id}
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm
              config:
                name: {id}
                vm_config: {{vm_id: {id}, runtime: envoy.wasm.runtime.v8, code: {{local: {{filename: {module:?}}}}}}}
                configuration: {configuration}
"#
    )
}

fn filter(variant: &Variant) -> String {
    match &variant.filter {
        Filter::None => String::new(),
        Filter::Native => native(),
        Filter::Wasm { module, config } => {
            let value = serde_json::Value::from(config.as_str());
            let text = format!("{{\"@type\": type.googleapis.com/google.protobuf.StringValue, value: {value}}}");
            wasm(variant.id, &path(*module), &text)
        }
    }
}

/// One bucket for the key's value, never empty.
fn native() -> String {
    let mut text = String::new();
    let bucket = "token_bucket: {max_tokens: 1000000000, tokens_per_fill: 1000000000, fill_interval: 60s}";
    let always = "{runtime_key: bench, default_value: {numerator: 100, denominator: HUNDRED}}";
    write!(
        text,
        r#"          - name: envoy.filters.http.local_ratelimit
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
              stat_prefix: {prefix}
              {bucket}
              filter_enabled: {always}
              filter_enforced: {always}
              enable_x_ratelimit_headers: DRAFT_VERSION_03
              always_consume_default_token_bucket: false
              rate_limits: [{{actions: [{{request_headers: {{header_name: x-api-key, descriptor_key: key}}}}]}}]
              descriptors: [{{entries: [{{key: key, value: {KEY}}}], {bucket}}}]
"#,
        prefix = variant::NATIVE,
    )
    .expect("a text takes text");
    text
}

/// The callbacks that a filter needs which has several configurations, and something to say on responses.
const CALLBACKS: &str = r#"
  (func (export "proxy_on_context_create") (param i32 i32))
  (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) (i32.const 0))
"#;

/// What the floor module counts with, in bytes.
const COUNTER: u64 = 16;

/// The floor module's text, with the value of this header for a key, and values of so many bytes.
fn floor(header: &str, value: u64) -> String {
    let text = include_str!("floor.wat").replace("HEADER", header).replace("LENGTH", &header.len().to_string());
    text.replace("VALUE", &value.to_string())
}

fn assembled(name: &str, text: &str) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, wat::parse_str(text).expect("the module is valid")).expect("target is writable");
    path
}

/// The module's file.
pub(crate) fn path(module: Module) -> PathBuf {
    match module {
        Module::Floor => assembled("floor.wasm", &floor("x-api-key", COUNTER)),
        Module::FloorByPath { value } => assembled(&format!("floor-by-path-{value}.wasm"), &floor(":path", value)),
        Module::Entered => {
            let floor = floor("x-api-key", COUNTER);
            let inside = floor.trim_end().strip_suffix(')').expect("the floor module is one list");
            assembled("entered.wasm", &format!("{inside}{CALLBACKS})"))
        }
        Module::ByHand { denies } => {
            let name = if denies { "denied-by-hand.wasm" } else { "by-hand.wasm" };
            assembled(name, &by_hand::module(denies))
        }
        Module::From(variable) => {
            let path = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run \"make bench\""));
            std::fs::canonicalize(&path).unwrap_or_else(|error| panic!("no module at {path}: {error}"))
        }
    }
}

/// Where each listener is.
pub(crate) fn listeners(envoy: &Envoy) -> BTreeMap<String, SocketAddr> {
    let text = envoy.admin_get("/listeners");
    // "name::127.0.0.1:12345"
    let addrs = text.lines().filter_map(|line| line.split_once("::"));
    addrs.map(|(name, addr)| (name.to_owned(), addr.parse().expect("a listener has an address"))).collect()
}
