//! The nouns: what stands at the other end of a link, and in which role.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use probes::target::Kind;
use serde::Serialize;

use super::budget::Limit;

/// What the thing at an address is for. The same words stand in flags, JSON and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A replica of Coder's server.
    Coderd,
    /// A PostgreSQL server.
    Postgres,
    /// A workspace proxy.
    Proxy,
    /// A provisioner daemon.
    Provisioner,
    /// A standby of a PostgreSQL server.
    Standby,
}

impl Role {
    /// All roles, in the order of the flags' help.
    pub const ALL: [Self; 5] = [Self::Coderd, Self::Postgres, Self::Proxy, Self::Provisioner, Self::Standby];

    /// The stable word of this role.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Coderd => "coderd",
            Self::Postgres => "postgres",
            Self::Proxy => "proxy",
            Self::Provisioner => "provisioner",
            Self::Standby => "standby",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a role: use coderd, postgres, proxy, provisioner or standby")]
pub struct RoleError(String);

impl FromStr for Role {
    type Err = RoleError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| RoleError(text.to_owned()))
    }
}

/// One measured direction: from whom, to whom, how.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Link {
    /// Who measured; `None` where it is this process and there is no other.
    pub source: Option<String>,
    /// The target's name; it holds no secret.
    pub target: String,
    /// How it is measured.
    pub kind: Kind,
    /// What the target is for, if that was said.
    pub role: Option<Role>,
    /// What it is held against, where that was said for this target alone.
    pub limit: Option<Limit>,
    /// How often it is measured, where that is not as often as others of its kind.
    pub every: Option<Duration>,
}

impl Link {
    /// From this process to a target, by the rules of its class.
    pub fn to(target: impl Into<String>, kind: Kind, role: Option<Role>) -> Self {
        Self { source: None, target: target.into(), kind, role, limit: None, every: None }
    }
}

/// What an agent says that it is and where it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Own {
    /// Its name in the mesh.
    pub name: String,
    /// What it stands beside.
    pub role: Option<Role>,
    /// What its machine or pod calls itself.
    pub host_name: Option<String>,
    /// The machine.
    pub node: Option<String>,
    /// The zone of that machine.
    pub zone: Option<String>,
    /// The region of that zone.
    pub region: Option<String>,
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{source} → {}", self.target),
            None => f.write_str(&self.target),
        }
    }
}
