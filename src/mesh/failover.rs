//! Where a database has moved to, and what that did to the round trip.
//!
//! Two witnesses look: the connection that is measured says which server it leads to whenever it is opened, and discovery
//! reads the server's own account every few seconds. They see a move at different times, and one of them may hold on to the
//! old server for long. So each is held against what it said itself before, and a move is told once: by the first of them.
//!
//! The round trip before is the median of the old server's last window; the one after is that of the first replies of the
//! new one, which take a while. Until then, or until it is clear that they will not come, a move waits.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use super::database::Facts;
use super::state::Watch;

/// So many moves are kept.
pub const KEPT: usize = 16;
/// So many replies make the round trip after a move.
const REPLIES: u32 = 20;
/// What has not come by then is not waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who says where a database is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Witness {
    /// The connection that is measured.
    Connection,
    /// Discovery, on a connection of its own.
    Discovery,
}

/// Where a database is, as far as that was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The server's own address and port.
    pub server: Option<SocketAddr>,
    /// Whether it is a standby.
    pub standby: Option<bool>,
    /// The timeline, eight hexadecimal digits.
    pub timeline: Option<String>,
}

impl Place {
    /// As the server says.
    pub fn of(facts: &Facts) -> Self {
        Self {
            server: facts.server.map(SocketAddr::from),
            standby: Some(facts.standby),
            timeline: facts.timeline.clone(),
        }
    }

    /// Whether nothing that both know differs.
    fn is(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
            a.is_none() || b.is_none() || a == b
        }
        agree(self.server.as_ref(), other.server.as_ref())
            && agree(self.standby.as_ref(), other.standby.as_ref())
            && agree(self.timeline.as_ref(), other.timeline.as_ref())
    }

    fn learn(&mut self, other: &Self) {
        self.server = self.server.or(other.server);
        self.standby = self.standby.or(other.standby);
        if self.timeline.is_none() {
            self.timeline.clone_from(&other.timeline);
        }
    }

    /// In words.
    pub fn in_words(&self) -> String {
        let server = self.server.map_or_else(|| "its socket".to_owned(), |server| server.to_string());
        let timeline = self.timeline.as_deref().map_or(String::new(), |line| format!(", timeline {line}"));
        format!("{server}{}{timeline}", if self.standby == Some(true) { " (a standby)" } else { "" })
    }
}

/// A database was in one place and is in another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// When it was seen.
    pub at: Duration,
    /// The database's name in reports.
    pub database: String,
    /// Where it was.
    pub from: Place,
    /// Where it is.
    pub to: Place,
    /// Zone or region of both, where somebody said.
    pub called: [Option<String>; 2],
    /// The median round trip before and after; `None` where it is not known, or not yet.
    pub rtt_before: Option<Duration>,
    /// See `rtt_before`.
    pub rtt_after: Option<Duration>,
    waits: Option<Waits>,
}

/// For what a move waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// For a connection to the new server.
    Connection,
    /// For replies beyond so many slots.
    Replies(u64),
}

impl Move {
    /// Whether it is another server than before, and not the same one in another role.
    fn is_elsewhere(&self) -> bool {
        self.from.server != self.to.server
    }

    /// Where it was and is in words: by zone or region if those tell the two apart, with the address.
    pub fn in_words(&self) -> [String; 2] {
        let called = |place: &Place, called: Option<&String>| match called {
            Some(called) => format!("{called} ({})", place.in_words()),
            None => place.in_words(),
        };
        let [from, to] = &self.called;
        [called(&self.from, from.as_ref()), called(&self.to, to.as_ref())]
    }
}

/// What one database was said to be.
#[derive(Debug, Clone, Default)]
struct Known {
    announced: Place,
    said: BTreeMap<Witness, Place>,
}

/// The moves of all databases.
#[derive(Debug, Clone, Default)]
pub struct Moves {
    known: BTreeMap<String, Known>,
    moves: VecDeque<Move>,
}

impl Moves {
    /// A witness says where this database is; the answer is the move, where it is one that nobody has told yet.
    pub fn hear(
        &mut self,
        database: &str,
        witness: Witness,
        place: Place,
        now: Duration,
    ) -> Option<&mut Move> {
        let known = self.known.entry(database.to_owned()).or_default();
        if known.said.is_empty() {
            known.announced = place.clone();
        }
        let before = known.said.insert(witness, place.clone());
        let has_changed = before.is_some_and(|before| !before.is(&place));
        if !has_changed || known.announced.is(&place) {
            if known.announced.is(&place) {
                known.announced.learn(&place);
                let last = self.moves.iter_mut().rev().find(|one| one.database == database);
                if let Some(last) = last.filter(|last| last.to.is(&place)) {
                    last.to.learn(&place);
                }
            }
            return None;
        }
        let from = std::mem::replace(&mut known.announced, place.clone());
        // One that still waits has been overtaken.
        for one in self.moves.iter_mut().filter(|one| one.database == database) {
            one.waits = None;
        }
        if self.moves.len() == KEPT {
            self.moves.pop_front();
        }
        self.moves.push_back(Move {
            at: now,
            database: database.to_owned(),
            from,
            to: place,
            called: [None, None],
            rtt_before: None,
            rtt_after: None,
            waits: Some(Waits::Connection),
        });
        self.moves.back_mut()
    }

