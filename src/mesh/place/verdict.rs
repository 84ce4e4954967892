//! The words for whether two ends stand in one region, and what goes with them.

use std::fmt;

use serde::Serialize;

/// Whether two ends stand in one region. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionVerdict {
    /// Both say so, and the round trip is that of one region.
    SameRegionConfirmed,
    /// Nothing speaks against it.
    SameRegionConsistent,
    /// They say that they are in different ones.
    CrossRegionDeclared,
    /// The one without a label cannot be where the other is.
    CrossRegionImplied,
    /// It takes too long for one region. No proof.
    CrossRegionSuspected,
    /// What is said and what is measured cannot both be right.
    LabelContradictsMeasurement,
    /// Nobody can tell.
    Unknown,
}

impl RegionVerdict {
    /// The stable word of this verdict.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SameRegionConfirmed => "same_region_confirmed",
            Self::SameRegionConsistent => "same_region_consistent",
            Self::CrossRegionDeclared => "cross_region_declared",
            Self::CrossRegionImplied => "cross_region_implied",
            Self::CrossRegionSuspected => "cross_region_suspected",
            Self::LabelContradictsMeasurement => "label_contradicts_measurement",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RegionVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is to be said beside a verdict. The words are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Note {
    /// Too few replies, or none.
    NoMeasurement,
    /// One region, and slower than it need be.
    SlowPath,
    /// A way around, or a wrong label.
    DetourOrWrongLabel,
    /// Faster than light in a vacuum: one of the labels is wrong.
    Physics,
    /// Two regions in one metropolis.
    SameMetro,
    /// It cannot be in that region, but may be in another one of the same metropolis.
    PerhapsSameMetro,
    /// Faster than light in solid fibre: a hollow one, or a wrong label.
    FasterThanFibre,
    /// The atlas does not know where a region is.
    NoGeography,
    /// Something before the end may have answered.
    NotEndToEnd,
    /// Even the fastest round trip is over the budget.
    OverBudget,
    /// The fastest round trip is within the budget, which changes nothing about the region.
    WithinBudget,
    /// No other region is within reach of light.
    ByPhysics,
    /// One end has no label.
    Unlabelled,
    /// Nobody has a label, and they are as near as one site.
    SameSite,
    /// No region fits all anchors: one of them has a wrong label, or the end is where the atlas knows nothing.
    AnchorsContradict,
}

/// A verdict with what it rests on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// The verdict.
    pub verdict: RegionVerdict,
    /// What else is to be said.
    pub notes: Vec<Note>,
    /// One line for people.
    pub evidence: String,
}

impl Judgement {
    pub(super) fn new(
        verdict: RegionVerdict,
        notes: impl Into<Vec<Note>>,
        evidence: impl Into<String>,
    ) -> Self {
        Self { verdict, notes: notes.into(), evidence: evidence.into() }
    }

    /// Whether this note is there.
    pub fn has(&self, note: Note) -> bool {
        self.notes.contains(&note)
    }
}
