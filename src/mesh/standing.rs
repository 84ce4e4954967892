//! How all links of an agent stand at one instant, as data for whoever shows or exports it.

use std::net::SocketAddr;
use std::time::Duration;

use probes::sample::{Phases, Reason};
use probes::target::Kind;

use super::attribution::Attribution;
use super::budget::Limit;
use super::cause::Finding;
use super::database::Known;
use super::failover::Move;
use super::floor::RouteChange;
use super::links::Links;
use super::openings::{Opening, Openings};
use super::peer::{Own, Role};
use super::pubsub::{self, Path};
use super::report::{CODER_WARNS_AT, Figures};
use super::roster::{Member, Source};
use super::rules::held::Held;
use super::series::{BareConnects, Split};
use super::state::{State, Watch};
use super::whole::Agent;
use super::window::Totals;

/// All links.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Who measures.
    pub own: Own,
    /// The worst state of all links with a budget; `unknown` when there is none.
    pub state: State,
    /// The quantile that has to stay below each limit.
    pub quantile: f64,
    /// One entry a link, in the order they came.
    pub links: Vec<LinkStanding>,
    /// Everybody that discovery knows.
    pub members: Vec<Member>,
    /// The sources of discovery.
    pub sources: Vec<SourceStanding>,
    /// What is wrong with who stands where, the worst first.
    pub findings: Vec<Held>,
    /// What the databases say of themselves.
    pub databases: Vec<DatabaseStanding>,
    /// Where databases have moved to, the newest first, and how long ago.
    pub moves: Vec<(Duration, Move)>,
    /// How news gets from replica to replica, and how long that takes through PostgreSQL; `None` without Coder's
    /// database.
    pub pubsub: Option<(Path, pubsub::Standing)>,
    /// What the other agents say of their links.
    pub agents: Vec<Agent>,
    /// How much of what they wrote was not taken in.
    pub letters_dropped: u64,
    /// Whose slowness it is, by each coderd whose metrics are read.
    pub attribution: Vec<Attribution>,
}

/// How a source of discovery is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStanding {
    /// Which one.
    pub source: Source,
    /// How long ago it told who is there; `None` if never.
    pub told: Option<Duration>,
    /// What keeps it from telling now.
    pub failure: Option<String>,
}

/// One link.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkStanding {
    /// Target's name, without any secret.
    pub name: String,
    /// How it is measured.
    pub kind: Kind,
    /// What it is for.
    pub role: Option<Role>,
    /// What it is held against.
    pub limit: Limit,
    /// How often it is measured.
    pub interval: Duration,
    /// How it stands.
    pub state: State,
    /// For how long.
    pub state_for: Duration,
    /// Why, with evidence; the first is the one to act on.
    pub findings: Vec<Finding>,
    /// Replies of the window, on which `rtt` rests.
    pub answered: u32,
    /// Judged outcomes of the window, and those of them over the budget.
    pub samples: u32,
    /// See `samples`.
    pub exceeded: u32,
    /// Outcomes of the window that our own noise disturbed, and those that it spoilt or that were never sent.
    pub marked_self: u32,
    /// See `marked_self`.
    pub spoilt_self: u32,
    /// Slots that wait for their reply longer than the budget.
    pub overdue: u32,
    /// Counters since the start.
    pub totals: Totals,
    /// Round trips of the window.
    pub rtt: Figures,
    /// How much longer than the fastest they took.
    pub pdv: Option<Figures>,
    /// PostgreSQL: the share of the network.
    pub network: Option<Figures>,
    /// PostgreSQL: the share of the server's execution.
    pub execution: Option<Figures>,
    /// Peers: how long the reflector held the echoes, which is no part of the round trip.
    pub hold: Option<Figures>,
    /// Median and 95th percentile of the last hour.
    pub hour: Option<(Duration, Duration)>,
    /// The floor that the path has settled on.
    pub floor: Option<Duration>,
    /// The last change of route, and how long ago.
    pub route_change: Option<(Duration, RouteChange)>,
    /// PostgreSQL: the median of the last bare connects. Relay: of the connects of its fresh connections.
    pub bare_connect: Option<Duration>,
    /// HTTP and NATS: whole requests, until the body or the greeting was read.
    pub total: Option<Figures>,
    /// Relay: the last ten GETs on a fresh connection, from the first phase to the end.
    pub fresh: Option<Figures>,
    /// Relay: how many of the last ten failed.
    pub fresh_failed: Option<u32>,
    /// PostgreSQL: something before the server seems to end TCP.
    pub tcp_terminator_suspected: bool,
    /// PostgreSQL: whether Coder's own health page would warn.
    pub coder_would_warn: Option<bool>,
    /// PostgreSQL: the last bare connects.
    pub bare_connects: Option<BareConnects>,
    /// PostgreSQL: the round trip in two.
    pub split: Option<Split>,
    /// PostgreSQL: the server that the connection leads to, by its own account, and for how long. All figures but `totals`
    /// and `hour` are of this one alone.
    pub server: Option<(SocketAddr, Duration)>,
    /// How the kept connection was opened, the newest first.
    pub connects: Vec<OpeningStanding>,
    /// How often it was opened again.
    pub reconnects: u64,
    /// How many attempts at that failed.
    pub connects_failed: u64,
    /// The phases of the last connection that was opened.
    pub connect: Option<Phases>,
    /// Whether the line is encrypted.
    pub encrypted: Option<bool>,
}

