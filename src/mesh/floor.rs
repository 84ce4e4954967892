//! The floor of a path, and whether the route has changed.
//!
//! Queues come and go; the fastest round trip of ten seconds hardly moves unless the route does. The minima of ten
//! minutes are kept. A minimum clearly below the baseline is a new route at once, for nothing else makes a path faster.
//! One above it may be a long queue, so it takes 150 samples, all of them clearly above: even where nine of ten samples
//! wait in a queue, that happens by chance less than once in seven million times.

use std::time::Duration;

const BUCKET: Duration = Duration::from_secs(10);
const BUCKETS: usize = 60;
const SAMPLES_FOR_UP: u32 = 150;
const STEP_AT_LEAST: Duration = Duration::from_micros(250);

/// The baseline has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteChange {
    /// Floor before.
    pub from: Duration,
    /// Floor now.
    pub to: Duration,
    /// How many of the last samples went the new way.
    pub samples: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    min_ns: u32,
    count: u16,
}

/// Minima of the last ten minutes and the baseline that they are held against.
#[derive(Debug, Clone)]
pub struct Floor {
    buckets: [Bucket; BUCKETS],
    current: u64,
    baseline: Option<Duration>,
    seen: u32,
}

impl Default for Floor {
    fn default() -> Self {
        Self { buckets: [Bucket::default(); BUCKETS], current: 0, baseline: None, seen: 0 }
    }
}

impl Floor {
    /// Takes in a round trip that our own noise has not spoilt.
    pub fn record(&mut self, rtt: Duration, at: Duration) -> Option<RouteChange> {
        self.turn_to(at);
        self.seen = self.seen.saturating_add(1);
        let index = index(self.current);
        let bucket = &mut self.buckets[index];
        let ns = u32::try_from(rtt.as_nanos()).unwrap_or(u32::MAX);
        bucket.min_ns = if bucket.count == 0 { ns } else { bucket.min_ns.min(ns) };
        bucket.count = bucket.count.saturating_add(1);
        let Some(baseline) = self.baseline else {
            self.baseline = Some(rtt);
            return None;
        };
        let step = STEP_AT_LEAST.max(baseline / 10);
        if self.seen <= SAMPLES_FOR_UP {
            // Still learning what the floor is.
            self.baseline = Some(baseline.min(rtt));
            return None;
        }
        if rtt <= baseline.saturating_sub(step) {
            return Some(self.moved(baseline, rtt, 1));
        }
        let (lowest, samples) = self.lately()?;
        (lowest >= baseline + step).then(|| self.moved(baseline, lowest, samples))
    }

    fn moved(&mut self, from: Duration, to: Duration, samples: u32) -> RouteChange {
        self.baseline = Some(to);
        RouteChange { from, to, samples }
    }

    /// The lowest of the newest buckets that have enough samples together.
    fn lately(&self) -> Option<(Duration, u32)> {
        let (mut lowest, mut samples) = (u32::MAX, 0);
        for back in 0..BUCKETS as u64 {
            let bucket = self.buckets[index(self.current.checked_sub(back)?)];
            if bucket.count > 0 {
                lowest = lowest.min(bucket.min_ns);
                samples += u32::from(bucket.count);
            }
            if samples >= SAMPLES_FOR_UP {
                return Some((Duration::from_nanos(u64::from(lowest)), samples));
            }
        }
        None
    }

    fn turn_to(&mut self, at: Duration) {
        let turn = at.as_secs() / BUCKET.as_secs();
        let stale = turn.saturating_sub(self.current).min(BUCKETS as u64);
        for back in 0..stale {
            self.buckets[index(turn - back)] = Bucket::default();
        }
        self.current = self.current.max(turn);
    }

    /// The floor that the path has settled on.
    pub fn baseline(&self) -> Option<Duration> {
        self.baseline
    }

    /// The fastest round trip of the last ten minutes.
    pub fn lowest(&self) -> Option<Duration> {
        let filled = self.buckets.iter().filter(|bucket| bucket.count > 0);
        filled.map(|bucket| Duration::from_nanos(u64::from(bucket.min_ns))).min()
    }
}

fn index(turn: u64) -> usize {
    usize::try_from(turn % BUCKETS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    /// One sample a second of this round trip; the changes with the second at which they were seen.
    fn play(rtts: impl Iterator<Item = u64>) -> Vec<(u64, RouteChange)> {
        let mut floor = Floor::default();
        let at = |second| Duration::from_secs(second);
        (0..)
            .zip(rtts)
            .filter_map(|(second, rtt)| Some((second, floor.record(us(rtt), at(second))?)))
            .collect()
    }

    #[test]
    fn a_shorter_route_is_seen_at_once_and_a_longer_one_after_150_samples() {
        let changes = play((0..900).map(|s| if (300..600).contains(&s) { 4_000 } else { 900 } + s % 7 * 30));
        let seen: Vec<_> =
            changes.iter().map(|(second, change)| (*second, change.to > change.from)).collect();
        assert_eq!(seen.len(), 2, "{changes:?}");
        assert!(seen[0].1 && (449..=461).contains(&seen[0].0), "{seen:?}");
        assert_eq!(seen[1], (600, false));
    }

    #[test]
    fn a_queue_that_lets_one_in_ten_through_is_no_route_change() {
        assert_eq!(play((0..3000).map(|s| if s * 7919 % 10 == 0 { 500 } else { 3_000 })), []);
    }

    #[test]
    fn small_steps_and_a_slow_start_are_no_route_change() {
        assert_eq!(play((0..1000).map(|s| if s < 500 { 500 } else { 700 })), []);
        assert_eq!(play((0..1000).map(|s| if s < 60 { 9_000 } else { 500 })), []);
    }
}
