//! One outcome in sixteen bytes, and how many there are of each.

use std::time::Duration;

use probes::sample::{Direction, Outcome, Reason, Sample};

use super::window::WAIT_AT_MOST;

/// Fine beside a budget, and 16 bits of it are 3.2 s; a longer wait is our own fault in any case.
const WAIT_STEP: Duration = Duration::from_micros(50);

/// How many slots ended in which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// A reply in time.
    pub ok: u64,
    /// No reply before the deadline.
    pub lost: u64,
    /// Somebody said no.
    pub refused: u64,
    /// Broken otherwise.
    pub error: u64,
    /// Not sent, because we ourselves were late.
    pub skipped_self: u64,
}

impl Counts {
    /// All of them.
    pub fn all(&self) -> u64 {
        self.ok + self.lost + self.refused + self.error + self.skipped_self
    }

    /// Each count changed by another series' one.
    pub fn with(&mut self, other: &Self, change: fn(&mut u64, u64)) {
        let Self { ok, lost, refused, error, skipped_self } = self;
        for (count, other) in [
            (ok, other.ok),
            (lost, other.lost),
            (refused, other.refused),
            (error, other.error),
            (skipped_self, other.skipped_self),
        ] {
            change(count, other);
        }
    }

    /// One more of this.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok(_) => self.ok += 1,
            Outcome::Lost(..) => self.lost += 1,
            Outcome::Refused(_) => self.refused += 1,
            Outcome::Error(_) => self.error += 1,
            Outcome::SkippedSelf => self.skipped_self += 1,
        }
    }
}

/// What is kept of one outcome.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// Nanoseconds up to 4.29 s: deadlines are 2 s.
    rtt_ns: u32,
    /// Execution, hold or whole request, by the kind of sample.
    part_ns: u32,
    /// Our own wait and the other side's, together, in steps of [`WAIT_STEP`], rounded up.
    wait_steps: u16,
    what: What,
    part: Part,
    mark: Mark,
    side: Side,
}

/// What else is known of one round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Nothing,
    /// TCP had to send something again meanwhile.
    Resent,
    /// The other end waited longer for a CPU than we did.
    PeerWaited,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Ok,
    Lost(Reason, Direction),
    Refused(Reason),
    Error(Reason),
    Skipped,
}

/// Which duration comes with the round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    None,
    Server,
    Hold,
    Total,
}

/// How the verdict takes an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Exceeds,
    /// Within the budget although our own noise added to it: beyond doubt, but no figure of the path.
    OwnWithin,
    /// Our own noise may have made it an exceedance: it says nothing about the path.
    Own,
    /// Not a sample at all.
    Unsent,
}

impl Record {
    pub(super) fn of(sample: &Sample, budget: Duration) -> Self {
        let (mut rtt, mut part_length, mut part) = (Duration::ZERO, None, Part::None);
        let mut side = if sample.peer_wait > sample.own_wait { Side::PeerWaited } else { Side::Nothing };
        let what = match &sample.outcome {
            Outcome::Ok(timing) => {
                rtt = timing.rtt;
                if timing.retransmits.is_some_and(|count| count > 0) {
                    side = Side::Resent;
                }
                (part, part_length) = match (timing.server, timing.hold, timing.phases) {
                    (Some(server), ..) => (Part::Server, Some(server)),
                    (None, Some(hold), _) => (Part::Hold, Some(hold)),
                    (None, None, Some(phases)) if phases.total.is_some() => (Part::Total, phases.total),
                    _ => (Part::None, None),
                };
                What::Ok
            }
            Outcome::Lost(failure, direction) => What::Lost(failure.reason, *direction),
            Outcome::Refused(failure) => What::Refused(failure.reason),
            Outcome::Error(failure) => What::Error(failure.reason),
            Outcome::SkippedSelf => What::Skipped,
        };
        let wait = sample.own_wait + sample.peer_wait;
        let mut record = Self {
            rtt_ns: nanoseconds(rtt),
            part_ns: nanoseconds(part_length.unwrap_or_default()),
            wait_steps: u16::try_from(wait.as_nanos().div_ceil(WAIT_STEP.as_nanos())).unwrap_or(u16::MAX),
            what,
            part,
            mark: Mark::Own,
            side,
        };
        // The rule is about each end, and only their sum is kept.
        let disturbed = sample.own_wait.max(sample.peer_wait) > WAIT_AT_MOST;
        record.mark = record.mark(budget, disturbed);
        record
    }

