//! The whole mesh as one picture: who measures whom, how each pair stands, and all of it in a sentence.
//!
//! Our own links are as they are now; the others' are as they were told, and stale when their agent has missed two letters. A stale
//! row is history: it is shown and counts for nothing.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use probes::target::{HostPort, Kind};

use super::cause::ms;
use super::neighbours::{Stance, Stances};
use super::peer::Role;
use super::place::Place;
use super::place::policy::Severity;
use super::region::{Atlas, written};
use super::roster::Member;
use super::rules::held::Held;
use super::rules::input::servers;
use super::state::State;
use super::whole::{Identity, Row, Whole};

/// Letters come every five seconds: after two that did not come, what was told is history.
pub const STALE_AFTER: Duration = Duration::from_secs(10);

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// In a word, since when, and in a sentence or two.
    pub verdict: Verdict,
    /// Everybody that measures, by name.
    pub agents: Vec<AgentLine>,
    /// Everything that is measured, by name and kind.
    pub targets: Vec<TargetLine>,
    /// Every pair.
    pub cells: Vec<Cell>,
    /// The same from zone to zone.
    pub zone_pairs: Vec<ZonePair>,
}

/// The worst of all that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Of all judged pairs and of who stands where.
    pub state: State,
    /// Since when the oldest of the worst has been so.
    pub since: Option<Duration>,
    /// For people.
    pub words: String,
}

/// Where something stands, as far as anybody said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spot {
    /// The machine.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who says so.
    pub by: Option<String>,
}

/// One that measures.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentLine {
    /// Its name.
    pub name: String,
    /// What it stands beside.
    pub role: Option<Role>,
    /// Whether there is anything beside it.
    pub is_idle: bool,
    /// Where.
    pub spot: Spot,
    /// Its version.
    pub version: String,
    /// How long ago it wrote; `None` of ourselves.
    pub heard: Option<Duration>,
    /// What it told is history.
    pub stale: bool,
    /// It gets too little CPU to measure.
    pub starved: bool,
    /// How many links it has.
    pub links: usize,
    /// Where it answers echoes.
    pub reflector: Option<HostPort>,
}

/// One that is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLine {
    /// Its name.
    pub name: String,
    /// How.
    pub kind: Kind,
    /// What it is.
    pub role: Option<Role>,
    /// Where.
    pub spot: Spot,
}

/// One pair.
#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Who measures.
    pub source: String,
    /// How it stands, with the target's name as everybody calls it.
    pub row: Row,
    /// What its source calls the target.
    pub called: String,
    /// It was told too long ago.
    pub stale: bool,
    /// The other way round takes far longer or far shorter.
    pub lopsided: bool,
}

impl Cell {
    /// Whether it is held against a budget and says something about now.
    pub fn counts(&self) -> bool {
        self.row.budget.is_some() && !self.stale
    }

    /// How many of the last outcomes got no reply; `None` where an older agent does not say it, which says no p99 either.
    pub fn lost(&self) -> Option<u32> {
        (self.row.p99.is_some() || self.row.lost > 0).then_some(self.row.lost)
    }

    /// Their share; `None` without any outcome.
    pub fn loss(&self) -> Option<f64> {
        let (lost, all) = (self.lost()?, self.row.samples.max(self.row.lost));
        (all > 0).then(|| f64::from(lost) / f64::from(all))
    }
}

/// All pairs from one zone to another.
#[derive(Debug, Clone, PartialEq)]
pub struct ZonePair {
    /// From where: zone and region.
    pub source: [Option<String>; 2],
    /// To where.
    pub target: [Option<String>; 2],
    /// How.
    pub kind: Kind,
    /// How many pairs.
    pub cells: usize,
    /// The worst of them.
    pub state: State,
    /// The strictest of their budgets; `None` where all are for information.
    pub budget: Option<Duration>,
    /// The slowest median.
    pub p50: Option<Duration>,
    /// The slowest 95th percentile.
    pub p95: Option<Duration>,
    /// The greatest loss.
    pub loss: Option<f64>,
}

