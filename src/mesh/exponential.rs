//! The same in buckets that each are a fixed share wider than the one before (OpenTelemetry's base-2 exponential histogram).
//!
//! At scale `s` bucket `i` holds what is above 2^(i/2^s) and at most 2^((i+1)/2^s) seconds. It begins at [`FINEST`] and
//! halves its resolution whenever it would need more than [`BUCKETS_AT_MOST`] buckets.

use std::time::Duration;

/// 1.1 % wide.
pub const FINEST: i32 = 6;
/// As many as OpenTelemetry's SDKs keep.
pub const BUCKETS_AT_MOST: usize = 160;

/// Durations in exponential buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Exponential {
    scale: i32,
    /// The index of the first bucket.
    offset: i32,
    counts: Vec<u64>,
    zeros: u64,
    sum: Duration,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { scale: FINEST, offset: 0, counts: Vec::new(), zeros: 0, sum: Duration::ZERO }
    }
}

impl Exponential {
    /// One more.
    pub fn record(&mut self, duration: Duration) {
        self.sum += duration;
        if duration.is_zero() {
            self.zeros += 1;
            return;
        }
        self.add_to(index(duration, self.scale), self.scale, 1);
    }

    /// Adds all of another one.
    pub fn add(&mut self, other: &Self) {
        self.sum += other.sum;
        self.zeros += other.zeros;
        for (place, count) in (0..).zip(&other.counts) {
            if *count > 0 {
                self.add_to(other.offset + place, other.scale, *count);
            }
        }
    }

    /// What came since it was like that. A histogram only gets coarser, so the older one is at least as fine.
    pub fn since(&self, before: &Self) -> Self {
        let (mut rest, mut before) = (self.clone(), before.clone());
        if before.scale > rest.scale {
            before.coarsen(before.scale - rest.scale);
        }
        for (place, old) in (0..).zip(&before.counts) {
            let at = usize::try_from(before.offset + place - rest.offset).ok();
            if let Some(count) = at.and_then(|at| rest.counts.get_mut(at)) {
                *count = count.saturating_sub(*old);
            }
        }
        rest.zeros = rest.zeros.saturating_sub(before.zeros);
        rest.sum = rest.sum.saturating_sub(before.sum);
        rest
    }

    /// So many more in the bucket of this index at that scale.
    fn add_to(&mut self, index: i32, scale: i32, count: u64) {
        if scale < self.scale {
            self.coarsen(self.scale - scale);
        }
        let mut index = index >> (scale - self.scale);
        loop {
            let last = self.offset + self.span() - 1;
            let (low, high) = if self.counts.is_empty() {
                (index, index)
            } else {
                (self.offset.min(index), last.max(index))
            };
            let room = usize::try_from(high - low).is_ok_and(|width| width < BUCKETS_AT_MOST);
            if room {
                self.widen(low, high);
                break;
            }
            self.coarsen(1);
            index >>= 1;
        }
        if let Some(bucket) = usize::try_from(index - self.offset).ok().and_then(|at| self.counts.get_mut(at))
        {
            *bucket += count;
        }
    }

    fn span(&self) -> i32 {
        i32::try_from(self.counts.len()).unwrap_or(i32::MAX)
    }

    fn widen(&mut self, low: i32, high: i32) {
        let before = usize::try_from(self.offset - low).unwrap_or(0);
        if self.counts.is_empty() {
            self.offset = low;
        } else if before > 0 {
            self.counts.splice(0..0, std::iter::repeat_n(0, before));
            self.offset = low;
        }
        let width = usize::try_from(high - self.offset + 1).unwrap_or(0);
        if self.counts.len() < width {
            self.counts.resize(width, 0);
        }
    }

