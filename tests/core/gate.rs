//! The gate as a whole, over a store and a clock of the test's own.

use crate::strategies::SECOND;
use allowance::config::Config;
use allowance::gate::{Action, Gate, Verdict};
use allowance::ledger::Clock;
use allowance::metrics::{Metric, MetricId, Metrics};
use allowance::request::{Head, Headers};
use allowance::store::memory::Memory;
use allowance::store::{HostError, SharedData, Version, Versioned, Written};
use allowance::window::Timestamp;
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// SHA-256 of the key `secret`.
pub(crate) const SECRET: &str = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";

/// 2027-01-15T08:00:00Z.
pub(crate) const START: u64 = 1_800_000_000 * SECOND;

/// A proxy with one worker.
pub(crate) struct Proxy {
    data: Memory,
    stored: RefCell<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// What the clock shows, at each look; the last stays.
    clock: RefCell<Vec<u64>>,
    headers: RefCell<Vec<(String, String)>>,
    metadata: RefCell<BTreeMap<String, String>>,
    names: RefCell<Vec<String>>,
    values: RefCell<BTreeMap<String, i64>>,
    looks: Cell<u32>,
    reads: Cell<u32>,
    /// Whether the clock cannot be read.
    pub(crate) stopped: Cell<bool>,
}

impl Proxy {
    pub(crate) fn new() -> Self {
        Self {
            data: Memory::default(),
            stored: RefCell::default(),
            clock: RefCell::new(vec![START]),
            headers: RefCell::default(),
            metadata: RefCell::default(),
            names: RefCell::default(),
            values: RefCell::default(),
            looks: Cell::default(),
            reads: Cell::default(),
            stopped: Cell::default(),
        }
    }

    pub(crate) fn gate(&self, yaml: &str) -> Gate {
        self.gate_of(&serde_saphyr::from_str(yaml).unwrap())
    }

    pub(crate) fn gate_of(&self, configuration: &Value) -> Gate {
        let config = Config::parse(&serde_json::to_vec(configuration).unwrap())
            .unwrap_or_else(|mistakes| panic!("{mistakes:?}"));
        Gate::open(config, self, || Some([7; 16])).unwrap()
    }

    pub(crate) fn at(&self, seconds: u64) {
        self.show(START + seconds * SECOND);
    }

    /// Sets the clock, in nanoseconds.
    pub(crate) fn show(&self, now: u64) {
        *self.clock.borrow_mut() = vec![now];
    }

    /// The same for each of the next looks; the last stays.
    pub(crate) fn show_in_turn(&self, times: &[u64]) {
        *self.clock.borrow_mut() = times.to_vec();
    }

    /// Everything in the shared data.
    pub(crate) fn stored(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        self.stored.borrow().clone()
    }

    /// How often the shared data was read.
    pub(crate) fn reads(&self) -> u32 {
        self.reads.get()
    }

    /// What happens to a request with these headers.
    pub(crate) fn decide(&self, gate: &Gate, headers: &[(&str, &str)]) -> Action {
        self.admit(gate, headers).action
    }

    /// The same, and what access logs can say of it.
    pub(crate) fn admit(&self, gate: &Gate, headers: &[(&str, &str)]) -> Verdict {
        *self.headers.borrow_mut() = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        gate.admit(self)
    }

    /// Status and `retry-after` of a request; 200 where it passes.
    pub(crate) fn ask(&self, gate: &Gate, key: &str, path: &str) -> (u16, Option<u64>) {
        let pairs = [(":method", "GET"), (":path", path), (":authority", "a"), ("x-api-key", key)];
        match self.decide(gate, &pairs) {
            Action::Pass(_) => (200, None),
            Action::Refuse(reply) => {
                let wait = crate::dialects::lines(&reply).find(|(name, _)| *name == "retry-after");
                (reply.status, wait.map(|(_, value)| value.parse().unwrap()))
            }
            Action::Wait(_) => panic!("it has no body"),
        }
    }

    fn admitted(&self, gate: &Gate, key: &str, path: &str, of: usize) -> usize {
        (0..of).filter(|_| self.ask(gate, key, path).0 == 200).count()
    }