/// One opening of a kept connection, or a row of attempts that failed for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpeningStanding {
    /// How long ago; of a row, its last attempt.
    pub ago: Duration,
    /// From the first attempt of the row to the last.
    pub lasted: Duration,
    /// How many attempts.
    pub attempts: u32,
    /// Its phases, or why there is no connection.
    pub outcome: Result<Phases, Reason>,
}

impl OpeningStanding {
    /// All that are kept of a series at this age of it, the newest first.
    pub fn all(openings: &Openings, age: Duration) -> Vec<Self> {
        let one = |opening: Opening| Self {
            ago: age.saturating_sub(opening.at),
            lasted: opening.at.saturating_sub(opening.since),
            attempts: opening.attempts,
            outcome: opening.outcome,
        };
        openings.newest_first().map(one).collect()
    }
}

/// What a database says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct DatabaseStanding {
    /// What is known of it.
    pub known: Known,
    /// How long ago it said so.
    pub told: Duration,
}

impl Standing {
    /// All links as they stand at `now`.
    pub fn of(links: &Links, now: Duration) -> Self {
        Self {
            own: links.own().clone(),
            state: links.worst(),
            quantile: links.rules().budgets.quantile,
            links: links.all().map(|(_, watch)| link(watch, now)).collect(),
            members: Vec::new(),
            sources: Vec::new(),
            findings: Vec::new(),
            databases: Vec::new(),
            moves: Vec::new(),
            pubsub: None,
            agents: Vec::new(),
            letters_dropped: 0,
            attribution: Vec::new(),
        }
    }
}

impl LinkStanding {
    /// One link as it stands at `now`.
    pub fn of(watch: &Watch, now: Duration) -> Self {
        link(watch, now)
    }
}

fn link(watch: &Watch, now: Duration) -> LinkStanding {
    let (state, since) = watch.standing();
    let (series, terms) = (watch.series(), watch.terms());
    let view = series.window.all();
    let rtt = view.rtt();
    let is_postgres = watch.link.kind == Kind::Postgres;
    let is_relay = watch.link.kind == Kind::Relay;
    let hour = series.window.hour();
    LinkStanding {
        name: watch.link.target.clone(),
        kind: watch.link.kind,
        role: watch.link.role,
        limit: terms.limit,
        interval: terms.interval,
        state,
        state_for: now.saturating_sub(since),
        findings: watch.findings(now),
        answered: u32::try_from(rtt.len()).unwrap_or(u32::MAX),
        samples: view.judged(),
        exceeded: view.exceeded(),
        marked_self: view.marked(),
        spoilt_self: view.spoilt(),
        overdue: watch.overdue(now),
        totals: *series.window.totals(),
        pdv: Figures::unless_empty(&view.pdv()),
        network: Figures::unless_empty(&view.network()),
        execution: Figures::unless_empty(&view.server()),
        hold: Figures::unless_empty(&view.hold()),
        hour: hour.and_then(|hour| Some((hour.quantile(0.5)?, hour.quantile(0.95)?))),
        floor: series.floor.baseline(),
        route_change: watch.route().map(|(at, change)| (now.saturating_sub(at), change)),
        bare_connect: series.connect(watch.age(now)),
        total: Figures::unless_empty(&view.total()),
        fresh: Figures::unless_empty(&series.fresh().0),
        fresh_failed: is_relay.then(|| series.fresh().1),
        bare_connects: series.bare_connects(watch.age(now)),
        split: series.split(watch.age(now)),
        server: watch.leads().map(|leads| (leads.to, now.saturating_sub(leads.since))),
        connects: OpeningStanding::all(&series.openings, watch.age(now)),
        reconnects: series.openings.reconnects(),
        connects_failed: series.openings.failed(),
        tcp_terminator_suspected: series.tcp_terminator_suspected(),
        coder_would_warn: rtt.quantile(0.5).filter(|_| is_postgres).map(|p50| p50 >= CODER_WARNS_AT),
        rtt: Figures::of(&rtt),
        connect: series.window.connect(),
        encrypted: series.window.encrypted(),
    }
}