    /// The newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Move> {
        self.moves.iter().rev()
    }

    /// Looks at the links for those that wait; those that are complete now, or have waited for long enough.
    pub fn follow<'a>(&mut self, link: impl Fn(&str) -> Option<&'a Watch>, now: Duration) -> Vec<Move> {
        let mut done = Vec::new();
        for one in self.moves.iter_mut().filter(|one| one.waits.is_some()) {
            match link(&one.database) {
                Some(watch) => one.look_at(watch),
                None => one.waits = None,
            }
            if now.saturating_sub(one.at) >= PATIENCE {
                one.waits = None;
            }
            if one.waits.is_none() {
                done.push(one.clone());
            }
        }
        done
    }
}

impl Move {
    /// Takes from the link what it can tell by now.
    pub fn look_at(&mut self, watch: &Watch) {
        if self.waits == Some(Waits::Connection) {
            let leads = watch.leads();
            let arrived = leads.filter(|leads| leads.from.is_some() && Some(leads.to) == self.to.server);
            if let (true, Some(leads)) = (self.is_elsewhere(), arrived) {
                self.rtt_before = leads.rtt_before;
                self.waits = Some(Waits::Replies(leads.slots_before));
            } else {
                self.rtt_before = watch.series().window.all().rtt().quantile(0.5);
                if !self.is_elsewhere() {
                    self.waits = Some(Waits::Replies(watch.slots()));
                }
            }
        }
        if let Some(Waits::Replies(slots)) = self.waits {
            let (replies, median) = watch.rtt_since(slots);
            if replies >= REPLIES {
                (self.rtt_after, self.waits) = (median, None);
            }
        }
    }

    /// Whether the link has to be opened anew to lead to where the database is now.
    pub fn wants_connection(&self) -> bool {
        self.waits == Some(Waits::Connection)
    }
}

#[cfg(test)]
mod tests {
    use probes::sample::{Sample, Timing};
    use probes::target::Kind;

