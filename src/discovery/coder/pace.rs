//! Something that is wanted now and then, and done not too often.

use std::time::Duration;

use probes::stopwatch::Stopwatch;

/// What is wanted, and when it was done last.
#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    last: Option<Stopwatch>,
    pub(super) wanted: bool,
}

impl Pace {
    /// Not wanted yet; never twice within this time.
    pub(super) fn every(every: Duration) -> Self {
        Self { every, last: None, wanted: false }
    }

    /// How long it has to wait still.
    pub(super) fn wait(&self) -> Duration {
        self.last.as_ref().map_or(Duration::ZERO, |last| self.every.saturating_sub(last.elapsed()))
    }

    /// It is being done.
    pub(super) fn done(&mut self) {
        (self.last, self.wanted) = (Some(Stopwatch::start()), false);
    }
}
