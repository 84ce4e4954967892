//! How an agent's links stand, as JSON (`GET /api/v1/report`), `schema_version` 1. Durations are microseconds with at
//! most one decimal; `null` is «not known» or «does not apply», never zero.

use serde::Serialize;

use super::attribution::AttributionJson;
use super::database::{BareConnectsJson, DatabaseJson, MoveJson, OpeningJson, SplitJson};
use super::json::{Connect, SCHEMA_VERSION, Spread, connect, micros, spread};
use super::mesh::{AgentJson, FindingJson, MemberJson, NearestJson, SourceJson};
use super::pubsub::PubsubJson;
use crate::mesh::cause::Finding;
use crate::mesh::proxies::Nearest;
use crate::mesh::standing::{LinkStanding, Standing};
use crate::mesh::state::State;
use crate::mesh::window::Totals;

/// What the agent knows of its own performance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct OwnTiming {
    /// Questions sent since the start.
    pub sent: u64,
    /// Those that left more than 5 ms after their instant.
    pub sent_late: u64,
    /// Median of the time from a slot's instant to its send, in microseconds. Timers have steps of 1 ms.
    pub send_late_p50_us: u64,
    /// Its 99th percentile.
    pub send_late_p99_us: u64,
    /// How often the container's CPU limit has throttled this process; `null` where there is no such counter.
    pub throttled: Option<u64>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    agent: Agent<'a>,
    state: State,
    quantile: f64,
    own_timing: OwnTiming,
    links: Vec<Link<'a>>,
    nearest_proxy: Option<NearestJson>,
    members: Vec<MemberJson<'a>>,
    sources: Vec<SourceJson<'a>>,
    findings: Vec<FindingJson<'a>>,
    databases: Vec<DatabaseJson<'a>>,
    database_moves: Vec<MoveJson<'a>>,
    pubsub: Option<PubsubJson<'a>>,
    agents: Vec<AgentJson<'a>>,
    letters_dropped: u64,
    attribution: Vec<AttributionJson<'a>>,
}

#[derive(Serialize)]
struct Agent<'a> {
    name: &'a str,
    role: Option<&'static str>,
    node: Option<&'a str>,
    zone: Option<&'a str>,
    region: Option<&'a str>,
}

#[derive(Serialize)]
struct Link<'a> {
    name: &'a str,
    kind: &'static str,
    role: Option<&'static str>,
    budget_us: Option<f64>,
    interval_us: f64,
    state: State,
    state_for_us: f64,
    findings: &'a [Finding],
    samples: u32,
    exceeded: u32,
    marked_self: u32,
    spoilt_self: u32,
    overdue: u32,
    totals: Totals,
    rtt_us: Spread,
    pdv_us: Option<Spread>,
    network_us: Option<Spread>,
    execution_us: Option<Spread>,
    hold_us: Option<Spread>,
    hour_us: Option<Hour>,
    floor_us: Option<f64>,
    route_change: Option<Route>,
    bare_connect_us: Option<f64>,
    total_us: Option<Spread>,
    fresh_us: Option<Spread>,
    fresh_failed: Option<u32>,
    bare_connects_us: Option<BareConnectsJson>,
    split_us: Option<SplitJson>,
    server: Option<String>,
    server_for_us: Option<f64>,
    connects: Vec<OpeningJson>,
    reconnects: u64,
    connects_failed: u64,
    tcp_terminator_suspected: bool,
    coder_would_warn: Option<bool>,
    connect_us: Option<Connect>,
    encrypted: Option<bool>,
}

#[derive(Serialize)]
struct Hour {
    p50: f64,
    p95: f64,
}

#[derive(Serialize)]
struct Route {
    ago_us: f64,
    from_us: f64,
    to_us: f64,
}

/// One document with a newline at its end.
pub fn render(standing: &Standing, own_timing: OwnTiming) -> Result<String, serde_json::Error> {
    let own = &standing.own;
    let document = Document {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        agent: Agent {
            name: &own.name,
            role: own.role.map(crate::mesh::peer::Role::as_str),
            node: own.node.as_deref(),
            zone: own.zone.as_deref(),
            region: own.region.as_deref(),
        },
        state: standing.state,
        quantile: standing.quantile,
        own_timing,
        links: standing.links.iter().map(link).collect(),
        nearest_proxy: Nearest::of_links(&standing.links).map(NearestJson::of),
        members: standing.members.iter().map(MemberJson::of).collect(),
        sources: standing.sources.iter().map(SourceJson::of).collect(),
        findings: standing.findings.iter().map(FindingJson::of).collect(),
        databases: standing.databases.iter().map(DatabaseJson::of).collect(),
        database_moves: standing.moves.iter().map(MoveJson::of).collect(),
        pubsub: standing.pubsub.as_ref().map(|(path, pubsub)| PubsubJson::of(*path, pubsub)),
        agents: standing.agents.iter().map(AgentJson::of).collect(),
        letters_dropped: standing.letters_dropped,
        attribution: standing.attribution.iter().map(AttributionJson::of).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}

/// One link, as it is in the report.
pub fn detail(standing: &LinkStanding) -> serde_json::Value {
    serde_json::to_value(link(standing)).unwrap_or_default()
}

fn link(link: &LinkStanding) -> Link<'_> {
    Link {
        name: &link.name,
        kind: link.kind.as_str(),
        role: link.role.map(crate::mesh::peer::Role::as_str),
        budget_us: link.limit.map(micros),
        interval_us: micros(link.interval),
        state: link.state,
        state_for_us: micros(link.state_for),
        findings: &link.findings,
        samples: link.samples,
        exceeded: link.exceeded,
        marked_self: link.marked_self,
        spoilt_self: link.spoilt_self,
        overdue: link.overdue,
        totals: link.totals,
        rtt_us: spread(&link.rtt),
        pdv_us: link.pdv.as_ref().map(spread),
        network_us: link.network.as_ref().map(spread),
        execution_us: link.execution.as_ref().map(spread),
        hold_us: link.hold.as_ref().map(spread),
        hour_us: link.hour.map(|(p50, p95)| Hour { p50: micros(p50), p95: micros(p95) }),
        floor_us: link.floor.map(micros),
        route_change: link.route_change.map(|(ago, change)| Route {
            ago_us: micros(ago),
            from_us: micros(change.from),
            to_us: micros(change.to),
        }),
        bare_connect_us: link.bare_connect.map(micros),
        total_us: link.total.as_ref().map(spread),
        fresh_us: link.fresh.as_ref().map(spread),
        fresh_failed: link.fresh_failed,
        bare_connects_us: link.bare_connects.map(BareConnectsJson::of),
        split_us: link.split.map(SplitJson::of),
        server: link.server.map(|(server, _)| server.to_string()),
        server_for_us: link.server.map(|(_, since)| micros(since)),
        connects: link.connects.iter().map(OpeningJson::of).collect(),
        reconnects: link.reconnects,
        connects_failed: link.connects_failed,
        tcp_terminator_suspected: link.tcp_terminator_suspected,
        coder_would_warn: link.coder_would_warn,
        connect_us: link.connect.as_ref().map(connect),
        encrypted: link.encrypted,
    }
}