    /// Judges anew by another budget. A marked reply stays marked unless it is over the budget beyond doubt.
    pub(super) fn judge(&mut self, budget: Duration) {
        let disturbed = self.marked() || self.wait() > 2 * WAIT_AT_MOST;
        self.mark = self.mark(budget, disturbed);
    }

    fn mark(&self, budget: Duration, disturbed: bool) -> Mark {
        /// Silence is ours only when we did not run for half of the deadline.
        const HALF_OF_DEADLINE: Duration = Duration::from_secs(1);
        match self.what {
            What::Skipped => Mark::Unsent,
            // We did not run for so long that the wait could not be noted in full: nothing can be taken off.
            What::Ok | What::Lost(..) if self.wait_steps == u16::MAX => Mark::Own,
            What::Ok => {
                // Decided here, once, with the exact duration: the rule is «≥ budget».
                let rtt = self.length(self.rtt_ns);
                match disturbed {
                    false if rtt >= budget => Mark::Exceeds,
                    false => Mark::Good,
                    true if rtt.saturating_sub(self.wait()) >= budget => Mark::Exceeds,
                    true if rtt < budget => Mark::OwnWithin,
                    true => Mark::Own,
                }
            }
            What::Lost(..) if self.wait() >= HALF_OF_DEADLINE => Mark::Own,
            What::Error(reason) if is_withheld(reason) => Mark::Unsent,
            What::Lost(..) | What::Refused(_) | What::Error(_) => Mark::Exceeds,
        }
    }

    fn wait(&self) -> Duration {
        WAIT_STEP * u32::from(self.wait_steps)
    }

    fn length(&self, ns: u32) -> Duration {
        Duration::from_nanos(u64::from(ns))
    }

    fn part(&self, wanted: Part) -> Option<Duration> {
        (self.part == wanted).then(|| self.length(self.part_ns))
    }

    /// Whether it says something about the path.
    pub fn judged(&self) -> bool {
        matches!(self.mark, Mark::Good | Mark::Exceeds)
    }

    /// Whether it counts against the path.
    pub fn exceeds(&self) -> bool {
        self.mark == Mark::Exceeds
    }

    /// Whether our own noise made it useless.
    pub fn marked(&self) -> bool {
        matches!(self.mark, Mark::Own | Mark::OwnWithin)
    }

    /// Whether it is marked and would have been over the budget, so that nobody knows whose fault that is.
    pub fn spoilt(&self) -> bool {
        self.mark == Mark::Own
    }

    /// Whether it is marked although it was within the budget in any case.
    pub fn within_although_marked(&self) -> bool {
        self.mark == Mark::OwnWithin
    }

    /// Whether it is spoilt, and by the other end's waiting rather than by ours.
    pub fn spoilt_by_peer(&self) -> bool {
        self.spoilt() && self.side == Side::PeerWaited
    }

    /// Whether it says nothing about the path, because we kept away or our own machine refused.
    pub fn withheld(&self) -> bool {
        self.mark == Mark::Unsent && !self.skipped()
    }

    /// Whether it was never sent.
    pub fn skipped(&self) -> bool {
        self.what == What::Skipped
    }

    /// Whether TCP had to send something again meanwhile.
    pub fn resent(&self) -> bool {
        self.side == Side::Resent
    }

    /// The round trip, if a reply came.
    pub fn rtt(&self) -> Option<Duration> {
        (self.what == What::Ok).then(|| self.length(self.rtt_ns))
    }

    /// The round trip, if a reply came that our own noise has not spoilt.
    pub fn judged_rtt(&self) -> Option<Duration> {
        self.rtt().filter(|_| self.judged())
    }

