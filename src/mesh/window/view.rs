//! A stretch of a window's outcomes, and all that can be asked of it.

use std::time::Duration;

use probes::sample::{Direction, Reason};

use super::Window;
use crate::mesh::distribution::{Distribution, rank};
use crate::mesh::outcomes::{Counts, Record};

/// A stretch of outcomes.
#[derive(Debug, Clone)]
pub struct View<'a> {
    pub(super) records: std::collections::vec_deque::Iter<'a, Record>,
    pub(super) window: &'a Window,
}

impl<'a> View<'a> {
    /// The outcomes, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &'a Record> + ExactSizeIterator {
        self.records.clone()
    }

    /// The round trip at which an exceedance begins.
    pub fn budget(&self) -> Duration {
        self.window.budget
    }

    fn how_many(&self, which: impl Fn(&Record) -> bool) -> u32 {
        u32::try_from(self.records().filter(|record| which(record)).count()).unwrap_or(u32::MAX)
    }

    /// All slots that have an outcome.
    pub fn slots(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// n of the verdict: the slots that say something about the path.
    pub fn judged(&self) -> u32 {
        self.how_many(Record::judged)
    }

    /// k of the verdict: judged slots without a reply faster than the budget.
    pub fn exceeded(&self) -> u32 {
        self.how_many(Record::exceeds)
    }

    /// Judged slots that took this long or longer, or got no reply.
    pub fn slower_than(&self, duration: Duration) -> u32 {
        self.how_many(|record| record.judged() && record.rtt().is_none_or(|rtt| rtt >= duration))
    }

    /// Echoes that the reflector held for this long or longer, which is no part of the round trip.
    pub fn held_longer_than(&self, duration: Duration) -> u32 {
        self.how_many(|record| record.hold().is_some_and(|hold| hold >= duration))
    }

    /// Judged slots with a reply that took the budget or longer.
    pub fn slow(&self) -> u32 {
        self.how_many(|record| record.exceeds() && record.rtt().is_some())
    }

    /// Those of them during which TCP had to send something again.
    pub fn slow_and_resent(&self) -> u32 {
        self.how_many(|record| record.exceeds() && record.resent())
    }

    /// Slots that our own noise made useless: not sent, or over the budget by who knows whose fault.
    pub fn spoilt(&self) -> u32 {
        self.how_many(|record| record.spoilt() || record.skipped())
    }

    /// Those of them that the other end's waiting for a CPU spoilt.
    pub fn spoilt_by_peer(&self) -> u32 {
        self.how_many(Record::spoilt_by_peer)
    }

    /// Disturbed, but within the budget in any case.
    pub fn within_although_marked(&self) -> u32 {
        self.how_many(Record::within_although_marked)
    }

    /// Why we keep away or cannot ask, if that is how it ends.
    pub fn withheld(&self) -> Option<Reason> {
        self.records().next_back().filter(|record| record.withheld())?.failure()
    }

    /// Disturbed by our own noise, whatever came of it.
    pub fn marked(&self) -> u32 {
        self.how_many(Record::marked)
    }

    /// Not sent, because we ourselves were late.
    pub fn skipped(&self) -> u32 {
        self.how_many(Record::skipped)
    }

    /// Slots that were sent and got no reply, whatever the cause.
    pub fn without_reply(&self) -> u32 {
        self.how_many(|record| record.failure().is_some())
    }

    /// Those of them that count against the path.
    pub fn silent(&self) -> u32 {
        self.how_many(|record| record.exceeds() && record.failure().is_some())
    }

    /// Slots with a reply.
    pub fn replies(&self) -> u32 {
        self.how_many(|record| record.rtt().is_some())
    }

    /// Slots by outcome.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.records().for_each(|record| record.count_into(&mut counts));
        counts
    }

    /// Losses whose side is known: on the way there, on the way back.
    pub fn lost_by_direction(&self) -> (u32, u32) {
        (
            self.how_many(|record| record.direction() == Some(Direction::There)),
            self.how_many(|record| record.direction() == Some(Direction::Back)),
        )
    }

    /// The most frequent reason for having no reply, with its count; among equals, the first in the order of [`Reason`].
    /// What does not count against the path is asked only when nothing else failed.
    pub fn main_failure(&self) -> Option<(u32, Reason)> {
        let mut counts = std::collections::BTreeMap::new();
        let of_path = self.silent() > 0;
        for reason in self.records().filter(|r| r.exceeds() || !of_path).filter_map(Record::failure) {
            *counts.entry(reason).or_insert(0) += 1;
        }
        counts.into_iter().rev().max_by_key(|(_, count)| *count).map(|(reason, count)| (count, reason))
    }

    /// What says something about the path, newest first.
    fn told(&self) -> impl Iterator<Item = &'a Record> {
        self.records().rev().filter(|record| record.judged())
    }

    /// Losses, refusals and errors at the very end, without a reply in between.
    pub fn failures_in_a_row(&self) -> u32 {
        let row = self.told().take_while(|record| record.failure().is_some());
        u32::try_from(row.count()).unwrap_or(u32::MAX)
    }

    /// Replies at the very end, without a failure in between.
    pub fn replies_in_a_row(&self) -> u32 {
        let row = self.told().take_while(|record| record.rtt().is_some());
        u32::try_from(row.count()).unwrap_or(u32::MAX)
    }

    /// The share of failures before the row at the end; zero where nothing was before.
    pub fn failures_before(&self) -> f64 {
        let (failed, all) = self
            .told()
            .skip_while(|record| record.failure().is_some())
            .fold((0_u32, 0_u32), |(failed, all), r| (failed + u32::from(r.failure().is_some()), all + 1));
        if all == 0 { 0.0 } else { f64::from(failed) / f64::from(all) }
    }

    /// The stretch of the exceedances, from where they began to where they ended, if they did: the suffix in which they
    /// are most in excess of `share`, without a long row of good ones at its end. The typical round trip of a path that
    /// broke a minute ago is not found among four good minutes before, nor that of one that was mended among the good ones
    /// since.
    ///
    /// A few slow ones side by side are no onset: it has at least 10 judged outcomes and half of all exceedances, or else
    /// it is everything.
    pub fn since_onset(&self, share: f64) -> View<'a> {
        const AT_LEAST: u32 = 10;
        const MENDED: usize = 20;
        let mut records = self.records.clone();
        let trailing = self.records().rev().take_while(|record| !record.exceeds()).count();
        if (MENDED..records.len()).contains(&trailing) {
            records.nth_back(trailing - 1);
        }
        let (mut sum, mut best, mut from, mut within) = (0.0, f64::NEG_INFINITY, 0, 0);
        let (mut judged, mut exceeded) = (0_u32, 0_u32);
        for (index, record) in records.clone().enumerate().rev().filter(|(_, record)| record.judged()) {
            sum += if record.exceeds() { 1.0 - share } else { -share };
            (judged, exceeded) = (judged + 1, exceeded + u32::from(record.exceeds()));
            if judged >= AT_LEAST && sum >= best {
                (best, from, within) = (sum, index, exceeded);
            }
        }
        if within * 2 >= exceeded
            && exceeded > 0
            && let Some(last_before) = from.checked_sub(1)
        {
            records.nth(last_before);
        }
        Self { records, window: self.window }
    }

    fn distribution(&self, of: impl Fn(&Record) -> Option<Duration>) -> Distribution {
        Distribution::of(self.records().filter_map(of).collect())
    }

    /// Round trips of the unmarked slots that got a reply.
    pub fn rtt(&self) -> Distribution {
        self.distribution(Record::judged_rtt)
    }

    /// How much longer than the fastest each of them took (RFC 5481's PDV, on the round trip).
    pub fn pdv(&self) -> Distribution {
        let rtt = self.rtt();
        let floor = rtt.min().unwrap_or_default();
        rtt.map(|rtt| rtt.saturating_sub(floor))
    }

    /// Shares of the round trips outside the server's program.
    pub fn network(&self) -> Distribution {
        self.distribution(|record| Some(record.judged_rtt()?.saturating_sub(record.server()?)))
    }

    /// Shares of the network in the queries that took `budget` or longer.
    pub fn slow_network(&self, budget: Duration) -> Distribution {
        let slow = |record: &Record| record.judged_rtt().filter(|rtt| *rtt >= budget);
        self.distribution(|record| Some(slow(record)?.saturating_sub(record.server()?)))
    }

    /// PostgreSQL's execution of the queries that took `budget` or longer.
    pub fn slow_server(&self, budget: Duration) -> Distribution {
        self.distribution(|record| {
            record.judged_rtt().filter(|rtt| *rtt >= budget).and_then(|_| record.server())
        })
    }

    /// PostgreSQL's execution times.
    pub fn server(&self) -> Distribution {
        self.distribution(|record| record.judged_rtt().and(record.server()))
    }

    /// How long reflectors held the echoes; no part of the round trips.
    pub fn hold(&self) -> Distribution {
        self.distribution(|record| record.judged_rtt().and(record.hold()))
    }

    /// HTTP: whole requests, from the look-up of the name to the end of the body.
    pub fn total(&self) -> Distribution {
        self.distribution(|record| record.judged_rtt().and(record.total()))
    }

    /// The quantile over all judged slots, where a slot without a reply is infinitely slow: `None` means just that, or
    /// that there is no slot at all.
    pub fn judged_quantile(&self, quantile: f64) -> Option<Duration> {
        self.rtt().at_rank(rank(quantile, self.judged()))
    }

    /// Whether each judged slot exceeded the budget, in order.
    pub fn exceedances(&self) -> impl Iterator<Item = bool> + 'a {
        self.records.clone().filter(|record| record.judged()).map(Record::exceeds)
    }
}
