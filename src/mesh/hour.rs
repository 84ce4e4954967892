//! The last hour of a series in brief: three histograms of twenty minutes each, merged when asked.

use std::time::Duration;

use hdrhistogram::Histogram;

const PART: Duration = Duration::from_secs(20 * 60);
const PARTS: usize = 3;
/// Microseconds: a tenth of what an echo on loopback takes, and coarse enough for three histograms in 9 KiB.
const FINEST: u64 = 16;
/// Whatever takes a second takes too long; telling such round trips apart would cost each link another 768 bytes.
const SLOWEST: u64 = 1_048_575;

/// Round trips of the last 40 to 60 minutes, each to within 1 % or 16 µs. Replies only; losses are in the counters.
#[derive(Debug, Clone)]
pub struct Hour {
    parts: [Histogram<u16>; PARTS],
    current: u64,
}

impl Hour {
    #[expect(clippy::expect_used, reason = "the bounds are constants, which a test creates")]
    pub(super) fn new() -> Self {
        let part = || Histogram::new_with_bounds(FINEST, SLOWEST, 2).expect("constant bounds");
        Self { parts: std::array::from_fn(|_| part()), current: 0 }
    }

    pub(super) fn record(&mut self, rtt: Duration, at: Duration) {
        let turn = u64::try_from(at.as_nanos() / PART.as_nanos()).unwrap_or(u64::MAX);
        let stale = turn.saturating_sub(self.current).min(PARTS as u64);
        for back in 0..stale {
            self.part(turn - back).reset();
        }
        self.current = self.current.max(turn);
        let us = u64::try_from(rtt.as_micros()).unwrap_or(SLOWEST);
        self.part(turn).saturating_record(us);
    }

    fn part(&mut self, turn: u64) -> &mut Histogram<u16> {
        let index = usize::try_from(turn % PARTS as u64).unwrap_or(0);
        &mut self.parts[index]
    }

    /// The quantile of the round trips; `None` when there is none.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let mut all = Histogram::<u32>::new_with_bounds(FINEST, SLOWEST, 2).ok()?;
        for part in &self.parts {
            for value in part.iter_recorded() {
                all.record_n(value.value_iterated_to(), u32::from(value.count_at_value())).ok()?;
            }
        }
        (!all.is_empty()).then(|| Duration::from_micros(all.value_at_quantile(quantile)))
    }

    /// How many round trips there are.
    pub fn len(&self) -> u64 {
        self.parts.iter().map(Histogram::len).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.parts.iter().map(|part| part.distinct_values() * size_of::<u16>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_within_one_percent_and_forgets_what_is_older() {
        let mut hour = Hour::new();
        let minute = Duration::from_secs(60);
        for i in 0..1000 {
            hour.record(Duration::from_micros(3000 + i), minute * 5);
        }
        let p50 = hour.quantile(0.5).unwrap().as_secs_f64() * 1e6;
        assert!((p50 / 3500.0 - 1.0).abs() < 0.01, "{p50}");
        hour.record(Duration::from_micros(90), minute * 59);
        assert_eq!(hour.len(), 1001);
        hour.record(Duration::from_micros(90), minute * 70);
        assert_eq!(hour.len(), 2, "the first twenty minutes are gone");
        hour.record(Duration::from_micros(90), minute * 1000);
        assert_eq!(hour.len(), 1);
    }

    #[test]
    fn merging_the_parts_is_the_same_as_one_histogram_of_all() {
        let (mut hour, mut all) =
            (Hour::new(), Histogram::<u32>::new_with_bounds(FINEST, SLOWEST, 2).unwrap());
        for i in 0..3000_u64 {
            let us = 2000 + i * 7919 % 30_000;
            hour.record(Duration::from_micros(us), Duration::from_secs(i));
            all.record(us).unwrap();
        }
        for quantile in [0.0, 0.5, 0.95, 0.99, 1.0] {
            let (merged, whole) =
                (hour.quantile(quantile).unwrap().as_micros(), all.value_at_quantile(quantile));
            assert!(
                merged.abs_diff(u128::from(whole)) * 100 <= u128::from(whole),
                "{quantile}: {merged} {whole}"
            );
        }
    }
}
