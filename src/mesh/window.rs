//! What the samples of one target amount to: counts, raw durations, failures.
//!
//! Durations are kept raw, so quantiles are exact order statistics and the verdict never depends on a bucket's edge.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::sample::{Direction, Failure, Outcome, Phases, Reason, Sample};

use super::binomial;

/// All outcomes of one target so far: counters, and 16 bytes for each duration that a reply brings (one to three).
#[derive(Debug, Clone)]
pub struct Window {
    budget: Duration,
    counts: Counts,
    exceeded: u32,
    unjudged: u32,
    rtt: Vec<Duration>,
    network: Vec<Duration>,
    server: Vec<Duration>,
    total: Vec<Duration>,
    lost_there: u32,
    lost_back: u32,
    failures: BTreeMap<Reason, (u32, Failure)>,
    connect: Option<Phases>,
    encrypted: Option<bool>,
}

/// How many slots ended in which outcome.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// A reply in time.
    pub ok: u32,
    /// No reply before the deadline.
    pub lost: u32,
    /// Somebody said no.
    pub refused: u32,
    /// Broken otherwise.
    pub error: u32,
    /// Not sent, because we ourselves were late.
    pub skipped_self: u32,
}

impl Window {
    /// An empty window that counts exceedances of this budget.
    pub fn new(budget: Duration) -> Self {
        Self {
            budget,
            counts: Counts::default(),
            exceeded: 0,
            unjudged: 0,
            rtt: Vec::new(),
            network: Vec::new(),
            server: Vec::new(),
            total: Vec::new(),
            lost_there: 0,
            lost_back: 0,
            failures: BTreeMap::new(),
            connect: None,
            encrypted: None,
        }
    }

    /// Takes in what opening the connection brought. It is no slot, so only its facts are kept.
    pub fn opened(&mut self, sample: &Sample) {
        if let Outcome::Ok(timing) = &sample.outcome {
            self.connect = timing.phases;
            self.encrypted = timing.encrypted;
        }
    }

    /// Takes in the outcome of one slot.
    pub fn record(&mut self, sample: Sample) {
        match sample.outcome {
            Outcome::Ok(timing) => {
                self.counts.ok += 1;
                // Decided here, once, with the exact duration: the rule is «≥ budget».
                self.exceeded += u32::from(timing.rtt >= self.budget);
                self.network.extend(timing.network());
                self.server.extend(timing.server);
                self.total.extend(timing.phases.and_then(|phases| phases.total));
                self.rtt.push(timing.rtt);
                self.connect = timing.phases.or(self.connect);
                self.encrypted = timing.encrypted.or(self.encrypted);
            }
            Outcome::Lost(failure, direction) => {
                self.counts.lost += 1;
                match direction {
                    Direction::There => self.lost_there += 1,
                    Direction::Back => self.lost_back += 1,
                    Direction::Unknown => {}
                }
                self.fail(failure);
            }
            Outcome::Refused(failure) => {
                self.counts.refused += 1;
                self.fail(failure);
            }
            Outcome::Error(failure) => {
                self.counts.error += 1;
                self.fail(failure);
            }
            Outcome::SkippedSelf => self.counts.skipped_self += 1,
        }
    }

    fn fail(&mut self, failure: Failure) {
        // Our own retreat and our own machine's refusal say nothing about the path.
        if matches!(failure.reason, Reason::ConnectionsLow | Reason::Local) {
            self.unjudged += 1;
        } else {
            self.exceeded += 1;
        }
        self.failures.entry(failure.reason).or_insert((0, failure)).0 += 1;
    }

    /// How many slots ended in which outcome.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// All slots that have an outcome.
    pub fn slots(&self) -> u32 {
        self.without_reply() + self.counts.ok + self.counts.skipped_self
    }

    /// n of the verdict: the slots that say something about the path.
    pub fn judged(&self) -> u32 {
        self.counts.ok + self.without_reply() - self.unjudged
    }

    /// k of the verdict: judged slots without a reply faster than the budget.
    pub fn exceeded(&self) -> u32 {
        self.exceeded
    }

    /// Slots that were sent and got no reply, whatever the cause.
    pub fn without_reply(&self) -> u32 {
        self.counts.lost + self.counts.refused + self.counts.error
    }

    /// Losses whose side is known: on the way there, on the way back.
    pub fn lost_by_direction(&self) -> (u32, u32) {
        (self.lost_there, self.lost_back)
    }

    /// The most frequent failure with its count; among equals, the first in the order of [`Reason`].
    pub fn main_failure(&self) -> Option<(u32, &Failure)> {
        self.failures.values().rev().max_by_key(|(count, _)| *count).map(|(count, failure)| (*count, failure))
    }

    /// Phases of the last connection that was opened.
    pub fn connect(&self) -> Option<Phases> {
        self.connect
    }

    /// Whether the line is encrypted; `None` where nobody said.
    pub fn encrypted(&self) -> Option<bool> {
        self.encrypted
    }

    /// Round trips of the slots that got a reply.
    pub fn rtt(&self) -> Distribution {
        Distribution::of(&self.rtt)
    }

