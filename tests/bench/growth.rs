//! How the cost grows with what may get large. Each size has an Envoy of its own; those of one question take turns of milliseconds.
//!
//! Two Envoys of the same size differ by some percent for as long as they live, because their memory lies elsewhere: a full run
//! therefore starts each several times.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use allowance::table::MAX_WAYS;
use serde_json::{Value, json};

use crate::arena;
use crate::extent::Extent;
use crate::figures::Spread;
use crate::folder;
use crate::load::{Load, Protocol};
use crate::support::envoy::Envoy;
use crate::turns::Task;
use crate::variant::{Module, PLENTY, hash};

/// URIs in one file at most: h2load keeps them all in memory.
const FILE: u64 = 100_000;

const OURS: Module = Module::From("ALLOWANCE_WASM");
const EMPTY: Module = Module::From("ALLOWANCE_EMPTY_WASM");

/// One question.
struct Question {
    /// What grows.
    what: &'static str,
    sizes: Vec<Size>,
    /// How many h2load ask at once, each with keys in an order of its own.
    clients: u64,
    /// Connections of each, and requests under way on each of them.
    connections: u64,
    streams: u64,
}

/// A round that none of those that are measured is.
const WARM_UP: usize = 1 << 32;

/// Bytes of a record of three counters.
const RECORD: u64 = 104;

/// One size of it.
struct Size {
    label: String,
    /// How many of the things that grow, where each of them takes memory.
    items: Option<u64>,
    module: Module,
    config: Value,
    form: Form,
    workers: u32,
    /// From how many keys the requests come; none where only starting is of interest.
    keys: Option<u64>,
    /// Whether each key must have asked once before.
    filled: bool,
}

/// How the configuration is handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Struct,
}

/// What was measured of one size.
pub(crate) struct Line {
    pub(crate) what: &'static str,
    pub(crate) label: String,
    /// Processor time per request in microseconds, of each round, and as a share of what the first size took in the same round.
    pub(crate) cpu: Vec<f64>,
    pub(crate) times_first: Vec<f64>,
    /// Resident memory in KiB at the end, and how many bytes of it each thing more than in the first size takes.
    pub(crate) rss_kib: u64,
    pub(crate) bytes_each: Option<f64>,
    /// Above what it takes with an empty configuration.
    pub(crate) start: Start,
    /// Lost races per decision, in the last set.
    pub(crate) conflicts: Option<f64>,
}

/// A started Envoy.
struct Contender<'a> {
    /// Among those of its question.
    place: usize,
    size: &'a Size,
    envoy: Envoy,
    addr: SocketAddr,
    line: Line,
    races: u64,
}

/// What starting takes.
#[derive(Clone, Copy)]
pub(crate) struct Start {
    /// From the start of Envoy until a worker serves.
    pub(crate) ready: Duration,
    /// Processor time of one worker until then: its VM's share.
    pub(crate) vm: Option<Duration>,
}

/// Measures all questions.
pub(crate) fn run(extent: &Extent) -> Vec<Line> {
    let mut lines = Vec::new();
    for question in questions(extent) {
        eprintln!("how cost grows: {}", question.what);
        let base = empty(question.sizes[0].module);
        let sets = (0..extent.growth_sets).map(|set| answer(&question, extent, base, set * extent.growth_rounds));
        let answered = sets.reduce(merged).unwrap_or_default();
        for line in answered.iter().filter(|line| !line.cpu.is_empty()) {
            eprintln!("  {}: {:.1} µs a request", line.label, Spread::of(line.cpu.iter().copied()).median);
        }
        lines.extend(answered);
    }
    lines
}

/// The shortest of some starts with an empty configuration.
fn empty(module: Module) -> Start {
    (0..3).map(|_| start(module, &config(0), Form::Text, 1).1).reduce(Start::shorter).expect("more than none")
}

impl Start {
    /// Time is only ever added by what else goes on.
    fn shorter(self, other: Self) -> Self {
        Self { ready: self.ready.min(other.ready), vm: self.vm.min(other.vm) }
    }
}

