//! The ledger with limits in tokens: reserved, settled, renewed and given back alike, wherever a record is.

use crate::gate::Proxy;
use crate::tokens::bounded;
use allowance::account::Account;
use allowance::caller::Caller;
use allowance::config::Config;
use allowance::cost::{Cost, Thousandths};
use allowance::decision::Decision;
use allowance::ledger::{Clock, Ledger, Mode};
use allowance::limiter::Outcome;
use allowance::metrics::Registry;
use allowance::namespace::{Kind, Namespace};
use allowance::reservation::Reservation;
use allowance::rule::{self, Applied, Charging, Model};
use allowance::terms::Book;
use allowance::usage::Usage;
use allowance::window::Timestamp;
use std::rc::Rc;

const CONFIGURATION: &str = "
unlisted: {plan: free, address_plan: guard}
plans:
  free: {limits: [{requests: 100000, per: day}, {tokens: 1000, per: day}]}
  guard: {limits: [{tokens: 1500, per: day}]}
consumers: [{name: acme, plan: free, keys: ['sha256:0000000000000000000000000000000000000000000000000000000000000000']}]
rules:
  - {name: large, match: {model: {prefix: gpt-5}}, token_cost: 2.5, limits: [{tokens: 500, per: day, count: output}]}
  - {name: mini, match: {model: {exact: mini}}}
llm: {reservation: 60s}
";

pub(crate) struct World {
    pub(crate) host: Proxy,
    pub(crate) config: Config,
    pub(crate) ledger: Ledger,
}

/// Who calls: a listed consumer, or a key that nobody lists.
const CALLERS: [Option<u64>; 2] = [None, Some(42)];

impl World {
    pub(crate) fn new(yaml: &str) -> Self {
        let host = Proxy::new();
        let value: serde_json::Value = serde_saphyr::from_str(yaml).unwrap();
        let config = Config::parse(&serde_json::to_vec(&value).unwrap()).unwrap();
        let namespace = Namespace::open(&host, &config.namespace, config.geometry, || Some([7; 16])).unwrap();
        let mut registry = Registry::default();
        let meters = registry.meters(&host, &config.namespace);
        let ledger = Ledger::new(&config, namespace, Book::new(&config, registry, &host), meters);
        Self { host, config, ledger }
    }

    pub(crate) fn accounts(&self, hash: Option<u64>, charging: &Charging) -> (Rc<Account>, Option<Rc<Account>>) {
        let caller = match hash {
            None => {
                let (index, consumer) = self.config.consumers.by_name(b"acme").unwrap();
                Caller::Listed { index, consumer, key: None }
            }
            Some(hash) => {
                let plan = |name: &str| self.config.plans.iter().position(|plan| *plan.name == *name).unwrap();
                let guard = self.config.unlisted.unwrap().address_plan.map(|plan| (7, plan));
                Caller::Unlisted { kind: Kind::Key, hash, plan: plan("free"), guard, unknown_plan: false }
            }
        };
        self.ledger.accounts(&caller, charging).unwrap()
    }

