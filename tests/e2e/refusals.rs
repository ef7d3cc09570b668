//! Configurations with mistakes: refused at start and in validation, with our message in front of Envoy's.

use crate::support::envoy::{Envoy, Form};
use crate::unlisted;

const MESSAGE: &str = r#"configuration refused: plans.free.limits[0].per: expected a duration like "1m" or a word like day, got "1 minute""#;

/// Our message is in the log, and the next line that is not ours says what Envoy makes of it.
pub(crate) fn assert_right_before_envoys(log: &str, message: &str) {
    let mut lines = log.lines().skip_while(|line| !line.contains(message)).skip_while(|line| line.contains("wasm log"));
    let next = lines.next().unwrap_or_else(|| panic!("no {message:?} in\n{log}"));
    assert!(next.contains("Wasm") || next.contains("wasm"), "{next}\nin\n{log}");
}

#[test]
fn a_mistake_ends_the_start_of_envoy_with_our_message() {
    for form in [Form::Struct, Form::Json] {
        let exit = Envoy::with(&unlisted("[{requests: 5, per: 1 minute}]")).form(form).try_start().unwrap_err();
        assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
        assert_right_before_envoys(&exit.log, MESSAGE);
    }
}

#[test]
fn validation_finds_a_mistake_without_a_start() {
    let exit = Envoy::with(&unlisted("[{requests: 5, per: 1 minute}]")).validate();
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert_right_before_envoys(&exit.log, MESSAGE);
    let exit = Envoy::with(&unlisted("[{requests: 5, per: 1m}]")).validate();
    assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
}

#[test]
fn no_configuration_at_all_is_a_mistake() {
    let exit = Envoy::with("").form(Form::Absent).validate();
    assert_eq!(exit.status.code(), Some(1));
    assert_right_before_envoys(&exit.log, "configuration refused: expected a configuration, got nothing");
}

/// What Envoy's own YAML loader makes of numbers and words.
#[test]
fn large_numbers_pass_through_envoys_yaml_and_its_booleans_are_told() {
    let exit = Envoy::with(&unlisted("[{requests: 1000000000000000, per: month}]")).validate();
    assert_eq!(exit.status.code(), Some(0), "{}", exit.log);
    let exit = Envoy::with(&format!("namespace: on\n{}", unlisted("[]"))).validate();
    assert_eq!(exit.status.code(), Some(1), "{}", exit.log);
    assert_right_before_envoys(&exit.log, "configuration refused: namespace: expected a name");
    assert!(exit.log.contains("got true: quote it"), "{}", exit.log);
}