    /// PostgreSQL's execution.
    pub fn server(&self) -> Option<Duration> {
        self.part(Part::Server)
    }

    /// How long the reflector held it.
    pub fn hold(&self) -> Option<Duration> {
        self.part(Part::Hold)
    }

    /// The whole HTTP request.
    pub fn total(&self) -> Option<Duration> {
        self.part(Part::Total)
    }

    /// Why there is no reply.
    pub fn failure(&self) -> Option<Reason> {
        match self.what {
            What::Lost(reason, _) | What::Refused(reason) | What::Error(reason) => Some(reason),
            What::Ok | What::Skipped => None,
        }
    }

    /// On which side a loss happened.
    pub fn direction(&self) -> Option<Direction> {
        match self.what {
            What::Lost(_, direction) => Some(direction),
            _ => None,
        }
    }

    pub(super) fn count_into(&self, counts: &mut Counts) {
        match self.what {
            What::Ok => counts.ok += 1,
            What::Lost(..) => counts.lost += 1,
            What::Refused(_) => counts.refused += 1,
            What::Error(_) => counts.error += 1,
            What::Skipped => counts.skipped_self += 1,
        }
    }
}

/// Our own retreat and our own machine's refusal say nothing about the path.
pub(super) fn is_withheld(reason: Reason) -> bool {
    matches!(reason, Reason::ConnectionsLow | Reason::Password | Reason::Local)
}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Timing};

    use super::*;

    const BUDGET: Duration = Duration::from_millis(10);

    fn reply(rtt_ms: f64, own_ms: f64, peer_ms: f64) -> Record {
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
        let mut sample = Sample::from(Timing { rtt: ms(rtt_ms), ..Timing::default() });
        (sample.own_wait, sample.peer_wait) = (ms(own_ms), ms(peer_ms));
        Record::of(&sample, BUDGET)
    }

    #[test]
    fn an_outcome_fits_into_sixteen_bytes() {
        assert!(size_of::<Record>() <= 16, "{}", size_of::<Record>());
    }

    #[test]
    fn a_wait_of_either_end_marks_a_reply_unless_it_is_over_the_budget_even_without_it() {
        assert!(reply(0.5, 0.29, 0.29).judged());
        assert!(reply(0.5, 0.31, 0.0).marked());
        assert!(reply(0.5, 0.0, 0.31).marked());
        assert!(!reply(0.9, 0.5, 0.0).spoilt(), "it was on time in any case");
        assert!(reply(14.0, 4.5, 0.0).spoilt(), "it may have been on time");
        assert!(reply(14.0, 3.0, 0.0).exceeds(), "it took 11 ms whatever we did");
        assert!(reply(14.0, 3.0, 2.0).spoilt());
    }

    #[test]
    fn silence_is_ours_only_when_we_did_not_run_for_half_of_the_deadline() {
        let lost = |own: Duration| {
            let mut sample = Sample::from(Failure::new(Reason::Timeout, "no reply"));
            sample.own_wait = own;
            Record::of(&sample, BUDGET)
        };
        assert!(lost(Duration::from_millis(900)).exceeds());
        assert!(lost(Duration::from_secs(2)).spoilt());
    }

    #[test]
    fn a_reply_that_slept_through_a_long_freeze_is_no_exceedance() {
        assert!(reply(5000.0, 5000.0, 0.0).spoilt());
        assert!(reply(3000.0, 2990.5, 0.0).spoilt());
    }

    #[test]
    fn whose_waiting_spoilt_a_reply_is_known() {
        assert!(reply(50.0, 0.0, 49.0).spoilt_by_peer());
        assert!(!reply(50.0, 49.0, 0.4).spoilt_by_peer());
    }

    #[test]
    fn another_budget_judges_what_is_kept_anew() {
        let mut slow = reply(12.0, 0.0, 0.0);
        assert!(slow.exceeds());
        slow.judge(Duration::from_millis(15));
        assert!(slow.judged() && !slow.exceeds());
    }
}
