//! How often clients try where every retry is denied too.

use crate::gateway::{Gateway, PROVIDERS};
use crate::sdk::{Client, Run, Script};

/// These clients number their attempts. The second call has to wait a second; its first retry costs more than what came back, and has to
/// wait three; its second one all that there is.
const RULES: &str = "rules:
  - {name: first, match: {path: {prefix: /}, headers: [{name: x-stainless-retry-count, exact: \"0\"}]}, cost: 505}
  - {name: second, match: {path: {prefix: /}, headers: [{name: x-stainless-retry-count, exact: \"1\"}]}, cost: 535}
  - {name: third, match: {path: {prefix: /}, headers: [{name: x-stainless-retry-count, exact: \"2\"}]}, cost: 1000}
";

const PLANS: &str = "
  worn: {limits: [{requests: 1000, per: 100s, algorithm: token_bucket}]}
";

#[test]
fn clients_that_retry_wait_as_told_each_time_and_give_up_after_three_attempts() {
    let clients = [
        ("python-openai", Script::Python, "openai", "chat", "openai.RateLimitError"),
        ("python-azure", Script::Python, "azure", "chat", "openai.RateLimitError"),
        ("python-anthropic", Script::Python, "anthropic", "messages", "anthropic.RateLimitError"),
        ("node-openai", Script::Node, "openai", "chat", "RateLimitError"),
        ("node-anthropic", Script::Node, "anthropic", "messages", "RateLimitError"),
    ];
    let consumers = clients.map(|(consumer, ..)| (consumer, "worn"));
    let gateway = Gateway::start(PROVIDERS, PLANS, &consumers, RULES);
    std::thread::scope(|scope| {
        for (consumer, script, name, call, class) in clients {
            let url = gateway.url();
            scope.spawn(move || {
                let came = Client { script, name }.run(&url, &[Run::new(consumer, call, 2)]);
                came.of(consumer)[0].assert_answered();
                came.last(consumer).assert_denied(class, "1000 per 100s");
            });
        }
    });
    let attempts = gateway.attempts();
    for (consumer, _) in consumers {
        assert_eq!(attempts.statuses(consumer), [200, 429, 429, 429], "{consumer}");
        let denied = &attempts.of(consumer)[1..];
        for pair in denied.windows(2) {
            let (told, waited) = (pair[0].told.unwrap(), pair[1].at - pair[0].at);
            assert!(waited + 1 >= told, "{consumer} waited {waited} ms where {told} were told");
        }
    }
}
