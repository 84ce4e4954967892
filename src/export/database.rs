//! What is shown of databases: how a connection came to be, how a round trip is split, what a server says of itself, and
//! where it has moved to.

use std::net::IpAddr;

use serde::Serialize;

use super::json::{Connect, connect, micros};
use crate::mesh::database::{Known, Standby};
use crate::mesh::failover::{Move, Place};
use crate::mesh::series::{BareConnects, Split};
use crate::mesh::standing::{DatabaseStanding, OpeningStanding};

/// One opening of a kept connection, or a row of attempts that failed alike.
#[derive(Serialize)]
pub(super) struct OpeningJson {
    ago_us: f64,
    outcome: &'static str,
    attempts: u32,
    lasted_us: f64,
    phases_us: Option<Connect>,
}

impl OpeningJson {
    pub(super) fn of(opening: &OpeningStanding) -> Self {
        Self {
            ago_us: micros(opening.ago),
            outcome: opening.outcome.map_or_else(probes::sample::Reason::as_str, |_| "ok"),
            attempts: opening.attempts,
            lasted_us: micros(opening.lasted),
            phases_us: opening.outcome.ok().as_ref().map(connect),
        }
    }
}

/// Bare connects.
#[derive(Serialize)]
pub(super) struct BareConnectsJson {
    count: u32,
    min: f64,
    p50: f64,
}

impl BareConnectsJson {
    pub(super) fn of(connects: BareConnects) -> Self {
        Self { count: connects.count, min: micros(connects.min), p50: micros(connects.p50) }
    }
}

/// A round trip in two.
#[derive(Serialize)]
pub(super) struct SplitJson {
    network: f64,
    server_p50: Option<f64>,
    server_p95_at_most: Option<f64>,
}

impl SplitJson {
    pub(super) fn of(split: Split) -> Self {
        Self {
            network: micros(split.network),
            server_p50: split.server_p50.map(micros),
            server_p95_at_most: split.server_p95_at_most.map(micros),
        }
    }
}

/// What a server says of itself.
#[derive(Serialize)]
pub(super) struct DatabaseJson<'a> {
    name: &'a str,
    address: Option<String>,
    timeline: Option<&'a str>,
    standby: bool,
    pooled: Option<bool>,
    told_ago_us: f64,
    standbys: Vec<StandbyJson<'a>>,
    standbys_hidden: bool,
    connections: Option<Connections>,
    notification_queue_usage: Option<f64>,
    load_ago_us: Option<f64>,
}

#[derive(Serialize)]
struct Connections {
    used: u32,
    max: u32,
}

#[derive(Serialize)]
struct StandbyJson<'a> {
    name: &'a str,
    address: Option<IpAddr>,
    state: Option<&'a str>,
    sync_state: Option<&'a str>,
    write_lag_us: Option<f64>,
    flush_lag_us: Option<f64>,
    replay_lag_us: Option<f64>,
    behind_bytes: Option<u64>,
    round_trip_at_most_us: Option<f64>,
    readings: u32,
}

impl<'a> DatabaseJson<'a> {
    pub(super) fn of(database: &'a DatabaseStanding) -> Self {
        let DatabaseStanding { known, told } = database;
        let facts = &known.facts;
        let load = known.load.as_ref();
        Self {
            name: &facts.name,
            address: facts.server.map(|server| std::net::SocketAddr::from(server).to_string()),
            timeline: facts.timeline.as_deref(),
            standby: facts.standby,
            pooled: facts.pooled,
            told_ago_us: micros(*told),
            standbys: facts.standbys.iter().map(|standby| StandbyJson::of(standby, known)).collect(),
            standbys_hidden: facts.hidden,
            connections: load.map(|(_, load)| Connections { used: load.used, max: load.usable }),
            notification_queue_usage: load.and_then(|(_, load)| load.queue_usage()),
            load_ago_us: load.map(|(at, _)| micros(*told + known.heard.saturating_sub(*at))),
        }
    }
}

impl<'a> StandbyJson<'a> {
    fn of(standby: &'a Standby, known: &Known) -> Self {
        let at_most = standby.address.and_then(|ip| known.round_trip_at_most(ip, known.heard));
        Self {
            name: &standby.name,
            address: standby.address,
            state: standby.state.as_deref(),
            sync_state: standby.sync_state.as_deref(),
            write_lag_us: standby.write_lag.map(micros),
            flush_lag_us: standby.flush_lag.map(micros),
            replay_lag_us: standby.replay_lag.map(micros),
            behind_bytes: standby.behind_bytes,
            round_trip_at_most_us: at_most.map(|(median, ..)| micros(median)),
            readings: at_most.map_or(0, |(_, readings, _)| readings),
        }
    }
}

/// A database that has moved.
#[derive(Serialize)]
pub(super) struct MoveJson<'a> {
    ago_us: f64,
    database: &'a str,
    from: PlaceJson<'a>,
    to: PlaceJson<'a>,
    rtt_before_us: Option<f64>,
    rtt_after_us: Option<f64>,
}

#[derive(Serialize)]
struct PlaceJson<'a> {
    address: Option<String>,
    called: Option<&'a str>,
    standby: Option<bool>,
    timeline: Option<&'a str>,
}

impl<'a> MoveJson<'a> {
    pub(super) fn of((ago, one): &'a (std::time::Duration, Move)) -> Self {
        let [from, to] = &one.called;
        Self {
            ago_us: micros(*ago),
            database: &one.database,
            from: PlaceJson::of(&one.from, from.as_deref()),
            to: PlaceJson::of(&one.to, to.as_deref()),
            rtt_before_us: one.rtt_before.map(micros),
            rtt_after_us: one.rtt_after.map(micros),
        }
    }
}

impl<'a> PlaceJson<'a> {
    fn of(place: &'a Place, called: Option<&'a str>) -> Self {
        Self {
            address: place.server.map(|server| server.to_string()),
            called,
            standby: place.standby,
            timeline: place.timeline.as_deref(),
        }
    }
}
