//! The part of the agent's report that is about the others: who is there, and how their links stand.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::json::micros;
use crate::mesh::peer::Role;
use crate::mesh::proxies::Nearest;
use crate::mesh::roster::{Claim, Member, Source, Status};
use crate::mesh::rules::TopologyFinding;
use crate::mesh::rules::held::Held;
use crate::mesh::standing::SourceStanding;
use crate::mesh::state::State;
use crate::mesh::whole::{Agent, Row};

/// One thing that is there.
#[derive(Serialize)]
pub(super) struct MemberJson<'a> {
    name: &'a str,
    role: Option<&'static str>,
    agent: bool,
    status: Status,
    host: Option<&'a str>,
    addresses: Vec<IpAddr>,
    node: Option<&'a str>,
    claims: &'a [Claim],
    version: Option<&'a str>,
    sources: Vec<Source>,
}

/// One source.
#[derive(Serialize)]
pub(super) struct SourceJson<'a> {
    source: Source,
    told_ago_us: Option<f64>,
    failure: Option<&'a str>,
}

/// What is wrong with who stands where.
#[derive(Serialize)]
pub(super) struct FindingJson<'a> {
    #[serde(flatten)]
    finding: &'a TopologyFinding,
    /// It has lasted for the start-up grace.
    news: bool,
}

impl<'a> FindingJson<'a> {
    pub(super) fn of(held: &'a Held) -> Self {
        Self { finding: &held.finding, news: held.is_news }
    }
}

/// Another agent.
#[derive(Serialize)]
pub(super) struct AgentJson<'a> {
    name: &'a str,
    role: Option<&'static str>,
    node: Option<&'a str>,
    version: &'a str,
    nearest_proxy: Option<NearestJson>,
    links: Vec<RowJson<'a>>,
}

/// The workspace proxy that answers soonest from there.
#[derive(Serialize)]
pub(super) struct NearestJson {
    name: String,
    p50_us: f64,
    samples: u32,
}

impl NearestJson {
    pub(super) fn of(nearest: Nearest) -> Self {
        Self { name: nearest.name, p50_us: micros(nearest.p50), samples: nearest.samples }
    }
}

#[derive(Serialize)]
struct RowJson<'a> {
    name: &'a str,
    kind: &'static str,
    role: Option<&'static str>,
    state: State,
    reason: &'a str,
    budget_us: Option<f64>,
    samples: u32,
    min_us: Option<f64>,
    p50_us: Option<f64>,
    p95_us: Option<f64>,
}

impl<'a> MemberJson<'a> {
    pub(super) fn of(member: &'a Member) -> Self {
        let facts = &member.facts;
        Self {
            name: &member.name,
            role: facts.role.map(Role::as_str),
            agent: member.is_agent(),
            status: facts.status,
            host: facts.host_name.as_deref(),
            addresses: facts.addresses.iter().copied().collect(),
            node: facts.node.as_deref(),
            claims: &facts.claims,
            version: facts.version.as_deref(),
            sources: member.sources.iter().copied().collect(),
        }
    }
}

impl<'a> SourceJson<'a> {
    pub(super) fn of(source: &'a SourceStanding) -> Self {
        let told_ago_us = source.told.map(micros);
        Self { source: source.source, told_ago_us, failure: source.failure.as_deref() }
    }
}

impl<'a> AgentJson<'a> {
    pub(super) fn of(agent: &'a Agent) -> Self {
        let identity = &agent.identity;
        Self {
            name: &identity.name,
            role: identity.role.map(Role::as_str),
            node: identity.node.as_deref(),
            version: &identity.version,
            nearest_proxy: Nearest::of_agent(agent).map(NearestJson::of),
            links: agent.rows.values().map(RowJson::of).collect(),
        }
    }
}

impl<'a> RowJson<'a> {
    fn of(row: &'a Row) -> Self {
        let us = |duration: Option<Duration>| duration.map(micros);
        Self {
            name: &row.target,
            kind: row.kind.as_str(),
            role: row.role.map(Role::as_str),
            state: row.state,
            reason: &row.reason,
            budget_us: us(row.budget),
            samples: row.samples,
            min_us: us(row.min),
            p50_us: us(row.p50),
            p95_us: us(row.p95),
        }
    }
}