    /// Names that were defined with this in them, and what was counted, in order.
    #[cfg(feature = "llm")]
    pub(crate) fn metrics(&self, name: &str) -> Vec<(String, i64)> {
        let values = self.values.borrow();
        values.iter().filter(|(known, _)| known.contains(name)).map(|(known, value)| (known.clone(), *value)).collect()
    }

    #[cfg(feature = "llm")]
    pub(crate) fn defined(&self, name: &str) -> Vec<String> {
        self.names.borrow().iter().filter(|known| known.contains(name)).cloned().collect()
    }

    pub(crate) fn metric(&self, name: &str) -> i64 {
        self.values.borrow().iter().filter(|(known, _)| known.contains(name)).map(|(_, value)| value).sum()
    }
}

impl Clock for Proxy {
    fn now(&self) -> Result<Timestamp, HostError> {
        if self.stopped.get() {
            return Err(HostError { call: "get_current_time_nanoseconds", status: 10 });
        }
        self.looks.set(self.looks.get() + 1);
        let mut clock = self.clock.borrow_mut();
        Ok(Timestamp(if clock.len() > 1 { clock.remove(0) } else { clock[0] }))
    }
}

impl Head for Proxy {
    fn headers(&self) -> Result<Headers, HostError> {
        let headers = self.headers.borrow();
        let pairs: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        Ok(Headers::decode(Headers::encode(&pairs)).unwrap())
    }

    fn metadata(&self, path: &[String]) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.metadata.borrow().get(&path.join(".")).map(|value| value.clone().into_bytes()))
    }

    fn source_address(&self) -> Result<Vec<u8>, HostError> {
        Ok(b"203.0.113.7:4711".to_vec())
    }
}

impl SharedData for Proxy {
    fn get(&self, key: &[u8]) -> Result<Versioned, HostError> {
        self.reads.set(self.reads.get() + 1);
        self.data.get(key)
    }

    fn set(&self, key: &[u8], value: &[u8], version: Version) -> Result<Written, HostError> {
        let written = self.data.set(key, value, version)?;
        if written == Written::Stored {
            self.stored.borrow_mut().insert(key.to_vec(), value.to_vec());
        }
        Ok(written)
    }
}

impl Metrics for Proxy {
    fn counter(&self, name: &str) -> Metric {
        let mut names = self.names.borrow_mut();
        names.push(name.to_owned());
        Some(MetricId(u32::try_from(names.len() - 1).unwrap()))
    }

    fn gauge(&self, name: &str) -> Metric {
        self.counter(name)
    }

    fn add(&self, metric: MetricId, by: i64) {
        *self.values.borrow_mut().entry(self.names.borrow()[metric.0 as usize].clone()).or_default() += by;
    }

    fn set_gauge(&self, metric: MetricId, value: u64) {
        self.values.borrow_mut().insert(self.names.borrow()[metric.0 as usize].clone(), i64::try_from(value).unwrap());
    }
}

/// Of a flood of denied requests few look at the record: another filter that shares the counters may give something back. Where this one does
/// all look.
#[test]
fn a_denial_is_looked_at_a_hundred_times_a_second() {
    let configuration = |max: u64, more: &str| {
        format!(
            "{more}
            plans: {{p: {{limits: [{{requests: {max}, per: 1m, algorithm: fixed_window}}]}}}}
            consumers: [{{name: acme, plan: p, keys: [{SECRET}]}}]"
        )
        .replace("\n            ", "\n")
    };
    let tokens = "rules: [{name: r, match: {path: {prefix: /chat}}, limits: [{tokens: 1, per: 1m}]}]";
    for (more, looks) in [("", 0), ("lease: 50ms", 100), (tokens, 100)] {
        if more == tokens && !cfg!(feature = "llm") {
            continue;
        }
        let proxy = Proxy::new();
        let (gate, other) = (proxy.gate(&configuration(2, more)), proxy.gate(&configuration(3, "")));
        let ask = |at: u64, times: u32| {
            proxy.show(START + at);
            let before = proxy.reads();
            let answers: Vec<_> = (0..times).map(|_| proxy.ask(&gate, "secret", "/")).collect();
            assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
            (answers[0], proxy.reads() - before)
        };
        assert_eq!(ask(0, 2), ((200, None), 2));
        assert_eq!(ask(0, 1), ((429, Some(60)), 1));
        assert_eq!(ask(9_999_999, 100), ((429, Some(60)), looks));
        assert_eq!(ask(10_000_000, 1), ((429, Some(60)), 1));
        assert_eq!(ask(19_999_999, 100), ((429, Some(60)), looks));
        assert_eq!(ask(9_999_999, 1), ((429, Some(60)), 1), "the clock was set back");
        assert_eq!(proxy.ask(&other, "secret", "/"), (200, None));
        assert_eq!(ask(20_000_000, 1), ((429, Some(60)), 1), "of another record");
        assert_eq!(ask(59 * SECOND, 1), ((429, Some(1)), 1));
        assert_eq!(ask(60 * SECOND, 2), ((200, None), 2));
    }
}

