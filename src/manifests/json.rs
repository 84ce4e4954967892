//! What was found, as JSON, `schema_version` 1.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Fault, Judged, Part, Unjudged};
use crate::export::json::SCHEMA_VERSION;
use crate::mesh::rules::TopologyFinding;
use crate::mesh::verdict::Verdict;

#[derive(Serialize)]
struct Document<'a> {
    schema_version: u32,
    version: &'static str,
    verdict: Verdict,
    parts: &'a [Part],
    findings: &'a [TopologyFinding],
    unjudged: &'a [Unjudged],
    unreadable: &'a [Fault],
    read: usize,
    ignored: BTreeMap<&'a str, usize>,
    replaced: &'a [String],
}

/// One pretty-printed document with a newline at its end.
///
/// # Errors
/// None that is known: all keys are texts.
pub fn render(judged: &Judged) -> Result<String, serde_json::Error> {
    let document = Document {
        schema_version: SCHEMA_VERSION,
        version: env!("CARGO_PKG_VERSION"),
        verdict: judged.verdict,
        parts: &judged.parts,
        findings: &judged.findings,
        unjudged: &judged.unjudged,
        unreadable: &judged.faults,
        read: judged.read,
        ignored: judged.ignored.iter().map(|(kind, count)| (kind.as_str(), *count)).collect(),
        replaced: &judged.replaced,
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}
