//! A histogram of Prometheus, read as what it is: how many observations lie between which edges, and never where exactly.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Coder's longest ladder has 17 edges.
const EDGES_AT_MOST: usize = 64;

/// Observations up to each edge, counted cumulatively. The edge without an end is [`Duration::MAX`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    cumulative: BTreeMap<Duration, u64>,
    overfull: bool,
}

/// Where a value lies: above the one edge, and at most at the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// It is longer than this.
    pub from: Duration,
    /// And at most as long as this; `None` where nothing limits it.
    pub to: Option<Duration>,
}

impl Histogram {
    /// Adds what one series says of one edge; several series of one metric come to their sum.
    pub fn add(&mut self, edge: Duration, count: u64) {
        if self.cumulative.len() >= EDGES_AT_MOST && !self.cumulative.contains_key(&edge) {
            self.overfull = true;
            return;
        }
        let sum = self.cumulative.entry(edge).or_insert(0);
        *sum = sum.saturating_add(count);
    }

    /// Whether it can be one: counts never fall from edge to edge, and the last edge has no end.
    pub fn is_sound(&self) -> bool {
        !self.overfull && self.cumulative.contains_key(&Duration::MAX) && self.cumulative.values().is_sorted()
    }

    /// What was observed since `before` was read; `None` where that cannot be, because the counters began anew.
    pub fn since(&self, before: &Self) -> Option<Self> {
        if !self.cumulative.keys().eq(before.cumulative.keys()) {
            return None;
        }
        let differences = self.cumulative.iter().map(|(edge, count)| {
            let earlier = before.cumulative.get(edge).copied().unwrap_or(0);
            Some((*edge, count.checked_sub(earlier)?))
        });
        let cumulative = differences.collect::<Option<_>>()?;
        let since = Self { cumulative, overfull: false };
        since.is_sound().then_some(since)
    }

    /// All observations.
    pub fn count(&self) -> u64 {
        self.cumulative.values().next_back().copied().unwrap_or(0)
    }

    /// Between which edges the smallest value lies that has at least that share of all at or below it.
    pub fn quantile(&self, quantile: f64) -> Option<Range> {
        let count = self.count();
        // The small reduction keeps 0.95·100 = 95.000…01 from becoming 96.
        let rank = (quantile * as_float(count) - 1e-9).max(0.0);
        let mut from = Duration::ZERO;
        for (edge, up_to) in &self.cumulative {
            if *up_to > 0 && as_float(*up_to) >= rank {
                return Some(Range::between(from, *edge));
            }
            from = *edge;
        }
        None
    }

    /// How many took `limit` or longer: at least, and at most. The two are equal where `limit` is an edge; that nothing
    /// took just as long as an edge is taken for granted.
    pub fn over(&self, limit: Duration) -> (u64, u64) {
        let within = self.cumulative.range(..=limit).next_back().map_or(0, |(_, count)| *count);
        let perhaps_within = self.cumulative.range(limit..).next().map_or(self.count(), |(_, count)| *count);
        let all = self.count();
        (all.saturating_sub(perhaps_within), all.saturating_sub(within))
    }

    /// The stretches between edges that hold any observation.
    pub fn buckets(&self) -> impl Iterator<Item = (Range, u64)> {
        let lower = std::iter::once((Duration::ZERO, 0))
            .chain(self.cumulative.iter().map(|(edge, count)| (*edge, *count)));
        lower
            .zip(&self.cumulative)
            .map(|((from, before), (to, count))| (Range::between(from, *to), count.saturating_sub(before)))
            .filter(|(_, count)| *count > 0)
    }
}

impl Range {
    fn between(from: Duration, to: Duration) -> Self {
        Self { from, to: (to != Duration::MAX).then_some(to) }
    }
}

impl fmt::Display for Range {
    /// «at most 5 ms», «5 to 10 ms», «more than 10 s».
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, from_unit) = in_words(self.from);
        match self.to.map(in_words) {
            None => write!(f, "more than {from} {from_unit}"),
            Some((to, unit)) if self.from.is_zero() => write!(f, "at most {to} {unit}"),
            Some((to, unit)) if unit == from_unit => write!(f, "{from} to {to} {unit}"),
            Some((to, unit)) => write!(f, "{from} {from_unit} to {to} {unit}"),
        }
    }
}