const GUARDED: &str = "
unlisted: {plan: free, address_plan: guard}
plans:
  free: {limits: [{requests: 3, per: day}]}
  guard: {limits: [{requests: 5, per: 1m, algorithm: token_bucket}]}
";

#[test]
fn an_address_gets_back_what_its_keys_were_denied() {
    let proxy = Proxy::new();
    let gate = proxy.gate(GUARDED);
    assert_eq!(proxy.admitted(&gate, "a", "/", 50), 3); // 3 of 3, and 3 of the address's 5
    assert_eq!(proxy.admitted(&gate, "b", "/", 50), 2); // 2 of 3, and 5 of 5
    assert_eq!(proxy.metric("decision=.=allowed"), 5);
    assert_eq!(proxy.metric("decision=.=denied"), 95);
}

#[test]
fn of_a_key_and_its_address_the_longer_wait_is_told() {
    let proxy = Proxy::new();
    let gate = proxy.gate(GUARDED);
    proxy.admitted(&gate, "a", "/", 3);
    proxy.admitted(&gate, "b", "/", 2);
    // The address is out for 12 seconds; key a is out until midnight, 16 hours away.
    assert_eq!(proxy.ask(&gate, "b", "/"), (429, Some(12)));
    assert_eq!(proxy.ask(&gate, "a", "/"), (429, Some(16 * 3600)));
    proxy.at(12);
    assert_eq!(proxy.ask(&gate, "b", "/"), (200, None));
}

#[test]
fn a_shadow_guard_counts_whom_it_would_have_denied() {
    let proxy = Proxy::new();
    let gate = proxy.gate(&GUARDED.replace("guard: {", "guard: {shadow: true, "));
    assert_eq!(proxy.admitted(&gate, "a", "/", 50), 3);
    assert_eq!(proxy.admitted(&gate, "b", "/", 50), 3); // the sixth at the address
    assert_eq!(proxy.metric("decision=.=allowed;.;plan=.=free"), 5);
    assert_eq!(proxy.metric("decision=.=shadow_denied;.;plan=.=guard"), 1);
    assert_eq!(proxy.metric("allowance_requests_total"), 100);
    // Without the shadow, five are what it was charged: a denied key gave back what was.
    let gate = proxy.gate(GUARDED);
    assert_eq!(proxy.ask(&gate, "c", "/").0, 429);
    proxy.at(12);
    assert_eq!(proxy.admitted(&gate, "c", "/", 5), 1);
}

/// A table of one record: every newcomer evicts whoever is there.
#[test]
fn another_rules_plan_is_no_way_around_the_floor() {
    let proxy = Proxy::new();
    let gate = proxy.gate(
        "
max_tracked_keys: 1
unlisted: {plan: free}
plans:
  free: {limits: [{name: own, requests: 10, per: day}]}
  catalog: {limits: [{name: other, requests: 10, per: day}]}
rules: [{name: models, match: {path: {prefix: /models}}, plan: catalog}]
",
    );
    assert_eq!(proxy.admitted(&gate, "a", "/", 9), 9); // 9 of 10
    assert_eq!(proxy.ask(&gate, "b", "/"), (200, None)); // evicts a
    assert_eq!(proxy.ask(&gate, "a", "/models"), (200, None)); // evicts b, and starts from the floor's 9
    assert_eq!(proxy.admitted(&gate, "a", "/", 10), 1, "nine of ten were used before");
}

