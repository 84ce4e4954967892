//! How long is waited after a failure. Pure.

use std::time::Duration;

/// What a receiver may ask for at most.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(600);

/// How long is waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// After an event, for those that come with it.
    pub together: Duration,
    /// Before the first figures.
    pub first: Duration,
    /// At most so long after the first failure, and twice as long after each more …
    pub shortest: Duration,
    /// … up to this. After a refusal that somebody has to put right it is at least half of this.
    pub longest: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            together: Duration::from_millis(200),
            first: Duration::from_secs(5),
            shortest: Duration::from_secs(1),
            longest: Duration::from_secs(60),
        }
    }
}

/// Failures in a row.
#[derive(Debug, Default)]
pub(super) struct Failures(u32);

impl Failures {
    pub(super) fn none(&mut self) {
        self.0 = 0;
    }

    /// Any time up to a limit that doubles, so that agents which failed together do not come back together; but never
    /// before the receiver wants it.
    pub(super) fn pause(&mut self, pace: &Pace, after: Option<Duration>, random: f64) -> Duration {
        let limit = pace.shortest.saturating_mul(2_u32.saturating_pow(self.0)).min(pace.longest);
        self.0 = self.0.saturating_add(1);
        // Not at once even by the luckiest number.
        let least = pace.shortest.mul_f64(0.1);
        limit.mul_f64(random).max(least).max(after.unwrap_or_default().min(RETRY_AFTER_AT_MOST))
    }
}

/// Until somebody may have put it right.
pub(super) fn until_repaired(pace: &Pace, random: f64) -> Duration {
    pace.longest.mul_f64(0.5 + 0.5 * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_grows_to_a_limit_and_is_never_shorter_than_the_receiver_wants() {
        let pace = Pace::default();
        let mut failures = Failures::default();
        let longest: Vec<_> = (0..8).map(|_| failures.pause(&pace, None, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(failures.pause(&pace, None, 0.5), Duration::from_secs(30));
        assert_eq!(failures.pause(&pace, None, 0.0), Duration::from_millis(100));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(failures.pause(&pace, asked(90), 0.5), Duration::from_secs(90));
        assert_eq!(failures.pause(&pace, asked(3), 0.5), Duration::from_secs(30));
        assert_eq!(failures.pause(&pace, asked(u64::MAX), 0.5), RETRY_AFTER_AT_MOST);
        (0..100).for_each(|_| assert!(failures.pause(&pace, None, 1.0) <= pace.longest));
        failures.none();
        assert_eq!(failures.pause(&pace, None, 1.0), Duration::from_secs(1));
        assert_eq!(until_repaired(&pace, 0.0), Duration::from_secs(30));
    }
}
