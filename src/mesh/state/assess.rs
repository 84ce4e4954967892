//! The rules by which a link's facts become a state, in the order in which they are asked; the table in [`super`] says
//! them in words.

use std::time::Duration;

use probes::sample::Reason as FailureReason;

use super::{BACK, SHORT, SILENT_FOR, State, Watch};
use crate::mesh::binomial;
use crate::mesh::cause::Reason;
use crate::mesh::window::View;

/// So many outcomes before a breach is raised on statistics, and fewer where all of them are over the budget.
const ENOUGH: u32 = 60;
const HOPELESS: u32 = 20;
const RAISE_ALPHA: f64 = 0.01;
const CLEAR_ALPHA: f64 = 0.05;
/// At most this share may be spoilt: lately, for a statement that all is well.
const SPOILT_SHARE_AT_MOST: f64 = 0.1;

impl Watch {
    /// What the facts at `now` come to: the state, and the reason that it is for.
    pub(super) fn assess(&self, now: Duration) -> (State, Reason) {
        let age = |then: Duration| now.saturating_sub(then);
        if self.left_at.is_some_and(|left| age(left) < self.terms.graces.rollout) {
            return (State::Left, Reason::NoReply(FailureReason::Left));
        }
        let (short, all) = (self.series.window.last(SHORT), self.series.window.all());
        let row = all.failures_in_a_row();
        let needed = row_beyond_chance(all.failures_before(), if self.is_slow() { 3 } else { 5 });
        let starting = !self.replied && age(self.born) < self.terms.graces.start;
        let no_reply = || short.main_failure().map_or(Reason::Loss, |(_, reason)| Reason::NoReply(reason));
        if row >= needed && !starting && self.silent_since.is_some_and(|since| age(since) >= SILENT_FOR) {
            return (State::Unreachable, no_reply());
        }
        if self.state == State::Unreachable
            && (row > 0 || (short.replies_in_a_row() < BACK && !self.is_slow()))
        {
            return (State::Unreachable, self.reason);
        }
        if !self.replied && row > 0 {
            return (State::Unknown, no_reply());
        }
        if short.slots() >= HOPELESS && short.spoilt() * 2 > short.slots() {
            let by_peer = short.spoilt_by_peer() * 2 > short.spoilt();
            return (State::Stale, if by_peer { Reason::Server } else { Reason::SelfNoise });
        }
        if age(self.last_outcome.unwrap_or(self.born)) >= self.stale_after() {
            return (State::Stale, short.withheld().map_or(Reason::SelfNoise, Reason::NoReply));
        }
        if row > 0 && (self.is_slow() || self.terms.limit.is_none()) {
            return (self.state, self.reason);
        }
        match self.terms.limit {
            None if self.replied => (State::Ok, Reason::NoBudget),
            // Too few points for a breach: they give reachability and evidence.
            Some(_) if self.is_slow() && self.replied => (State::Ok, Reason::Reachable),
            Some(budget) => self.assess_latency(&short, &all, budget, now),
            None => (State::Unknown, Reason::TooFewSamples),
        }
    }

