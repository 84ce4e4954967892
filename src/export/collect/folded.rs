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

    /// Nothing yet, to be counted from `born` on.
    fn nothing(kind: Kind, scale: &Scale, born: Duration) -> Self {
        Self {
            born,
            totals: Totals::default(),
            came_to: [0; State::ALL.len()],
            reconnects: 0,
            connects_failed: 0,
            meters: Meters::new(kind, scale, born),
        }
    }

    /// What came since it was like that.
    fn since(&self, before: &Self) -> Self {
        let mut rest = self.clone();
        rest.totals.with(&before.totals, |count, old| *count = count.saturating_sub(old));
        rest.came_to
            .iter_mut()
            .zip(before.came_to)
            .for_each(|(count, old)| *count = count.saturating_sub(old));
        rest.reconnects = rest.reconnects.saturating_sub(before.reconnects);
        rest.connects_failed = rest.connects_failed.saturating_sub(before.connects_failed);
        rest.meters = self.meters.since(&before.meters);
        rest
    }

    fn add(&mut self, growth: &Self) {
        self.totals.with(&growth.totals, |count, more| *count += more);
        self.came_to.iter_mut().zip(growth.came_to).for_each(|(count, more)| *count += more);
        self.reconnects += growth.reconnects;
        self.connects_failed += growth.connects_failed;
        self.meters.join(&growth.meters);
    }
}

/// Under which name, and how it is measured.
pub(super) type Group = (String, Kind);

/// What each group has added up to, and what each of its links had when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Folded {
    seen: BTreeMap<u32, (Group, Cumulative)>,
    sums: BTreeMap<Group, Cumulative>,
    scale: Scale,
    looked: Option<Duration>,
}

impl Folded {
    /// These links are shown together now, and no others are: what each group has added up to.
    ///
    /// Only what comes while a link is in its group is added, so that one that comes from elsewhere, or comes back, does not bring
    /// along what was shown of it before. A link that is younger than the last look has always been here.
    pub(super) fn add_up(
        &mut self,
        links: BTreeMap<u32, (Group, Cumulative)>,
        scale: &Scale,
        now: Duration,
    ) -> BTreeMap<Group, Cumulative> {
        if self.scale != *scale {
            // Other edges: all histograms begin anew, these as well.
            self.scale = scale.clone();
            for ((_, kind), sum) in &mut self.sums {
                sum.meters = Meters::new(*kind, scale, now);
            }
        }
        for (id, (group, one)) in &links {
            let known = self.seen.get(id).filter(|(before, _)| before == group).map(|(_, before)| before);
            let is_new = self.looked.is_none_or(|looked| one.born >= looked);
            let growth = match known {
                Some(before) => one.since(before),
                None if is_new => one.clone(),
                None => one.since(one),
            };
            let born = if is_new { one.born } else { now };
            let nothing = || Cumulative::nothing(group.1, scale, born);
            self.sums.entry(group.clone()).or_insert_with(nothing).add(&growth);
        }
        self.looked = Some(now);
        let sums = links
            .values()
            .map(|(group, _)| group)
            .filter_map(|group| self.sums.get(group).map(|sum| (group.clone(), sum.clone())));
        let sums = sums.collect();
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
            born: Duration::ZERO,
            totals: Totals { judged, ..Totals::default() },
            came_to: [1; State::ALL.len()],
            reconnects: 0,
            connects_failed: 0,
            meters,
        }
    }

    fn group(name: &str) -> Group {
        (name.to_owned(), Kind::Peer)
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    #[test]
    fn a_sum_never_falls_when_one_of_its_links_is_gone() {
        let (mut folded, scale) = (Folded::default(), Scale::default());
        let mut links = BTreeMap::from([
            (1, (group("a"), one(10, &[1]))),
            (2, (group("a"), one(20, &[1, 2]))),
            (3, (group("b"), one(5, &[]))),
        ]);
        let judged = |sums: &BTreeMap<Group, Cumulative>, name: &str| sums[&group(name)].totals.judged;
        let sums = folded.add_up(links.clone(), &scale, at(100));
        assert_eq!((judged(&sums, "a"), judged(&sums, "b")), (30, 5));
        assert_eq!(sums[&group("a")].meters.slots.histogram.count(), 3);
        links.remove(&2);
        links.insert(1, (group("a"), one(11, &[1, 1])));
        let sums = folded.add_up(links, &scale, at(101));
        assert_eq!(judged(&sums, "a"), 31, "what the gone one had stays");
        assert_eq!(sums[&group("a")].meters.slots.histogram.count(), 4);
        assert_eq!(sums[&group("a")].came_to, [2; State::ALL.len()]);
    }

    #[test]
    fn who_comes_from_another_group_or_comes_back_brings_only_what_comes_from_now_on() {
        let (mut folded, scale) = (Folded::default(), Scale::default());
        let mut look = |name: &str, judged: u64, second: u64| {
            let links = BTreeMap::from([(1, (group(name), one(judged, &[])))]);
            let sums = folded.add_up(links, &scale, at(second));
            (sums[&group(name)].totals.judged, sums[&group(name)].born)
        };
        assert_eq!(look("az", 100, 200), (100, at(0)));
        assert_eq!(look("unknown", 110, 210), (0, at(210)));
        assert_eq!(look("unknown", 115, 211), (5, at(210)));
        assert_eq!(look("az", 120, 220), (100, at(0)), "its hundred are not added again");
        assert_eq!(look("az", 121, 221), (101, at(0)));
    }

    #[test]
    fn other_edges_begin_the_histograms_of_a_sum_anew_and_its_start_says_so() {
        let mut folded = Folded::default();
        let links = |scale: &Scale, born: u64, ms: &[u64]| {
            let mut meters = Meters::new(Kind::Peer, scale, at(born));
            ms.iter().for_each(|ms| meters.slots.record(Duration::from_millis(*ms)));
            BTreeMap::from([(1, (group("a"), Cumulative { meters, ..one(7, &[]) }))])
        };
        let scale = Scale::default();
        folded.add_up(links(&scale, 0, &[1, 2]), &scale, at(10));
        let other = Scale { edges: crate::mesh::histogram::Edges::with([Duration::from_millis(7)]), ..scale };
        let sums = folded.add_up(links(&other, 20, &[3]), &other, at(21));
        let slots = &sums[&group("a")].meters.slots;
        assert_eq!((slots.histogram.count(), slots.born), (1, at(21)));
        assert_eq!(sums[&group("a")].totals.judged, 7);
    }
}
