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

    /// With every budget that these rules and links name.
    pub fn of<'a>(rules: &Rules, links: impl Iterator<Item = &'a Link>) -> Self {
        let own = links.filter_map(|link| link.limit.flatten());
        Self::with(rules.budgets.limits().chain(own))
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