#[test]
fn a_lower_rate_keeps_a_bucket_until_it_is_empty_at_that_rate() {
    let configuration = |max: u64| {
        format!(
            "
plans: {{free: {{limits: [{{name: other, requests: 1000, per: 3650d}}]}}}}
unlisted: {{plan: free}}
rules: [{{name: r, match: {{path: {{prefix: /r}}}}, limits: [{{name: b, requests: {max}, per: 1h, algorithm: token_bucket, burst: 36}}]}}]
"
        )
    };
    let proxy = Proxy::new();
    assert_eq!(proxy.admitted(&proxy.gate(&configuration(3600)), "a", "/r", 50), 36); // empty again after 36 seconds
    let slow = proxy.gate(&configuration(36)); // after an hour now
    proxy.at(60);
    assert_eq!(proxy.ask(&slow, "a", "/"), (200, None)); // carries the bucket
    assert_eq!(proxy.ask(&slow, "a", "/r"), (429, Some(40)));
}

#[test]
fn a_worker_with_an_old_clock_in_hand_looks_again() {
    let proxy = Proxy::new();
    let gate = proxy.gate("plans: {free: {limits: [{requests: 2, per: 50ms}]}}\nunlisted: {plan: free}\n");
    assert_eq!(proxy.ask(&gate, "a", "/"), (200, None));
    assert_eq!(proxy.ask(&gate, "a", "/"), (200, None)); // 2 of 2 in the window that began at START
    // A worker that read the clock a second ago, and was held up since.
    proxy.show_in_turn(&[START - SECOND, START + 1]);
    proxy.looks.set(0);
    assert_eq!(proxy.ask(&gate, "a", "/").0, 429);
    assert_eq!(proxy.looks.get(), 2);
    proxy.show(START + 2);
    assert_eq!(proxy.ask(&gate, "a", "/").0, 429, "nothing was moved into an older window");
}

#[test]
fn what_is_not_tracked_is_not_counted_as_tracked() {
    let proxy = Proxy::new();
    let gate = proxy.gate(
        "max_tracked_keys: 1\nshadow: true\nunlisted: {plan: free}\nplans: {free: {limits: [{requests: 1, per: 300d}]}}\n",
    );
    for key in ["a", "b", "c", "d", "c", "b"] {
        assert_eq!(proxy.ask(&gate, key, "/"), (200, None));
    }
    assert_eq!(proxy.metric("allowance_tracked_keys"), 1);
    assert_eq!(proxy.metric("allowance_requests_total"), 6);
}

/// The limits of both plans are charged where the readings of a path disagree.
#[test]
fn a_stricter_plan_of_a_rule_is_met_by_every_spelling_of_its_path() {
    for path in ["/expensive", "/expensive;x", "/x/%2e%2e/expensive", "/x/..;/expensive", "/%65xpensive"] {
        let proxy = Proxy::new();
        let gate = proxy.gate(
            "
unlisted: {plan: unlimited}
plans: {unlimited: {limits: []}, strict: {limits: [{requests: 2, per: day}]}}
rules: [{name: r, match: {path: {exact: /expensive}}, plan: strict}]
",
        );
        assert_eq!(proxy.admitted(&gate, "a", path, 9), 2, "{path}");
        assert_eq!(proxy.metric("allowance_requests_total"), 9, "{path}: exactly one decision each");
    }
}

#[test]
fn a_plan_named_by_an_earlier_filter_needs_no_plan_for_the_unlisted() {
    let proxy = Proxy::new();
    let gate = proxy.gate(
        "
identity: {consumer: {metadata: [f, sub]}, plan: {metadata: [f, plan]}}
plans: {gold: {limits: [{requests: 2, per: day}]}}
",
    );
    let set = |plan: &str| {
        *proxy.metadata.borrow_mut() =
            [("f.sub".to_owned(), "alice".to_owned()), ("f.plan".to_owned(), plan.to_owned())].into();
    };
    set("gold");
    assert_eq!(proxy.admitted(&gate, "", "/", 5), 2);
    set("silver");
    assert_eq!(proxy.ask(&gate, "", "/").0, 401);
    proxy.metadata.borrow_mut().clear();
    assert_eq!(proxy.ask(&gate, "", "/").0, 401);
}
