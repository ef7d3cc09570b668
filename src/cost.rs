//! Cost: what a request is charged, in requests and in tokens. Tokens are bounded before the response is there, and known after it.

use crate::plan::Count;
use crate::usage::Usage;

/// A number in thousandths, as weights and factors are given: 1000 is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Thousandths(pub u32);

/// The most tokens that a request and its response can take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens read.
    pub input: u64,
    /// Tokens written, reasoning among them.
    pub output: u64,
}

/// What one request costs its limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Units of every limit that counts requests.
    pub requests: u64,
    /// The bound for limits that count tokens. `None` where nothing is known of it, or where a request takes no tokens: it passes such a limit
    /// as long as any is left, reserves nothing, and its usage is charged afterwards.
    pub estimate: Option<Estimate>,
    /// What a token costs here: the rule's factor.
    pub token_cost: Thousandths,
}

/// What one token counts for a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// A token read.
    pub input: Thousandths,
    /// One read that came from the provider's cache.
    pub cached: Thousandths,
    /// A token written.
    pub output: Thousandths,
    /// One written that was reasoning.
    pub reasoning: Thousandths,
}

// === impl Thousandths ===

impl Thousandths {
    /// One.
    pub const ONE: Self = Self(1000);
}

// === impl Cost ===

impl Cost {
    /// Of a request of which nothing is known but what it costs in requests.
    #[must_use]
    pub const fn requests(requests: u64) -> Self {
        Self { requests, estimate: None, token_cost: Thousandths::ONE }
    }
}

// === impl Weights ===

impl Weights {
    /// Every token is one.
    pub const EVEN: Self = Self {
        input: Thousandths::ONE,
        cached: Thousandths::ONE,
        output: Thousandths::ONE,
        reasoning: Thousandths::ONE,
    };

    /// Units that a response's usage comes to, of the tokens that `count` is about: everything weighed and multiplied, and rounded up once.
    /// What a provider says of parts that are larger than the whole is not believed.
    #[must_use]
    pub fn usage(&self, count: Count, usage: &Usage, token_cost: Thousandths) -> u64 {
        let (cached, reasoning) = (usage.cached.min(usage.input), usage.reasoning.min(usage.output));
        let input = [(usage.input.saturating_sub(cached), self.input), (cached, self.cached)];
        let output = [(usage.output.saturating_sub(reasoning), self.output), (reasoning, self.reasoning)];
        units(count, input, output, token_cost)
    }

    /// The most units that a request within `estimate` can come to: every token at the larger of its weights.
    #[must_use]
    pub fn bound(&self, count: Count, estimate: &Estimate, token_cost: Thousandths) -> u64 {
        let input = [(estimate.input, self.input.max(self.cached))];
        let output = [(estimate.output, self.output.max(self.reasoning))];
        units(count, input, output, token_cost)
    }

    /// Whether no token that `count` is about counts anything.
    #[must_use]
    pub fn are_nothing(&self, count: Count) -> bool {
        self.bound(count, &Estimate { input: 1, output: 1 }, Thousandths::ONE) == 0
    }

    /// The larger of both, weight by weight.
    #[must_use]
    pub fn larger(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            cached: self.cached.max(other.cached),
            output: self.output.max(other.output),
            reasoning: self.reasoning.max(other.reasoning),
        }
    }
}

fn units<const N: usize>(
    count: Count,
    input: [(u64, Thousandths); N],
    output: [(u64, Thousandths); N],
    token_cost: Thousandths,
) -> u64 {
    const WHOLE: u128 = 1_000_000;
    let weighed = |parts: [(u64, Thousandths); N]| {
        let products = parts.map(|(tokens, weight)| u128::from(tokens).saturating_mul(weight.0.into()));
        products.into_iter().fold(0, u128::saturating_add)
    };
    let input = if count == Count::Output { 0 } else { weighed(input) };
    let output = if count == Count::Input { 0 } else { weighed(output) };
    let millionths = input.saturating_add(output).saturating_mul(token_cost.0.into());
    u64::try_from(millionths.div_ceil(WHOLE)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const USAGE: Usage = Usage { input: 1001, cached: 500, output: 30, reasoning: 20 };

    #[test]
    fn weights_and_factors_are_rounded_up_once() {
        let even = |count| Weights::EVEN.usage(count, &USAGE, Thousandths::ONE);
        assert_eq!([even(Count::Total), even(Count::Input), even(Count::Output)], [1031, 1001, 30]);
        let weights = Weights { cached: Thousandths(100), output: Thousandths(4000), ..Weights::EVEN };
        let weights = Weights { reasoning: Thousandths(4001), ..weights };
        let weighed = |count, factor| weights.usage(count, &USAGE, Thousandths(factor));
        // 501 + 50 of input; 10 × 4 + 20 × 4.001 of output: 120.02.
        assert_eq!(weighed(Count::Input, 1000), 551);
        assert_eq!(weighed(Count::Output, 1000), 121);
        assert_eq!(weighed(Count::Total, 1000), 672, "671.02, rounded up once");
        assert_eq!(weighed(Count::Total, 2500), 1678, "1677.55");
        assert_eq!(weighed(Count::Total, 1), 1, "0.67");
        assert_eq!(weights.usage(Count::Total, &Usage::default(), Thousandths::ONE), 0);
    }

    #[test]
    fn a_bound_takes_the_larger_weight_of_each_token() {
        let weights = Weights { cached: Thousandths(1250), reasoning: Thousandths(500), ..Weights::EVEN };
        let bound = |count| weights.bound(count, &Estimate { input: 4, output: 10 }, Thousandths::ONE);
        assert_eq!([bound(Count::Total), bound(Count::Input), bound(Count::Output)], [15, 5, 10]);
    }

    #[test]
    fn what_a_response_says_of_parts_larger_than_the_whole_is_not_believed() {
        let weights = Weights { cached: Thousandths(0), reasoning: Thousandths(9000), ..Weights::EVEN };
        let usage = Usage { input: 10, cached: u64::MAX, output: 2, reasoning: u64::MAX };
        assert_eq!(weights.usage(Count::Total, &usage, Thousandths::ONE), 18);
        let most = Usage { input: u64::MAX, cached: u64::MAX, output: u64::MAX, reasoning: 0 };
        assert_eq!(weights.usage(Count::Total, &most, Thousandths(u32::MAX)), u64::MAX);
    }
}
