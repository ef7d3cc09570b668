//! The configuration language: its objects, fields and the values they take. What they mean together is in [`super`].

use super::denial::{FormatSpec, Fraction, TemplateText};
use super::reader::{Entries, Field, Grammar, Items, OfTokens, object, words};
use super::values::{
    BytesPerToken, CookieName, Generation, HeaderName, HeaderValue, HexHash, Host, LeaseTime, Lifetime, Message,
    MetadataKey, Method, ModelName, Name, ParameterName, Path, Per, Shares, Size, Status, Statuses, Suffix, TokenCost,
    Tokens, TrackedKeys, Units, Weight,
};
use crate::key::KeyHash;
#[cfg(test)]
use schemars::JsonSchema;

/// What the reader has to know of this language besides its types.
pub(super) const GRAMMAR: Grammar = Grammar { is_secret };

/// Whether a key, or its hash, may stand at a path by mistake.
fn is_secret(path: &str) -> bool {
    let consumer = path == "consumers" || (path.starts_with("consumers[") && !path.as_bytes().contains(&b'.'));
    let key = path.as_bytes().windows(5).any(|part| part == b".keys")
        && ![".name", ".disabled"].iter().any(|field| path.ends_with(field));
    consumer || key
}

object! {
    /// The whole configuration.
    #[cfg_attr(test, schemars(extend("required" = ["plans"])))]
    pub(super) struct Configuration<'a> {
        pub(super) namespace: Field<Name>,
        pub(super) api_key: Field<ApiKeySpec>,
        pub(super) identity: Field<IdentitySpec>,
        pub(super) unlisted: Field<UnlistedSpec>,
        pub(super) anonymous: Field<AnonymousSpec>,
        pub(super) plans: Field<Entries<PlanSpec>>,
        pub(super) consumers: Field<Items<'a, ConsumerSpec>>,
        pub(super) rules: Field<Vec<Field<RuleSpec>>>,
        pub(super) denial: Field<DenialSpec>,
        pub(super) headers: Field<Vec<Field<HeaderFamily>>>,
        pub(super) partition_key: Field<bool>,
        pub(super) preflight: Field<PreflightSpec>,
        pub(super) shadow: Field<bool>,
        pub(super) failure_mode: Field<FailureModeSpec>,
        pub(super) share: Field<ShareSpec>,
        pub(super) max_tracked_keys: Field<TrackedKeys>,
        pub(super) metrics: Field<MetricsSpec>,
        pub(super) log: Field<LogSpec>,
        pub(super) lease: Field<LeaseTime>,
        pub(super) llm: Field<OfTokens<LlmSpec>>,
    }
}

object! {
    /// Where API keys are looked for.
    pub(super) struct ApiKeySpec {
        pub(super) from: Field<Vec<Field<SourceSpec>>>,
        pub(super) several: Field<SeveralSpec>,
    }
}

object! {
    /// Exactly one of its fields.
    #[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
    pub(super) struct SourceSpec {
        pub(super) bearer: Field<HeaderName>,
        pub(super) header: Field<HeaderName>,
        pub(super) query: Field<ParameterName>,
        pub(super) cookie: Field<CookieName>,
        pub(super) metadata: Field<Vec<Field<MetadataKey>>>,
    }
}

words! {
    pub(super) enum SeveralSpec {
        Refuse = "refuse",
        First = "first",
    }
}

object! {
    /// Who an earlier filter says that the caller is.
    #[cfg_attr(test, schemars(extend("required" = ["consumer"])))]
    pub(super) struct IdentitySpec {
        pub(super) consumer: Field<PlaceSpec>,
        pub(super) plan: Field<PlaceSpec>,
    }
}

object! {
    /// Exactly one of its fields.
    #[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
    pub(super) struct PlaceSpec {
        pub(super) metadata: Field<Vec<Field<MetadataKey>>>,
        pub(super) header: Field<HeaderName>,
    }
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["plan"])))]
    pub(super) struct UnlistedSpec {
        pub(super) plan: Field<Name>,
        pub(super) address_plan: Field<Name>,
    }
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["plan"])))]
    pub(super) struct AnonymousSpec {
        pub(super) plan: Field<Name>,
    }
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["limits"])))]
    pub(super) struct PlanSpec {
        pub(super) limits: Field<Vec<Field<LimitSpec>>>,
        pub(super) shadow: Field<bool>,
    }
}

object! {
    /// At most so many units per window: requests or tokens.
    #[cfg_attr(test, schemars(extend("required" = ["per"], "oneOf" = [{"required": ["requests"]}, {"required": ["tokens"]}])))]
    pub(super) struct LimitSpec {
        pub(super) name: Field<Name>,
        pub(super) requests: Field<Units>,
        pub(super) tokens: Field<OfTokens<Units>>,
        pub(super) count: Field<OfTokens<CountSpec>>,
        pub(super) weights: Field<OfTokens<WeightsSpec>>,
        pub(super) reserve: Field<OfTokens<bool>>,
        pub(super) per: Field<Per>,
        pub(super) algorithm: Field<AlgorithmSpec>,
        pub(super) burst: Field<Units>,
        pub(super) shadow: Field<bool>,
    }
}

