//! Who is calling: a listed consumer, somebody who is not listed, or nobody that can be told.

use crate::address;
use crate::config::Config;
use crate::consumer::{Consumer, ListedKey};
use crate::key::Found;
use crate::namespace::{Kind, Namespace};
use crate::request::{Head, Request};
use crate::rule;
use crate::store::HostError;
use std::fmt;

/// Where an earlier, trusted filter says who the caller is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Where the consumer's name is.
    pub consumer: Place,
    /// Where the name of its plan is, for consumers that the configuration does not list.
    pub plan: Option<Place>,
}

/// Where a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In dynamic metadata: the namespace of the filter that set it, then keys.
    Metadata(Vec<String>),
    /// In a header, which that filter must set or remove on every request.
    Header(String),
}

/// A caller that has a plan.
#[derive(Clone, Debug)]
pub enum Caller<'c> {
    /// A listed consumer.
    Listed {
        /// Its index in the configuration.
        index: usize,
        /// It.
        consumer: &'c Consumer,
        /// The key that it used, if it did.
        key: Option<&'c ListedKey>,
    },
    /// Somebody who is not listed, known by a keyed hash.
    Unlisted {
        /// What it is known by.
        kind: Kind,
        /// The hash.
        hash: u64,
        /// Index of its plan.
        plan: usize,
        /// Hash of its client's address and index of the plan which that is charged under as well.
        guard: Option<(u64, usize)>,
        /// An earlier filter named a plan that does not exist.
        unknown_plan: bool,
    },
}

/// The answer to who is calling.
#[derive(Clone, Debug)]
pub enum Who<'c> {
    /// Somebody with a plan.
    Caller(Caller<'c>),
    /// A browser's preflight request, which never carries a key.
    Preflight,
    /// No key and no identity.
    Missing,
    /// An empty key: no reason to take its sender for somebody who sends none.
    Empty,
    /// More than one.
    Ambiguous,
    /// Somebody who is not listed, where those are refused.
    Unknown,
    /// A consumer that is disabled.
    Disabled {
        /// The consumer's index.
        index: usize,
        /// Whether it is its key alone that is disabled.
        key: bool,
    },
}

/// Finds out who is calling with what was `found` where keys may be, and the listed key that it is.
///
/// # Errors
/// When the host refuses to tell.
#[inline(never)]
pub fn by_key<'c>(
    config: &'c Config,
    namespace: &Namespace,
    (found, listed): (Found<'_>, Option<u32>),
    request: &Request<'_, impl Head>,
) -> Result<Who<'c>, HostError> {
    let key = match found {
        Found::Key(key) => key,
        Found::Missing => return nameless(config, namespace, request),
        Found::Empty => return Ok(Who::Empty),
        Found::Ambiguous => return Ok(Who::Ambiguous),
    };
    match listed.and_then(|index| config.consumers.key(index)) {
        Some((index, consumer, listed)) if consumer.disabled || listed.disabled => {
            Ok(Who::Disabled { index, key: !consumer.disabled })
        }
        Some((index, consumer, listed)) => Ok(Who::Caller(Caller::Listed { index, consumer, key: Some(listed) })),
        None => unlisted(config, namespace, request, Kind::Key, key.as_bytes(), None),
    }
}

/// Somebody without a key or a name.
fn nameless<'c>(
    config: &'c Config,
    namespace: &Namespace,
    request: &Request<'_, impl Head>,
) -> Result<Who<'c>, HostError> {
    if config.exempt_preflights && rule::is_preflight(request.headers()?) {
        return Ok(Who::Preflight);
    }
    let Some(plan) = config.anonymous else {
        return Ok(Who::Missing);
    };
    let hash = namespace.hash(Kind::Address, &address::network(&request.host().source_address()?));
    let (kind, guard) = (Kind::Address, None);
    Ok(Who::Caller(Caller::Unlisted { kind, hash, plan, guard, unknown_plan: false }))
}

