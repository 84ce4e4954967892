//! What has happened (`GET /api/v1/events`).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::instant;
use crate::export::events::{self, Attribute, Gravity};

/// How many are kept.
pub const KEPT: usize = 512;
/// How many a snapshot of the stream has.
pub const IN_SNAPSHOT: usize = 50;

/// Events, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// When this was so.
    pub generated_at: String,
    /// The newest first.
    pub events: Vec<Event>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// No other event's.
    pub id: String,
    /// When.
    pub at: String,
    /// Which kind of thing: docs/events.md.
    pub event: String,
    /// How much it matters.
    pub severity: Gravity,
    /// One sentence for people.
    pub body: String,
    /// What changed.
    pub attributes: BTreeMap<String, Attribute>,
}

impl Event {
    /// The same as a record of the log.
    pub fn of(event: &events::Event) -> Self {
        let attributes = event.attributes.iter();
        Self {
            id: event.id.clone(),
            at: instant(event.at),
            event: event.name.clone().into_owned(),
            severity: event.gravity,
            body: event.body.clone(),
            attributes: attributes.map(|(key, value)| (key.clone().into_owned(), value.clone())).collect(),
        }
    }
}