/// Two sets as one.
fn merged(lines: Vec<Line>, more: Vec<Line>) -> Vec<Line> {
    let merge = |(mut line, more): (Line, Line)| {
        line.cpu.extend(more.cpu);
        line.times_first.extend(more.times_first);
        line.start = line.start.shorter(more.start);
        Line { cpu: line.cpu, times_first: line.times_first, start: line.start, ..more }
    };
    lines.into_iter().zip(more).map(merge).collect()
}

fn questions(extent: &Extent) -> Vec<Question> {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    let mut workers = vec![1, 2, 4, 8, 16];
    workers.retain(|&count| count < cores);
    workers.push(cores);

    let listed = |consumers: u64| {
        let consumers: Vec<Value> = (0..consumers)
            .map(|number| {
                json!({"name": format!("consumer-{number}"), "plan": "plan", "keys": [format!("sha256:{}", hash(&key(number)))]})
            })
            .collect();
        with(config(3), "consumers", Value::from(consumers))
    };
    // Room for twice as many, so that nobody is evicted.
    let room = (extent.tracked * 2).next_power_of_two();
    let unlisted = |limits| with(config(limits), "unlisted", json!({"plan": "plan"}));
    let tracked = |keys| Size {
        items: Some(keys),
        filled: true,
        ..size(keys.to_string(), with(unlisted(3), "max_tracked_keys", Value::from(room)), keys)
    };
    let rules = |count: u64| {
        let rules: Vec<Value> = (0..count)
            .map(|number| json!({"name": format!("rule-{number}"), "match": {"path": {"prefix": format!("/v1/area-{number}")}}, "cost": 2}))
            .collect();
        size(count.to_string(), with(unlisted(3), "rules", Value::from(rules)), 1)
    };
    let on = |workers: &[u32], keys: u64| {
        workers.iter().map(|&count| Size { workers: count, ..size(count.to_string(), unlisted(3), keys) }).collect()
    };
    let few = 10;
    let started = |label: &str, module, form, count: u64| Size {
        items: Some(count),
        module,
        form,
        keys: None,
        ..size(format!("{count}{label}"), listed(count), 1)
    };
    // As many values as this filter has, and as long.
    let floor = |keys, value| Size {
        items: Some(keys),
        filled: true,
        module: Module::FloorByPath { value },
        ..size(format!("{keys} of {value} bytes"), Value::Null, keys)
    };
    let sets = room / u64::from(MAX_WAYS);
    let set = |records| 4 + records * (10 + RECORD);
    let question = |what, sizes| Question { what, sizes, clients: 1, connections: 1, streams: 16 };
    let crowd = |what, sizes| Question { what, sizes, clients: 4, connections: 4, streams: 4 };
    vec![
        question(
            "consumers",
            [few, extent.consumers]
                .map(|count| Size { items: Some(count), filled: true, ..size(count.to_string(), listed(count), count) })
                .into(),
        ),
        question(
            "consumers, as a Struct",
            [few, extent.consumers].map(|count| started("", OURS, Form::Struct, count)).into(),
        ),
        question(
            "consumers, Envoy's own part (empty module)",
            vec![
                started(" as text", EMPTY, Form::Text, few),
                started(" as text", EMPTY, Form::Text, extent.consumers),
                started(" as a Struct", EMPTY, Form::Struct, extent.consumers),
            ],
        ),
        question("tracked keys", [few, extent.tracked].map(tracked).into()),
        question("records, Envoy's own part (floor module)", vec![floor(few, RECORD), floor(extent.consumers, RECORD)]),
        question(
            "sets of tracked keys, Envoy's own part (floor module)",
            vec![floor(few, set(1)), floor(sets, set(extent.tracked / sets))],
        ),
        question("rules", [0, 100].map(rules).into()),
        question("limits", [1, 2, 4, 8].map(|count| size(count.to_string(), unlisted(count), 1)).into()),
        crowd("workers, 1000 keys", on(&workers, 1000)),
        crowd("workers, one hot key", on(&workers, 1)),
    ]
}

