//! One moment of a running mesh, for a ticket: asked of one agent, and written as one file.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::client::{self, AskError, Settings};
use crate::export::api::{delta::Snapshot, events, findings, matrix, path, placement};
use crate::export::matrix::{Figure, markdown};
use crate::export::page;

/// The past of so many paths at most is in it: what fails, then what is at risk, then the others.
const PATHS_AT_MOST: usize = 64;

/// Everything that the agent knows, and the past of its own paths.
#[derive(Debug, Serialize)]
pub struct Report {
    snapshot: Snapshot,
    placement: placement::Document,
    paths: Vec<path::Document>,
}

/// Asks for all of it.
pub async fn ask(settings: &Settings) -> Result<Report, AskError> {
    let matrix: matrix::Document = client::get(settings, "/api/v1/matrix").await?;
    let findings: findings::Document = client::get(settings, "/api/v1/findings").await?;
    let events: events::Document =
        client::get(settings, &format!("/api/v1/events?limit={}", events::KEPT)).await?;
    let placement = client::get(settings, "/api/v1/placement").await?;
    let mut own: Vec<_> = matrix.cells.iter().filter(|cell| cell.source == matrix.vantage.agent).collect();
    own.sort_by(|a, b| b.state.cmp(&a.state).then_with(|| a.key().cmp(&b.key())));
    let mut paths = Vec::new();
    for cell in own.into_iter().take(PATHS_AT_MOST) {
        let word = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (source, kind, target) = cell.key();
        let query = format!("source={}&target={}&kind={}", word(source), word(target), word(kind));
        paths.push(client::get(settings, &format!("/api/v1/path?{query}")).await?);
    }
    let snapshot = Snapshot { matrix, findings: findings.findings, events: events.events };
    Ok(Report { snapshot, placement, paths })
}

impl Report {
    /// For programs, with a newline at its end.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// The page in one file; see [`page::one_file`].
    pub fn html(&self, nonce: &str) -> Result<String, serde_json::Error> {
        Ok(page::one_file(&serde_json::to_string(self)?, nonce))
    }

    /// The matrix, what is wrong and what has happened last, with a newline at its end.
    pub fn markdown(&self) -> String {
        const EVENTS: usize = 10;
        let mut text = markdown(&self.snapshot.matrix, Figure::P95);
        let safe = crate::export::matrix::safe;
        for finding in self.snapshot.findings.iter().filter(|finding| finding.news) {
            let (code, evidence, remedy) = (&finding.code, safe(&finding.evidence), safe(&finding.remedy));
            text += &format!("\n- **{}** ({}): {evidence}\n  {remedy}\n", safe(code), finding.severity);
        }
        if !self.snapshot.events.is_empty() {
            text += "\n| when | what |\n|---|---|\n";
        }
        for event in self.snapshot.events.iter().take(EVENTS) {
            text += &format!("| {} | {} |\n", event.at, safe(&event.body));
        }
        text
    }
}
