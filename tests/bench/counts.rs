//! What a request executes in Envoy, counted by callgrind: unlike time it is the same from run to run, whoever else is on the machine.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::arena::Arena;
use crate::folder;
use crate::load::Protocol;
use crate::variant::{self, Variant};

/// What was counted of one variant with one protocol.
pub(crate) struct Counted {
    pub(crate) name: &'static str,
    pub(crate) id: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) counts: [f64; COUNTS],
}

/// Instructions, and how many lines of code and of data are not in the processor's first cache when they are needed, per request.
pub(crate) const COUNTS: usize = 3;

/// First caches of 32 KiB each, a second one of 512 KiB. V8 writes code, and must not be counted by what was there before.
const CALLGRIND: [&str; 8] = [
    "valgrind",
    "--tool=callgrind",
    "--smc-check=all-non-file",
    "--cache-sim=yes",
    "--I1=32768,8,64",
    "--D1=32768,8,64",
    "--LL=524288,8,64",
    concat!("--callgrind-out-file=", env!("CARGO_MANIFEST_DIR"), "/target/bench/callgrind.%p"),
];

/// Until V8 has compiled a second time what is called often.
const WARM_UP: u64 = 3_000;

/// Requests that are counted.
pub(crate) const REQUESTS: u64 = 1_000;

/// How long leases last: as long as they may, since all else takes so much longer.
const LEASE: &str = "1s";

/// The longest that callgrind may take to write what it counted.
const PATIENCE: Duration = Duration::from_secs(60);

/// Counts all variants, each in an Envoy of its own: under valgrind there is no room for the memories of many VMs. One for each core at a time,
/// which time would not allow.
pub(crate) fn run(cores: usize) -> Vec<Counted> {
    let all = Mutex::new(variant::all(LEASE).into_iter().enumerate());
    let counted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some((place, variant)) = all.lock().expect("nobody panics with it").next() else { break };
                    eprintln!("{}", variant.name);
                    let lines = count(variant);
                    counted.lock().expect("nobody panics with it").extend(lines.map(|line| (place, line)));
                }
            });
        }
    });
    let mut counted = counted.into_inner().expect("nobody panics with it");
    counted.sort_by_key(|(place, line)| (line.protocol as usize, *place));
    counted.into_iter().map(|(_, line)| line).collect()
}

/// One variant with each protocol.
fn count(variant: Variant) -> [Counted; Protocol::ALL.len()] {
    let arena = Arena::start(vec![variant], &CALLGRIND);
    let variant = &arena.variants[0];
    arena.check(variant);
    let file = format!("callgrind.{}", arena.envoy.pid());
    let counted = Protocol::ALL.map(|protocol| {
        arena.load(variant, protocol, WARM_UP).run(variant.status);
        control(&arena, "--zero");
        arena.load(variant, protocol, REQUESTS).run(variant.status);
        control(&arena, "--dump");
        let counts = read(&folder().join(format!("{file}.{}", protocol as usize + 1)));
        Counted { name: variant.name, id: variant.id, protocol, counts }
    });
    drop(arena);
    // What it would have written at its end.
    let _ = std::fs::remove_file(folder().join(file));
    counted
}

fn control(arena: &Arena, order: &str) {
    let output = Command::new("callgrind_control").arg(order).arg(arena.envoy.pid().to_string()).output();
    let output = output.expect("callgrind_control can be started");
    assert!(output.status.success(), "callgrind_control {order}: {output:?}");
}

/// What this dump says, per request.
fn read(path: &Path) -> [f64; COUNTS] {
    let deadline = Instant::now() + PATIENCE;
    let text = loop {
        // The totals are written last.
        match std::fs::read_to_string(path) {
            Ok(text) if text.contains("\ntotals: ") => break text,
            _ => assert!(Instant::now() < deadline, "no totals in {}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let _ = std::fs::remove_file(path);
    let events: Vec<&str> = line(&text, "events: ", path).split(' ').collect();
    let totals: Vec<f64> =
        line(&text, "totals: ", path).split(' ').map(|total| total.parse().expect("a number")).collect();
    let of = |event| {
        let place = events.iter().position(|other| *other == event).expect("callgrind counts it");
        totals[place] / REQUESTS as f64
    };
    [of("Ir"), of("I1mr"), of("D1mr") + of("D1mw")]
}

fn line<'a>(text: &'a str, start: &str, path: &Path) -> &'a str {
    text.lines().find_map(|line| line.strip_prefix(start)).unwrap_or_else(|| panic!("no {start}in {}", path.display()))
}
