//! What is measured beside each other. A variant more is a line more in [`all`].

use sha2::{Digest, Sha256};

/// The key of every request.
pub(crate) const KEY: &str = "sk-bench-4f1d9c27a3b8405e";

/// More than any run uses up.
pub(crate) const PLENTY: u64 = 1_000_000_000_000;

/// The fields that say what is left, in every spelling that a variant has.
const SAYING_WHAT_IS_LEFT: [&str; 5] =
    ["ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"];

/// One way of handling a request.
pub(crate) struct Variant {
    /// As the table names it.
    pub(crate) name: &'static str,
    /// As Envoy's configuration and statistics name it.
    pub(crate) id: &'static str,
    pub(crate) filter: Filter,
    /// What a request with the key is answered.
    pub(crate) status: u16,
    /// The fields that say what is left on that answer, all of them.
    pub(crate) fields: Vec<&'static str>,
    /// What a request without a key is answered, which tells a filter that looks from one that does not.
    pub(crate) without_key: u16,
    /// The counter that grows by one with each request: all that the name has in it.
    pub(crate) counter: Option<Vec<String>>,
}

/// The HTTP filter before the router.
pub(crate) enum Filter {
    None,
    Native,
    Wasm {
        module: Module,
        /// JSON; the empty text for modules that do not look.
        config: String,
    },
}

/// Where a module is from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Module {
    /// Assembled at run time.
    Floor,
    /// The same, counting by paths.
    FloorByPath {
        /// Bytes of a value.
        value: u64,
    },
    /// The same with the callbacks that the filter has.
    Entered,
    /// What this filter takes of the proxy, assembled at run time.
    ByHand {
        /// Of a denial.
        denies: bool,
    },
    /// The file that this variable of the environment names.
    From(&'static str),
}

/// The variants whose increases others are divided by.
pub(crate) const NONE: &str = "none";
pub(crate) const FLOOR: &str = "floor";
pub(crate) const STRAIGHTFORWARD: &str = "straightforward";
pub(crate) const NATIVE: &str = "native";

/// All variants, in the order of the table, with leases that last so long.
pub(crate) fn all(lease: &str) -> Vec<Variant> {
    const FILTER: Module = Module::From("ALLOWANCE_WASM");
    const LLM: Module = Module::From("ALLOWANCE_LLM_WASM");
    let one = format!("[{{requests: {PLENTY}, per: 1m}}]");
    let three =
        format!("[{{requests: {PLENTY}, per: 1s}}, {{requests: {PLENTY}, per: 1m}}, {{requests: {PLENTY}, per: day}}]");
    let used_up =
        format!("[{{requests: {PLENTY}, per: 1s}}, {{requests: {PLENTY}, per: 1m}}, {{requests: 1, per: 3650d}}]");
    vec![
        bare("no filter", NONE, Filter::None),
        Variant {
            fields: vec!["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"],
            counter: counter(&[NATIVE, ".http_local_rate_limit.ok"]),
            ..bare("Envoy's `local_ratelimit`, its headers on", NATIVE, Filter::Native)
        },
        bare("empty Wasm module", "empty", wasm(Module::From("ALLOWANCE_EMPTY_WASM"), String::new())),
        Variant {
            counter: counter(&["floor_requests_total"]),
            ..bare("floor module", FLOOR, wasm(Module::Floor, String::new()))
        },
        Variant {
            counter: counter(&["floor_requests_total"]),
            ..bare("floor module, entered as often as Allowance", "entered", wasm(Module::Entered, String::new()))
        },
        Variant {
            counter: counter(&["by_hand_requests_total"]),
            ..bare(
                "by hand: what a request takes of the proxy",
                "by_hand",
                wasm(Module::ByHand { denies: false }, String::new()),
            )
        },
        Variant {
            status: 429,
            without_key: 429,
            fields: SAYING_WHAT_IS_LEFT.to_vec(),
            counter: counter(&["by_hand_requests_total"]),
            ..bare(
                "by hand: what a denial takes of the proxy",
                "denied_by_hand",
                wasm(Module::ByHand { denies: true }, String::new()),
            )
        },
        straightforward("straightforward module, one limit", STRAIGHTFORWARD, "60"),
        straightforward("straightforward module, three limits", "straightforward_three", "1, 60, 86400"),
        allowance("Allowance, one limit", "one", FILTER, &listed(&one, "[]")),
        allowance("Allowance, three limits", "three", FILTER, &listed(&three, "[]")),
        allowance("Allowance, three limits, leases", "leased", FILTER, &listed(&three, &format!("[], lease: {lease}"))),
        Variant {
            fields: vec!["ratelimit", "ratelimit-policy"],
            ..allowance(
                "Allowance, three limits, `headers: [ratelimit]`",
                "fields",
                FILTER,
                &listed(&three, "[ratelimit]"),
            )
        },
        allowance("Allowance, three limits, unlisted key", "unlisted", FILTER, &unlisted(&three)),
        Variant {
            status: 429,
            fields: SAYING_WHAT_IS_LEFT.to_vec(),
            counter: counter(&["decision=.=denied;", "plan=.=denying;"]),
            ..allowance("Allowance, three limits, denied", "denying", FILTER, &listed(&used_up, "[]"))
        },
        allowance("Allowance for LLMs, three limits, none in tokens", "llm", LLM, &listed(&three, "[]")),
    ]
}

