//! What happened, as records for people and for whoever collects logs: one event a change of state, placement, roster or
//! configuration. The same record goes to stderr and to the OTLP receiver.
//!
//! Names are closed and have no value in them; what changed is in the attributes. Notifying people is left to Alertmanager,
//! Grafana or the collector.

use std::borrow::Cow;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

/// How much it matters; the numbers are OpenTelemetry's severity numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    /// Good news, or just news.
    Info = 9,
    /// Somebody should look at it.
    Warn = 13,
    /// Somebody may want to be woken.
    Error = 17,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The same whenever this event is delivered again, and no other event's: for who wants to see each once.
    pub id: String,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// Which kind of thing: a word out of a closed list.
    pub name: Cow<'static, str>,
    /// How much it matters.
    pub gravity: Gravity,
    /// One sentence for people.
    pub body: String,
    /// What changed, flat, in a fixed order.
    pub attributes: Vec<(Cow<'static, str>, Attribute)>,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A whole number.
    Whole(i64),
    /// Another number.
    Number(f64),
    /// A word or a sentence.
    Text(String),
}