    fn charging(&self, model: &str) -> Charging {
        let headers =
            allowance::request::Headers::decode(allowance::request::Headers::encode(&[(":path", "/")])).unwrap();
        match rule::apply(&self.config.rules, &headers, Model::Named(model.as_bytes())) {
            Applied::Charge(charging) => charging,
            Applied::Exempt => panic!("exempt"),
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.host.now().unwrap()
    }

    pub(crate) fn decide(&self, account: &Account, cost: &Cost) -> Outcome {
        self.ledger.charge(&self.host, account, cost, self.now()).unwrap().into_outcome(cost, self.now())
    }

    pub(crate) fn reserve(&self, account: &Account, cost: &Cost) -> Option<Reservation> {
        let outcome = self.decide(account, cost);
        matches!(outcome.decision, Decision::Allowed { .. }).then_some(outcome.reservation)
    }

    fn settle(&self, account: &Account, reservation: Reservation, input: u64, output: u64) {
        let usage = Usage { input, output, ..Usage::default() };
        self.ledger.settle(&self.host, account, reservation, Some(&usage), self.now()).unwrap();
    }

    /// Tokens and requests left.
    fn left(&self, account: &Account) -> Vec<u64> {
        let none = Cost { requests: 0, ..bounded(0, 0) };
        let outcome = self.ledger.decide(&self.host, account, &none, self.now(), Mode::Look).unwrap();
        let Decision::Allowed { tightest, .. } = outcome.decision else { panic!("denied") };
        let mut standings: Vec<_> = tightest.into_iter().chain(outcome.others).collect();
        standings.sort_by_key(|standing| standing.limit);
        standings.iter().map(|standing| standing.remaining).collect()
    }
}

#[test]
fn what_is_reserved_is_settled_or_given_back_wherever_the_record_is() {
    for hash in CALLERS {
        let world = World::new(CONFIGURATION);
        let (account, _) = world.accounts(hash, &Charging::default());
        assert!(account.terms.counts_tokens() && account.terms.reserves_tokens());
        let first = world.reserve(&account, &bounded(300, 300)).unwrap();
        let second = world.reserve(&account, &bounded(100, 200)).unwrap();
        assert_eq!(world.left(&account), [99_998, 100]);
        assert!(world.reserve(&account, &bounded(100, 1)).is_none(), "100 are left");
        assert_eq!(world.left(&account), [99_998, 100], "a denial charges and reserves nothing");
        world.settle(&account, first, 300, 50);
        assert_eq!(world.left(&account), [99_998, 350]);
        world.ledger.refund(&world.host, &account, &second, world.now()).unwrap();
        assert_eq!(world.left(&account), [99_999, 650], "also the request");
        let third = world.reserve(&account, &bounded(0, 650)).unwrap();
        world.ledger.settle(&world.host, &account, third, None, world.now()).unwrap();
        assert_eq!(world.left(&account), [99_998, 0], "all that was reserved, where nobody knows what it took");
    }
}

#[test]
fn the_address_of_an_unlisted_key_reserves_and_settles_too() {
    let world = World::new(CONFIGURATION);
    let (one, guard) = world.accounts(Some(1), &Charging::default());
    let (other, _) = world.accounts(Some(2), &Charging::default());
    let guard = guard.unwrap();
    let reserve = |account: &Account, cost: Cost| Some((world.reserve(&guard, &cost)?, world.reserve(account, &cost)?));
    let (of_guard, of_one) = reserve(&one, bounded(1000, 0)).unwrap();
    assert_eq!((world.left(&guard), world.left(&one)), (vec![500], vec![99_999, 0]));
    assert!(reserve(&other, bounded(501, 0)).is_none(), "another key of the same address");
    world.settle(&guard, of_guard, 100, 0);
    world.settle(&one, of_one, 100, 0);
    assert!(reserve(&other, bounded(501, 0)).is_some());
    assert_eq!((world.left(&guard), world.left(&one)), (vec![1500 - 100 - 501], vec![99_999, 900]));
}

#[test]
fn a_reservation_is_renewed_when_it_is_time_and_ends_by_itself_when_it_is_not() {
    for hash in CALLERS {
        let world = World::new(CONFIGURATION);
        let (account, _) = world.accounts(hash, &Charging::default());
        let mut kept = world.reserve(&account, &bounded(600, 0)).unwrap();
        let lost = world.reserve(&account, &bounded(300, 0)).unwrap();
        assert!(lost.renew_at().is_some());
        for second in (0..300).step_by(10) {
            world.host.at(second);
            world.ledger.renew(&world.host, &account, &mut kept, world.now()).unwrap();
            let lost = if second < 60 { 300 } else { 0 };
            assert_eq!(world.left(&account), [99_998, 400 - lost], "after {second} seconds");
        }
        world.settle(&account, kept, 1, 1);
        assert_eq!(world.left(&account), [99_998, 998]);
    }
}

/// Every way in which a response can end, ten thousand times.
#[test]
fn after_ten_thousand_responses_that_end_in_every_way_what_is_used_is_what_they_took_and_nothing_is_reserved() {
    for hash in CALLERS {
        let world = World::new(
            &CONFIGURATION
                .replace("tokens: 1000,", "tokens: 1000000000,")
                .replace("tokens: 1500,", "tokens: 1000000000,"),
        );
        let (account, _) = world.accounts(hash, &Charging::default());
        let (mut open, mut took, mut given_back) = (Vec::new(), 0, 0);
        for call in 0..10_000u64 {
            world.host.at(call / 20);
            let (input, output) = (call % 97, call % 89);
            open.push((call, world.reserve(&account, &bounded(input, output)).unwrap()));
            // Up to fifty are under way.
            if open.len() < 50 && call < 9_950 {
                continue;
            }
            let (call, mut reservation) = open.swap_remove(usize::try_from(call * 31 % 50).unwrap() % open.len());
            match call % 7 {
                0 => {
                    world.ledger.refund(&world.host, &account, &reservation, world.now()).unwrap();
                    given_back += 1;
                }
                1 => {} // its worker crashed
                2 => {
                    world.ledger.settle(&world.host, &account, reservation, None, world.now()).unwrap();
                    took += call % 97 + call % 89;
                }
                kind => {
                    world.ledger.renew(&world.host, &account, &mut reservation, world.now()).unwrap();
                    world.settle(&account, reservation, call % 101, kind);
                    took += call % 101 + kind;
                }
            }
        }
        assert!(took > 0 && given_back > 1000);
        for (_, reservation) in open {
            world.settle(&account, reservation, 0, 0);
        }
        // The crashed ones' reservations end within a minute and a half.
        world.host.at(500 + 90);
        assert_eq!(world.left(&account), [100_000 - (10_000 - given_back), 1_000_000_000 - took]);
    }
}

#[test]
fn a_models_rule_has_limits_and_a_factor_of_its_own() {
    let world = World::new(CONFIGURATION);
    let charging = world.charging("gpt-5-large");
    assert_eq!(charging.token_cost, Thousandths(2500));
    let (account, _) = world.accounts(None, &charging);
    let cost = Cost { token_cost: charging.token_cost, ..bounded(1, 100) };
    let reservation = world.reserve(&account, &cost).unwrap();
    // 252.5 of all tokens, and 250 of those written.
    assert_eq!(world.left(&account), [99_999, 1000 - 253, 500 - 250]);
    world.settle(&account, reservation, 1, 10);
    assert_eq!(world.left(&account), [99_999, 1000 - 28, 500 - 25]);
    // Another model does not meet the rule's limit, and what is used of the plan's is the same.
    let (account, _) = world.accounts(None, &world.charging("mini"));
    assert_eq!(world.left(&account), [99_999, 1000 - 28]);
}

#[test]
fn tokens_are_counted_by_plan_model_and_kind_from_configured_names_only() {
    let world = World::new(CONFIGURATION);
    let usage = Usage { input: 10, cached: 4, output: 5, reasoning: 3 };
    for (model, hash, estimated) in [
        ("gpt-5-large", None, false),
        ("gpt-5-small", None, true),
        ("mini", Some(42), false),
        ("\nwhatever;.;", None, false),
    ] {
        let (account, guard) = world.accounts(hash, &world.charging(model));
        world.ledger.count_usage(&world.host, &account, &usage, estimated);
        if let Some(guard) = guard {
            world.ledger.count_usage(&world.host, &guard, &usage, estimated);
        }
    }
    let expected = |model: &str, times: i64| {
        let kinds = [("cached", 4), ("input", 10), ("output", 5), ("reasoning", 3)];
        kinds.map(|(kind, tokens)| {
            (format!("plan=.=free;.;model=.={model};.;kind=.={kind};.;allowance_tokens_total"), tokens * times)
        })
    };
    let counted: Vec<_> = world.host.metrics("allowance_tokens_total");
    assert_eq!(counted, [expected("gpt-5*", 2), expected("mini", 1), expected("other", 1)].concat());
    let estimated = "plan=.=free;.;model=.=gpt-5*;.;allowance_estimated_responses_total".to_owned();
    assert_eq!(world.host.metrics("allowance_estimated_responses_total"), [(estimated, 1)]);
}

#[test]
fn a_configuration_without_limits_in_tokens_defines_no_metrics_of_them() {
    let names = |yaml: &str| World::new(yaml).host.defined("allowance_tokens_total");
    let plain = "plans: {free: {limits: [{requests: 5, per: 1m}]}}";
    assert_eq!(names(plain), Vec::<String>::new());
    assert_eq!(names("plans: {free: {limits: [{tokens: 5, per: 1m}]}}").len(), 4);
}

/// Nobody pays for what it does not use: no look into the record of who has no limits in tokens.
#[test]
fn settling_what_counts_no_tokens_touches_nothing() {
    let world = World::new("{plans: {free: {limits: [{requests: 5, per: 1m}]}}, unlisted: {plan: free}}");
    let (account, _) = world.accounts(Some(42), &Charging::default());
    assert!(!account.terms.counts_tokens() && !account.terms.reserves_tokens());
    let reservation = world.reserve(&account, &bounded(5, 5)).unwrap();
    assert!(!reservation.counts_tokens() && reservation.renew_at().is_none());
    let before = world.left(&account);
    world.host.at(1);
    world.settle(&account, reservation, 5, 5);
    assert_eq!(world.left(&account), before);
}

/// A table of one record: every other caller evicts whoever is there, also while its response is under way.
#[test]
fn who_is_evicted_while_a_response_is_under_way_is_charged_for_it_all_the_same() {
    let world = World::new(&format!("max_tracked_keys: 1\n{}", CONFIGURATION.replace(", address_plan: guard", "")));
    let (one, _) = world.accounts(Some(1), &Charging::default());
    let (other, _) = world.accounts(Some(2), &Charging::default());
    let mut reservation = world.reserve(&one, &bounded(600, 0)).unwrap();
    assert!(world.reserve(&other, &bounded(100, 0)).is_some()); // evicts one, whose 600 are in the floor
    assert_eq!(world.left(&one), [99_999, 400]);
    world.host.at(45);
    world.ledger.renew(&world.host, &one, &mut reservation, world.now()).unwrap(); // evicts other
    assert_eq!(world.left(&one), [99_999, 400]);
    world.host.at(70);
    world.settle(&one, reservation, 650, 0);
    assert_eq!(world.left(&one), [99_999, 350]);
}
