//! Tokens and money.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::AddAssign;

/// US dollars in units of 10⁻⁹ dollar, so that sums over single tokens are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// From US dollars; negative and not-a-number become zero.
    pub fn from_usd(usd: f64) -> Self {
        Self((usd.max(0.0) * 1e9).round() as u64)
    }
    /// As US dollars.
    pub fn usd(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// Difference that stops at zero.
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
    /// Sum that stops at the largest value.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "${:.3}", self.usd())
    }
}

/// Tokens of one or many model calls. `input` includes `cache_read` and `cache_write`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens, cached ones included.
    pub input: u64,
    /// Completion tokens.
    pub output: u64,
    /// Prompt tokens that were read from the provider's cache.
    #[serde(default)]
    pub cache_read: u64,
    /// Prompt tokens that were written to the provider's cache.
    #[serde(default)]
    pub cache_write: u64,
}

impl Usage {
    /// Input and output together.
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.input = self.input.saturating_add(other.input);
        self.output = self.output.saturating_add(other.output);
        self.cache_read = self.cache_read.saturating_add(other.cache_read);
        self.cache_write = self.cache_write.saturating_add(other.cache_write);
    }
}

/// What a model call costs, where the figure is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CostSource {
    /// The provider said so, in the answer.
    Provider,
    /// Computed from a configured price per token.
    PriceTable,
    /// A cut call: its reservation was charged.
    Reservation,
    /// Nobody knows. Never counted as zero: shown as unknown.
    Unknown,
}

/// Price of a model, US dollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// US dollars per million prompt tokens.
    pub input_per_mtok: f64,
    /// US dollars per million completion tokens.
    pub output_per_mtok: f64,
    /// US dollars per million prompt tokens read from the cache; `input_per_mtok` where absent.
    #[serde(default)]
    pub cache_read_per_mtok: Option<f64>,
    /// US dollars per million prompt tokens written to the cache; `input_per_mtok` where absent.
    #[serde(default)]
    pub cache_write_per_mtok: Option<f64>,
}

impl Price {
    /// The most that a call of so many prompt and completion tokens can cost, however its cache is used.
    pub fn at_most(&self, input: u64, output: u64) -> NanoUsd {
        let cached = [self.cache_read_per_mtok, self.cache_write_per_mtok].into_iter().flatten();
        let dearest = cached.fold(self.input_per_mtok, f64::max);
        let price = Self { input_per_mtok: dearest, output_per_mtok: self.output_per_mtok, ..Self::default() };
        price.of(&Usage { input, output, ..Usage::default() })
    }

    /// The cost of `usage`, rounded up to 10⁻⁹ dollar.
    pub fn of(&self, usage: &Usage) -> NanoUsd {
        let fresh = usage.input.saturating_sub(usage.cache_read).saturating_sub(usage.cache_write) as f64;
        let read = usage.cache_read as f64 * self.cache_read_per_mtok.unwrap_or(self.input_per_mtok);
        let written = usage.cache_write as f64 * self.cache_write_per_mtok.unwrap_or(self.input_per_mtok);
        let total = fresh * self.input_per_mtok + read + written + usage.output as f64 * self.output_per_mtok;
        NanoUsd((total.max(0.0) * 1e3).ceil() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_an_upper_bound_however_the_cache_is_used() {
        let cache_write_per_mtok = Some(3.75);
        let price =
            Price { input_per_mtok: 3.0, output_per_mtok: 15.0, cache_read_per_mtok: Some(0.3), cache_write_per_mtok };
        let (input, output) = (10_001, 77);
        let bound = price.at_most(input, output);
        for (cache_read, cache_write) in [(0, 0), (input, 0), (0, input), (5000, 5001), (1, 10_000)] {
            let cost = price.of(&Usage { input, output, cache_read, cache_write });
            assert!(cost <= bound, "{cost:?} of {cache_read} read and {cache_write} written is above {bound:?}");
        }
        assert_eq!(price.of(&Usage { input, output, cache_read: 0, cache_write: input }), bound);
        let free = Price::default();
        assert_eq!(free.at_most(1_000_000, 1_000_000), NanoUsd(0));
    }
}
