//! What Allowance is compared with: a filter on the SDK that does nothing, and with the feature `straightforward` a rate limiter as the
//! SDK's examples lead one to write it.

#[cfg(not(feature = "straightforward"))]
mod empty;
#[cfg(feature = "straightforward")]
mod straightforward;