    /// Joins each `2^by` buckets to one.
    fn coarsen(&mut self, by: i32) {
        let mut joined: Vec<u64> = Vec::new();
        let offset = self.offset >> by;
        for (place, count) in (0..).zip(&self.counts) {
            let at = usize::try_from(((self.offset + place) >> by) - offset).unwrap_or(0);
            if joined.len() <= at {
                joined.resize(at + 1, 0);
            }
            joined[at] += count;
        }
        (self.scale, self.offset, self.counts) = (self.scale - by, offset, joined);
    }

    /// The scale: buckets grow by a factor of 2^(2^-scale).
    pub fn scale(&self) -> i32 {
        self.scale
    }

    /// The index of the first bucket, and how many fell into each from there.
    pub fn buckets(&self) -> (i32, &[u64]) {
        (self.offset, &self.counts)
    }

    /// How many were zero.
    pub fn zeros(&self) -> u64 {
        self.zeros
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.zeros + self.counts.iter().sum::<u64>()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

/// The bucket of a duration above zero.
fn index(duration: Duration, scale: i32) -> i32 {
    let exact = duration.as_secs_f64().log2() * f64::from(1_i32 << scale);
    // What is exactly on an edge belongs to the bucket below it. The range of durations is 2^-30 s to 2^64 s.
    #[expect(clippy::cast_possible_truncation, reason = "at most 64·2^6 in size")]
    let index = exact.ceil() as i32 - 1;
    index
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The edges of the bucket at this place, in seconds.
    fn edges(histogram: &Exponential, place: usize) -> (f64, f64) {
        let index = f64::from(histogram.offset + i32::try_from(place).unwrap());
        let step = f64::from(1 << histogram.scale);
        ((index / step).exp2(), ((index + 1.0) / step).exp2())
    }

    #[test]
    fn what_is_on_an_edge_is_in_the_bucket_below() {
        let mut histogram = Exponential::default();
        histogram.record(Duration::from_secs(1));
        assert_eq!(histogram.buckets(), (-1, &[1][..]));
        histogram.record(Duration::ZERO);
        assert_eq!((histogram.count(), histogram.zeros()), (2, 1));
    }

    #[test]
    fn a_wide_range_costs_resolution_and_no_sample() {
        let mut histogram = Exponential::default();
        for exponent in 0..10 {
            histogram.record(Duration::from_nanos(10_u64.pow(exponent)));
        }
        assert_eq!(histogram.count(), 10);
        assert_eq!(histogram.scale(), 2, "30 octaves in 160 buckets");
        assert!(histogram.buckets().1.len() <= BUCKETS_AT_MOST);
    }

    proptest! {
        #[test]
        fn all_that_was_recorded_is_in_its_bucket_and_adding_is_recording_both(
            one in proptest::collection::vec(1_u64..5_000_000_000, 1..60),
            other in proptest::collection::vec(1_u64..5_000_000_000, 0..60),
        ) {
            let of = |values: &[u64]| {
                let mut histogram = Exponential::default();
                values.iter().for_each(|ns| histogram.record(Duration::from_nanos(*ns)));
                histogram
            };
            let (mut sum, all) = (of(&one), of(&[&one[..], &other[..]].concat()));
            sum.add(&of(&other));
            prop_assert_eq!(sum.count(), all.count());
            prop_assert_eq!(sum.sum(), all.sum());
            prop_assert!(all.buckets().1.len() <= BUCKETS_AT_MOST);
            for place in 0..all.counts.len() {
                let (low, high) = edges(&all, place);
                let inside = one.iter().chain(&other).filter(|ns| {
                    let seconds = Duration::from_nanos(**ns).as_secs_f64();
                    low * (1.0 - 1e-12) < seconds && seconds <= high * (1.0 + 1e-12)
                });
                prop_assert_eq!(all.counts[place], inside.count() as u64);
            }
            // Coarsened to the same scale, the sum of two says the same.
            if sum.scale() == all.scale() {
                prop_assert_eq!(sum.counts.iter().sum::<u64>(), all.counts.iter().sum::<u64>());
            }
        }
    }
}
