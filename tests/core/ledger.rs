//! The ledger: charged and given back alike, wherever a record is.

use crate::gate::Proxy;
use allowance::account::Account;
use allowance::caller::Caller;
use allowance::config::Config;
use allowance::cost::Cost;
use allowance::decision::Decision;
use allowance::ledger::{Clock, Ledger, Mode};
use allowance::metrics::Registry;
use allowance::namespace::{Kind, Namespace};
use allowance::rule::Charging;
use allowance::terms::Book;

const CONFIGURATION: &str = r#"{"unlisted": {"plan": "five"}, "plans": {"five": {"limits": [{"requests": 5, "per": "day"}]}},
    "consumers": [{"name": "acme", "plan": "five", "keys": ["sha256:0000000000000000000000000000000000000000000000000000000000000000"]}]}"#;

/// What a worker makes of a configuration.
pub(crate) fn open(host: &Proxy, configuration: &str) -> (Config, Ledger) {
    let config = Config::parse(configuration.as_bytes()).unwrap();
    let namespace = Namespace::open(host, &config.namespace, config.geometry, || Some([7; 16])).unwrap();
    let mut registry = Registry::default();
    let meters = registry.meters(host, &config.namespace);
    let ledger = Ledger::new(&config, namespace, Book::new(&config, registry, host), meters);
    (config, ledger)
}

fn unlisted(hash: u64) -> Caller<'static> {
    Caller::Unlisted { kind: Kind::Key, hash, plan: 0, guard: None, unknown_plan: false }
}

#[test]
fn what_was_charged_is_given_back_to_a_listed_consumer_and_to_a_key_in_the_table() {
    let host = Proxy::new();
    let (config, ledger) = open(&host, CONFIGURATION);
    let now = host.now().unwrap();
    let remaining = |account: &Account| match ledger
        .decide(&host, account, &Cost::requests(1), now, Mode::Look)
        .unwrap()
        .decision
    {
        // A look tells what would be left.
        Decision::Allowed { tightest: Some(standing), .. } => standing.remaining + 1,
        decision => panic!("{decision:?}"),
    };
    let (index, consumer) = config.consumers.by_name(b"acme").unwrap();
    let listed = Caller::Listed { index, consumer, key: None };
    for caller in [listed, unlisted(42)] {
        let (account, _) = ledger.accounts(&caller, &Charging::default()).unwrap();
        let charge = |cost| ledger.charge(&host, &account, &cost, now).unwrap().into_outcome(&cost, now);
        charge(Cost::requests(1)); // 1 of 5 used
        let charged = charge(Cost::requests(3)); // 4 of 5 used
        assert_eq!(remaining(&account), 1, "{caller}");
        ledger.refund(&host, &account, &charged.reservation, now).unwrap(); // 1 of 5 used
        assert_eq!(remaining(&account), 4, "{caller}");
    }
}

/// In a table of one record.
#[test]
fn a_newcomer_is_denied_by_the_floor_only_if_its_request_would_pass_with_nothing_used() {
    let host = Proxy::new();
    let configuration = CONFIGURATION.replacen('{', r#"{"max_tracked_keys": 1, "#, 1);
    let (_, ledger) = open(&host, &configuration);
    let now = host.now().unwrap();
    let passes = |hash, cost| {
        let (account, _) = ledger.accounts(&unlisted(hash), &Charging::default()).unwrap();
        let cost = Cost::requests(cost);
        let outcome = ledger.charge(&host, &account, &cost, now).unwrap().into_outcome(&cost, now);
        matches!(outcome.decision, Decision::Allowed { .. })
    };
    assert!(!passes(1, 6), "6 of 5");
    assert_eq!(host.metric("allowance_floor_denied_total"), 0);
    assert!(passes(2, 4));
    assert!(passes(3, 1), "it takes the place of 2, whose 4 are the floor then");
    assert!(!passes(4, 2), "2 above the floor's 4 of 5");
    assert_eq!(host.metric("allowance_floor_denied_total"), 1);
    assert!(!passes(4, 6));
    assert_eq!(host.metric("allowance_floor_denied_total"), 1);
}
