//! One path in depth (`GET /api/v1/path`).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::events::Event;
use super::matrix::Cell;
use super::{Anchor, Picture, SCHEMA_VERSION, micros};
use crate::export::{events, json};
use crate::mesh::history;

/// One path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// When this was so.
    pub generated_at: String,
    /// Whether this agent measures it; the details of others are with them.
    pub measured_here: bool,
    /// How it stands.
    pub cell: Cell,
    /// The same pair the other way.
    pub back: Option<Cell>,
    /// The same pair by other kinds, both ways.
    pub beside: Vec<Cell>,
    /// As in `links` of `/api/v1/report`.
    pub detail: Option<Value>,
    /// What it was like.
    pub history: Option<History>,
    /// What has happened to it, the newest first.
    pub events: Vec<Event>,
    /// What a person may type to measure it again.
    pub command: String,
}

/// What a path was like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct History {
    /// Of one bin.
    pub width_us: f64,
    /// Of the first one.
    pub begin: String,
    /// The oldest first; the one that is being filled is not among them.
    pub bins: Vec<Bin>,
}

/// Offset from the beginning of the first one; fastest, median, 95th percentile and slowest, `null` where nothing answered; judged
/// outcomes, and those of them without a reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin(pub f64, pub Option<f64>, pub Option<f64>, pub Option<f64>, pub Option<f64>, pub u32, pub u32);

/// How far back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// Six hours by ten seconds.
    #[default]
    Fine,
    /// Forty-eight hours by two minutes.
    Coarse,
}

impl Span {
    /// From its word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "6h" => Some(Self::Fine),
            "48h" => Some(Self::Coarse),
            _ => None,
        }
    }
}

/// What only the agent knows that measures it.
#[derive(Debug, Clone, PartialEq)]
pub struct Own {
    /// As in the report.
    pub detail: Value,
    /// What it was like.
    pub history: History,
    /// Where the target really is; no secret is in it.
    pub address: String,
}

impl History {
    /// Of one link.
    pub fn of(history: &history::History, span: Span, anchor: &Anchor) -> Self {
        let resolution = match span {
            Span::Fine => history::FINE,
            Span::Coarse => history::COARSE,
        };
        let reach = resolution.width * u32::try_from(resolution.bins).unwrap_or(u32::MAX);
        let since = anchor.age.saturating_sub(reach);
        let bins: Vec<_> = match span {
            Span::Fine => history.fine(since).collect(),
            Span::Coarse => history.coarse(since).collect(),
        };
        let begin = bins.first().map_or(anchor.age, |bin| bin.begin);
        Self {
            width_us: json::micros(resolution.width),
            begin: anchor.at(begin),
            bins: bins.iter().map(|bin| Bin::of(bin, begin)).collect(),
        }
    }
}

impl Bin {
    fn of(bin: &history::Bin, begin: Duration) -> Self {
        let [min, p50, p95, max] = bin.rtt.map_or([None; 4], |rtt| rtt.map(Some)).map(micros);
        Self(json::micros(bin.begin.saturating_sub(begin)), min, p50, p95, max, bin.judged, bin.lost)
    }
}

impl Picture {
    /// The pair of these names.
    pub fn cell(&self, source: &str, kind: &str, target: &str) -> Option<&Cell> {
        self.matrix.cells.iter().find(|cell| cell.key() == (source, kind, target))
    }

    /// One path in depth; `own` is what this agent knows of it, where it is its own.
    pub fn path(&self, cell: &Cell, own: Option<Own>) -> Document {
        let is_pair = |other: &&Cell| {
            let ends = (other.source.as_str(), other.target.as_str());
            ends == (&cell.source, &cell.target) || ends == (&cell.target, &cell.source)
        };
        let pair = self.matrix.cells.iter().filter(is_pair);
        let (same, beside): (Vec<_>, Vec<_>) =
            pair.filter(|other| other.key() != cell.key()).partition(|other| other.kind == cell.kind);
        let happened = self.events.iter().filter(|event| concerns(event, cell));
        let (detail, history, address) = match own {
            Some(own) => (Some(own.detail), Some(own.history), Some(own.address)),
            None => (None, None, None),
        };
        Document {
            schema_version: SCHEMA_VERSION,
            generated_at: self.matrix.generated_at.clone(),
            measured_here: detail.is_some(),
            command: self.command(cell, address),
            cell: cell.clone(),
            back: same.into_iter().next().cloned(),
            beside: beside.into_iter().cloned().collect(),
            detail,
            history,
            events: happened.map(|event| Event::of(event)).collect(),
        }
    }

    fn command(&self, cell: &Cell, address: Option<String>) -> String {
        // Where the source only knows a name, the target itself says where it answers.
        let is_address = |text: &&String| text.contains(':');
        let reflector = || {
            let agent = self.matrix.agents.iter().find(|agent| agent.name == cell.target);
            agent.filter(|_| cell.kind == "peer").and_then(|agent| agent.reflector.clone())
        };
        let address = address.or_else(|| Some(&cell.called).filter(is_address).cloned()).or_else(reflector);
        let role = cell.role.as_deref().map_or(String::new(), |role| format!("={role}"));
        let flag = match cell.kind.as_str() {
            "peer" => "--peer",
            "tcp" | "nats" => "--tcp",
            "http" | "relay" => "--http",
            // A connection string may hold a password, and is with who may have it.
            _ => return "probe check --postgres-url-file FILE".to_owned(),
        };
        match address {
            // Names come from others, and this goes into somebody's shell.
            Some(address) => {
                let word = format!("{address}{role}");
                let is_plain =
                    word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:/=@-".contains(&byte));
                let word = if is_plain { word.into() } else { shell_words::quote(&word) };
                format!("probe check {flag} {word}")
            }
            None => "probe check --discover coder".to_owned(),
        }
    }
}

