//! The HTTP API's documents, `schema_version` 1: made of what the mind knows, and read again by whoever asks.
//!
//! Durations are microseconds with at most one decimal, `null` is «not known» or «does not apply» and never zero, instants are RFC 3339
//! in UTC with milliseconds. Fields are only ever added within a schema version.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

pub mod config;
pub mod delta;
pub mod events;
pub mod findings;
pub mod matrix;
pub mod path;
pub mod placement;

pub use super::json::SCHEMA_VERSION;

/// Everything that is known at one instant, of which each answer shows a part.
#[derive(Debug, Clone)]
pub struct Picture {
    /// No other picture of this agent has the same.
    pub number: u64,
    /// No other agent's, nor that of this one before it was started again.
    pub life: String,
    /// The whole mesh.
    pub matrix: matrix::Document,
    /// Who stands where.
    pub placed: Vec<placement::Placed>,
    /// What is wrong with that.
    pub findings: Vec<findings::Finding>,
    /// What has happened, the newest first.
    pub events: Vec<Arc<super::events::Event>>,
}

/// Which instant of the wall clock an instant since the agent's start was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Since the start.
    pub age: Duration,
    /// By the wall clock, at the same instant.
    pub wall: SystemTime,
}

impl Anchor {
    /// This instant since the start, for people and programs.
    pub fn at(&self, age: Duration) -> String {
        instant(match self.age.checked_sub(age) {
            Some(ago) => self.wall.checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH),
            None => self.wall + (age - self.age),
        })
    }
}

/// An instant by the wall clock.
pub fn instant(at: SystemTime) -> String {
    humantime::format_rfc3339_millis(at.max(SystemTime::UNIX_EPOCH)).to_string()
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// For people.
    pub error: String,
}

fn micros(duration: Option<Duration>) -> Option<f64> {
    duration.map(super::json::micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_before_and_after_the_anchor_are_told_by_the_wall_clock() {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let anchor = Anchor { age: Duration::from_secs(100), wall };
        assert_eq!(anchor.at(Duration::from_millis(99_500)), "2023-11-14T22:13:19.500Z");
        assert_eq!(anchor.at(Duration::from_secs(101)), "2023-11-14T22:13:21.000Z");
    }
}
