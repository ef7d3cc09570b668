//! Keys are secrets: neither they nor their plain hashes are anywhere but in the configuration.

use crate::support::proxy::{LogLevel, Options, SharedData};
use crate::{ABC, with};
use std::sync::Arc;

const KEYS: [&str; 3] = ["abc", "an-unlisted-key", "Bearer-of-news"];

fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[test]
fn neither_a_key_nor_its_hash_is_in_shared_data_logs_metrics_or_replies() {
    let shared = Arc::new(SharedData::default());
    let configuration = format!(
        r#"{{"partition_key": true, "denial": {{"template": "{{consumer}} {{plan}}"}}, "headers": ["ratelimit", "provider"],
            "unlisted": {{"plan": "free"}}, "plans": {{"free": {{"limits": [{{"requests": 1, "per": "1h"}}]}}}},
            "consumers": [{{"name": "acme", "plan": "free", "keys": ["{ABC}"]}}]}}"#
    );
    let mut instance = with(Options { log_level: LogLevel::Trace, ..Options::new(configuration) }, &shared);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mut statuses = Vec::new();
    for key in KEYS {
        for _ in 0..2 {
            let outcome = instance.request(&[(":path", "/"), ("x-api-key", key)]);
            statuses.push(outcome.status());
            seen.extend(outcome.logs.iter().map(|log| log.message.clone().into_bytes()));
            seen.extend(
                outcome.response_headers.lines().iter().flat_map(|(name, value)| [name.clone(), value.clone()]),
            );
            if let Some(reply) = outcome.local_reply {
                seen.extend([reply.details.into_bytes(), reply.body]);
                seen.extend(reply.headers.lines().iter().map(|(_, value)| value.clone()));
            }
        }
    }
    assert_eq!(statuses, [200, 429, 200, 429, 200, 429].map(Some));
    seen.extend(shared.dump().into_iter().flat_map(|(key, value)| [key, value]));
    seen.extend(instance.metrics().names().into_iter().map(String::into_bytes));
    seen.extend(instance.startup_logs().iter().map(|log| log.message.clone().into_bytes()));
    assert!(seen.len() > 40, "the search has something to search in");
    for key in KEYS {
        let hex = sha256(key.as_bytes());
        let raw: Vec<u8> = (0..32).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        for needle in [key.as_bytes(), hex.as_bytes(), hex.to_uppercase().as_bytes(), &raw, &raw[..8]] {
            assert!(!seen.iter().any(|bytes| contains(bytes, needle)), "{key}");
        }
    }
}

/// By the library the filter itself uses, which a core test holds against `sha256sum`.
fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
