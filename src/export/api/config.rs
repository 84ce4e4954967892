//! Which settings are in force, and where each comes from (`GET /api/v1/config`). No secret is in it.

use serde::{Deserialize, Serialize};

/// Instead of a secret.
pub const HIDDEN: &str = "***";

/// All settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Of the shape.
    pub schema_version: u32,
    /// In the order of deploy/probe.toml.
    pub settings: Vec<Setting>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// As in the file.
    pub key: String,
    /// In words; a list has one a value; `null` where nothing is set.
    pub value: Option<Value>,
    /// The flag, the variable, `file` or `default`.
    pub origin: String,
}

/// What it is set to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}
