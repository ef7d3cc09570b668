//! A million random keys: bounded memory, and nobody gets anything out of it.

use crate::asking::{consumer, counted, decisions, left};
use crate::support::envoy::Envoy;
use crate::support::http::{Connection, TIMEOUT};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

const KEYS: u64 = 1_000_000;
const TRACKED: u64 = 65_536;
const SENDERS: usize = 32;

/// What the README promises for a key in the table.
const BYTES_PER_KEY: u64 = 160;

/// What is not the table: what Envoy's allocator holds in reserve, and the linear memory of the VMs. Measured on Envoy 1.40.0: the flood costs
/// 14 to 16 MiB altogether; the allocator takes and returns memory in pieces of up to 2 MiB.
const CONSTANT: u64 = 8 * 1024 * 1024;

/// How often those look who must not notice the flood.
const PROBE_EVERY: Duration = Duration::from_millis(25);

/// The flood's own client: it keeps nothing but the number of each status, because the test shares two cores with Envoy.
struct Sender {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Sender {
    fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&addr, TIMEOUT).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: vec![0; 4096] }
    }

    /// Asks with this key; the status of the answer.
    fn ask(&mut self, key: u64) -> u16 {
        let request = format!("GET / HTTP/1.1\r\nhost: allowance.test\r\nx-api-key: {key:016x}\r\n\r\n");
        self.stream.write_all(request.as_bytes()).unwrap();
        let mut filled = 0;
        loop {
            filled += match self.stream.read(&mut self.buffer[filled..]).unwrap() {
                0 => panic!("Envoy closed the connection: {:?}", String::from_utf8_lossy(&self.buffer[..filled])),
                count => count,
            };
            let text = &self.buffer[..filled];
            let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&text[..end]).unwrap();
            let length = head.split("\r\n").find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.expect("every answer has its length").parse().unwrap();
            if filled >= end + 4 + length {
                return head[9..12].parse().unwrap();
            }
        }
    }
}

/// Numbers that no two of are the same, in no order: splitmix64 is a permutation.
fn random(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The third window. A day, but for the minutes in which that would end under the test.
fn day() -> &'static str {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    if now % 86_400 > 86_400 - 900 { "3650d" } else { "day" }
}

/// What the flood did, by status, and memory along the way.
struct Flood {
    statuses: BTreeMap<u16, u64>,
    /// Resident memory in KiB at every twentieth of it.
    rss_kib: Vec<u64>,
}

fn flood(envoy: &Envoy) -> Flood {
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        let senders: Vec<_> = (0..SENDERS)
            .map(|_| {
                scope.spawn(|| {
                    let mut sender = Sender::open(envoy.addr());
                    let mut statuses: BTreeMap<u16, u64> = BTreeMap::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= KEYS {
                            return statuses;
                        }
                        *statuses.entry(sender.ask(random(number))).or_default() += 1;
                    }
                })
            })
            .collect();
        let mut rss_kib = Vec::new();
        for twentieth in 1..=20 {
            while next.load(Ordering::Relaxed) < KEYS / 20 * twentieth
                && !senders.iter().all(|sender| sender.is_finished())
            {
                thread::sleep(Duration::from_millis(20));
            }
            rss_kib.push(envoy.rss_kib());
        }
        let mut statuses = BTreeMap::new();
        for sender in senders {
            for (status, count) in sender.join().unwrap() {
                *statuses.entry(status).or_default() += count;
            }
        }
        Flood { statuses, rss_kib }
    })
}

/// What the others met meanwhile.
#[derive(Debug, Default)]
struct Probes {
    exhausted: BTreeMap<u16, u64>,
    listed: u64,
    fresh: BTreeMap<u16, u64>,
    /// What an honest newcomer's answer to its first request reports at worst: the limit, and what is left of it.
    least_left: Option<(u64, String)>,
}

/// Ends the probing also when the flood fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn ask(connection: &mut Connection, key: &str) -> crate::support::http::Response {
    connection.get("/", &[("x-api-key", key)])
}

fn probe(envoy: &Envoy, done: &AtomicBool) -> Probes {
    let mut connection = envoy.connect();
    let mut probes = Probes::default();
    let mut round = 0;
    while !done.load(Ordering::Relaxed) {
        *probes.exhausted.entry(ask(&mut connection, "exhausted").status).or_default() += 1;
        assert_eq!(ask(&mut connection, "listed").status, 200);
        probes.listed += 1;
        let fresh = ask(&mut connection, &format!("honest-{round}"));
        *probes.fresh.entry(fresh.status).or_default() += 1;
        if fresh.status == 200 {
            let (limit, remaining) = left(&fresh);
            let told = (remaining, limit);
            probes.least_left = Some(probes.least_left.map_or(told.clone(), |least| least.min(told)));
        }
        round += 1;
        thread::sleep(PROBE_EVERY);
    }
    probes
}

