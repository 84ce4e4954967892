//! All figures of one instant, as data: what Prometheus' page and OTLP's messages are made of, so that both say the same.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::instruments::Instrument;
use crate::mesh::exponential::Exponential;
use crate::mesh::histogram::Histogram;

/// All figures of one instant.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// By the wall clock, when the agent began.
    pub began: SystemTime,
    /// By the wall clock, when they were taken.
    pub taken: SystemTime,
    /// In the order of the table; an instrument without points is left out.
    pub families: Vec<Family>,
}

/// All series of one instrument.
#[derive(Debug, Clone)]
pub struct Family {
    /// Which one.
    pub instrument: &'static Instrument,
    /// Its series, each with other labels.
    pub points: Vec<Point>,
}

/// One series.
#[derive(Debug, Clone)]
pub struct Point {
    /// One value a label of the instrument, in its order. They are as they were told: whoever writes them escapes them.
    pub labels: Vec<Arc<str>>,
    /// When its counting began, since the agent did.
    pub born: Duration,
    /// What it says.
    pub value: Value,
}

/// What a series says.
#[derive(Debug, Clone)]
pub enum Value {
    /// Of a gauge.
    Number(f64),
    /// Of a counter: since `born`.
    Count(u64),
    /// Of a counter of something that comes in parts, like seconds.
    Sum(f64),
    /// Of a histogram: since `born`. The exponential one is kept only where somebody asks for it.
    Distribution(Histogram, Option<Box<Exponential>>),
}

impl Metrics {
    /// The series of this instrument; empty where there is none.
    pub fn points(&self, instrument: &Instrument) -> &[Point] {
        let family = self.families.iter().find(|family| family.instrument.name == instrument.name);
        family.map_or(&[], |family| &family.points)
    }
}
