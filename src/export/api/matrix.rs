//! The whole mesh (`GET /api/v1/matrix`) and its pairs alone (`GET /api/v1/paths`).

use serde::{Deserialize, Serialize};

use super::{Anchor, SCHEMA_VERSION, micros};
use crate::export::json;
use crate::mesh::matrix::{self, Matrix, Spot};
use crate::mesh::peer::Role;
use crate::mesh::report::CODER_WARNS_AT;
use crate::mesh::state::State;

/// The whole mesh.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// Of the agent.
    pub version: String,
    /// When this was so.
    pub generated_at: String,
    /// Who looks.
    pub vantage: Vantage,
    /// Which quantile has to stay below the budgets.
    pub quantile: f64,
    /// At which median Coder's own health page warns about the database.
    pub coder_warns_at_us: f64,
    /// All of it in a sentence.
    pub verdict: Verdict,
    /// Everybody that measures, by name.
    pub agents: Vec<Agent>,
    /// Everything that is measured, by name and kind.
    pub targets: Vec<Target>,
    /// Every pair, by source, kind and target.
    pub cells: Vec<Cell>,
    /// The same from zone to zone.
    pub zone_pairs: Vec<ZonePair>,
}

/// Who looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vantage {
    /// The agent's name.
    pub agent: String,
    /// The machine.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// The region.
    pub region: Option<String>,
}

/// All of it in a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// In a word.
    pub state: State,
    /// Since when.
    pub since: Option<String>,
    /// For people.
    pub words: String,
}

/// One that measures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// What it stands beside.
    pub role: Option<String>,
    /// It stands beside nothing, where others do.
    pub is_idle: bool,
    /// The machine.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who says where it stands.
    pub placed_by: Option<String>,
    /// Its version.
    pub version: String,
    /// How long ago it wrote; `null` of ourselves.
    pub heard_ago_us: Option<f64>,
    /// What it told is history.
    pub stale: bool,
    /// It gets too little CPU to measure.
    pub starved: bool,
    /// How many links it has.
    pub links: usize,
    /// When it wrote: what tells two letters apart.
    #[serde(skip)]
    pub heard_at: Option<String>,
    /// Where it answers echoes.
    #[serde(skip)]
    pub reflector: Option<String>,
}

/// One that is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// How.
    pub kind: String,
    /// What it is.
    pub role: Option<String>,
    /// The machine.
    pub node: Option<String>,
    /// The zone.
    pub zone: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who says where it stands.
    pub placed_by: Option<String>,
}

/// One pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Who measures.
    pub source: String,
    /// What; of a peer the other agent's name.
    pub target: String,
    /// How.
    pub kind: String,
    /// What the target is.
    pub role: Option<String>,
    /// How it stands.
    pub state: State,
    /// The reason to act on.
    pub reason: String,
    /// Since when it stands so.
    pub since: String,
    /// What it is held against; `null` for information only.
    pub budget_us: Option<f64>,
    /// The fastest.
    pub min_us: Option<f64>,
    /// The median.
    pub p50_us: Option<f64>,
    /// The 95th percentile.
    pub p95_us: Option<f64>,
    /// The 99th percentile.
    pub p99_us: Option<f64>,
    /// Judged outcomes.
    pub samples: u32,
    /// Those without a reply; `null` where an older agent does not say it.
    pub lost: Option<u32>,
    /// Their share.
    pub loss: Option<f64>,
    /// It was told too long ago.
    pub stale: bool,
    /// The other way round takes far longer or far shorter.
    pub lopsided: bool,
    /// What its source calls the target.
    #[serde(skip)]
    pub called: String,
}

/// All pairs from one zone to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ZonePair {
    /// From where.
    pub source: Zone,
    /// To where.
    pub target: Zone,
    /// How.
    pub kind: String,
    /// How many pairs.
    pub paths: usize,
    /// The worst of them.
    pub state: State,
    /// The strictest of their budgets.
    pub budget_us: Option<f64>,
    /// The slowest median.
    pub p50_us: Option<f64>,
    /// The slowest 95th percentile.
    pub p95_us: Option<f64>,
    /// The greatest loss.
    pub loss: Option<f64>,
}

/// A zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name; `null` where nobody said.
    pub zone: Option<String>,
    /// Its region.
    pub region: Option<String>,
}

/// Pairs alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Paths {
    /// Of the shape.
    pub schema_version: u32,
    /// When this was so.
    pub generated_at: String,
    /// By source, kind and target.
    pub paths: Vec<Cell>,
}

