//! How long notifications take through PostgreSQL, as a part of the agent's report.

use serde::Serialize;

use super::json::micros;
use crate::mesh::pubsub::{Figures, Path, Standing};
use crate::mesh::state::State;

/// The way of coderd's news, and the figures.
#[derive(Serialize)]
pub(super) struct PubsubJson<'a> {
    path: Path,
    /// Whether the figures count: only where news takes this way.
    judged: bool,
    /// One trip: from one connection of ours to another.
    own: FiguresJson<'a>,
    /// Two trips: to another agent and back.
    peers: Vec<PeerJson<'a>>,
}

#[derive(Serialize)]
struct PeerJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    figures: FiguresJson<'a>,
    /// Half of the median; either direction differs from it by at most the bound.
    one_way_us: Option<f64>,
    one_way_bound_us: Option<f64>,
}

#[derive(Serialize)]
struct FiguresJson<'a> {
    state: State,
    limit_us: f64,
    last_us: Option<f64>,
    p50_us: Option<f64>,
    p95_us: Option<f64>,
    acknowledged_us: Option<f64>,
    samples: usize,
    lost: usize,
    lost_in_all: u64,
    reason: Option<&'static str>,
    detail: Option<&'a str>,
}

impl<'a> PubsubJson<'a> {
    pub(super) fn of(path: Path, standing: &'a Standing) -> Self {
        let peers = standing.peers.iter().map(|(name, figures)| {
            let (one_way, bound) = figures.one_way().unzip();
            PeerJson {
                name,
                figures: FiguresJson::of(figures),
                one_way_us: one_way.map(micros),
                one_way_bound_us: bound.map(micros),
            }
        });
        Self {
            path,
            judged: path.needs_postgres(),
            own: FiguresJson::of(&standing.own),
            peers: peers.collect(),
        }
    }
}

impl<'a> FiguresJson<'a> {
    fn of(figures: &'a Figures) -> Self {
        let why = figures.failure.as_ref().or(figures.silence.1.as_ref());
        Self {
            state: figures.state,
            limit_us: micros(figures.limit),
            last_us: figures.last.map(micros),
            p50_us: figures.median.map(micros),
            p95_us: figures.p95.map(micros),
            acknowledged_us: figures.acknowledged.map(micros),
            samples: figures.samples,
            lost: figures.lost,
            lost_in_all: figures.lost_in_all,
            reason: why.map(|failure| failure.reason.as_str()),
            detail: why.map(|failure| failure.detail.as_str()),
        }
    }
}