fn size(label: String, config: Value, keys: u64) -> Size {
    Size { label, items: None, module: OURS, config, form: Form::Text, workers: 1, keys: Some(keys), filled: false }
}

/// A plan with so many limits.
fn config(limits: usize) -> Value {
    let windows =
        if limits == 3 { vec!["1s", "1m", "day"] } else { vec!["1m", "5m", "15m", "30m", "1h", "3h", "6h", "day"] };
    let limits: Vec<Value> = windows.iter().take(limits).map(|per| json!({"requests": PLENTY, "per": per})).collect();
    json!({"api_key": {"from": [{"query": "key"}]}, "plans": {"plan": {"limits": limits}}, "headers": []})
}

fn with(mut config: Value, field: &str, value: Value) -> Value {
    config[field] = value;
    config
}

fn key(number: u64) -> String {
    format!("key-{number:012}")
}

/// One set: Envoys of their own, and rounds from this one on.
fn answer(question: &Question, extent: &Extent, base: Start, begin: usize) -> Vec<Line> {
    let mut contenders: Vec<Contender<'_>> = question
        .sizes
        .iter()
        .enumerate()
        .map(|(place, size)| {
            let (envoy, took) = start(size.module, &size.config, size.form, size.workers);
            let line = Line {
                what: question.what,
                label: size.label.clone(),
                cpu: Vec::new(),
                times_first: Vec::new(),
                rss_kib: 0,
                bytes_each: None,
                start: Start {
                    ready: took.ready.saturating_sub(base.ready),
                    vm: took.vm.zip(base.vm).map(|(took, base)| took.saturating_sub(base)),
                },
                conflicts: None,
            };
            Contender { place, size, addr: envoy.addr(), envoy, line, races: 0 }
        })
        .collect();

    if question.sizes.iter().all(|size| size.keys.is_some()) {
        contend(&mut contenders, question, extent, begin);
    }
    for contender in &mut contenders {
        contender.line.rss_kib = contender.envoy.rss_kib();
        if contender.size.keys.is_some() && contender.size.module == OURS {
            let decisions = extent.growth_rounds as u64 * sent(question, extent.growth_requests);
            contender.line.conflicts = Some((contender.conflicts() - contender.races) as f64 / decisions as f64);
        }
    }
    let first = (contenders[0].size.items, contenders[0].line.rss_kib);
    contenders
        .into_iter()
        .map(|mut contender| {
            let more = contender.size.items.zip(first.0).map(|(items, first)| items - first).filter(|&more| more > 0);
            contender.line.bytes_each =
                more.map(|more| contender.line.rss_kib.saturating_sub(first.1) as f64 * 1024.0 / more as f64);
            contender.line
        })
        .collect()
}

