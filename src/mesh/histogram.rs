//! How many durations fell into which bucket since the start: what can be added up over time and over agents.
//!
//! Verdicts never rest on a bucket: a bucket's edge belongs to the bucket below it, while the rule is «the budget or longer».

use std::sync::Arc;
use std::time::Duration;

use super::links::Rules;
use super::peer::Link;

/// The edges without any budget, in microseconds: dense where Coder's budgets are, with 10 and 15 ms among them.
const EDGES_US: [u64; 19] = [
    100, 250, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
    75_000, 100_000, 250_000, 1_000_000,
];

/// The edges of all histograms of an agent, in order: a bucket holds what is at most its edge and above the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edges(Arc<[Duration]>);

impl Default for Edges {
    fn default() -> Self {
        Self::with([])
    }
}

impl Edges {
    /// The usual ones and these.
    pub fn with(budgets: impl IntoIterator<Item = Duration>) -> Self {
        let usual = EDGES_US.into_iter().map(Duration::from_micros);
        let mut all: Vec<_> = usual.chain(budgets).filter(|edge| !edge.is_zero()).collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    /// With every budget that these rules and links name, and those before: edges never go, for each change of them begins
    /// all histograms anew.
    pub fn of<'a>(rules: &Rules, links: impl Iterator<Item = &'a Link>, before: &Self) -> Self {
        let own = links.filter_map(|link| link.limit.flatten());
        Self::with(rules.budgets.limits().chain(own).chain(before.0.iter().copied()))
    }

    /// All of them, rising.
    pub fn all(&self) -> &[Duration] {
        &self.0
    }
}

/// Durations in buckets.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    edges: Edges,
    /// One more than there are edges: the last is for what is above all of them.
    counts: Box<[u64]>,
    sum: Duration,
}

impl Histogram {
    /// An empty one.
    pub fn new(edges: &Edges) -> Self {
        let counts = vec![0; edges.0.len() + 1].into();
        Self { edges: edges.clone(), counts, sum: Duration::ZERO }
    }

    /// One more.
    pub fn record(&mut self, duration: Duration) {
        let bucket = self.edges.0.partition_point(|edge| *edge < duration);
        self.counts[bucket] += 1;
        self.sum += duration;
    }

    /// Adds all of another one of the same edges; of other ones it is left as it is.
    pub fn add(&mut self, other: &Self) {
        if self.edges == other.edges {
            self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
            self.sum += other.sum;
        }
    }

    /// What came since it was like that; all of it where the edges are other ones.
    pub fn since(&self, before: &Self) -> Self {
        let mut rest = self.clone();
        if self.edges == before.edges {
            rest.counts
                .iter_mut()
                .zip(&before.counts)
                .for_each(|(count, old)| *count = count.saturating_sub(*old));
            rest.sum = rest.sum.saturating_sub(before.sum);
        }
        rest
    }

    /// The edges.
    pub fn edges(&self) -> &[Duration] {
        self.edges.all()
    }

    /// How many fell into each bucket; the last is for what is above all edges.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: f64) -> Duration {
        Duration::from_secs_f64(ms / 1000.0)
    }

    #[test]
    fn every_budget_is_an_edge_once_beside_ten_and_fifteen_milliseconds() {
        let rules = Rules::default();
        let mut link = Link::to("a", probes::target::Kind::Peer, None);
        link.limit = Some(Some(ms(7.0)));
        let edges = Edges::of(&rules, [&link].into_iter(), &Edges::with([ms(3.3)]));
        for edge in [3.3, 7.0, 10.0, 15.0] {
            assert_eq!(edges.all().iter().filter(|known| **known == ms(edge)).count(), 1, "{edge}");
        }
        assert!(edges.all().is_sorted());
        assert_eq!(Edges::with([ms(10.0), Duration::ZERO]), Edges::default());
    }

    #[test]
    fn what_is_on_an_edge_is_below_it_and_what_is_above_all_is_counted_too() {
        let mut histogram = Histogram::new(&Edges::default());
        for sample in [ms(10.0), ms(10.000_001), ms(9.0), Duration::from_secs(7), Duration::ZERO] {
            histogram.record(sample);
        }
        let at = |edge| histogram.edges().iter().position(|known| *known == ms(edge)).unwrap();
        assert_eq!(histogram.counts()[at(10.0)], 2);
        assert_eq!(histogram.counts()[at(15.0)], 1);
        assert_eq!((histogram.counts()[0], *histogram.counts().last().unwrap()), (1, 1));
        assert_eq!(histogram.count(), 5);
        let mut double = histogram.clone();
        double.add(&histogram);
        assert_eq!((double.count(), double.sum()), (10, 2 * histogram.sum()));
        double.add(&Histogram::new(&Edges::with([ms(1.1)])));
        assert_eq!(double.count(), 10, "of other edges");
    }
}