impl Document {
    /// What this agent sees, at the anchor's instant.
    pub fn of(matrix: &Matrix, agent: &str, quantile: f64, anchor: &Anchor) -> Self {
        let own = matrix.agents.iter().find(|line| line.name == agent);
        let spot = own.map(|line| line.spot.clone()).unwrap_or_default();
        let mut cells: Vec<_> = matrix.cells.iter().map(|cell| Cell::of(cell, anchor)).collect();
        cells.sort_by(|a, b| a.key().cmp(&b.key()));
        let mut targets: Vec<_> = matrix.targets.iter().map(Target::of).collect();
        targets.sort_by(|a, b| a.key().cmp(&b.key()));
        Self {
            schema_version: SCHEMA_VERSION,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generated_at: anchor.at(anchor.age),
            vantage: Vantage {
                agent: agent.to_owned(),
                node: spot.node,
                zone: spot.zone,
                region: spot.region,
            },
            quantile,
            coder_warns_at_us: json::micros(CODER_WARNS_AT),
            verdict: Verdict {
                state: matrix.verdict.state,
                since: matrix.verdict.since.map(|since| anchor.at(since)),
                words: matrix.verdict.words.clone(),
            },
            agents: matrix.agents.iter().map(|line| Agent::of(line, anchor)).collect(),
            targets,
            cells,
            zone_pairs: matrix.zone_pairs.iter().map(ZonePair::of).collect(),
        }
    }
}

fn word(role: Option<Role>) -> Option<String> {
    role.map(|role| role.as_str().to_owned())
}

impl Agent {
    fn of(line: &matrix::AgentLine, anchor: &Anchor) -> Self {
        let Spot { node, zone, region, by } = line.spot.clone();
        Self {
            name: line.name.clone(),
            role: word(line.role),
            is_idle: line.is_idle,
            node,
            zone,
            region,
            placed_by: by,
            version: line.version.clone(),
            heard_ago_us: micros(line.heard),
            stale: line.stale,
            starved: line.starved,
            links: line.links,
            heard_at: line.heard.map(|ago| anchor.at(anchor.age.saturating_sub(ago))),
            reflector: line.reflector.as_ref().map(ToString::to_string),
        }
    }

    /// Whether there is news of it: time that goes by is none, and a letter is.
    pub fn differs(&self, before: &Self) -> bool {
        Self { heard_ago_us: before.heard_ago_us, ..self.clone() } != *before
    }
}

impl Target {
    fn of(line: &matrix::TargetLine) -> Self {
        let Spot { node, zone, region, by } = line.spot.clone();
        Self {
            name: line.name.clone(),
            kind: line.kind.as_str().to_owned(),
            role: word(line.role),
            node,
            zone,
            region,
            placed_by: by,
        }
    }

    /// What tells it from the others.
    pub fn key(&self) -> (&str, &str) {
        (&self.name, &self.kind)
    }
}

impl Cell {
    fn of(cell: &matrix::Cell, anchor: &Anchor) -> Self {
        let row = &cell.row;
        Self {
            source: cell.source.clone(),
            target: row.target.clone(),
            kind: row.kind.as_str().to_owned(),
            role: word(row.role),
            state: row.state,
            reason: row.reason.clone(),
            since: anchor.at(row.since),
            budget_us: micros(row.budget),
            min_us: micros(row.min),
            p50_us: micros(row.p50),
            p95_us: micros(row.p95),
            p99_us: micros(row.p99),
            samples: row.samples,
            lost: cell.lost(),
            loss: cell.loss().map(json::share),
            stale: cell.stale,
            lopsided: cell.lopsided,
            called: cell.called.clone(),
        }
    }

    /// What tells it from the others.
    pub fn key(&self) -> (&str, &str, &str) {
        (&self.source, &self.kind, &self.target)
    }
}

impl ZonePair {
    fn of(pair: &matrix::ZonePair) -> Self {
        let zone = |[zone, region]: &[Option<String>; 2]| Zone { zone: zone.clone(), region: region.clone() };
        Self {
            source: zone(&pair.source),
            target: zone(&pair.target),
            kind: pair.kind.as_str().to_owned(),
            paths: pair.cells,
            state: pair.state,
            budget_us: micros(pair.budget),
            p50_us: micros(pair.p50),
            p95_us: micros(pair.p95),
            loss: pair.loss.map(json::share),
        }
    }
}
