//! An Envoy with the filter in front of an upstream that speaks like LLM providers. Each run of a client is a consumer of its own, so that
//! its attempts are told apart.

use crate::asking::{consumer, decisions};
use crate::support::envoy::Envoy;
use crate::support::upstream::Upstream;

/// Where the clients of the providers send their keys.
pub(crate) const PROVIDERS: &str =
    "[{bearer: authorization}, {header: x-api-key}, {header: api-key}, {header: x-goog-api-key}]";

/// Limits to meet: enough; one call, then a wait of seconds, of minutes, of days.
pub(crate) const PLANS: &str = "
  roomy: {limits: [{requests: 1000, per: 300d}]}
  seconds: {limits: [{requests: 1, per: 2s, algorithm: token_bucket}]}
  minutes: {limits: [{requests: 1, per: 90s, algorithm: token_bucket}]}
  days: {limits: [{requests: 1, per: 300d, algorithm: token_bucket}]}
";

const ACCESS_LOG: &str = "%FILTER_STATE(wasm.allowance:PLAIN)% code=%RESPONSE_CODE% at=%START_TIME(%s%3f)% \
                          after=%RESP(retry-after)% after_ms=%RESP(retry-after-ms)% retry=%REQ(x-stainless-retry-count)%";

/// The Envoy and the upstream.
pub(crate) struct Gateway {
    envoy: Envoy,
    upstream: Upstream,
}

/// One request as Envoy saw it.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    consumer: String,
    pub(crate) status: u16,
    /// When it came, in milliseconds.
    pub(crate) at: u64,
    /// The wait that it was told, in milliseconds; the more exact field counts.
    pub(crate) told: Option<u64>,
}

/// The key of a consumer.
pub(crate) fn key(consumer: &str) -> String {
    format!("sk-of-{consumer}")
}

impl Gateway {
    /// With these consumers and their plans; `more` is the rest of the configuration.
    pub(crate) fn start(sources: &str, plans: &str, consumers: &[(&str, &str)], more: &str) -> Self {
        let upstream = Upstream::start();
        let listed = consumers.iter().map(|(name, plan)| format!("  - {}\n", consumer(name, plan, &[&key(name)], "")));
        let listed: String = listed.collect();
        let configuration = format!("api_key: {{from: {sources}}}\nlog: all\nplans:{plans}consumers:\n{listed}{more}");
        let envoy = Envoy::with(&configuration)
            .clusters(&upstream.cluster("llm"))
            .routes("- {match: {prefix: /}, route: {cluster: llm}}")
            .access_log(ACCESS_LOG)
            .start();
        Self { envoy, upstream }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.envoy.addr())
    }

    /// All attempts, by the filter's own count: as many lines as it made decisions.
    pub(crate) fn attempts(&self) -> Attempts {
        let decided: u64 = decisions(&self.envoy).values().sum();
        let lines = self.envoy.access_log(usize::try_from(decided).unwrap());
        let attempts: Vec<Attempt> = lines.iter().map(|line| Attempt::read(line)).collect();
        // What was allowed reached the upstream, and nothing else did.
        let passed = attempts.iter().filter(|attempt| attempt.status == 200).count();
        assert_eq!(self.upstream.seen().len(), passed, "{lines:#?}");
        Attempts(attempts)
    }
}

impl Attempt {
    fn read(line: &str) -> Self {
        let field = |name: &str| line.split(' ').find_map(|part| part.strip_prefix(name)).unwrap_or_default();
        let number = |name: &str| field(name).parse::<u64>().ok();
        Self {
            consumer: field("consumer=").to_owned(),
            status: field("code=").parse().unwrap_or_else(|_| panic!("no status in {line}")),
            at: number("at=").unwrap_or_else(|| panic!("no time in {line}")),
            told: number("after_ms=").or(number("after=").map(|seconds| seconds * 1000)),
        }
    }
}

/// What a gateway saw.
pub(crate) struct Attempts(Vec<Attempt>);

impl Attempts {
    /// Those of one consumer, in order.
    pub(crate) fn of(&self, consumer: &str) -> Vec<Attempt> {
        let mut attempts: Vec<Attempt> =
            self.0.iter().filter(|attempt| attempt.consumer == consumer).cloned().collect();
        // They are logged when they end.
        attempts.sort_by_key(|attempt| attempt.at);
        attempts
    }

    /// The statuses of one consumer's, in order.
    pub(crate) fn statuses(&self, consumer: &str) -> Vec<u16> {
        self.of(consumer).iter().map(|attempt| attempt.status).collect()
    }

    /// Those that no consumer made.
    pub(crate) fn unauthorized(&self) -> usize {
        self.0.iter().filter(|attempt| attempt.status == 401).count()
    }
}
