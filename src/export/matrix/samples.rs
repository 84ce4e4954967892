//! A small mesh for tests.

use crate::export::api::matrix::{Agent, Cell, Document, Target, Vantage, Verdict, Zone, ZonePair};
use crate::mesh::state::State;

pub(in crate::export) fn agent(name: &str, zone: &str, region: &str) -> Agent {
    Agent {
        name: name.into(),
        role: Some("coderd".into()),
        is_idle: false,
        node: None,
        zone: Some(zone.into()),
        region: Some(region.into()),
        placed_by: None,
        version: "1".into(),
        heard_ago_us: None,
        stale: false,
        starved: false,
        links: 2,
        heard_at: None,
        reflector: None,
    }
}

pub(in crate::export) fn cell(
    source: &str,
    kind: &str,
    target: &str,
    state: State,
    p95_us: Option<f64>,
) -> Cell {
    Cell {
        source: source.into(),
        target: target.into(),
        kind: kind.into(),
        role: None,
        state,
        reason: String::new(),
        since: "x".into(),
        budget_us: Some(10_000.0),
        min_us: None,
        p50_us: None,
        p95_us,
        p99_us: None,
        samples: 300,
        lost: Some(3),
        loss: Some(0.01),
        stale: false,
        lopsided: false,
        called: target.into(),
    }
}

pub(in crate::export) fn document() -> Document {
    let target = |name: &str, kind: &str| Target {
        name: name.into(),
        kind: kind.into(),
        role: None,
        node: None,
        zone: None,
        region: None,
        placed_by: None,
    };
    let mut late = agent("coderd-c", "b", "r1");
    (late.stale, late.heard_ago_us) = (true, Some(34e6));
    let old = Cell { stale: true, ..cell("coderd-c", "peer", "coderd-a", State::Ok, Some(400.0)) };
    Document {
        schema_version: 1,
        version: "1".into(),
        generated_at: "2026-01-01T00:00:00.000Z".into(),
        vantage: Vantage {
            agent: "coderd-a".into(),
            node: None,
            zone: Some("a".into()),
            region: Some("r1".into()),
        },
        quantile: 0.95,
        coder_warns_at_us: 15_000.0,
        verdict: Verdict { state: State::Breach, since: None, words: "1 of 4 judged paths is over".into() },
        agents: vec![late, agent("coderd-b", "a", "r2"), agent("coderd-a", "a", "r1")],
        targets: vec![
            target("coderd-a", "peer"),
            target("coderd-b", "peer"),
            target("db:5432/coder", "postgres"),
            target("http://a/derp", "relay"),
        ],
        cells: vec![
            cell("coderd-a", "peer", "coderd-b", State::Breach, Some(91_234.0)),
            cell("coderd-a", "postgres", "db:5432/coder", State::Ok, Some(412.0)),
            Cell { lopsided: true, ..cell("coderd-b", "peer", "coderd-a", State::AtRisk, Some(9_500.0)) },
            cell("coderd-b", "postgres", "db:5432/coder", State::Unreachable, None),
            cell("coderd-b", "relay", "http://a/derp", State::Ok, Some(400.0)),
            old,
        ],
        zone_pairs: vec![ZonePair {
            source: Zone { zone: Some("a".into()), region: Some("r1".into()) },
            target: Zone { zone: None, region: Some("r2".into()) },
            kind: "peer".into(),
            paths: 1,
            state: State::Breach,
            budget_us: Some(10_000.0),
            p50_us: None,
            p95_us: Some(91_234.0),
            loss: None,
        }],
    }
}
