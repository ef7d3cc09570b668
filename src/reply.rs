//! Replies: what a refused request is told.
//!
//! A gRPC caller is told by status and sentence: the proxy makes a trailers-only response of a local reply with a gRPC status, and its body
//! becomes `grpc-message`.

use crate::caller::Place;
use crate::config::{Config, Denial, Format};
use crate::counter::Wait;
use crate::decision::Standing;
use crate::headers::Families;
use crate::key::Source;
use crate::terms::Terms;
use crate::window::seconds_up;
use serde::Serialize;
use std::borrow::Cow;

/// Beyond this wait official SDKs are told not to wait (`x-should-retry: false`), in seconds.
const LONGEST_RETRY: u64 = 60;

/// What a browser may read of a denial, when it asks from another origin.
const EXPOSED: &str = "retry-after, ratelimit-policy, ratelimit, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, x-should-retry";

/// A response sent instead of the upstream's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// gRPC status for a gRPC caller (`google.rpc.Code`); others do not see it.
    pub grpc_status: i32,
    /// Response code details for access logs, without white space.
    pub details: String,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// As the form wants it.
    pub body: Vec<u8>,
}

/// How a reply is written: what the caller can read.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// Of the configuration.
    pub format: Format,
    /// Whether the caller speaks gRPC.
    pub grpc: bool,
    /// Whether the request came from a page of another origin.
    pub cross_origin: bool,
}

/// Who exceeded what: the facts a denial is made of.
#[derive(Clone, Copy, Debug)]
pub struct Exceeded<'a> {
    /// Status and sentence of the configuration.
    pub denial: &'a Denial,
    /// What the request would have been charged under.
    pub terms: &'a Terms,
    /// The limit that is reported, and how it stands.
    pub standing: Standing,
    /// Units this request would have cost.
    pub cost: u64,
    /// When it would pass.
    pub wait: Wait,
}

/// Why a request is refused that no limit denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 401: no key and no identity.
    MissingKey,
    /// 401: somebody who is not listed.
    InvalidKey,
    /// 400: more than one key.
    AmbiguousKey,
    /// 403: a consumer that is disabled.
    ConsumerDisabled,
    /// 403: a key that is disabled.
    KeyDisabled,
    /// 503: the filter could not decide.
    Unavailable,
}

#[derive(Serialize)]
struct Envelope<'a> {
    error: ErrorBody<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<LimitBody<'a>>,
}

/// The members that OpenAI's SDKs and many others read.
#[derive(Serialize)]
struct ErrorBody<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: &'a str,
}

#[derive(Serialize)]
struct LimitBody<'a> {
    name: &'a str,
    plan: &'a str,
    unit: String,
    max: u64,
    per: String,
    cost: u64,
    remaining: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
}

// === impl Reply ===