/// Finds out who is calling by what an earlier filter says.
///
/// # Errors
/// When the host refuses to tell.
#[inline(never)]
pub fn by_identity<'c>(
    config: &'c Config,
    namespace: &Namespace,
    identity: &Identity,
    request: &Request<'_, impl Head>,
) -> Result<Who<'c>, HostError> {
    let Some(name) = identity.consumer.read(request)? else {
        return nameless(config, namespace, request);
    };
    let plan = identity.plan.as_ref().map(|place| place.read(request)).transpose()?.flatten();
    // As with keys, a comma in a header is a repetition.
    let repeated = |place: &Place, value: &[u8]| matches!(place, Place::Header(_)) && value.contains(&b',');
    if repeated(&identity.consumer, &name)
        || identity.plan.as_ref().zip(plan.as_ref()).is_some_and(|(place, plan)| repeated(place, plan))
    {
        return Ok(Who::Ambiguous);
    }
    match config.consumers.by_name(&name) {
        Some((index, consumer)) if consumer.disabled => Ok(Who::Disabled { index, key: false }),
        Some((index, consumer)) => Ok(Who::Caller(Caller::Listed { index, consumer, key: None })),
        None => unlisted(config, namespace, request, Kind::Identity, &name, plan.as_deref()),
    }
}

/// `plan`: the name that an earlier filter gave.
fn unlisted<'c>(
    config: &Config,
    namespace: &Namespace,
    request: &Request<'_, impl Head>,
    kind: Kind,
    id: &[u8],
    plan: Option<&[u8]>,
) -> Result<Who<'c>, HostError> {
    let named = plan.and_then(|name| config.plans.iter().position(|plan| plan.name.as_bytes() == name));
    let Some(plan_index) = named.or(config.unlisted.map(|unlisted| unlisted.plan)) else {
        return Ok(Who::Unknown);
    };
    let guard = match config.unlisted.and_then(|unlisted| unlisted.address_plan) {
        Some(guard) => {
            let network = address::network(&request.host().source_address()?);
            Some((namespace.hash(Kind::Guard, &network), guard))
        }
        None => None,
    };
    let unknown_plan = plan.is_some() && named.is_none();
    let hash = namespace.hash(kind, id);
    Ok(Who::Caller(Caller::Unlisted { kind, hash, plan: plan_index, guard, unknown_plan }))
}

// === impl Place ===

impl Place {
    /// The value; one that is empty is absent.
    fn read(&self, request: &Request<'_, impl Head>) -> Result<Option<Vec<u8>>, HostError> {
        let value = match self {
            Self::Metadata(path) => request.host().metadata(path)?,
            Self::Header(name) => {
                let values: Vec<&[u8]> = request.headers()?.values(name).collect();
                (!values.is_empty()).then(|| values.join(&b',').trim_ascii().to_vec())
            }
        };
        Ok(value.filter(|value| !value.is_empty()))
    }
}

// === impl Caller ===

impl Caller<'_> {
    /// The name of the key that it used, if that has one.
    #[must_use]
    pub fn key_name(&self) -> Option<&str> {
        match self {
            Self::Listed { key, .. } => key.and_then(|key| key.name.as_deref()),
            Self::Unlisted { .. } => None,
        }
    }

    /// What tells this caller apart from others where callers can read it (`pk`).
    #[must_use]
    pub fn partition(&self, namespace: &Namespace) -> u64 {
        match self {
            Self::Listed { consumer, .. } => namespace.hash(Kind::Told, consumer.name.as_bytes()),
            // No consumer is called so.
            Self::Unlisted { hash, .. } => namespace.hash(Kind::Told, format!(":{hash}").as_bytes()),
        }
    }

    /// What this caller is told as its own name: the consumer's, or the kind and 12 digits of its partition key. Access logs have other
    /// digits, for those say where in the table it is.
    #[must_use]
    pub fn told(&self, namespace: &Namespace) -> String {
        match self {
            Self::Listed { consumer, .. } => consumer.name.to_string(),
            Self::Unlisted { kind, .. } => named(*kind, self.partition(namespace)),
        }
    }
}

/// As access logs name it: a listed consumer, or the kind and the first 12 digits of the keyed hash.
impl fmt::Display for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listed { consumer, .. } => f.write_str(&consumer.name),
            Self::Unlisted { kind, hash, .. } => f.write_str(&named(*kind, *hash)),
        }
    }
}

fn named(kind: Kind, hash: u64) -> String {
    let kind = match kind {
        Kind::Key => "key",
        Kind::Identity => "identity",
        Kind::Address | Kind::Guard => "address",
        Kind::Told => "caller",
    };
    format!("{kind}:{:012x}", hash >> 16)
}
