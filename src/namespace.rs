//! A namespace: the callers that share counters, and where their records are in the shared data.
//!
//! Every name starts with product and layout version, because other plugins may share the space (Istio gives all of them one). `meta` holds what
//! all workers must agree on; whoever comes first creates it.
//!
//! ```text
//! allowance/1/<namespace>/meta   version u8 = 1 │ hash secret 16 bytes │ sets u32 │ ways u8
//! allowance/1/<namespace>/seen   fingerprints of configurations that were announced
//! allowance1<96 bits>            record of a listed consumer: a hash of its name and generation
//! allowance1<64 bits><set u32>   a set of the table of all others: the namespace's own bits, and which one
//! ```
//!
//! The hashes are keyed with the namespace's secret: they differ from those of any other, and nobody can choose two consumers who meet.

use crate::consumer::Consumer;
use crate::sip::{self, SECRET as SECRET_LENGTH};
use crate::store::{self, HostError, SharedData, StoreError};
use crate::table::{Geometry, MAX_WAYS};
use std::fmt;

const META_VERSION: u8 = 1;

/// The name of a record or a set. As long as a string of the host's (libc++, 64 bits) has room for in itself: then the host finds it in one
/// place less, and asks for no memory to look for it.
pub type Name = [u8; 22];

/// An open namespace.
pub struct Namespace {
    prefix: String,
    secret: [u8; SECRET_LENGTH],
    /// Its own bits in the names of sets.
    sets: [u8; 8],
    geometry: Geometry,
}

/// Hides the secret.
impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { prefix, geometry, .. } = self;
        f.debug_struct("Namespace").field("prefix", prefix).field("geometry", geometry).finish_non_exhaustive()
    }
}

/// What somebody who is not listed is known by. Each kind has hashes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An API key.
    Key,
    /// A name that an earlier filter gave.
    Identity,
    /// The client address of a request without a key.
    Address,
    /// The client address that unlisted keys are charged to as well.
    Guard,
    /// What callers are told of themselves: it must not say where in the table they are.
    Told,
}

/// Why a namespace could not be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpenError {
    /// The shared data failed.
    Store(StoreError),
    /// The host has no randomness.
    Random,
    /// Something that this product never wrote is stored under the name of the meta value.
    Foreign(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Store(StoreError::Host(HostError { call, status })) => {
                write!(f, "shared data cannot be used: proxy_{call} returned status {status}")
            }
            Self::Store(StoreError::Contended) => f.write_str("shared data cannot be used: too many lost races"),
            Self::Random => f.write_str("the host gives no random bytes for the hash secret"),
            Self::Foreign(key) => write!(f, "shared data key {key} holds something else"),
        }
    }
}

impl Namespace {
    /// Opens the namespace; the first to do so makes its hash secret from `random` and decides the table's geometry.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        data: &impl SharedData,
        name: &str,
        geometry: Geometry,
        random: impl FnOnce() -> Option<[u8; SECRET_LENGTH]>,
    ) -> Result<Self, OpenError> {
        let prefix = format!("allowance/1/{name}/");
        let key = format!("{prefix}meta");
        let fresh = random().ok_or(OpenError::Random)?;
        let (secret, geometry) = store::change(data, key.as_bytes(), |stored| match stored {
            [] => {
                let sets = geometry.sets.to_le_bytes();
                let meta = [[META_VERSION].as_slice(), &fresh, &sets, &[geometry.ways]].concat();
                (Some(meta), Some((fresh, geometry)))
            }
            stored => (None, decode_meta(stored)),
        })
        .map_err(OpenError::Store)?
        .answer
        .ok_or(OpenError::Foreign(key))?;
        let sets = sip::hash(&secret, b"sets").to_le_bytes();
        Ok(Self { prefix, secret, sets, geometry })
    }

    /// The table's geometry in force, which may be another than was asked for.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Where a listed consumer's record is.
    #[must_use]
    pub fn consumer_record(&self, consumer: &Consumer) -> Name {
        let text = [&consumer.generation.to_le_bytes(), consumer.name.as_bytes()].concat();
        let [_, _, _, _, hash @ ..] = sip::hash_128(&self.secret, &text).to_le_bytes();
        name(hash)
    }

    /// Where the set of a hash is.
    #[must_use]
    pub fn set(&self, hash: u64) -> Name {
        let ([a, b, c, d, e, f, g, h], [i, j, k, l]) = (self.sets, self.geometry.set(hash).to_le_bytes());
        name([a, b, c, d, e, f, g, h, i, j, k, l])
    }

    /// The hash of somebody who is not listed. It is keyed: without the secret, which never leaves the proxy's memory, nobody can tell whether
    /// a given key was seen, or find keys that meet in one set.
    #[must_use]
    pub fn hash(&self, kind: Kind, id: &[u8]) -> u64 {
        let kind = match kind {
            Kind::Key => 0,
            Kind::Identity => 1,
            Kind::Address => 2,
            Kind::Guard => 3,
            Kind::Told => 4,
        };
        let mut text = Vec::with_capacity(id.len().saturating_add(1));
        text.push(kind);
        text.extend_from_slice(id);
        sip::hash(&self.secret, &text)
    }

    /// What a key is [remembered](crate::memo) by. Keyed as [`Namespace::hash`] is, and as long as it takes for no two keys to meet.
    #[must_use]
    pub fn fingerprint(&self, key: &[u8]) -> u128 {
        sip::hash_128(&self.secret, key)
    }

    /// Whether what has this [fingerprint](sip::fingerprint) has not been announced yet, on whichever worker; from then on it has. The last few are remembered,
    /// since several filters can share a namespace.
    pub fn announce(&self, data: &impl SharedData, fingerprint: u128) -> bool {
        const REMEMBERED: usize = 16;
        let text = [env!("CARGO_PKG_VERSION").as_bytes(), &fingerprint.to_le_bytes()].concat();
        let fingerprint = sip::hash(&self.secret, &text).to_le_bytes();
        let key = format!("{}seen", self.prefix);
        let changed = store::change(data, key.as_bytes(), |stored| {
            let (seen, _) = stored.as_chunks::<8>();
            if seen.contains(&fingerprint) {
                return (None, false);
            }
            let forgotten = seen.len().saturating_sub(REMEMBERED - 1);
            let kept = seen.iter().skip(forgotten).chain([&fingerprint]);
            (Some(kept.flatten().copied().collect()), true)
        });
        changed.is_ok_and(|changed| changed.answer)
    }
}

/// The name that ends with these bytes.
fn name(own: [u8; 12]) -> Name {
    let mut name = *b"allowance1............";
    if let Some(end) = name.last_chunk_mut() {
        *end = own;
    }
    name
}

fn decode_meta(meta: &[u8]) -> Option<([u8; SECRET_LENGTH], Geometry)> {
    let (&version, rest) = meta.split_first()?;
    let (secret, rest) = rest.split_first_chunk::<SECRET_LENGTH>()?;
    let (sets, rest) = rest.split_first_chunk::<4>()?;
    let &[ways] = rest else {
        return None;
    };
    let geometry = Geometry { sets: u32::from_le_bytes(*sets), ways };
    let valid = version == META_VERSION && geometry.sets > 0 && (1..=MAX_WAYS).contains(&ways);
    valid.then_some((*secret, geometry))
}
