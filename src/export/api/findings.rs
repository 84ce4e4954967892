//! What is wrong with who stands where (`GET /api/v1/findings`).

use serde::{Deserialize, Serialize};

use super::Anchor;
use crate::mesh::rules::held::Held;

/// All findings, the worst first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// When this was so.
    pub generated_at: String,
    /// The worst first.
    pub findings: Vec<Finding>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Stable word.
    pub code: String,
    /// `fail`, `warning` or `info`.
    pub severity: String,
    /// Whom it is about.
    pub subjects: Vec<String>,
    /// What was seen.
    pub evidence: String,
    /// What to do.
    pub remedy: String,
    /// Who saw it.
    pub vantage: Vec<Witness>,
    /// It has lasted for the start-up grace.
    pub news: bool,
    /// Since when it is seen.
    pub since: String,
    /// Where to read on.
    pub docs: String,
}

/// Who saw something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// The agent's name.
    pub agent: String,
    /// Its host's name.
    pub host: Option<String>,
    /// The machine.
    pub node: Option<String>,
}

impl Finding {
    /// One that lasts.
    pub fn of(held: &Held, anchor: &Anchor) -> Self {
        let finding = &held.finding;
        let vantage = finding.vantage.iter().map(|one| Witness {
            agent: one.agent.clone(),
            host: one.host.clone(),
            node: one.node.clone(),
        });
        Self {
            code: finding.code.as_str().to_owned(),
            severity: finding.severity.as_str().to_owned(),
            subjects: finding.subjects.clone(),
            evidence: finding.evidence.clone(),
            remedy: finding.remedy.to_owned(),
            vantage: vantage.collect(),
            news: held.is_news,
            since: anchor.at(held.since),
            docs: finding.anchor.clone(),
        }
    }
}
