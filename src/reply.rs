//! Replies: what a refused request is told, with everything that is the same in every [dialect](crate::dialect).

use crate::config::Config;
use crate::dialect::{Asked, Dialect};
use crate::headers::Style;
use crate::refusal::{Exceeded, Facts, Refusal};
use std::borrow::Cow;

/// Beyond this wait official SDKs are told not to wait (`x-should-retry: false`), in seconds.
pub const LONGEST_RETRY: u64 = 60;

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
    /// As the dialect wants it.
    pub body: Vec<u8>,
}

/// How a reply is written.
#[derive(Clone, Copy, Debug)]
pub struct Form<'a> {
    /// In which dialect.
    pub dialect: &'static Dialect,
    /// What is answered.
    pub asked: &'a Asked<'a>,
}

// === impl Reply ===

impl Reply {
    /// The denial of a request that exceeds a limit, with every family of header fields that `style` has; `None` when the limit that stands so is
    /// none of the terms'.
    #[must_use]
    pub fn denial(exceeded: &Exceeded<'_>, form: Form<'_>, style: &Style) -> Option<Self> {
        let facts = exceeded.facts()?;
        let wait = facts.denied.as_ref().and_then(|denied| denied.wait);
        let mut told: Vec<(&'static str, Cow<'static, str>)> = Vec::with_capacity(16);
        if let Some(wait) = wait {
            told.push(("retry-after", wait.seconds().to_string().into()));
            told.push(("retry-after-ms", wait.milliseconds().to_string().into()));
        }
        let groups = exceeded.terms.fields(style, &exceeded.standing, exceeded.others).into_iter();
        let own = (form.dialect.fields)(&facts, form.asked);
        told.extend(groups.flat_map(|group| group.fields).chain(own).map(|(name, value)| (name, value.into())));
        if wait.is_none_or(|wait| wait.seconds() > LONGEST_RETRY) {
            told.push(("x-should-retry", "false".into()));
        }
        if form.asked.header("origin").is_some() {
            // What a browser may read, when it asks from another origin.
            let names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
            told.push(("access-control-expose-headers", names.join(", ").into()));
        }
        Some(Self::new(&facts, form, told))
    }

    /// The refusal of a request that no limit denies.
    #[must_use]
    pub fn refusal(refusal: Refusal, config: &Config, form: Form<'_>) -> Self {
        let facts = refusal.facts(config);
        let challenge = refusal.challenge(config).map(|challenge| ("www-authenticate", challenge.into()));
        let own = (form.dialect.fields)(&facts, form.asked).into_iter().map(|(name, value)| (name, value.into()));
        Self::new(&facts, form, challenge.into_iter().chain(own).collect())
    }

    fn new(facts: &Facts<'_>, form: Form<'_>, told: Vec<(&'static str, Cow<'static, str>)>) -> Self {
        let content_type = form.dialect.content_type.map(|content_type| ("content-type", content_type.into()));
        let first = content_type.into_iter().chain([("cache-control", "no-store".into())]);
        Self {
            status: facts.status,
            grpc_status: facts.grpc_status(),
            details: facts.details(),
            headers: first.chain(told).collect(),
            body: (form.dialect.body)(facts, form.asked),
        }
    }
}
