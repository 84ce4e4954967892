//! The rules by which a link's facts become a state, in the order in which they are asked; the table in [`super`] says
//! them in words.

use std::time::Duration;

use probes::sample::Reason as FailureReason;

use super::{SHORT, SILENT_FOR, State, Watch};
use crate::mesh::binomial;
use crate::mesh::cause::Reason;
use crate::mesh::window::View;

/// So many outcomes before a breach is raised on statistics, and fewer where all of them are over the budget.
const ENOUGH: u32 = 60;
const HOPELESS: u32 = 20;
const RAISE_ALPHA: f64 = 0.01;
const CLEAR_ALPHA: f64 = 0.05;

impl Watch {
    /// What the facts at `now` come to: the state, and the reason that it is for.
    pub(super) fn assess(&self, now: Duration) -> (State, Reason) {
        let age = |then: Duration| now.saturating_sub(then);
        if self.left_at.is_some_and(|left| age(left) < self.terms.graces.rollout) {
            return (State::Left, Reason::NoReply(FailureReason::Left));
        }
        let short = self.series.window.last(SHORT);
        let (row, needed) = (short.failures_in_a_row(), if self.is_slow() { 3 } else { 5 });
        let starting = !self.replied && age(self.born) < self.terms.graces.start;
        if row >= needed && !starting && self.silent_since.is_some_and(|since| age(since) >= SILENT_FOR) {
            let reason = short.main_failure().map_or(Reason::Loss, |(_, reason)| Reason::NoReply(reason));
            return (State::Unreachable, reason);
        }
        if !self.replied && row > 0 {
            return (State::Unknown, short.main_failure().map_or(Reason::Loss, |(_, r)| Reason::NoReply(r)));
        }
        if short.slots() >= HOPELESS && short.spoilt() * 2 > short.slots() {
            return (State::Stale, Reason::SelfNoise);
        }
        if age(self.last_outcome.unwrap_or(self.born)) >= self.stale_after() {
            return (State::Stale, Reason::SelfNoise);
        }
        if row > 0 && (self.is_slow() || self.terms.limit.is_none()) {
            return (self.state, self.reason);
        }
        match self.terms.limit {
            None if self.replied => (State::Ok, Reason::NoBudget),
            // Too few points for a breach: they give reachability and evidence.
            Some(_) if self.is_slow() && self.replied => (State::Ok, Reason::WithinBudget),
            Some(budget) => self.assess_latency(&short, budget, now),
            None => (State::Unknown, Reason::TooFewSamples),
        }
    }

    fn assess_latency(&self, short: &View<'_>, budget: Duration, now: Duration) -> (State, Reason) {
        let all = self.series.window.all();
        let (n, k) = (all.judged(), all.exceeded());
        let allowed = 1.0 - self.terms.quantile;
        let short_is_over =
            f64::from(short.exceeded()) >= allowed * f64::from(short.judged()) && short.exceeded() > 0;
        let raised = n >= ENOUGH && binomial::at_least(k, n, allowed) <= RAISE_ALPHA;
        let hopeless = n >= HOPELESS && k == n;
        let is_over = short_is_over && (raised || hopeless) && !self.waits_for_connect(now);
        let is_within =
            !short_is_over && self.overdue(now) == 0 && binomial::at_most(k, n, allowed) <= CLEAR_ALPHA;
        if is_over || (self.state == State::Breach && !is_within) {
            return (State::Breach, Reason::Placement);
        }
        if n < binomial::fewest_to_pass(self.terms.quantile, CLEAR_ALPHA) {
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
        // p95 is at x or above when more than a twentieth is.
        let reaches = |part: f64| f64::from(all.slower_than(budget.mul_f64(part))) > allowed * f64::from(n);
        if reaches(0.9) || (held(Reason::Margin) && reaches(0.85)) {
            return (State::AtRisk, Reason::Margin);
        }
        if all.held_longer_than(budget) * 2 > n {
            return (State::AtRisk, Reason::Server);
        }
        if is_within {
            return (State::Ok, Reason::WithinBudget);
        }
        match self.state {
            State::Ok | State::AtRisk => (self.state, self.reason),
            _ => (State::Unknown, Reason::Borderline),
        }
    }
}