/// What is looked at.
pub struct Sight<'a> {
    /// Who we are.
    pub own: &'a Identity,
    /// Our own links.
    pub rows: Vec<Row>,
    /// What the others told.
    pub whole: &'a Whole,
    /// Everybody that is known.
    pub members: &'a [Member],
    /// Where regions are.
    pub atlas: &'a Atlas,
    /// What is wrong with who stands where.
    pub findings: &'a [Held],
    /// Now.
    pub now: Duration,
}

/// Puts the picture together.
pub fn picture(sight: &Sight<'_>) -> Matrix {
    let spots = Spots::of(sight);
    let stances = Stances::of(sight.members);
    let others = sight.whole.all().filter(|agent| agent.identity.name != sight.own.name);
    let others = others.map(|agent| {
        let heard = sight.now.saturating_sub(agent.heard);
        (&agent.identity, agent.rows.values().cloned().collect::<Vec<_>>(), Some(heard))
    });
    let (mut agents, mut cells) = (Vec::new(), Vec::new());
    for (identity, rows, heard) in std::iter::once((sight.own, sight.rows.clone(), None)).chain(others) {
        let stale = heard.is_some_and(|heard| heard >= STALE_AFTER);
        let starving = rows.iter().filter(|row| row.state == State::Stale && row.reason == "self").count();
        agents.push(AgentLine {
            name: identity.name.clone(),
            role: identity.role,
            is_idle: stances.stance(&identity.sighting()) == Stance::Idle,
            spot: spots.of_name(&identity.name),
            version: identity.version.clone(),
            heard,
            stale,
            starved: starving * 2 > rows.len(),
            links: rows.len(),
            reflector: identity.reflectors.first().cloned(),
        });
        cells.extend(rows.into_iter().map(|mut row| {
            let called = row.target.clone();
            row.target = spots.called(row.target, row.kind);
            Cell { source: identity.name.clone(), row, called, stale, lopsided: false }
        }));
    }
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    let key = |cell: &Cell| (cell.source.clone(), cell.row.kind, cell.row.target.clone());
    // One target under two of its names is one pair, which stands as the worse of the two.
    cells.sort_by_cached_key(|cell| (key(cell), Reverse(cell.row.state)));
    cells.dedup_by(|later, first| key(later) == key(first));
    mark_lopsided(&mut cells);
    let targets: BTreeMap<_, _> =
        cells.iter().map(|cell| ((cell.row.target.clone(), cell.row.kind), cell.row.role)).collect();
    let target = |((name, kind), role): ((String, Kind), Option<Role>)| {
        let spot = spots.of_name(&name);
        TargetLine { name, kind, role, spot }
    };
    Matrix {
        verdict: verdict(&cells, &agents, sight.findings),
        zone_pairs: zone_pairs(&cells, &spots),
        agents,
        targets: targets.into_iter().map(target).collect(),
        cells,
    }
}

/// Everybody's spot and name by each of their names.
struct Spots {
    spots: BTreeMap<String, Spot>,
    reflectors: BTreeMap<HostPort, String>,
    /// Agents by the names under which people know their hosts; `None` where two have the same.
    hosts: BTreeMap<String, Option<String>>,
}

