//! Which server the connection leads to, and what becomes of a link's samples when it is another one.
//!
//! The verdict is about the server that is there now. Samples of the one before say nothing about it: mixed with those of a
//! near one, a far one would look near for minutes. So the window, the floor and the bare connects begin anew with the first
//! connection that leads elsewhere; counters since the start and the hour in brief go on. The state holds until the new
//! samples say otherwise, as after a change of route. A reconnect to the same server changes nothing.

use std::net::SocketAddr;
use std::time::Duration;

use probes::sample::{Outcome, Sample};

use super::Watch;

/// The server at the other end, by its own account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leads {
    /// Its address and port.
    pub to: SocketAddr,
    /// Since when.
    pub since: Duration,
    /// The one before; `None` where it is the first.
    pub from: Option<SocketAddr>,
    /// The median round trip to the one before, as its last window had it.
    pub rtt_before: Option<Duration>,
    /// How many slots had an outcome before it.
    pub slots_before: u64,
}

impl Watch {
    /// A connection was opened at `at`, or was not.
    pub fn opened(&mut self, sample: &Sample, at: Duration) {
        self.series.opened(sample, at.saturating_sub(self.born));
        let Outcome::Ok(timing) = &sample.outcome else { return };
        let Some(to) = timing.leads_to.filter(|to| self.leads.is_none_or(|leads| leads.to != *to)) else {
            return;
        };
        let from = self.leads.map(|leads| leads.to);
        let rtt_before = from.and_then(|_| self.series.window.all().rtt().quantile(0.5));
        self.leads = Some(Leads { to, since: at, from, rtt_before, slots_before: self.slots() });
        if from.is_some() {
            self.series.begin_anew();
            self.route = None;
        }
    }

    /// Which server it is about; `None` where that was not said.
    pub fn leads(&self) -> Option<Leads> {
        self.leads
    }

    /// How many slots have had an outcome.
    pub fn slots(&self) -> u64 {
        self.series.window.totals().outcomes.all()
    }

    /// The replies since there were so many slots, and the median of their round trips.
    pub fn rtt_since(&self, slots: u64) -> (u32, Option<Duration>) {
        let count = usize::try_from(self.slots().saturating_sub(slots)).unwrap_or(usize::MAX);
        let rtt = self.series.window.last(count).rtt();
        (u32::try_from(rtt.len()).unwrap_or(u32::MAX), rtt.quantile(0.5))
    }

    /// Whether a question that was sent then went to the server before this one.
    pub(super) fn is_of_another_server(&self, sent: Duration) -> bool {
        self.leads.is_some_and(|leads| leads.from.is_some() && sent < leads.since)
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Failure, Reason, Timing};
    use probes::target::Kind;

    use super::super::{Graces, State, Terms};
    use super::*;
    use crate::mesh::peer::Link;

    fn opened(last: u8) -> Sample {
        Timing { leads_to: Some(SocketAddr::from(([10, 0, 0, last], 5432))), ..Timing::default() }.into()
    }

    fn at(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn watch() -> Watch {
        let terms = Terms {
            limit: Some(Duration::from_millis(10)),
            quantile: 0.95,
            interval: Duration::from_secs(1),
            connects: true,
            graces: Graces::default(),
        };
        let mut watch = Watch::new(Link::to("db", Kind::Postgres, None), terms, Duration::ZERO);
        watch.opened(&opened(1), Duration::ZERO);
        watch
    }

    fn replies(watch: &mut Watch, seconds: std::ops::Range<u64>, us: u64) {
        for second in seconds {
            watch.sent(second, at(second));
            let reply = Timing { rtt: Duration::from_micros(us), ..Timing::default() };
            watch.outcome(second, &reply.into(), at(second));
        }
    }

    #[test]
    fn a_far_server_after_a_near_one_is_judged_by_its_own_samples() {
        let mut watch = watch();
        replies(&mut watch, 0..300, 600);
        assert_eq!(watch.standing().0, State::Ok);
        watch.opened(&opened(2), at(300));
        assert_eq!(watch.standing().0, State::Ok, "nothing is known of it yet");
        let leads = watch.leads().unwrap();
        assert_eq!((leads.from.unwrap().ip().to_string().as_str(), leads.since), ("10.0.0.1", at(300)));
        assert_eq!(leads.rtt_before, Some(Duration::from_micros(600)));
        replies(&mut watch, 300..330, 30_000);
        assert_eq!(watch.standing().0, State::Breach);
        assert_eq!(watch.rtt_since(leads.slots_before), (30, Some(Duration::from_millis(30))));
        assert_eq!(watch.route(), None, "that is no change of route");
        // And back to a near one: no sample of the far one is left, so a minute is enough.
        watch.opened(&opened(1), at(330));
        replies(&mut watch, 330..395, 600);
        assert_eq!(watch.standing().0, State::Ok);
        assert_eq!(watch.slots(), 395, "counters go on");
    }

    #[test]
    fn a_reconnect_to_the_same_server_forgets_nothing() {
        let mut watch = watch();
        replies(&mut watch, 0..100, 600);
        watch.opened(&opened(1), at(100));
        watch.opened(&Timing::default().into(), at(101));
        assert_eq!(watch.series().window.all().judged(), 100);
        assert_eq!(watch.leads().unwrap().from, None);
        assert_eq!(watch.series().openings.reconnects(), 2);
    }

    #[test]
    fn what_the_old_server_still_owed_is_counted_and_not_held_against_the_new_one() {
        let mut watch = watch();
        replies(&mut watch, 0..100, 600);
        watch.sent(100, at(100));
        watch.opened(&opened(2), at(101));
        watch.outcome(100, &Failure::new(Reason::Timeout, "no answer").into(), at(102));
        assert_eq!(watch.series().window.all().slots(), 0);
        assert_eq!(watch.series().window.totals().outcomes.lost, 1);
    }
}
