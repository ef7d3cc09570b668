//! A namespace: the callers that share counters, and where their records are in the shared data.
//!
//! Every key starts with product, layout version and namespace, because other plugins may share the space (Istio gives all of
//! them one). `<prefix>meta` holds what all workers must agree on; whoever comes first creates it.
//!
//! ```text
//! allowance/1/<namespace>/meta                 version u8 = 1 │ hash secret 16 bytes
//! allowance/1/<namespace>/c/<consumer>         record of a listed consumer
//! allowance/1/<namespace>/k/<16 bytes>         record of an unlisted key, by keyed hash
//! ```

use crate::key::ApiKey;
use crate::store::{self, HostError, SharedData, StoreError};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::fmt;
use std::hash::Hasher;

const META_VERSION: u8 = 1;
const SECRET_LENGTH: usize = 16;

/// An open namespace.
pub struct Namespace {
    prefix: String,
    secret: [u8; SECRET_LENGTH],
}

/// Hides the secret.
impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace").field("prefix", &self.prefix).finish_non_exhaustive()
    }
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
    /// Opens the namespace; the first to do so makes its hash secret from `random`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(
        data: &impl SharedData,
        name: &str,
        random: impl FnOnce() -> Option<[u8; SECRET_LENGTH]>,
    ) -> Result<Self, OpenError> {
        let prefix = format!("allowance/1/{name}/");
        let key = format!("{prefix}meta");
        let fresh = random().ok_or(OpenError::Random)?;
        let secret = store::change(data, key.as_bytes(), |stored| match stored {
            [] => (Some([[META_VERSION].as_slice(), &fresh].concat()), Some(fresh)),
            [META_VERSION, secret @ ..] => (None, secret.try_into().ok()),
            _ => (None, None),
        })
        .map_err(OpenError::Store)?
        .answer
        .ok_or(OpenError::Foreign(key))?;
        Ok(Self { prefix, secret })
    }

    /// Where a listed consumer's record is.
    #[must_use]
    pub fn consumer_record(&self, consumer: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), b"c/", consumer.as_bytes()].concat()
    }

    /// Where an unlisted key's record is. The hash is keyed: without the secret, which never leaves the proxy's memory, nobody can tell
    /// whether a given key was seen, or make two keys meet.
    #[must_use]
    pub fn key_record(&self, key: &ApiKey) -> Vec<u8> {
        let mut hasher = SipHasher24::new_with_key(&self.secret);
        hasher.write(key.as_bytes());
        [self.prefix.as_bytes(), b"k/", &hasher.finish128().as_bytes()].concat()
    }
}