impl Reply {
    /// The denial of a request that exceeds a limit; `None` when the limit that stands so is none of the terms'.
    #[must_use]
    pub fn denial(exceeded: &Exceeded<'_>, form: Form) -> Option<Self> {
        const RESOURCE_EXHAUSTED: i32 = 8;
        let Exceeded { denial, terms, standing, cost, wait } = *exceeded;
        let limit = terms.limits.get(standing.limit)?;
        // A denied request always waits: what is left of the current second counts as a whole one.
        let retry_after = match wait {
            Wait::For(span) => Some(seconds_up(span).max(1)),
            Wait::Never => None,
        };
        let (max, per, text) = (limit.max().get(), limit.window(), &denial.message);
        let facts = if denial.expose { format!("{text}: {max} per {per}.") } else { format!("{text}.") };
        let (code, message) = match retry_after {
            Some(wait) => ("rate_limit_exceeded", format!("{facts} Retry after {wait} s.")),
            None => ("request_too_large", format!("{facts} This request alone costs {cost}.")),
        };
        let unit = limit.unit.to_string();
        let body = Envelope {
            error: ErrorBody { message: &message, r#type: &unit, param: None, code },
            limit: denial.expose.then(|| LimitBody {
                name: &limit.label,
                plan: &terms.plan,
                unit: unit.clone(),
                max,
                per: per.to_string(),
                cost,
                remaining: standing.remaining,
                retry_after,
            }),
        };
        let details = format!("allowance_over_limit{{{}}}", limit.label);
        let mut reply = Self::new(denial.status, RESOURCE_EXHAUSTED, details, &body, form);
        if let Some(wait) = retry_after {
            reply.headers.push(("retry-after", wait.to_string().into()));
        }
        let all = Families { ratelimit: true, x_ratelimit: true };
        reply.headers.extend(terms.fields(all, &standing).into_iter().map(|(name, value)| (name, value.into())));
        if retry_after.is_none_or(|wait| wait > LONGEST_RETRY) {
            reply.headers.push(("x-should-retry", "false".into()));
        }
        if form.cross_origin {
            reply.headers.push(("access-control-expose-headers", EXPOSED.into()));
        }
        Some(reply)
    }

    /// The refusal of a request that no limit denies.
    #[must_use]
    pub fn refusal(refusal: Refusal, config: &Config, form: Form) -> Self {
        const INVALID: &str = "invalid_request_error";
        let identity = config.identity.is_some();
        let (status, grpc_status, r#type, code, message): (_, _, _, _, Cow<'_, str>) = match refusal {
            Refusal::MissingKey if identity => (401, 16, INVALID, "missing_api_key", "Missing identity.".into()),
            Refusal::MissingKey => (401, 16, INVALID, "missing_api_key", missing_key(&config.sources.from).into()),
            Refusal::InvalidKey if identity => (401, 16, INVALID, "invalid_api_key", "Unknown consumer.".into()),
            Refusal::InvalidKey => (401, 16, INVALID, "invalid_api_key", "Invalid API key.".into()),
            Refusal::AmbiguousKey if identity => {
                (400, 3, INVALID, "ambiguous_api_key", "More than one identity.".into())
            }
            Refusal::AmbiguousKey => {
                (400, 3, INVALID, "ambiguous_api_key", "More than one API key. Send exactly one.".into())
            }
            Refusal::ConsumerDisabled => (403, 7, INVALID, "consumer_disabled", "This consumer is disabled.".into()),
            Refusal::KeyDisabled => (403, 7, INVALID, "consumer_disabled", "This API key is disabled.".into()),
            Refusal::Unavailable => {
                let message = "The rate limiter is unavailable. Try again.";
                (503, 14, "server_error", "limiter_unavailable", message.into())
            }
        };
        let body = Envelope { error: ErrorBody { message: &message, r#type, param: None, code }, limit: None };
        let mut reply = Self::new(status, grpc_status, format!("allowance_{code}"), &body, form);
        if status == 401 {
            reply.headers.push(("www-authenticate", challenge(config, refusal).into()));
        }
        reply
    }

    fn new(status: u16, grpc_status: i32, details: String, body: &Envelope<'_>, form: Form) -> Self {
        let text = || body.error.message.as_bytes().to_vec();
        // The proxy gives a gRPC response its content type.
        let (content_type, body) = match (form.grpc, form.format) {
            (true, _) => (None, text()),
            (false, Format::Text) => (Some("text/plain; charset=utf-8"), text()),
            // Strings and numbers: serialization cannot fail.
            (false, Format::Json) => (Some("application/json"), serde_json::to_vec(body).unwrap_or_default()),
        };
        let mut headers: Vec<(&'static str, Cow<'static, str>)> = Vec::with_capacity(12);
        headers.extend(content_type.map(|content_type| ("content-type", content_type.into())));
        headers.push(("cache-control", "no-store".into()));
        Self { status, grpc_status, details, headers, body }
    }
}

fn challenge(config: &Config, refusal: Refusal) -> &'static str {
    let in_authorization = |place: &Place| *place == Place::Header("authorization".to_owned());
    let bearer = match &config.identity {
        Some(identity) => in_authorization(&identity.consumer),
        None => config.sources.from.iter().any(|source| matches!(source, Source::Bearer(_))),
    };
    match (bearer, refusal) {
        // RFC 6750 §3: a request without credentials is told no error.
        (true, Refusal::MissingKey) => r#"Bearer realm="allowance""#,
        (true, _) => r#"Bearer realm="allowance", error="invalid_token""#,
        // RFC 9110 §15.5.2 wants a challenge, and no registered scheme means a key in a header, a query or a cookie.
        (false, _) => r#"ApiKey realm="allowance""#,
    }
}

fn missing_key(sources: &[Source]) -> String {
    let places: Vec<String> = sources
        .iter()
        .filter_map(|source| match source {
            Source::Bearer(header) => Some(format!("\"{header}: Bearer <key>\"")),
            Source::Header(header) => Some(format!("\"{header}: <key>\"")),
            Source::Query(name) => Some(format!("query parameter \"{name}\"")),
            Source::Cookie(name) => Some(format!("cookie \"{name}\"")),
            // Not for callers to send.
            Source::Metadata(_) => None,
        })
        .collect();
    if places.is_empty() {
        return "Missing API key.".to_owned();
    }
    format!("Missing API key. Send it as {}.", places.join(" or "))
}