/// What requests cost each of them, in rounds from this one on.
fn contend(contenders: &mut [Contender<'_>], question: &Question, extent: &Extent, begin: usize) {
    for contender in &mut *contenders {
        if contender.size.filled {
            contender.fill();
        } else {
            measure(std::slice::from_ref(contender), question, extent.warm_up, WARM_UP);
        }
        contender.races = contender.conflicts();
    }
    for round in begin..begin + extent.growth_rounds {
        let figures = measure(contenders, question, extent.growth_requests, round);
        for (contender, figure) in contenders.iter_mut().zip(&figures) {
            contender.line.cpu.push(*figure);
            contender.line.times_first.push(figure / figures[0]);
        }
    }
}

/// Processor time of Envoy per request in microseconds, of each of these, from keys in an order that this round has alone.
fn measure(contenders: &[Contender<'_>], question: &Question, requests: u64, round: usize) -> Vec<f64> {
    let each = requests / question.clients;
    let files: Vec<Vec<PathBuf>> =
        contenders.iter().map(|contender| contender.ask(question.clients, each, round)).collect();
    let tasks: Vec<Task<'_>> = contenders
        .iter()
        .zip(&files)
        .map(|(contender, files)| {
            let load = |file| contender.load(file, question.connections, question.streams, each);
            let files = files.iter().map(PathBuf::as_path);
            Task { envoy: &contender.envoy, loads: files.map(load).collect(), status: 200 }
        })
        .collect();
    let counted: Vec<u64> = contenders.iter().map(Contender::counted).collect();
    let measured = Task::run_all(&tasks, round);
    for (contender, counted) in contenders.iter().zip(counted) {
        assert_eq!(contender.counted() - counted, sent(question, requests), "{}: requests counted", question.what);
    }
    measured
}

/// How many requests are sent where so many are wanted: each client sends the same number.
fn sent(question: &Question, wanted: u64) -> u64 {
    wanted / question.clients * question.clients
}

/// An Envoy with this filter, and what starting it took.
fn start(module: Module, config: &Value, form: Form, workers: u32) -> (Envoy, Start) {
    let value = match form {
        Form::Text => format!("StringValue, value: {}", Value::from(config.to_string())),
        Form::Struct => format!("Struct, value: {config}"),
    };
    let configuration = format!("{{\"@type\": type.googleapis.com/google.protobuf.{value}}}");
    let text = arena::bootstrap(&arena::listener("main", &arena::wasm("main", &arena::path(module), &configuration)));
    let builder = Envoy::with_bootstrap(&text).concurrency(workers).log_levels("wasm:warning");
    let begun = Instant::now();
    let envoy = builder.start();
    let ready = begun.elapsed();
    let vm = envoy.threads_cpu("wrk:worker_0");
    (envoy, Start { ready, vm })
}

impl Contender<'_> {
    /// Every key asks once.
    fn fill(&self) {
        let keys = self.keys();
        for begin in (0..keys).step_by(usize::try_from(FILE).expect("a file has a length")) {
            let numbers = begin..keys.min(begin + FILE);
            let requests = numbers.end - numbers.start;
            self.load(&self.uris(0, numbers), 1, 64, requests).run(200);
        }
        // Listed consumers are not in the table.
        if self.size.config.get("unlisted").is_none() {
            return;
        }
        let tracked = self.count("allowance_tracked_keys");
        // The hash spreads them unevenly: a set or two may have been full.
        assert!(tracked > keys - keys / 1000 - 1, "{tracked} of {keys} keys are tracked");
    }

    /// From how many keys the requests come.
    fn keys(&self) -> u64 {
        self.size.keys.expect("asked are only those that have keys")
    }

    /// Files of so many URIs for each client, with keys in an order that this round has alone.
    fn ask(&self, clients: u64, each: u64, round: usize) -> Vec<PathBuf> {
        let keys = self.keys();
        let file = |client| {
            let seed = random((round as u64).wrapping_mul(clients).wrapping_add(client));
            self.uris(client, (0..each).map(|number| random(seed.wrapping_add(number)) % keys))
        };
        (0..clients).map(file).collect()
    }

    fn load<'a>(&self, uris: &'a Path, connections: u64, streams: u64, requests: u64) -> Load<'a> {
        Load { addr: self.addr, protocol: Protocol::Http2, connections, streams, requests, key: None, uris: Some(uris) }
    }

    /// A file of URIs with these keys, for one client.
    fn uris(&self, client: u64, numbers: impl Iterator<Item = u64>) -> PathBuf {
        let mut text = String::new();
        for number in numbers {
            writeln!(text, "/?key={}", key(number)).expect("a text takes text");
        }
        let path = folder().join(format!("uris-{}-{client}", self.place));
        std::fs::write(&path, text).expect("target is writable");
        path
    }

    fn conflicts(&self) -> u64 {
        self.count("allowance_store_conflicts_total")
    }

    /// The requests that the filter let pass.
    fn counted(&self) -> u64 {
        self.count(if self.size.module == OURS { "decision=.=allowed;" } else { "floor_requests_total" })
    }

    /// The sum of the filter's statistics with this in their name.
    fn count(&self, part: &str) -> u64 {
        let stats = self.envoy.stats("(allowance_|floor_)");
        stats.iter().filter(|(name, _)| name.contains(part)).map(|(_, value)| value).sum()
    }
}

/// Numbers in no order: splitmix64.
fn random(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
