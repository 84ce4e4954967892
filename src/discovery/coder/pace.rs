//! Something that is wanted now and then, and done neither at once nor too often.

use std::time::Duration;

use probes::stopwatch::Stopwatch;

/// What is wanted, since when, and when it was done last.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    last: Option<Stopwatch>,
    wanted: Option<(Stopwatch, Duration)>,
}

impl Pace {
    /// Not wanted yet; never twice within this time.
    pub(super) fn every(every: Duration) -> Self {
        Self { every, last: None, wanted: None }
    }

    /// It is wanted, after this delay. Wanting it again meanwhile puts nothing off.
    pub(super) fn want_in(&mut self, delay: Duration) {
        self.wanted.get_or_insert_with(|| (Stopwatch::start(), delay));
    }

    /// It is wanted as soon as may be.
    pub(super) fn want(&mut self) {
        self.want_in(Duration::ZERO);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// How long it has to wait still.
    pub(super) fn wait(&self) -> Duration {
        let apart =
            self.last.as_ref().map_or(Duration::ZERO, |last| self.every.saturating_sub(last.elapsed()));
        let delay = self
            .wanted
            .as_ref()
            .map_or(Duration::ZERO, |(since, delay)| delay.saturating_sub(since.elapsed()));
        apart.max(delay)
    }

    /// It is being done.
    pub(super) fn done(&mut self) {
        (self.last, self.wanted) = (Some(Stopwatch::start()), None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanting_it_again_and_again_puts_nothing_off_and_it_is_not_done_twice_at_once() {
        let hour = Duration::from_secs(3600);
        let mut pace = Pace::every(hour);
        pace.want();
        pace.want_in(hour);
        assert!(pace.is_wanted());
        assert_eq!(pace.wait(), Duration::ZERO, "the first wish counts");
        pace.done();
        assert!(!pace.is_wanted());
        pace.want();
        assert!(pace.wait() > hour / 2);
        let mut delayed = Pace::every(Duration::ZERO);
        delayed.want_in(hour);
        delayed.want();
        assert!(delayed.wait() > hour / 2);
    }
}