    use super::*;
    use crate::mesh::peer::Link;
    use crate::mesh::state::{Graces, Terms};
    use Witness::{Connection, Discovery};

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 5432))
    }

    fn at(last: u8, timeline: &str) -> Place {
        let timeline = Some(timeline.to_owned()).filter(|line| !line.is_empty());
        Place { server: Some(address(last)), standby: Some(false), timeline }
    }

    fn opened(last: u8) -> Place {
        Place { server: Some(address(last)), ..Place::default() }
    }

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    /// What these words come to: from and to of each move, by its last octet.
    fn told(story: &[(Witness, Place)]) -> Vec<String> {
        let mut moves = Moves::default();
        for (index, (witness, place)) in (0..).zip(story) {
            moves.hear("db", *witness, place.clone(), second(index));
        }
        let mut told: Vec<_> = moves
            .newest_first()
            .map(|one| format!("{} → {}", one.from.in_words(), one.to.in_words()))
            .collect();
        told.reverse();
        told
    }

    #[test]
    fn another_address_another_timeline_or_another_role_is_a_move() {
        assert_eq!(told(&[(Discovery, at(1, "00000001")), (Discovery, at(1, "00000001"))]), [""; 0]);
        let moved = told(&[(Discovery, at(1, "00000001")), (Discovery, at(2, "00000002"))]);
        assert_eq!(moved, ["10.0.0.1:5432, timeline 00000001 → 10.0.0.2:5432, timeline 00000002"]);
        let in_place = told(&[(Discovery, at(1, "00000001")), (Discovery, at(1, "00000002"))]);
        assert_eq!(in_place.len(), 1, "behind one address");
        let standby = Place { standby: Some(true), ..at(1, "") };
        let promoted = told(&[(Discovery, standby), (Discovery, at(1, "00000002"))]);
        assert_eq!(promoted, ["10.0.0.1:5432 (a standby) → 10.0.0.1:5432, timeline 00000002"]);
    }

    #[test]
    fn two_witnesses_tell_one_move_whichever_is_first_and_however_long_the_other_lags() {
        let once = ["10.0.0.1:5432, timeline 00000001 → 10.0.0.2:5432, timeline 00000002"];
        let (before, after) = (at(1, "00000001"), at(2, "00000002"));
        let start = [(Discovery, before.clone()), (Connection, opened(1))];
        let connection_first = [
            (Connection, opened(2)),
            (Discovery, before.clone()),
            (Discovery, before.clone()),
            (Discovery, after.clone()),
        ];
        assert_eq!(told(&[&start[..], &connection_first].concat()), once);
        let discovery_first = [(Discovery, after.clone()), (Connection, opened(1)), (Connection, opened(2))];
        assert_eq!(told(&[&start[..], &discovery_first].concat()), once);
        let back = [(Connection, opened(2)), (Discovery, after), (Connection, opened(1))];
        assert_eq!(told(&[&start[..], &back].concat()).len(), 2, "and back again");
        let late = [(Connection, opened(2)), (Discovery, before)];
        assert_eq!(told(&late), [""; 0], "the first word of a witness is no move");
    }

    fn watch() -> Watch {
        let terms = Terms {
            limit: Some(Duration::from_millis(10)),
            quantile: 0.95,
            interval: second(1),
            connects: true,
            graces: Graces::default(),
        };
        let mut watch = Watch::new(Link::to("db", Kind::Postgres, None), terms, Duration::ZERO);
        open(&mut watch, 1, 0);
        watch
    }

    fn open(watch: &mut Watch, last: u8, now: u64) {
        let timing = Timing { leads_to: Some(address(last)), ..Timing::default() };
        watch.opened(&Sample::from(timing), second(now));
    }

    fn replies(watch: &mut Watch, seconds: std::ops::Range<u64>, us: u64) {
        for now in seconds {
            watch.sent(now, second(now));
            let reply = Timing { rtt: Duration::from_micros(us), ..Timing::default() };
            watch.outcome(now, &reply.into(), second(now));
        }
    }

    #[test]
    fn the_round_trip_after_a_move_is_that_of_the_new_server_alone() {
        let (mut watch, mut moves) = (watch(), Moves::default());
        replies(&mut watch, 0..100, 600);
        moves.hear("db", Discovery, at(1, "00000001"), second(90));
        // The measured connection came first, and some of its replies as well.
        open(&mut watch, 2, 100);
        replies(&mut watch, 100..105, 1400);
        let one = moves.hear("db", Discovery, at(2, "00000002"), second(105)).unwrap();
        one.look_at(&watch);
        assert!(!one.wants_connection());
        assert_eq!(one.rtt_before, Some(Duration::from_micros(600)));
        assert!(moves.follow(|_| Some(&watch), second(105)).is_empty(), "five replies are too few");
        replies(&mut watch, 105..120, 1400);
        let done = moves.follow(|_| Some(&watch), second(120));
        assert_eq!(done[0].rtt_after, Some(Duration::from_micros(1400)));
        assert!(moves.follow(|_| Some(&watch), second(121)).is_empty(), "told once");
    }

    #[test]
    fn a_connection_that_stays_with_the_old_server_is_opened_anew_and_not_taken_for_the_new_one() {
        let (mut watch, mut moves) = (watch(), Moves::default());
        replies(&mut watch, 0..100, 600);
        moves.hear("db", Discovery, at(1, ""), second(90));
        let one = moves.hear("db", Discovery, at(2, ""), second(100)).unwrap();
        one.look_at(&watch);
        assert!(one.wants_connection());
        replies(&mut watch, 100..150, 600);
        assert!(moves.follow(|_| Some(&watch), second(150)).is_empty());
        let never = moves.clone().follow(|_| Some(&watch), second(160));
        assert_eq!((never[0].rtt_before, never[0].rtt_after), (Some(Duration::from_micros(600)), None));
        open(&mut watch, 2, 150);
        replies(&mut watch, 150..170, 1400);
        assert_eq!(
            moves.follow(|_| Some(&watch), second(159))[0].rtt_after,
            Some(Duration::from_micros(1400))
        );
        assert_eq!(moves.newest_first().count(), 1);
    }

    #[test]
    fn a_promotion_in_place_needs_no_new_connection_and_one_without_a_link_waits_for_nothing() {
        let (mut watch, mut moves) = (watch(), Moves::default());
        replies(&mut watch, 0..100, 600);
        moves.hear("db", Discovery, at(1, "00000001"), second(90));
        let one = moves.hear("db", Discovery, at(1, "00000002"), second(100)).unwrap();
        one.look_at(&watch);
        assert!(!one.wants_connection());
        replies(&mut watch, 100..120, 700);
        assert_eq!(
            moves.follow(|_| Some(&watch), second(120))[0].rtt_after,
            Some(Duration::from_micros(700))
        );
        moves.hear("db", Discovery, at(1, "00000003"), second(130));
        let done = moves.follow(|_| None, second(130));
        assert_eq!((done.len(), done[0].rtt_after), (1, None));
    }

    #[test]
    fn sixteen_are_kept_and_words_name_zones_where_they_are_known() {
        let mut moves = Moves::default();
        for n in 0..20 {
            moves.hear("db", Discovery, at(n, ""), second(u64::from(n)));
        }
        assert_eq!(moves.newest_first().count(), KEPT);
        let mut last = moves.newest_first().next().unwrap().clone();
        last.called = [Some("use1-az1".into()), None];
        assert_eq!(last.in_words(), ["use1-az1 (10.0.0.18:5432)", "10.0.0.19:5432"]);
    }
}
