//! What follows from two ends in different regions. Coder: one geographic region for all coderd, the database near them.
//!
//! The budget is another question: two regions 4 ms apart keep it, and are two regions all the same.

use serde::Serialize;

use super::verdict::{Judgement, Note, RegionVerdict};
use crate::mesh::peer::Role;

/// How bad a finding is. The order is that of severity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Worth a look.
    Warning,
    /// Against what Coder demands.
    Fail,
}

impl Severity {
    /// The stable word of this severity.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Fail => "fail",
        }
    }
}

/// What it means when two ends stand in different regions; `None` is nothing at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Between replicas of coderd, near or far.
    pub coderd_coderd: Option<Severity>,
    /// Between coderd and a server of its database.
    pub coderd_database: Option<Severity>,
    /// The same where the two regions are in one metropolis, as two providers in one city are.
    pub coderd_database_same_metro: Option<Severity>,
    /// Between the servers of one database.
    pub database_database: Option<Severity>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            coderd_coderd: Some(Severity::Fail),
            coderd_database: Some(Severity::Fail),
            coderd_database_same_metro: Some(Severity::Warning),
            database_database: Some(Severity::Warning),
        }
    }
}

impl Policy {
    /// What it means that these two stand in different regions.
    pub fn crossing(&self, one: Option<Role>, other: Option<Role>, same_metro: bool) -> Option<Severity> {
        use Role::{Coderd, Postgres, Provisioner, Proxy, Standby};
        match (one, other) {
            (Some(Proxy | Provisioner), _) | (_, Some(Proxy | Provisioner)) => None,
            (Some(Coderd), Some(Coderd)) => self.coderd_coderd,
            (Some(Coderd), Some(Postgres | Standby)) | (Some(Postgres | Standby), Some(Coderd)) => {
                if same_metro {
                    self.coderd_database_same_metro
                } else {
                    self.coderd_database
                }
            }
            (Some(Postgres | Standby), Some(Postgres | Standby)) => self.database_database,
            // Whoever did not say what it is gets no free pass, and no fail either.
            (None, _) | (_, None) => self.coderd_coderd.map(|_| Severity::Warning),
        }
    }

    /// What this judgement means for these two; `None` where nothing is wrong, or nothing is known.
    pub fn severity(
        &self,
        one: Option<Role>,
        other: Option<Role>,
        judgement: &Judgement,
    ) -> Option<Severity> {
        // Only what surely crosses from one metropolis into another is treated as such.
        let near = judgement.has(Note::SameMetro) || judgement.has(Note::PerhapsSameMetro);
        let crossing = self.crossing(one, other, near);
        match judgement.verdict {
            RegionVerdict::CrossRegionDeclared | RegionVerdict::CrossRegionImplied => crossing,
            // No proof: there are innocent causes, so it is never more than a warning.
            RegionVerdict::CrossRegionSuspected | RegionVerdict::LabelContradictsMeasurement => {
                crossing.map(|severity| severity.min(Severity::Warning))
            }
            RegionVerdict::SameRegionConfirmed
            | RegionVerdict::SameRegionConsistent
            | RegionVerdict::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODERD: Option<Role> = Some(Role::Coderd);
    const POSTGRES: Option<Role> = Some(Role::Postgres);
    const STANDBY: Option<Role> = Some(Role::Standby);

    #[test]
    fn coderd_must_not_cross_and_the_database_may_stand_next_door_with_a_warning() {
        let policy = Policy::default();
        for (one, other, same_metro, severity) in [
            (CODERD, CODERD, false, Some(Severity::Fail)),
            (CODERD, CODERD, true, Some(Severity::Fail)),
            (CODERD, POSTGRES, false, Some(Severity::Fail)),
            (CODERD, POSTGRES, true, Some(Severity::Warning)),
            (CODERD, STANDBY, true, Some(Severity::Warning)),
            (POSTGRES, STANDBY, false, Some(Severity::Warning)),
            (CODERD, Some(Role::Proxy), false, None),
            (Some(Role::Provisioner), POSTGRES, false, None),
            (CODERD, None, false, Some(Severity::Warning)),
        ] {
            assert_eq!(policy.crossing(one, other, same_metro), severity, "{one:?} {other:?}");
            assert_eq!(policy.crossing(other, one, same_metro), severity, "{other:?} {one:?}");
        }
    }

    #[test]
    fn a_suspicion_is_a_warning_and_the_unknown_is_no_finding() {
        let policy = Policy::default();
        let severity = |verdict, notes: &[Note]| {
            let judgement = Judgement { verdict, notes: notes.to_vec(), evidence: String::new() };
            policy.severity(CODERD, POSTGRES, &judgement)
        };
        assert_eq!(severity(RegionVerdict::CrossRegionDeclared, &[]), Some(Severity::Fail));
        assert_eq!(severity(RegionVerdict::CrossRegionDeclared, &[Note::SameMetro]), Some(Severity::Warning));
        assert_eq!(severity(RegionVerdict::CrossRegionImplied, &[]), Some(Severity::Fail));
        assert_eq!(
            severity(RegionVerdict::CrossRegionImplied, &[Note::PerhapsSameMetro]),
            Some(Severity::Warning)
        );
        assert_eq!(severity(RegionVerdict::CrossRegionSuspected, &[]), Some(Severity::Warning));
        assert_eq!(severity(RegionVerdict::LabelContradictsMeasurement, &[]), Some(Severity::Warning));
        assert_eq!(severity(RegionVerdict::Unknown, &[]), None);
        assert_eq!(severity(RegionVerdict::SameRegionConfirmed, &[]), None);
        let lenient = Policy { coderd_database: None, ..policy };
        let declared = Judgement {
            verdict: RegionVerdict::CrossRegionDeclared,
            notes: Vec::new(),
            evidence: String::new(),
        };
        assert_eq!(lenient.severity(CODERD, POSTGRES, &declared), None);
    }
}
