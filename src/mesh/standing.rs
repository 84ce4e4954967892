//! How all links of an agent stand at one instant, as data for whoever shows or exports it.

use std::time::Duration;

use probes::sample::Phases;
use probes::target::Kind;

use super::budget::Limit;
use super::cause::Finding;
use super::floor::RouteChange;
use super::links::Links;
use super::peer::{Own, Role};
use super::pubsub::{self, Path};
use super::report::{CODER_WARNS_AT, Figures};
use super::roster::{Member, Source};
use super::rules::held::Held;
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
    /// How news gets from replica to replica, and how long that takes through PostgreSQL; `None` without Coder's
    /// database.
    pub pubsub: Option<(Path, pubsub::Standing)>,
    /// What the other agents say of their links.
    pub agents: Vec<Agent>,
    /// How much of what they wrote was not taken in.
    pub letters_dropped: u64,
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
    /// PostgreSQL: the median of the last bare connects.
    pub bare_connect: Option<Duration>,
    /// PostgreSQL: something before the server seems to end TCP.
    pub tcp_terminator_suspected: bool,
    /// PostgreSQL: whether Coder's own health page would warn.
    pub coder_would_warn: Option<bool>,
    /// The phases of the last connection that was opened.
    pub connect: Option<Phases>,
    /// Whether the line is encrypted.
    pub encrypted: Option<bool>,
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
            pubsub: None,
            agents: Vec::new(),
            letters_dropped: 0,
        }
    }
}

fn link(watch: &Watch, now: Duration) -> LinkStanding {
    let (state, since) = watch.standing();
    let (series, terms) = (watch.series(), watch.terms());
    let view = series.window.all();
    let rtt = view.rtt();
    let is_postgres = watch.link.kind == Kind::Postgres;
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
        tcp_terminator_suspected: series.tcp_terminator_suspected(),
        coder_would_warn: rtt.quantile(0.5).filter(|_| is_postgres).map(|p50| p50 >= CODER_WARNS_AT),
        rtt: Figures::of(&rtt),
        connect: series.window.connect(),
        encrypted: series.window.encrypted(),
    }
}
