//! Durations in order: exact quantiles, and the bounds between which the true one lies.

use std::time::Duration;

use super::binomial;

/// Sorted durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    sorted: Vec<Duration>,
}

impl Distribution {
    /// Sorts them.
    pub fn of(mut durations: Vec<Duration>) -> Self {
        durations.sort_unstable();
        Self { sorted: durations }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.sorted.is_empty()
    }

    /// The smallest value with at least that share of the values at or below it (RFC 2330 §11.3); `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        self.at_rank(rank(quantile, u32::try_from(self.sorted.len()).unwrap_or(u32::MAX)))
    }

    /// The value of this rank, counted from 1.
    pub(super) fn at_rank(&self, rank: usize) -> Option<Duration> {
        self.sorted.get(rank.checked_sub(1)?).copied()
    }

    /// The bounds between which the quantile lies with the given confidence, by order statistics; `None` is without
    /// bound on that side.
    pub fn bounds(&self, quantile: f64, confidence: f64) -> (Option<Duration>, Option<Duration>) {
        let n = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX);
        let (low, high) = binomial::ranks(n, quantile, (1.0 - confidence) / 2.0);
        let at = |rank: Option<u32>| self.at_rank(usize::try_from(rank?).ok()?);
        (at(low), at(high))
    }

    /// Each of them changed in a way that keeps their order.
    pub(super) fn map(self, change: impl Fn(Duration) -> Duration) -> Self {
        Self { sorted: self.sorted.into_iter().map(change).collect() }
    }

    /// The smallest value.
    pub fn min(&self) -> Option<Duration> {
        self.sorted.first().copied()
    }

    /// The largest value.
    pub fn max(&self) -> Option<Duration> {
        self.sorted.last().copied()
    }
}

/// ⌈q·n⌉, at least 1 and at most n; 0 for n = 0. The small reduction keeps 0.95·100 = 95.000…01 from becoming 96.
pub(super) fn rank(quantile: f64, n: u32) -> usize {
    let exact = (quantile * f64::from(n) - 1e-9).ceil();
    let rank = binomial::whole(exact).clamp(u32::from(n > 0), n);
    usize::try_from(rank).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn percentiles_are_those_of_rfc_2330() {
        // The RFC's example {−2, 7, 7, 4, 18, −5}, moved up by 5.
        let distribution = Distribution::of([3, 12, 12, 9, 23, 0].map(Duration::from_micros).to_vec());
        for (quantile, us) in [(0.5, 9), (0.25, 3), (1.0, 23), (0.0, 0)] {
            assert_eq!(distribution.quantile(quantile), Some(Duration::from_micros(us)), "{quantile}");
        }
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn a_quantile_has_bounds_where_there_are_enough_values_for_them() {
        let of = |n: u64| Distribution::of((1..=n).map(Duration::from_micros).collect());
        let us = |us| Some(Duration::from_micros(us));
        assert_eq!(of(100).bounds(0.5, 0.95), (us(40), us(61)));
        assert_eq!(of(1000).bounds(0.95, 0.95), (us(936), us(964)));
        assert_eq!(of(300).bounds(0.99, 0.95), (us(293), None));
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone(values in proptest::collection::vec(0_u64..1_000_000, 1..300), a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            let distribution = Distribution::of(values.into_iter().map(Duration::from_micros).collect());
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(distribution.quantile(low) <= distribution.quantile(high));
            prop_assert!(distribution.min() <= distribution.quantile(low) && distribution.quantile(high) <= distribution.max());
        }
    }
}