words! {
    pub(super) enum CountSpec {
        Total = "total",
        Input = "input",
        Output = "output",
    }
}

object! {
    /// What a token counts.
    pub(super) struct WeightsSpec {
        pub(super) input: Field<Weight>,
        pub(super) cached: Field<Weight>,
        pub(super) output: Field<Weight>,
        pub(super) reasoning: Field<Weight>,
    }
}

words! {
    pub(super) enum AlgorithmSpec {
        SlidingWindow = "sliding_window",
        FixedWindow = "fixed_window",
        TokenBucket = "token_bucket",
    }
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["name", "plan"])))]
    pub(super) struct ConsumerSpec {
        pub(super) name: Field<Name>,
        pub(super) plan: Field<Name>,
        pub(super) keys: Field<Vec<Field<KeySpec>>>,
        pub(super) limits: Field<Vec<Field<LimitSpec>>>,
        pub(super) disabled: Field<bool>,
        pub(super) generation: Field<Generation>,
    }
}

/// A key of a consumer: its hash alone, or with more to say about it.
#[derive(Debug)]
pub(super) enum KeySpec {
    Hash(KeyHash),
    Named(NamedKeySpec),
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["sha256"])))]
    pub(super) struct NamedKeySpec {
        pub(super) sha256: Field<HexHash>,
        pub(super) name: Field<Name>,
        pub(super) disabled: Field<bool>,
    }
}

object! {
    /// What applies to some requests only.
    #[cfg_attr(test, schemars(extend("required" = ["name", "match"])))]
    pub(super) struct RuleSpec {
        pub(super) name: Field<Name>,
        pub(super) r#match: Field<MatchSpec>,
        pub(super) exempt: Field<bool>,
        pub(super) cost: Field<Units>,
        pub(super) token_cost: Field<OfTokens<TokenCost>>,
        pub(super) plan: Field<Name>,
        pub(super) limits: Field<Vec<Field<LimitSpec>>>,
        pub(super) format: Field<FormatSpec>,
    }
}

object! {
    /// All of its fields.
    pub(super) struct MatchSpec {
        pub(super) path: Field<PathSpec>,
        pub(super) methods: Field<Vec<Field<Method>>>,
        pub(super) hosts: Field<Vec<Field<Host>>>,
        pub(super) headers: Field<Vec<Field<HeaderMatchSpec>>>,
        pub(super) model: Field<OfTokens<ModelSpec>>,
    }
}

object! {
    /// Exactly one of its fields.
    #[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
    pub(super) struct ModelSpec {
        pub(super) exact: Field<ModelName>,
        pub(super) prefix: Field<ModelName>,
    }
}

object! {
    /// Exactly one of its fields.
    #[cfg_attr(test, schemars(extend("minProperties" = 1, "maxProperties" = 1)))]
    pub(super) struct PathSpec {
        pub(super) exact: Field<Path>,
        pub(super) prefix: Field<Path>,
        pub(super) suffix: Field<Suffix>,
    }
}

object! {
    /// A header and one of the other fields.
    #[cfg_attr(test, schemars(extend("required" = ["name"], "minProperties" = 2, "maxProperties" = 2)))]
    pub(super) struct HeaderMatchSpec {
        pub(super) name: Field<HeaderName>,
        pub(super) exact: Field<HeaderValue>,
        pub(super) prefix: Field<HeaderValue>,
        pub(super) present: Field<bool>,
    }
}

object! {
    pub(super) struct DenialSpec {
        pub(super) status: Field<Status>,
        pub(super) format: Field<FormatSpec>,
        pub(super) message: Field<Message>,
        pub(super) template: Field<TemplateText>,
        pub(super) members: Field<Entries<TemplateText>>,
        pub(super) retry_jitter: Field<Fraction>,
        pub(super) expose: Field<bool>,
    }
}

words! {
    pub(super) enum HeaderFamily {
        Ratelimit = "ratelimit",
        XRatelimit = "x-ratelimit",
        Provider = "provider",
    }
}

words! {
    pub(super) enum PreflightSpec {
        Exempt = "exempt",
        Count = "count",
    }
}

words! {
    pub(super) enum FailureModeSpec {
        Allow = "allow",
        Deny = "deny",
    }
}

object! {
    #[cfg_attr(test, schemars(extend("required" = ["of"])))]
    pub(super) struct ShareSpec {
        pub(super) of: Field<Shares>,
    }
}

object! {
    pub(super) struct MetricsSpec {
        pub(super) consumers: Field<bool>,
    }
}

words! {
    pub(super) enum LogSpec {
        Denied = "denied",
        All = "all",
    }
}

object! {
    /// How bodies are read: what models and limits in tokens need of requests and responses.
    pub(super) struct LlmSpec {
        pub(super) max_body: Field<Size>,
        pub(super) model_header: Field<HeaderName>,
        pub(super) bytes_per_token: Field<BytesPerToken>,
        pub(super) default_input: Field<Tokens>,
        pub(super) default_output: Field<Tokens>,
        pub(super) ask_for_usage: Field<bool>,
        pub(super) refund: Field<Vec<Field<Statuses>>>,
        pub(super) reservation: Field<Lifetime>,
    }
}