impl Spots {
    fn of(sight: &Sight<'_>) -> Self {
        let mut spots = BTreeMap::new();
        let spot = |node: Option<&String>, place: &Place| Spot {
            node: node.cloned(),
            zone: place.zones.first().cloned(),
            region: place.region.as_ref().map(written),
            by: place.region.as_ref().map(|_| place.by.clone()),
        };
        for server in servers(sight.members) {
            let known = spot(server.node.as_ref(), &Place::weigh(&server.claims, sight.atlas));
            for name in std::iter::once(server.name).chain(server.known_as) {
                spots.entry(name).or_insert_with(|| known.clone());
            }
        }
        let told = sight.whole.all().map(|agent| &agent.identity).chain([sight.own]);
        let (mut reflectors, mut hosts) = (BTreeMap::new(), BTreeMap::new());
        for identity in told {
            // What other sources claim of an agent is on its member.
            let member = sight.members.iter().find(|member| {
                member.is_agent() && member.facts.agent.as_deref() == Some(identity.name.as_str())
            });
            let claims = member.map_or(&identity.claims, |member| &member.facts.claims);
            let place = Place::weigh(claims, sight.atlas);
            spots.insert(identity.name.clone(), spot(identity.node.as_ref(), &place));
            for reflector in &identity.reflectors {
                reflectors.insert(reflector.clone(), identity.name.clone());
            }
            for host in
                BTreeSet::from([Some(&identity.name), identity.host_name.as_ref()]).into_iter().flatten()
            {
                let known = hosts.entry(host.clone()).or_insert_with(|| Some(identity.name.clone()));
                known.take_if(|known| *known != identity.name);
            }
        }
        Self { spots, reflectors, hosts }
    }

    fn of_name(&self, name: &str) -> Spot {
        let host = || HostPort::parse(name.split('/').next().unwrap_or(name), None).ok().map(|at| at.host);
        let found = self.spots.get(name).cloned();
        found.or_else(|| self.spots.get(&host()?).cloned()).unwrap_or_default()
    }

    /// An agent that somebody was given by its address is the same as the one that others found.
    fn called(&self, target: String, kind: Kind) -> String {
        let Some(at) = (kind == Kind::Peer).then(|| HostPort::parse(&target, None).ok()).flatten() else {
            return target;
        };
        let by_host = || self.hosts.get(&at.host).cloned().flatten();
        self.reflectors.get(&at).cloned().or_else(by_host).unwrap_or(target)
    }
}

/// Half as long again one way, and a millisecond at least.
fn mark_lopsided(cells: &mut [Cell]) {
    let medians: BTreeMap<_, _> = cells
        .iter()
        .filter(|cell| cell.row.kind == Kind::Peer && !cell.stale)
        .filter_map(|cell| Some(((cell.source.clone(), cell.row.target.clone()), cell.row.p50?)))
        .collect();
    for cell in cells.iter_mut().filter(|cell| cell.row.kind == Kind::Peer && !cell.stale) {
        let back = medians.get(&(cell.row.target.clone(), cell.source.clone()));
        if let (Some(there), Some(back)) = (cell.row.p50, back) {
            let (fast, slow) = (there.min(*back), there.max(*back));
            cell.lopsided = slow - fast >= Duration::from_millis(1) && slow >= fast * 3 / 2;
        }
    }
}

fn zone_pairs(cells: &[Cell], spots: &Spots) -> Vec<ZonePair> {
    let mut pairs = BTreeMap::<_, ZonePair>::new();
    for cell in cells {
        let at = |name: &str| {
            let spot = spots.of_name(name);
            [spot.zone, spot.region]
        };
        let (source, target, kind) = (at(&cell.source), at(&cell.row.target), cell.row.kind);
        let state = if cell.stale { State::Stale } else { cell.row.state };
        let pair = pairs.entry((source.clone(), target.clone(), kind)).or_insert_with(|| ZonePair {
            source,
            target,
            kind,
            cells: 0,
            state,
            budget: None,
            p50: None,
            p95: None,
            loss: None,
        });
        pair.cells += 1;
        pair.state = pair.state.max(state);
        pair.budget = [pair.budget, cell.row.budget].into_iter().flatten().min();
        pair.p50 = pair.p50.max(cell.row.p50);
        pair.p95 = pair.p95.max(cell.row.p95);
        pair.loss = match (pair.loss, cell.loss()) {
            (Some(one), Some(other)) => Some(one.max(other)),
            (one, other) => one.or(other),
        };
    }
    pairs.into_values().collect()
}