    fn assess_latency(
        &self,
        short: &View<'_>,
        all: &View<'_>,
        budget: Duration,
        now: Duration,
    ) -> (State, Reason) {
        let allowed = 1.0 - self.terms.quantile;
        let k = all.exceeded();
        // What is marked can raise nothing, so there it is among the good ones.
        let n = all.judged() + all.marked();
        let over = |view: &View<'_>| {
            view.exceeded() > 0
                && f64::from(view.exceeded()) >= allowed * f64::from(view.judged() + view.marked())
        };
        let short_is_over = over(short);
        let clean =
            |view: &View<'_>| f64::from(view.spoilt()) <= SPOILT_SHARE_AT_MOST * f64::from(view.slots());
        let raised = n >= ENOUGH && binomial::at_least(k, n, allowed) <= RAISE_ALPHA;
        let hopeless = k >= HOPELESS && k == all.judged() && clean(all) && all.within_although_marked() == 0;
        let is_over = short_is_over && (raised || hopeless) && !self.waits_for_connect(now);
        // For clearing only what was within the budget beyond doubt is among them.
        let certain = all.judged() + all.within_although_marked();
        let is_within = !short_is_over
            && clean(short)
            && self.overdue(now) == 0
            && binomial::at_most(k, certain, allowed) <= CLEAR_ALPHA;
        if is_over || (self.state == State::Breach && !is_within) {
            return (State::Breach, Reason::Placement);
        }
        if certain < binomial::fewest_to_pass(self.terms.quantile, CLEAR_ALPHA) {
            return match self.state {
                State::Ok | State::AtRisk => (self.state, self.reason),
                State::Unreachable => (State::AtRisk, Reason::Recovering),
                _ => (State::Unknown, Reason::TooFewSamples),
            };
        }
        let held = |reason| self.state == State::AtRisk && self.reason == reason;
        let tail = allowed / 5.0;
        let has_tail = binomial::at_least(k, n, tail) <= CLEAR_ALPHA && k > 0;
        if has_tail || (held(Reason::Tail) && f64::from(k) > tail * f64::from(n) / 3.0) {
            return (State::AtRisk, Reason::Tail);
        }
        // p95 is at x or above when more than a twentieth is; it is let go when less than a third of that is near.
        let share = |part: f64| f64::from(all.slower_than(budget.mul_f64(part))) / f64::from(n);
        if share(0.9) > allowed || (held(Reason::Margin) && share(0.85) > allowed / 3.0) {
            return (State::AtRisk, Reason::Margin);
        }
        let long_held = all.held_longer_than(budget);
        if long_held * 2 > n || (held(Reason::Server) && long_held * 4 > n) {
            return (State::AtRisk, Reason::Server);
        }
        if is_within {
            return (State::Ok, Reason::WithinBudget);
        }
        match self.state {
            State::Ok | State::AtRisk => (self.state, self.reason),
            State::Stale if !clean(short) => (State::Stale, self.reason),
            _ if !clean(short) => (State::Unknown, Reason::SelfNoise),
            _ => (State::Unknown, Reason::Borderline),
        }
    }
}

/// So many failures in a row are news where this share fails anyway: chance brings them less than once in ten thousand.
fn row_beyond_chance(share: f64, least: u32) -> u32 {
    if share <= 0.0 {
        return least;
    }
    least.max(binomial::whole((1e-4_f64.ln() / share.ln()).ceil()))
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Sample, Timing};
    use probes::target::Kind;

    use super::super::{Graces, Terms};
    use super::*;
    use crate::mesh::peer::Link;

    #[test]
    fn a_path_that_loses_most_is_a_breach_and_is_unreachable_once_it_dies() {
        let terms = Terms {
            limit: Some(Duration::from_millis(10)),
            quantile: 0.95,
            interval: Duration::from_secs(1),
            connects: true,
            graces: Graces::default(),
        };
        let mut watch = Watch::new(Link::to("a", Kind::Peer, None), terms, Duration::ZERO);
        let mut state = |second: u64, replies: bool| {
            let reply = Timing { rtt: Duration::from_millis(1), ..Timing::default() };
            let lost = || Sample::from(Failure::new(FailureReason::Timeout, "no reply"));
            let sample = if replies { reply.into() } else { lost() };
            watch.outcome(second, &sample, Duration::from_secs(second));
            watch.standing().0
        };
        // Three of twenty-two come back: a row of sixty and more failures would be no news.
        let dies = 22 * 60;
        let last = (0..dies).map(|second| state(second, second % 22 < 3)).last();
        assert_eq!(last, Some(State::Breach));
        let dead: Vec<_> = (dies..dies + 150).map(|second| state(second, false)).collect();
        assert_eq!(dead.last(), Some(&State::Unreachable));
    }
}