    /// Shares of the round trips outside the server's program.
    pub fn network(&self) -> Distribution {
        Distribution::of(&self.network)
    }

    /// PostgreSQL's execution times.
    pub fn server(&self) -> Distribution {
        Distribution::of(&self.server)
    }

    /// HTTP: whole requests, from the look-up of the name to the end of the body.
    pub fn total(&self) -> Distribution {
        Distribution::of(&self.total)
    }

    /// The quantile over all judged slots, where a slot without a reply is infinitely slow: `None` means just that, or
    /// that there is no slot at all.
    pub fn judged_quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = rank(quantile, self.judged());
        self.rtt().sorted.get(rank.checked_sub(1)?).copied()
    }
}

/// Sorted durations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    sorted: Vec<Duration>,
}

impl Distribution {
    /// Sorts a copy.
    pub fn of(durations: &[Duration]) -> Self {
        let mut sorted = durations.to_vec();
        sorted.sort_unstable();
        Self { sorted }
    }

    /// The smallest value with at least that share of the values at or below it (RFC 2330 §11.3); `None` when empty.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let n = u32::try_from(self.sorted.len()).unwrap_or(u32::MAX);
        self.sorted.get(rank(quantile, n).checked_sub(1)?).copied()
    }

    /// The smallest value.
    pub fn min(&self) -> Option<Duration> {
        self.sorted.first().copied()
    }

    /// The largest value.
    pub fn max(&self) -> Option<Duration> {
        self.sorted.last().copied()
    }
}

/// ⌈q·n⌉, at least 1 and at most n; 0 for n = 0. The small reduction keeps 0.95·100 = 95.000…01 from becoming 96.
fn rank(quantile: f64, n: u32) -> usize {
    let exact = (quantile * f64::from(n) - 1e-9).ceil();
    let rank = binomial::whole(exact).clamp(u32::from(n > 0), n);
    usize::try_from(rank).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use probes::sample::Timing;
    use proptest::prelude::*;

    use super::*;

    const BUDGET: Duration = Duration::from_millis(10);

    fn ok(us: u64) -> Sample {
        Timing { rtt: Duration::from_micros(us), ..Timing::default() }.into()
    }

    fn failed(reason: Reason) -> Sample {
        Failure::new(reason, "because").into()
    }

    #[test]
    fn percentiles_are_those_of_rfc_2330() {
        // The RFC's example {−2, 7, 7, 4, 18, −5}, moved up by 5.
        let distribution = Distribution::of(&[3, 12, 12, 9, 23, 0].map(Duration::from_micros));
        for (quantile, us) in [(0.5, 9), (0.25, 3), (1.0, 23), (0.0, 0)] {
            assert_eq!(distribution.quantile(quantile), Some(Duration::from_micros(us)), "{quantile}");
        }
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn exactly_the_budget_is_an_exceedance_and_a_nanosecond_less_is_not() {
        let mut window = Window::new(BUDGET);
        window.record(Timing { rtt: BUDGET - Duration::from_nanos(1), ..Timing::default() }.into());
        assert_eq!((window.judged(), window.exceeded()), (1, 0));
        window.record(ok(10_000));
        assert_eq!((window.judged(), window.exceeded()), (2, 1));
    }

    #[test]
    fn a_slot_without_reply_is_infinitely_slow() {
        let mut window = Window::new(BUDGET);
        for _ in 0..94 {
            window.record(ok(300));
        }
        assert_eq!(window.judged_quantile(0.95), Some(Duration::from_micros(300)));
        for reason in [
            Reason::Timeout,
            Reason::Closed,
            Reason::Refused,
            Reason::Timeout,
            Reason::Timeout,
            Reason::Timeout,
        ] {
            window.record(failed(reason));
        }
        assert_eq!(window.judged_quantile(0.95), None);
        assert_eq!(window.rtt().quantile(0.95), Some(Duration::from_micros(300)));
        assert_eq!((window.judged(), window.exceeded(), window.without_reply()), (100, 6, 6));
        assert_eq!(window.main_failure().map(|(count, f)| (count, f.reason)), Some((4, Reason::Timeout)));
    }

    #[test]
    fn what_says_nothing_about_the_path_is_not_judged() {
        let mut window = Window::new(BUDGET);
        window.record(failed(Reason::ConnectionsLow));
        window.record(failed(Reason::Local));
        window.record(Sample { outcome: Outcome::SkippedSelf });
        assert_eq!((window.slots(), window.judged(), window.exceeded()), (3, 0, 0));
    }

    proptest! {
        #[test]
        fn quantiles_are_monotone(values in proptest::collection::vec(0_u64..1_000_000, 1..300), a in 0.0..1.0_f64, b in 0.0..1.0_f64) {
            let values: Vec<_> = values.into_iter().map(Duration::from_micros).collect();
            let distribution = Distribution::of(&values);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(distribution.quantile(low) <= distribution.quantile(high));
            prop_assert!(distribution.min() <= distribution.quantile(low) && distribution.quantile(high) <= distribution.max());
        }
    }
}