fn configuration(second: u64, minute: u64) -> String {
    let day = day();
    format!(
        "max_tracked_keys: {TRACKED}
unlisted: {{plan: free}}
plans:
  free:
    limits: [{{requests: {second}, per: 1s}}, {{requests: {minute}, per: 1m}}, {{name: day, requests: 1000, per: {day}, algorithm: fixed_window}}]
  pro: {{limits: [{{name: l, requests: 1000000, per: 300d}}]}}
consumers: [{}]
",
        consumer("listed", "pro", &["listed"], "")
    )
}

#[test]
fn a_million_random_keys_cost_bounded_memory_and_give_nobody_anything() {
    // Wide open at first, so that one key can use up its day within a second.
    let envoy = Envoy::with(&configuration(100_000, 100_000)).concurrency(2).ecds().start();
    let mut connection = envoy.connect();
    for _ in 0..1000 {
        assert_eq!(ask(&mut connection, "exhausted").status, 200);
    }
    let listed_before = 500;
    for _ in 0..listed_before {
        assert_eq!(ask(&mut connection, "listed").status, 200);
    }
    envoy.reconfigure(&configuration(5, 60)).unwrap();
    let denied = ask(&mut connection, "exhausted");
    assert_eq!((denied.status, denied.json()["limit"]["name"].as_str()), (429, Some("day")));
    // As many connections at once as the flood has, so that what they take is there before the flood as well.
    thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut connection = envoy.connect();
                (0..100).for_each(|_| assert_eq!(ask(&mut connection, "exhausted").status, 429));
            });
        }
    });
    let (before_kib, cpu) = (envoy.rss_kib(), envoy.cpu());
    let before = decisions(&envoy);

    let done = AtomicBool::new(false);
    let (flood, probes) = thread::scope(|scope| {
        let prober = scope.spawn(|| probe(&envoy, &done));
        let ends = Done(&done);
        let flood = flood(&envoy);
        drop(ends);
        (flood, prober.join().unwrap())
    });
    let cpu = (envoy.cpu() - cpu) / KEYS as u32;
    eprintln!("RSS {before_kib} KiB, then {:?}; {cpu:?} of Envoy a request; {probes:?}", flood.rss_kib);

    // Memory: below the bound that the README states at any time, and flat once the table is full.
    let most = flood.rss_kib.iter().max().unwrap().saturating_sub(before_kib);
    let bound = (BYTES_PER_KEY * TRACKED + CONSTANT) / 1024;
    assert!(most <= bound, "grew by {most} KiB, bound {bound} KiB: {:?}", flood.rss_kib);
    let (half, end) = (flood.rss_kib[9], flood.rss_kib[19]);
    assert!(end <= half + 1024, "grew by {} KiB over the last half: {:?}", end - half, flood.rss_kib);
    assert!(envoy.metric("allowance_tracked_keys", &[]) <= TRACKED);
    assert!(envoy.metric("allowance_tracked_keys", &[]) > TRACKED * 9 / 10, "the table is used");
    assert!(envoy.metric("allowance_evictions_total", &[]) > KEYS / 2);

    // Nobody notices: the exhausted key is denied throughout, fresh ones are admitted, the listed consumer is charged its own requests.
    let rounds = probes.listed;
    assert!(rounds > 100, "{probes:?}");
    assert_eq!(probes.exhausted, BTreeMap::from([(429, rounds)]));
    assert_eq!(probes.fresh, BTreeMap::from([(200, rounds)]));
    let listed = ask(&mut connection, "listed");
    assert_eq!(left(&listed), ("l".to_owned(), 1_000_000 - listed_before - rounds - 1));
    assert_eq!(ask(&mut connection, "exhausted").status, 429);

    // The flood's own keys are newcomers like any other; and every request of it was decided once.
    assert_eq!(flood.statuses, BTreeMap::from([(200, KEYS)]));
    let mut expected = counted(&[("allowed", KEYS + 2 * rounds + 1), ("denied", rounds + 1)]);
    for (decision, count) in before {
        *expected.entry(decision).or_default() += count;
    }
    assert_eq!(decisions(&envoy), expected);
}