/// Whether this is about this pair, as its source sees it.
fn concerns(event: &events::Event, cell: &Cell) -> bool {
    let says = |key: &str, word: &str| {
        let mut attributes = event.attributes.iter();
        attributes.any(|(name, value)| {
            name == key && matches!(value, events::Attribute::Text(text) if text == word)
        })
    };
    says("source", &cell.source) && says("target", &cell.called) && says("target_kind", &cell.kind)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::mesh::state::State;

    fn cell(kind: &str, called: &str) -> Cell {
        let text = serde_json::json!({
            "source": "a", "target": "b", "kind": kind, "role": "coderd", "state": State::Ok, "reason": "x",
            "since": "x", "budget_us": null, "min_us": null, "p50_us": null, "p95_us": null, "p99_us": null,
            "samples": 0, "lost": null, "loss": null, "stale": false, "lopsided": false,
        });
        Cell { called: called.into(), ..serde_json::from_value(text).unwrap() }
    }

    fn picture() -> Picture {
        let matrix = serde_json::json!({
            "schema_version": 1, "version": "1", "generated_at": "x", "quantile": 0.95, "coder_warns_at_us": 15000.0,
            "vantage": { "agent": "a", "node": null, "zone": null, "region": null },
            "verdict": { "state": "ok", "since": null, "words": "x" },
            "agents": [], "targets": [], "cells": [], "zone_pairs": [],
        });
        Picture {
            number: 1,
            life: "x".into(),
            matrix: serde_json::from_value(matrix).unwrap(),
            placed: Vec::new(),
            findings: Vec::new(),
            events: Vec::new(),
        }
    }

    #[test]
    fn the_command_names_the_real_address_and_does_no_harm_in_a_shell() {
        for (kind, called, address, command) in [
            ("peer", "b", Some("10.0.0.2:9862"), "probe check --peer 10.0.0.2:9862=coderd"),
            ("peer", "10.0.0.3:9862", None, "probe check --peer 10.0.0.3:9862=coderd"),
            ("peer", "b", None, "probe check --discover coder"),
            ("nats", "b", Some("10.0.0.2:6222"), "probe check --tcp 10.0.0.2:6222=coderd"),
            ("http", "b", Some("http://b/healthz"), "probe check --http http://b/healthz=coderd"),
            ("postgres", "db:5432/coder", Some("db:5432/coder"), "probe check --postgres-url-file FILE"),
            ("peer", "b:1;reboot", None, "probe check --peer 'b:1;reboot=coderd'"),
            ("peer", "b:1'$(reboot)", None, "probe check --peer 'b:1'\\''$(reboot)=coderd'"),
        ] {
            assert_eq!(picture().command(&cell(kind, called), address.map(str::to_owned)), command);
        }
    }

    #[test]
    fn what_was_is_told_from_the_first_bin_on() {
        let mut past = history::History::default();
        let at = Duration::from_secs;
        for second in 0..60 {
            past.record((second < 20).then(|| Duration::from_millis(2)), at(100 + second));
        }
        let wall = std::time::SystemTime::UNIX_EPOCH + at(1_700_000_000);
        let told = History::of(&past, Span::Fine, &Anchor { age: at(160), wall });
        assert_eq!((told.begin.as_str(), told.bins.len()), ("2023-11-14T22:12:20.000Z", 5));
        let Bin(offset, min, .., judged, lost) = told.bins[2];
        assert_eq!((offset, min, judged, lost), (2e7, None, 10, 10));
        let answered = told.bins[0].1.unwrap();
        assert!((answered - 2000.0).abs() < 1.0, "{answered}");
        let coarse = History::of(&past, Span::Coarse, &Anchor { age: at(160), wall });
        assert_eq!(coarse.bins.len(), 1, "the second of them is being filled");
    }

    #[test]
    fn events_are_those_of_this_pair_and_the_way_back_is_of_the_same_kind() {
        let mut picture = picture();
        let back = Cell { source: "b".into(), target: "a".into(), ..cell("peer", "a") };
        let other = Cell { kind: "tcp".into(), ..back.clone() };
        picture.matrix.cells = vec![cell("peer", "b"), back.clone(), other.clone()];
        let event = |target: &str, kind: &str| events::Event {
            id: format!("{target}-{kind}"),
            at: std::time::SystemTime::UNIX_EPOCH,
            name: "x".into(),
            gravity: events::Gravity::Info,
            body: String::new(),
            attributes: [("source", "a"), ("target", target), ("target_kind", kind)]
                .map(|(key, word)| (key.into(), events::Attribute::Text(word.into())))
                .to_vec(),
        };
        picture.events =
            [event("b", "tcp"), event("b", "peer"), event("c", "peer")].map(std::sync::Arc::new).to_vec();
        let told = picture.path(&cell("peer", "b"), None);
        assert_eq!((told.back, told.beside), (Some(back), vec![other]));
        assert_eq!(told.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["b-peer"]);
        assert_eq!(told.events[0].attributes.keys().collect::<Vec<_>>(), ["source", "target", "target_kind"]);
        assert!(!told.measured_here && told.detail.is_none());
    }
}