fn verdict(cells: &[Cell], agents: &[AgentLine], findings: &[Held]) -> Verdict {
    let judged: Vec<_> = cells.iter().filter(|cell| cell.counts()).collect();
    let worst = judged.iter().map(|cell| cell.row.state).max();
    let wrong = findings.iter().filter(|held| held.is_news && held.finding.severity == Severity::Fail);
    let state = match (worst, wrong.clone().next()) {
        (worst, Some(_)) => worst.unwrap_or(State::Breach).max(State::Breach),
        (worst, None) => worst.unwrap_or(State::Unknown),
    };
    let of_worst = judged.iter().filter(|cell| cell.row.state == state).map(|cell| cell.row.since);
    // A wrong place is a breach, and no reason why somebody does not answer.
    let wrong_since = wrong.clone().filter(|_| state == State::Breach).map(|held| held.since);
    let since = of_worst.chain(wrong_since).min();
    let count = |state: State| judged.iter().filter(|cell| cell.row.state == state).count();
    let (over, silent, risk) = (count(State::Breach), count(State::Unreachable), count(State::AtRisk));
    let all = judged.len();
    let of_all = format!("{all} judged {}", if all == 1 { "path" } else { "paths" });
    let mut words = Vec::new();
    if all == 0 {
        words.push("Nothing is judged yet".to_owned());
    } else if count(State::Ok) == all {
        words.push(match all {
            1 => "The only judged path is within its budget".to_owned(),
            _ => format!("All {of_all} are within their budget"),
        });
    }
    for (number, one, many) in [
        (over, "is over its budget", "are over their budget"),
        (silent, "does not answer", "do not answer"),
        (risk, "is close to its budget", "are close to their budget"),
        (count(State::Unknown), "is not known yet", "are not known yet"),
        (count(State::Stale), "tells nothing new", "tell nothing new"),
        (count(State::Left), "has said goodbye", "have said goodbye"),
    ] {
        if number > 0 {
            words.push(format!("{number} of {of_all} {}", if number == 1 { one } else { many }));
        }
    }
    let codes: BTreeSet<_> = wrong.clone().map(|held| held.finding.code.as_str()).collect();
    match wrong.clone().count() {
        0 => {}
        1 => words.extend(wrong.map(|held| format!("{}: {}", held.finding.code, held.finding.evidence))),
        more => {
            let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
            words.push(format!("{more} findings about who stands where: {codes}"));
        }
    }
    let stale: Vec<_> = agents.iter().filter(|agent| agent.stale).map(|agent| agent.name.as_str()).collect();
    match &*stale {
        [] => {}
        [one] => words.push(format!("{one} has not been heard of")),
        [one, rest @ ..] => words.push(format!("{one} and {} more have not been heard of", rest.len())),
    }
    let database =
        judged.iter().filter(|cell| cell.row.kind == Kind::Postgres).filter_map(|cell| cell.row.p95).max();
    if let Some(p95) = database.filter(|_| words.len() < 4) {
        words.push(format!("PostgreSQL's p95 is {} at most", ms(p95)));
    }
    Verdict { state, since, words: words.join(". ") + "." }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::super::region::name;
    use super::super::roster::{Claim, Roster, Source};
    use super::super::rules::TopologyFinding;
    use super::super::rules::code::Code;
    use super::super::whole::Letter;
    use super::*;

    const TEN: Option<Duration> = Some(Duration::from_millis(10));

    fn row(target: &str, kind: Kind, us: u64, state: State) -> Row {
        let at = Some(Duration::from_micros(us));
        Row {
            target: target.into(),
            kind,
            role: Some(if kind == Kind::Postgres { Role::Postgres } else { Role::Coderd }),
            state,
            reason: "x".into(),
            budget: TEN,
            min: at,
            p50: at,
            p95: at,
            p99: at,
            samples: 100,
            lost: 0,
            since: Duration::from_secs(7),
            span: Duration::from_secs(100),
        }
    }

    fn identity(called: &str, last: u8, zone: &str) -> Identity {
        Identity {
            name: called.into(),
            role: Some(Role::Coderd),
            claims: vec![Claim {
                trust: 4,
                by: "IMDS".into(),
                region: name("aws/us-east-1"),
                zone: Some(zone.into()),
            }],
            addresses: [IpAddr::from([10, 0, 0, last])].into(),
            reflectors: vec![HostPort { host: format!("10.0.0.{last}"), port: 9862 }],
            ..Identity::default()
        }
    }

    struct Mesh {
        own: Identity,
        rows: Vec<Row>,
        whole: Whole,
        members: Vec<Member>,
    }

    /// Us and two others; b was told of us by our address.
    fn mesh() -> Mesh {
        let all = [identity("a", 1, "az-1"), identity("b", 2, "az-1"), identity("c", 3, "az-2")];
        let mut whole = Whole::default();
        let mut told = |who: usize, rows: Vec<Row>, at| {
            let from = all[who].clone();
            let ip = *from.addresses.first().unwrap();
            let letter = Letter { from, full: true, rows, dropped: 0, proxies: None };
            whole.hear(letter, ip, Duration::from_secs(at));
        };
        told(
            1,
            vec![row("10.0.0.1:9862", Kind::Peer, 3000, State::Ok), row("c", Kind::Peer, 900, State::Ok)],
            100,
        );
        told(
            2,
            vec![
                row("a", Kind::Peer, 12_000, State::Breach),
                row("db:5432/coder", Kind::Postgres, 1800, State::Ok),
            ],
            100,
        );
        let mut roster = Roster::default();
        roster.hear(Source::Exchange, all.iter().map(Identity::sighting).collect(), Duration::ZERO);
        let [own, ..] = all;
        let rows = vec![row("b", Kind::Peer, 900, State::Ok), row("c", Kind::Peer, 11_900, State::Breach)];
        Mesh { own, rows, whole, members: roster.members() }
    }

    fn picture(mesh: &Mesh, findings: &[Held], now: u64) -> Matrix {
        super::picture(&Sight {
            own: &mesh.own,
            rows: mesh.rows.clone(),
            whole: &mesh.whole,
            members: &mesh.members,
            atlas: &Atlas::built_in(),
            findings,
            now: Duration::from_secs(now),
        })
    }

    fn cell<'a>(matrix: &'a Matrix, source: &str, target: &str) -> &'a Cell {
        matrix.cells.iter().find(|cell| cell.source == source && cell.row.target == target).unwrap()
    }

    #[test]
    fn every_pair_is_there_under_one_name_and_one_that_is_slow_one_way_is_marked() {
        let matrix = picture(&mesh(), &[], 101);
        assert_eq!(matrix.cells.len(), 6);
        assert_eq!(
            matrix.agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>(),
            ["a", "b", "c"]
        );
        assert!(cell(&matrix, "b", "a").lopsided && cell(&matrix, "a", "b").lopsided, "3.0 and 0.9 ms");
        assert!(!cell(&matrix, "c", "a").lopsided, "12.0 and 11.9 ms");
        let zones: Vec<_> = matrix.targets.iter().map(|target| target.spot.zone.as_deref()).collect();
        assert_eq!(zones, [Some("az-1"), Some("az-1"), Some("az-2"), None]);
        assert_eq!(
            matrix.verdict.words,
            "2 of 6 judged paths are over their budget. PostgreSQL's p95 is 1.80 ms at most."
        );
        assert_eq!(
            (matrix.verdict.state, matrix.verdict.since),
            (State::Breach, Some(Duration::from_secs(7)))
        );
    }

    #[test]
    fn who_is_not_heard_of_for_two_letters_is_history_and_counts_for_nothing() {
        let mesh = mesh();
        let matrix = picture(&mesh, &[], 110);
        assert!(matrix.agents.iter().all(|agent| agent.stale == (agent.name != "a")));
        assert!(cell(&matrix, "c", "a").stale && !cell(&matrix, "a", "c").stale);
        assert!(!cell(&matrix, "a", "b").lopsided, "the other way round is not known any more");
        assert_eq!(
            matrix.verdict.words,
            "1 of 2 judged paths is over its budget. b and 1 more have not been heard of."
        );
        assert!(picture(&mesh, &[], 109).agents.iter().all(|agent| !agent.stale));
    }

    #[test]
    fn a_zone_pair_is_as_bad_as_its_worst_pair() {
        let matrix = picture(&mesh(), &[], 101);
        let pairs = |source: &str, target: &str| {
            let named = |zone: &[Option<String>; 2], name: &str| zone[0].as_deref() == Some(name);
            let mut found = matrix
                .zone_pairs
                .iter()
                .filter(|pair| named(&pair.source, source) && named(&pair.target, target));
            let pair = found.next().unwrap();
            (pair.cells, pair.state, pair.p50.unwrap().as_micros())
        };
        assert_eq!(pairs("az-1", "az-2"), (2, State::Breach, 11_900));
        assert_eq!(pairs("az-1", "az-1"), (2, State::Ok, 3000));
    }

    #[test]
    fn a_zone_pair_has_the_strictest_budget_of_its_pairs() {
        let mut mesh = mesh();
        mesh.rows[0].budget = None;
        let budget = |mesh: &Mesh| {
            let matrix = picture(mesh, &[], 101);
            let within = |pair: &&ZonePair| pair.source == pair.target && pair.kind == Kind::Peer;
            matrix.zone_pairs.iter().find(within).unwrap().budget
        };
        assert_eq!(budget(&mesh), TEN, "that of the other way round");
        mesh.rows[0].budget = Some(Duration::from_millis(5));
        assert_eq!(budget(&mesh), Some(Duration::from_millis(5)));
    }

    #[test]
    fn losses_of_which_an_older_agent_says_nothing_are_not_known() {
        let mut mesh = mesh();
        mesh.rows[0].p99 = None;
        let matrix = picture(&mesh, &[], 101);
        assert_eq!(matrix.cells.iter().filter(|cell| cell.lost().is_none()).count(), 1);
        mesh.rows[0].lost = 25;
        let losses = picture(&mesh, &[], 101).cells.iter().filter_map(Cell::loss).fold(0.0, f64::max);
        assert!((losses - 0.25).abs() < 1e-9, "{losses}");
    }

    #[test]
    fn an_agent_that_was_given_by_its_hosts_name_is_the_one_that_others_found() {
        let mut mesh = mesh();
        mesh.rows[1].target = "c:9862".into();
        let matrix = picture(&mesh, &[], 101);
        assert_eq!(cell(&matrix, "a", "c").called, "c:9862");
        mesh.rows[0].target = "c".into();
        mesh.rows[0].state = State::Ok;
        let matrix = picture(&mesh, &[], 101);
        let pairs = matrix.cells.iter().filter(|cell| cell.source == "a" && cell.row.target == "c");
        assert_eq!(
            pairs.map(|cell| cell.row.state).collect::<Vec<_>>(),
            [State::Breach],
            "one pair, the worse"
        );
    }

    #[test]
    fn a_wrong_place_is_a_breach_although_every_pair_is_fast() {
        let mut mesh = mesh();
        mesh.rows.truncate(1);
        mesh.whole = Whole::default();
        let code = Code::CoderdCrossRegion;
        let finding = TopologyFinding {
            code,
            severity: code.severity(),
            subjects: vec!["c".into()],
            evidence: "c stands in another region".into(),
            remedy: code.remedy(),
            anchor: code.anchor(),
            vantage: Vec::new(),
        };
        let held = |is_news| [Held { finding: finding.clone(), since: Duration::from_secs(3), is_news }];
        assert_eq!(picture(&mesh, &held(false), 9).verdict.state, State::Ok);
        let verdict = picture(&mesh, &held(true), 9).verdict;
        assert_eq!((verdict.state, verdict.since), (State::Breach, Some(Duration::from_secs(3))));
        let fast = "The only judged path is within its budget.";
        assert_eq!(verdict.words, format!("{fast} coderd_cross_region: c stands in another region."));
        let two = [&held(true)[..], &held(true)].concat();
        let words = picture(&mesh, &two, 9).verdict.words;
        assert_eq!(words, format!("{fast} 2 findings about who stands where: coderd_cross_region."));
    }
}
