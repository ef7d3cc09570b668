//! The configuration language. Each fixture beside this file is one mistake: the lines that start with `#!` are the exact
//! message, the rest is the configuration. Every fixture is read in both forms.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that meets the unexpected may panic; that is what it is for"
)]

mod forms;
mod mutations;
mod valid;

use allowance::config::{Config, Mistakes};
use std::fs;
use std::path::Path;

pub(crate) fn messages(mistakes: &Mistakes) -> String {
    mistakes.0.iter().map(|mistake| format!("#! {mistake}\n")).collect()
}

#[test]
fn every_mistake_is_refused_with_its_exact_message_in_both_forms() {
    let fixtures = refused("tests/config");
    assert!(fixtures > 90, "{fixtures} fixtures");
}

#[cfg(feature = "llm")]
#[test]
fn every_mistake_about_tokens_is_refused_with_its_exact_message_in_both_forms() {
    let fixtures = refused("tests/config/llm");
    assert!(fixtures > 20, "{fixtures} fixtures");
}

#[cfg(not(feature = "llm"))]
#[test]
fn what_concerns_tokens_is_refused_and_the_module_that_knows_it_is_named() {
    assert_eq!(refused("tests/config/without-llm"), 3);
}

/// Reads every fixture of a folder; how many there are.
fn refused(folder: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut fixtures = 0;
    for file in fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        fixtures += 1;
        let text = fs::read_to_string(&file).unwrap();
        let (expected, document): (Vec<&str>, Vec<&str>) =
            text.split_inclusive('\n').partition(|line| line.starts_with("#! "));
        let (expected, document) = (expected.concat(), document.concat());
        for (form, bytes) in forms::all(&document) {
            let got = match Config::parse(&bytes) {
                Ok(config) => format!("accepted: {config:?}"),
                Err(mistakes) => messages(&mistakes),
            };
            // For whoever changes a message on purpose; the diff is then read.
            if std::env::var_os("BLESS").is_some() {
                fs::write(&file, format!("{got}{document}")).unwrap();
            } else {
                assert_eq!(got, expected, "{} as {form}", file.display());
            }
        }
    }
    fixtures
}
