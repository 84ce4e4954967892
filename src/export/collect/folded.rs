//! What several links are shown together: sums that never fall, although links come and go.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::target::Kind;

use crate::mesh::meter::{Meters, Scale};
use crate::mesh::state::{State, Watch};
use crate::mesh::window::Totals;

/// All that only rises of one link, or of several together.
#[derive(Debug, Clone)]
pub(super) struct Cumulative {
    pub(super) born: Duration,
    pub(super) totals: Totals,
    pub(super) came_to: [u64; State::ALL.len()],
    pub(super) reconnects: u64,
    pub(super) connects_failed: u64,
    pub(super) meters: Meters,
}

impl Cumulative {
    pub(super) fn of(watch: &Watch, scale: &Scale) -> Self {
        let series = watch.series();
        let meters = series.window.meters().cloned();
        Self {
            born: watch.born(),
            totals: *series.window.totals(),
            came_to: State::ALL.map(|state| watch.came_to(state)),
            reconnects: series.openings.reconnects(),
            connects_failed: series.openings.failed(),
            meters: meters.unwrap_or_else(|| Meters::new(watch.link.kind, scale, watch.born())),
        }
    }

    fn join(&mut self, other: &Self) {
        self.born = self.born.min(other.born);
        self.totals.join(&other.totals);
        self.came_to.iter_mut().zip(other.came_to).for_each(|(count, more)| *count += more);
        self.reconnects += other.reconnects;
        self.connects_failed += other.connects_failed;
        self.meters.join(&other.meters);
    }
}

/// Under which name, and how it is measured.
pub(super) type Group = (String, Kind);

/// What was last seen of each link that is shown with others, and what those had that are gone.
#[derive(Debug, Default)]
pub(super) struct Folded {
    seen: BTreeMap<u32, (Group, Cumulative)>,
    gone: BTreeMap<Group, Cumulative>,
}

impl Folded {
    /// These links are shown together now, and no others are: what each group has added up to.
    ///
    /// A link that comes to a group from elsewhere brings its past along.
    pub(super) fn add_up(
        &mut self,
        links: BTreeMap<u32, (Group, Cumulative)>,
    ) -> BTreeMap<Group, Cumulative> {
        for (id, (group, last)) in std::mem::take(&mut self.seen) {
            if links.get(&id).is_none_or(|(now, _)| *now != group) {
                self.gone.entry(group).and_modify(|gone| gone.join(&last)).or_insert(last);
            }
        }
        let mut sums = BTreeMap::<Group, Cumulative>::new();
        for (group, one) in links.values() {
            sums.entry(group.clone()).and_modify(|sum| sum.join(one)).or_insert_with(|| one.clone());
        }
        for (group, sum) in &mut sums {
            if let Some(gone) = self.gone.get(group) {
                sum.join(gone);
            }
        }
        self.seen = links;
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(judged: u64, ms: &[u64]) -> Cumulative {
        let mut meters = Meters::new(Kind::Peer, &Scale::default(), Duration::ZERO);
        ms.iter().for_each(|ms| meters.slots.record(Duration::from_millis(*ms)));
        Cumulative {
            born: Duration::from_secs(judged),
            totals: Totals { judged, ..Totals::default() },
            came_to: [1; State::ALL.len()],
            reconnects: 0,
            connects_failed: 0,
            meters,
        }
    }

    #[test]
    fn a_sum_never_falls_when_one_of_its_links_is_gone() {
        let mut folded = Folded::default();
        let group = |name: &str| (name.to_owned(), Kind::Peer);
        let mut links = BTreeMap::from([
            (1, (group("a"), one(10, &[1]))),
            (2, (group("a"), one(20, &[1, 2]))),
            (3, (group("b"), one(5, &[]))),
        ]);
        let judged = |sums: &BTreeMap<Group, Cumulative>, name: &str| sums[&group(name)].totals.judged;
        let sums = folded.add_up(links.clone());
        assert_eq!((judged(&sums, "a"), judged(&sums, "b")), (30, 5));
        assert_eq!(sums[&group("a")].meters.slots.histogram.count(), 3);
        links.remove(&2);
        links.insert(1, (group("a"), one(11, &[1, 1])));
        let sums = folded.add_up(links.clone());
        assert_eq!(judged(&sums, "a"), 31, "what the gone one had stays");
        assert_eq!(sums[&group("a")].meters.slots.histogram.count(), 4);
        assert_eq!(sums[&group("a")].came_to, [2; State::ALL.len()]);
        links.insert(1, (group("b"), one(12, &[])));
        let sums = folded.add_up(links);
        assert!(!sums.contains_key(&group("a")), "nobody is there to be shown");
        assert_eq!(judged(&sums, "b"), 17);
    }
}