/// A filter that does not look for a key, and says nothing.
fn bare(name: &'static str, id: &'static str, filter: Filter) -> Variant {
    Variant { name, id, filter, status: 200, fields: Vec::new(), without_key: 200, counter: None }
}

/// A limiter in the straightforward way, with limits in these windows, in seconds.
fn straightforward(name: &'static str, id: &'static str, windows: &str) -> Variant {
    let config = format!("{{\"max\": {PLENTY}, \"windows\": [{windows}]}}");
    Variant {
        without_key: 401,
        counter: counter(&["straightforward_requests_total"]),
        ..bare(name, id, wasm(Module::From("ALLOWANCE_STRAIGHTFORWARD_WASM"), config))
    }
}

/// Allowance with this configuration, in which ID stands for the variant's.
fn allowance(name: &'static str, id: &'static str, module: Module, config: &str) -> Variant {
    Variant {
        without_key: 401,
        counter: counter(&["decision=.=allowed;", &format!("plan=.={id};")]),
        ..bare(name, id, wasm(module, json(&config.replace("ID", id))))
    }
}

/// The same as JSON.
fn json(yaml: &str) -> String {
    let value: serde_json::Value = serde_saphyr::from_str(yaml).expect("variants are YAML");
    value.to_string()
}

fn wasm(module: Module, config: String) -> Filter {
    Filter::Wasm { module, config }
}

fn counter(parts: &[&str]) -> Option<Vec<String>> {
    Some(parts.iter().map(|part| (*part).to_owned()).collect())
}

/// A consumer's key, with these limits.
fn listed(limits: &str, headers: &str) -> String {
    format!(
        "{{namespace: ID, api_key: {{from: [{{header: x-api-key}}]}}, plans: {{ID: {{limits: {limits}}}}}, headers: {headers}, \
         consumers: [{{name: acme, plan: ID, keys: [\"sha256:{}\"]}}]}}",
        hash(KEY)
    )
}

/// A key that no consumer lists, with these limits.
fn unlisted(limits: &str) -> String {
    format!(
        "{{namespace: ID, api_key: {{from: [{{header: x-api-key}}]}}, plans: {{ID: {{limits: {limits}}}}}, headers: [], unlisted: {{plan: ID}}}}"
    )
}

/// The hash of a key as 64 hexadecimal digits.
pub(crate) fn hash(key: &str) -> String {
    Sha256::digest(key.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Those of a response's fields that say what is left.
pub(crate) fn said(header: impl Fn(&str) -> bool) -> Vec<&'static str> {
    SAYING_WHAT_IS_LEFT.into_iter().filter(|name| header(name)).collect()
}
