//! What concerns bodies: how they are read, and what is done where they do not say enough.

use super::language::LlmSpec;
use super::reader::Field;
use crate::cost::Thousandths;
use crate::reservation::LONGEST_LIFETIME;
use crate::window::SECOND;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;

/// For how long tokens are reserved where the configuration does not say, in nanoseconds: five minutes. Longer than nearly all responses take to
/// begin, so that nothing ends too early; what a crashed worker had reserved is back by then.
const DEFAULT_LIFETIME: NonZeroU64 = match NonZeroU64::new(300 * SECOND) {
    Some(lifetime) => lifetime,
    None => NonZeroU64::MIN,
};

/// How requests and responses are read for models and tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Llm {
    /// The largest request body that is read, in bytes. Of a larger one neither the model nor a bound is known.
    pub max_body: u32,
    /// A header, in lower case, in which an earlier, trusted filter says the model; then the body is not asked for it.
    pub model_header: Option<String>,
    /// How many bytes of a request are taken for one token of input.
    pub bytes_per_token: Thousandths,
    /// Tokens of input reserved for a request whose body is not read.
    pub default_input: u64,
    /// Tokens of output reserved for a request that does not bound them.
    pub default_output: u64,
    /// Whether a stream that would not report usage is made to, where the provider can.
    pub ask_for_usage: bool,
    /// HTTP statuses of upstreams' responses that are given back: what was charged and what was reserved.
    pub refund: Vec<RangeInclusive<u16>>,
    /// For how long tokens are reserved before that has to be renewed, in nanoseconds.
    pub reservation: NonZeroU64,
}

/// What is in force where nothing is said.
impl Default for Llm {
    fn default() -> Self {
        Self {
            max_body: 1 << 20,
            model_header: None,
            bytes_per_token: Thousandths(3000),
            default_input: 8192,
            default_output: 1024,
            ask_for_usage: true,
            refund: vec![429..=429, 500..=599],
            reservation: DEFAULT_LIFETIME,
        }
    }
}

impl Llm {
    /// Whether a request is given back whose response has this status.
    #[must_use]
    pub fn gives_back(&self, status: u16) -> bool {
        self.refund.iter().any(|statuses| statuses.contains(&status))
    }

    /// Tokens of input that a request of so many bytes has, rounded up.
    #[must_use]
    pub fn input_of(&self, bytes: u64) -> u64 {
        let thousandths = u128::from(bytes).saturating_mul(1000);
        u64::try_from(thousandths.div_ceil(u128::from(self.bytes_per_token.0.max(1)))).unwrap_or(u64::MAX)
    }
}

pub(super) fn llm(spec: Field<LlmSpec>) -> Llm {
    let default = Llm::default();
    let Some(spec) = spec.given() else {
        return default;
    };
    let statuses = |list: Vec<Field<super::values::Statuses>>| {
        list.into_iter().filter_map(|statuses| Some(statuses.given()?.0)).collect()
    };
    Llm {
        max_body: spec.max_body.given().map_or(default.max_body, |size| size.0),
        model_header: spec.model_header.given().map(|name| name.0),
        bytes_per_token: spec.bytes_per_token.given().map_or(default.bytes_per_token, |number| number.0),
        default_input: spec.default_input.given().map_or(default.default_input, |tokens| tokens.0),
        default_output: spec.default_output.given().map_or(default.default_output, |tokens| tokens.0),
        ask_for_usage: spec.ask_for_usage.given().unwrap_or(default.ask_for_usage),
        refund: spec.refund.given().map_or(default.refund, statuses),
        reservation: spec.reservation.given().map_or(default.reservation, |lifetime| lifetime.0),
    }
}

const _: () = assert!(DEFAULT_LIFETIME.get() <= LONGEST_LIFETIME);