/// Edges are round numbers, and stay so.
pub(super) fn in_words(edge: Duration) -> (f64, &'static str) {
    if edge < Duration::from_secs(1) {
        let micros = f64::from(u32::try_from(edge.as_micros()).unwrap_or(u32::MAX));
        (micros / 1000.0, "ms")
    } else {
        ((edge.as_secs_f64() * 1000.0).round() / 1000.0, "s")
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts beyond 2^53 are refused where they are read")]
fn as_float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Observations by upper edge in milliseconds; 0 is without an end.
    fn of(buckets: &[(u32, u64)]) -> Histogram {
        let mut histogram = Histogram::default();
        let mut sum = 0;
        for (edge, count) in buckets {
            sum += count;
            histogram.add(if *edge == 0 { Duration::MAX } else { MS * *edge }, sum);
        }
        histogram
    }

    #[test]
    fn a_quantile_is_known_as_the_stretch_between_two_edges() {
        let histogram = of(&[(5, 90), (10, 5), (25, 4), (0, 1)]);
        let at = |quantile| histogram.quantile(quantile).unwrap().to_string();
        assert_eq!(at(0.5), "at most 5 ms");
        assert_eq!(at(0.95), "5 to 10 ms", "95 of 100 are at or below 10 ms");
        assert_eq!(at(0.951), "10 to 25 ms");
        assert_eq!(at(1.0), "more than 25 ms");
        assert_eq!(of(&[(500, 0), (1000, 3), (0, 0)]).quantile(0.5).unwrap().to_string(), "500 ms to 1 s");
        assert_eq!(of(&[(5, 0), (0, 0)]).quantile(0.5), None, "nothing was observed");
    }

    #[test]
    fn what_is_over_a_limit_between_two_edges_is_only_known_within_bounds() {
        let histogram = of(&[(5, 6), (10, 3), (25, 2), (0, 1)]);
        assert_eq!(histogram.over(MS * 10), (3, 3));
        assert_eq!(histogram.over(MS * 8), (3, 6));
        assert_eq!(histogram.over(MS * 60), (0, 1));
        assert_eq!(histogram.over(MS), (6, 12));
    }

    #[test]
    fn counters_that_began_anew_have_no_difference() {
        let (before, after) = (of(&[(5, 6), (10, 3), (0, 1)]), of(&[(5, 7), (10, 5), (0, 1)]));
        assert_eq!(after.since(&before).unwrap(), of(&[(5, 1), (10, 2), (0, 0)]));
        assert_eq!(before.since(&after), None);
        assert_eq!(after.since(&of(&[(5, 1), (0, 0)])), None, "another ladder");
        assert_eq!(of(&[(5, 9), (10, 0), (0, 1)]).since(&before), None, "some count fell");
    }

    #[test]
    fn what_cannot_be_a_histogram_is_known() {
        assert!(of(&[(5, 1), (0, 0)]).is_sound());
        assert!(!of(&[(5, 1)]).is_sound(), "no end");
        let mut falling = of(&[(5, 3)]);
        falling.add(Duration::MAX, 2);
        assert!(!falling.is_sound());
        let mut long = Histogram::default();
        (1..=1000).for_each(|edge| long.add(MS * edge, 1));
        long.add(Duration::MAX, 1);
        assert!(!long.is_sound() && long.cumulative.len() <= EDGES_AT_MOST);
    }

    proptest! {
        #[test]
        fn a_quantile_and_a_count_agree(counts in proptest::collection::vec(0_u64..9, 1..20), quantile in 0.01..1.0_f64) {
            let edges = (1..).map(|edge| edge * 10).take(counts.len() - 1).chain([0]);
            let histogram = of(&edges.zip(counts.iter().copied()).collect::<Vec<_>>());
            prop_assert_eq!(histogram.buckets().map(|(_, count)| count).sum::<u64>(), histogram.count());
            let Some(range) = histogram.quantile(quantile) else {
                prop_assert_eq!(histogram.count(), 0);
                return Ok(());
            };
            let above = as_float(histogram.count()) * (1.0 - quantile) + 1e-6;
            if let Some(to) = range.to {
                prop_assert!(as_float(histogram.over(to).0) <= above);
            }
            if !range.from.is_zero() {
                prop_assert!(as_float(histogram.over(range.from).1) > above - 2e-6);
            }
        }
    }
}
