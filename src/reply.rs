//! Replies: what a refused request is told.

use crate::counter::Wait;
use crate::decision::Standing;
use crate::headers;
use crate::key::{Source, Sources};
use crate::plan::Limit;
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
    /// Response code details for access logs, without white space.
    pub details: String,
    /// Names in lower case, and values.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// JSON.
    pub body: Vec<u8>,
}

/// Who exceeded what: the facts a denial is made of.
#[derive(Clone, Copy, Debug)]
pub struct Exceeded<'a> {
    /// HTTP status and sentence of the configuration.
    pub denial: &'a crate::config::Denial,
    /// Name of the caller's plan.
    pub plan: &'a str,
    /// The caller's limits as a `RateLimit-Policy`.
    pub policy: &'a str,
    /// The limit that is reported.
    pub limit: &'a Limit,
    /// How it stands.
    pub standing: Standing,
    /// Units this request would have cost.
    pub cost: u64,
    /// When it would pass.
    pub wait: Wait,
    /// Whether the request came from a page of another origin.
    pub cross_origin: bool,
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
    /// The denial of a request that exceeds a limit.
    #[must_use]
    pub fn denial(exceeded: &Exceeded<'_>) -> Self {
        let Exceeded { denial, plan, policy, limit, standing, cost, wait, cross_origin } = *exceeded;
        // A denied request always waits: what is left of the current nanosecond's second counts as a whole one.
        let retry_after = match wait {
            Wait::For(span) => Some(seconds_up(span).max(1)),
            Wait::Never => None,
        };
        let (max, per, text) = (limit.max().get(), limit.window(), &denial.message);
        let (code, message) = match retry_after {
            Some(wait) => ("rate_limit_exceeded", format!("{text}: {max} per {per}. Retry after {wait} s.")),
            None => ("request_too_large", format!("{text}: {max} per {per}. This request alone costs {cost}.")),
        };
        let unit = limit.unit.to_string();
        let body = Envelope {
            error: ErrorBody { message: &message, r#type: &unit, param: None, code },
            limit: Some(LimitBody {
                name: &limit.name,
                plan,
                unit: unit.clone(),
                max,
                per: per.to_string(),
                cost,
                remaining: standing.remaining,
                retry_after,
            }),
        };
        let mut reply = Self::json(denial.status, format!("allowance_over_limit{{{}}}", limit.name), &body);
        if let Some(wait) = retry_after {
            reply.headers.push(("retry-after", wait.to_string().into()));
        }
        reply.headers.extend([
            ("ratelimit-policy", Cow::Owned(policy.to_owned())),
            ("ratelimit", headers::ratelimit(limit, &standing).into()),
            ("x-ratelimit-limit", limit.capacity().to_string().into()),
            ("x-ratelimit-remaining", standing.remaining.to_string().into()),
            ("x-ratelimit-reset", seconds_up(standing.reset).to_string().into()),
        ]);
        if retry_after.is_none_or(|wait| wait > LONGEST_RETRY) {
            reply.headers.push(("x-should-retry", "false".into()));
        }
        if cross_origin {
            reply.headers.push(("access-control-expose-headers", EXPOSED.into()));
        }
        reply
    }

    /// 401: no key, or only empty ones.
    #[must_use]
    pub fn missing_api_key(sources: &Sources) -> Self {
        let places: Vec<String> = sources.from.iter().map(place).collect();
        let message = format!("Missing API key. Send it as {}.", places.join(" or "));
        Self::unauthorized("missing_api_key", &message, sources)
    }

    /// 401: a key that no consumer lists, where those are not let in.
    #[must_use]
    pub fn invalid_api_key(sources: &Sources) -> Self {
        Self::unauthorized("invalid_api_key", "Invalid API key.", sources)
    }

    /// 400: more than one key.
    #[must_use]
    pub fn ambiguous_api_key() -> Self {
        Self::error(400, "invalid_request_error", "ambiguous_api_key", "More than one API key. Send exactly one.")
    }

    /// 503: the filter could not decide.
    #[must_use]
    pub fn limiter_unavailable() -> Self {
        Self::error(503, "server_error", "limiter_unavailable", "The rate limiter is unavailable. Try again.")
    }

    fn unauthorized(code: &str, message: &str, sources: &Sources) -> Self {
        let bearer = sources.from.iter().any(|source| matches!(source, Source::Bearer(_)));
        let challenge = match (bearer, code) {
            // RFC 6750 §3: a request without credentials is told no error.
            (true, "missing_api_key") => r#"Bearer realm="allowance""#,
            (true, _) => r#"Bearer realm="allowance", error="invalid_token""#,
            // RFC 9110 §15.5.2 wants a challenge, and no registered scheme means a key in a header, a query or a cookie.
            (false, _) => r#"ApiKey realm="allowance""#,
        };
        let mut reply = Self::error(401, "invalid_request_error", code, message);
        reply.headers.push(("www-authenticate", challenge.into()));
        reply
    }

    fn error(status: u16, r#type: &str, code: &str, message: &str) -> Self {
        let body = Envelope { error: ErrorBody { message, r#type, param: None, code }, limit: None };
        Self::json(status, format!("allowance_{code}"), &body)
    }

    fn json(status: u16, details: String, body: &Envelope<'_>) -> Self {
        let headers = vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
        // Strings and numbers: serialization cannot fail.
        Self { status, details, headers, body: serde_json::to_vec(body).unwrap_or_default() }
    }
}

fn place(source: &Source) -> String {
    match source {
        Source::Bearer(header) => format!("\"{header}: Bearer <key>\""),
        Source::Header(header) => format!("\"{header}: <key>\""),
        Source::Query(name) => format!("query parameter \"{name}\""),
        Source::Cookie(name) => format!("cookie \"{name}\""),
    }
}
