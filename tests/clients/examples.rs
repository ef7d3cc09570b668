//! The examples for users, as they stand.

use crate::gateway::{Gateway, PLANS, PROVIDERS, key};
use crate::sdk::{assert_waited, python_with_sdks};
use std::process::Output;

fn run(example: &str, url: &str, key: &str, times: usize) -> Output {
    let file = format!("{}/envoy/examples/{example}", env!("CARGO_MANIFEST_DIR"));
    python_with_sdks(&file).args([url, key, &times.to_string()]).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn gateway() -> Gateway {
    Gateway::start(PROVIDERS, PLANS, &[("brief", "seconds"), ("daily", "days")], "")
}

#[test]
fn the_example_with_requests_waits_as_told_and_leaves_long_waits_to_its_caller() {
    let gateway = gateway();
    let url = format!("{}/v1/models", gateway.url());
    let brief = run("with_requests.py", &url, &key("brief"), 2);
    let said = text(&brief.stdout);
    let waiting = |wait| {
        format!(
            "200\ndenied, waiting {wait} s: Exceeded the allowed number of requests: 1 per 2s. Retry after {wait} s.\n200\n"
        )
    };
    assert!(brief.status.success() && (said == waiting(2) || said == waiting(1)), "{brief:?}");
    assert_waited(&gateway, "brief");

    let daily = run("with_requests.py", &url, &key("daily"), 2);
    assert_eq!((daily.status.code(), text(&daily.stdout)), (Some(1), "200\n".to_owned()), "{daily:?}");
    let said = text(&daily.stderr);
    assert!(said.starts_with("429: Exceeded the allowed number of requests: 1 per 300d. Retry after 259"), "{said}");
    assert_eq!(gateway.attempts().statuses("daily"), [200, 429]);
}

#[test]
fn the_example_with_openai_waits_as_told_and_leaves_long_waits_to_its_caller() {
    let gateway = gateway();
    let url = format!("{}/v1", gateway.url());
    let brief = run("with_openai.py", &url, &key("brief"), 2);
    assert!(brief.status.success(), "{brief:?}");
    assert_eq!(text(&brief.stdout), "You said: hello\nYou said: hello\n");
    assert_waited(&gateway, "brief");

    let daily = run("with_openai.py", &url, &key("daily"), 2);
    assert_eq!((daily.status.code(), text(&daily.stdout)), (Some(1), "You said: hello\n".to_owned()), "{daily:?}");
    let said = text(&daily.stderr);
    let (message, wait) = said.split_once(" That is ").unwrap_or_else(|| panic!("{said}"));
    assert!(message.contains("Exceeded the allowed number of requests: 1 per 300d. Retry after 259"), "{said}");
    assert!(["300 days, 0:00:00.", "299 days, 23:59:59."].contains(&wait.trim_end()), "{said}");
    assert_eq!(gateway.attempts().statuses("daily"), [200, 429]);
}
