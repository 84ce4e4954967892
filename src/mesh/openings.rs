//! How the connection of one link was opened, again and again: the phases of the last openings, and what failed.
//!
//! A connection that is kept is opened rarely, and a connect costs PostgreSQL a process and perhaps a line in its log. So
//! none is made for these figures: they are those of the openings that were needed anyway.

use std::collections::VecDeque;
use std::time::Duration;

use probes::sample::{Outcome, Phases, Reason, Sample};

/// So many are kept.
pub const KEPT: usize = 16;

/// One opening, or a row of attempts that failed for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// When, since the series began, in steps of 0.1 s; of a row, its last attempt.
    pub at: Duration,
    /// When the row began; the same for an opening.
    pub since: Duration,
    /// How many attempts in a row ended like this, 65 535 at most; one for an opening.
    pub attempts: u32,
    /// Its phases, or why there is no connection.
    pub outcome: Result<Phases, Reason>,
}

/// The same in 28 bytes.
#[derive(Debug, Clone, Copy)]
struct Kept {
    at_steps: u32,
    since_steps: u32,
    /// Resolve, TCP, TLS, authentication; [`NO_PHASE`] where there was none.
    phases_us: [u32; 4],
    attempts: u16,
    failure: Option<Reason>,
}

/// Fine for an age, and 32 bits of it are thirteen years.
const STEP: Duration = Duration::from_millis(100);
const NO_PHASE: u32 = u32::MAX;

impl Kept {
    fn opening(&self) -> Opening {
        let [resolve, tcp, tls, auth] =
            self.phases_us.map(|us| (us != NO_PHASE).then(|| Duration::from_micros(u64::from(us))));
        let phases = Phases { resolve: resolve.unwrap_or_default(), tcp, tls, auth, total: None };
        Opening {
            at: STEP * self.at_steps,
            since: STEP * self.since_steps,
            attempts: u32::from(self.attempts),
            outcome: self.failure.map_or(Ok(phases), Err),
        }
    }
}

fn steps(at: Duration) -> u32 {
    u32::try_from(at.as_millis() / STEP.as_millis()).unwrap_or(u32::MAX)
}

fn micros(phase: Option<Duration>) -> u32 {
    phase.map_or(NO_PHASE, |phase| u32::try_from(phase.as_micros()).unwrap_or(NO_PHASE - 1))
}

/// The last openings of one link.
#[derive(Debug, Clone, Default)]
pub struct Openings {
    kept: VecDeque<Kept>,
    opened: u64,
    failed: u64,
}

impl Openings {
    /// Takes in an attempt to open the connection, at `at` since the series began.
    pub fn record(&mut self, sample: &Sample, at: Duration) {
        let at_steps = steps(at);
        let (phases, failure) = match &sample.outcome {
            Outcome::Ok(timing) => (timing.phases.unwrap_or_default(), None),
            outcome => match outcome.failure() {
                Some(failure) => (Phases::default(), Some(failure.reason)),
                None => return,
            },
        };
        *(if failure.is_none() { &mut self.opened } else { &mut self.failed }) += 1;
        // An outage is one entry, however many attempts it takes: it must not push out what was good before.
        if let Some(last) = self.kept.back_mut().filter(|last| failure.is_some() && last.failure == failure) {
            (last.at_steps, last.attempts) = (at_steps, last.attempts.saturating_add(1));
            return;
        }
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        let phases_us = [Some(phases.resolve), phases.tcp, phases.tls, phases.auth].map(micros);
        self.kept.push_back(Kept { at_steps, since_steps: at_steps, phases_us, attempts: 1, failure });
    }

    /// The newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = Opening> {
        self.kept.iter().rev().map(Kept::opening)
    }

    /// How often the connection was opened again.
    pub fn reconnects(&self) -> u64 {
        self.opened.saturating_sub(1)
    }

    /// How many attempts failed.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Bytes on the heap, at most.
    pub fn heap_bytes(&self) -> usize {
        KEPT.max(self.kept.capacity()) * size_of::<Kept>()
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Timing};

    use super::*;

    fn opened(ms: u64) -> Sample {
        let phases = Phases { tcp: Some(Duration::from_millis(ms)), ..Phases::default() };
        Timing { phases: Some(phases), ..Timing::default() }.into()
    }

    fn failed(reason: Reason) -> Sample {
        Failure::new(reason, "because").into()
    }

    #[test]
    fn the_last_sixteen_are_kept_and_an_outage_is_one_of_them() {
        let (mut openings, at) = (Openings::default(), Duration::from_secs);
        assert_eq!(openings.reconnects(), 0);
        for second in 0..20 {
            openings.record(&opened(second), at(second));
        }
        for second in 20..120 {
            openings.record(&failed(Reason::Refused), at(second));
        }
        openings.record(&failed(Reason::Auth), at(120));
        openings.record(&Sample::skipped_self(), at(121));
        let all: Vec<_> = openings.newest_first().collect();
        assert_eq!((all.len(), openings.reconnects(), openings.failed()), (KEPT, 19, 101));
        assert_eq!(all[0], Opening { at: at(120), since: at(120), attempts: 1, outcome: Err(Reason::Auth) });
        assert_eq!(
            all[1],
            Opening { at: at(119), since: at(20), attempts: 100, outcome: Err(Reason::Refused) }
        );
        assert_eq!(all[2].outcome.unwrap().tcp, Some(Duration::from_millis(19)));
        assert_eq!(all[15].at, at(6), "the oldest were pushed out");
    }
}
