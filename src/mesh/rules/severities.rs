//! How bad each finding is: the default of its code, unless somebody said otherwise.

use std::collections::BTreeMap;

use super::code::Code;
use crate::mesh::place::policy::{Policy, Severity};

/// A setting of severities that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeverityError {
    /// No finding has this code.
    #[error("'{0}' is not the code of a finding: docs/findings.md lists them")]
    Code(String),
    /// No severity.
    #[error("{code}: '{value}' is not a severity: use fail, warning, info or off")]
    Value {
        /// The code that it was meant for.
        code: Code,
        /// What was given.
        value: String,
    },
}

/// How bad each finding is: the default, unless somebody said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Severities {
    said: BTreeMap<Code, Option<Severity>>,
}

impl Severities {
    /// Sets one by its words: `fail`, `warning`, `info` or `off`.
    pub fn set(&mut self, code: &str, value: &str) -> Result<(), SeverityError> {
        let code: Code = code.parse()?;
        let severity = match value {
            "fail" => Some(Severity::Fail),
            "warning" => Some(Severity::Warning),
            "info" => Some(Severity::Info),
            "off" => None,
            _ => return Err(SeverityError::Value { code, value: value.to_owned() }),
        };
        self.said.insert(code, severity);
        Ok(())
    }

    /// How bad this is; `None` is switched off.
    pub fn of(&self, code: Code) -> Option<Severity> {
        self.said.get(&code).copied().unwrap_or(Some(code.severity()))
    }

    /// What follows for two ends in different regions.
    pub fn policy(&self) -> Policy {
        Policy {
            coderd_coderd: self.of(Code::CoderdCrossRegion),
            coderd_database: self.of(Code::DatabaseCrossRegion),
            coderd_database_same_metro: self.of(Code::DatabaseSameMetro),
            database_database: self.of(Code::DatabaseNodesFar),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_overridden_by_code_and_the_policy_follows() {
        let mut severities = Severities::default();
        assert_eq!(severities.of(Code::FewCoderd), Some(Severity::Warning));
        assert_eq!(severities.policy(), Policy::default());
        severities.set("few_coderd", "fail").unwrap();
        severities.set("coderd_cross_region", "warning").unwrap();
        severities.set("database_same_metro", "off").unwrap();
        assert_eq!(severities.of(Code::FewCoderd), Some(Severity::Fail));
        assert_eq!(severities.policy().coderd_coderd, Some(Severity::Warning));
        assert_eq!(severities.policy().coderd_database_same_metro, None);
        assert!(severities.set("few_coders", "fail").unwrap_err().to_string().contains("'few_coders'"));
        let error = severities.set("few_coderd", "bad").unwrap_err().to_string();
        assert_eq!(error, "few_coderd: 'bad' is not a severity: use fail, warning, info or off");
    }
}
