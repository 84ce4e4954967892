//! What a link was like over the last two days: fed with what its window judges, and with nothing else.

use std::time::Duration;

use super::Watch;
use crate::mesh::history::History;
use crate::mesh::outcomes::Record;

impl Watch {
    /// What it was like, by the time since the agent began.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Keeps the outcome that the window took in last, unless our own noise has spoilt it.
    pub(super) fn remember(&mut self, now: Duration) {
        let last = self.series.window.last(1).records().next().copied();
        if let Some(record) = last.filter(Record::judged) {
            self.history.record(record.rtt(), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Direction, Failure, Outcome, Reason, Sample, Timing};
    use probes::target::Kind;

    use super::super::{Graces, Terms};
    use super::*;
    use crate::mesh::links::{Links, Rules};
    use crate::mesh::peer::{Link, Own};

    fn sample(ms: u64, own_wait_ms: u64) -> Sample {
        let timing = Timing { rtt: Duration::from_millis(ms), ..Timing::default() };
        Sample { own_wait: Duration::from_millis(own_wait_ms), ..Sample::new(Outcome::Ok(timing)) }
    }

    #[test]
    fn judged_outcomes_are_kept_and_our_own_faults_are_not() {
        let terms = Terms {
            limit: Some(Duration::from_millis(10)),
            quantile: 0.95,
            interval: Duration::from_secs(1),
            connects: false,
            graces: Graces::default(),
        };
        let at = Duration::from_secs;
        let mut watch = Watch::new(Link::to("b", Kind::Peer, None), terms, at(100));
        assert_eq!(watch.history().heap_bytes(), 0, "what is not used is not taken");
        let lost = Outcome::Lost(Failure::new(Reason::Timeout, "x"), Direction::Unknown);
        for (slot, sample) in [
            sample(3, 0),
            // Ours: a wait of 5 ms, and one that was never sent.
            sample(12, 5),
            Sample::skipped_self(),
            Sample::new(lost),
            sample(4, 0),
        ]
        .into_iter()
        .enumerate()
        {
            let slot = u64::try_from(slot).unwrap();
            watch.outcome(slot, &sample, at(100 + slot));
        }
        watch.outcome(9, &sample(3, 0), at(111));
        let bins: Vec<_> = watch.history().fine(Duration::ZERO).collect();
        let seen: Vec<_> = bins.iter().map(|bin| (bin.begin, bin.judged, bin.lost)).collect();
        assert_eq!(seen, [(at(100), 3, 1)], "by the agent's own clock");
        let slowest = bins[0].rtt.unwrap()[3];
        assert!(slowest < Duration::from_millis(5), "{slowest:?}");
    }

    #[test]
    fn a_link_that_stays_keeps_its_past_when_the_list_of_links_changes() {
        let mut links = Links::new(Own::default(), Rules::default());
        let link = |name: &str| Link::to(name, Kind::Peer, None);
        links.handle_roster(&[link("a"), link("b")], Duration::ZERO);
        for second in 0..30 {
            links.get_mut(0).unwrap().outcome(second, &sample(1, 0), Duration::from_secs(second));
        }
        let mut after = links.clone();
        after.set_rules(Rules::default());
        after.handle_roster(&[link("a"), link("c")], Duration::from_secs(30));
        assert_eq!(after.get(0).unwrap().history().fine(Duration::ZERO).count(), 2);
        assert_eq!(after.get(2).unwrap().history().heap_bytes(), 0);
    }
}
