//! The codes of findings about who stands where: a closed list, each with a severity, a remedy and a chapter in the docs.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::mesh::place::policy::{Policy, Severity};

/// What can be found. The words are stable; docs/findings.md has a chapter for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// Nobody is known, so nothing can be said.
    Blind,
    /// Fewer than three replicas of coderd.
    FewCoderd,
    /// More than nine.
    ManyCoderd,
    /// Two of them on one machine.
    SharedNode,
    /// All of them in one zone.
    SingleZone,
    /// Not all of them in one region.
    CoderdCrossRegion,
    /// The database is in another region than coderd, and in another metropolis.
    DatabaseCrossRegion,
    /// The database is in another region in the same metropolis.
    DatabaseSameMetro,
    /// The servers of the database are far from each other.
    DatabaseNodesFar,
    /// A standby is behind its primary.
    StandbyLagging,
    /// The connection string leads to a standby.
    DatabaseIsStandby,
    /// The connection string leads through a pooler that takes the session away after each transaction.
    DatabasePooled,
    /// Some replicas tell each other by NATS and some by PostgreSQL.
    PubsubMixed,
    /// Notifications through PostgreSQL do not arrive.
    PubsubBroken,
    /// They take long.
    PubsubSlow,
    /// A replica that no agent stands beside.
    UnwatchedReplica,
    /// One reaches the other, and not the other way round.
    OneWay,
    /// Too slow for one region, with one label or none.
    CrossRegionSuspected,
    /// A label and a round trip cannot both be right.
    LabelContradictsMeasurement,
    /// Trusted sources disagree on where something is.
    LabelConflict,
    /// Somebody's word about a place was not believed.
    LabelOverruled,
    /// Not all of coderd and the database are below the budget of each other.
    LatencyDomains,
    /// A pair would be nearer by way of a third.
    Detour,
    /// The two directions of a pair differ.
    Lopsided,
    /// Not all replicas run one version.
    MixedVersions,
    /// A clock is wrong.
    ClockSkew,
    /// Two replicas tell the others to find them at one address.
    SharedRelay,
    /// A workspace proxy is in another region than its workspaces.
    ProxyOtherRegion,
    /// Nobody reaches a provisioner.
    ProvisionerUnreachable,
    /// Nothing keeps Kubernetes from stopping all replicas at once.
    NoDisruptionBudget,
    /// Coder's own health page warns later than the budget.
    HealthThreshold,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 31] = [
        Self::Blind,
        Self::FewCoderd,
        Self::ManyCoderd,
        Self::SharedNode,
        Self::SingleZone,
        Self::CoderdCrossRegion,
        Self::DatabaseCrossRegion,
        Self::DatabaseSameMetro,
        Self::DatabaseNodesFar,
        Self::StandbyLagging,
        Self::DatabaseIsStandby,
        Self::DatabasePooled,
        Self::PubsubMixed,
        Self::PubsubBroken,
        Self::PubsubSlow,
        Self::UnwatchedReplica,
        Self::OneWay,
        Self::CrossRegionSuspected,
        Self::LabelContradictsMeasurement,
        Self::LabelConflict,
        Self::LabelOverruled,
        Self::LatencyDomains,
        Self::Detour,
        Self::Lopsided,
        Self::MixedVersions,
        Self::ClockSkew,
        Self::SharedRelay,
        Self::ProxyOtherRegion,
        Self::ProvisionerUnreachable,
        Self::NoDisruptionBudget,
        Self::HealthThreshold,
    ];

    fn entry(self) -> (&'static str, Severity, &'static str) {
        use Severity::{Fail, Info, Warning};
        match self {
            Self::Blind => {
                ("blind", Warning, "Name a source that sees coderd, or give it the rights that it lacks.")
            }
            Self::FewCoderd => ("few_coderd", Warning, "Run at least three replicas of coderd."),
            Self::ManyCoderd => (
                "many_coderd",
                Info,
                "Prefer fewer and larger replicas, unless Coder's reference for your size says so.",
            ),
            Self::SharedNode => (
                "shared_node",
                Warning,
                "Keep replicas of coderd apart with a required anti-affinity by host name.",
            ),
            Self::SingleZone => (
                "single_zone",
                Warning,
                "Spread coderd over the zones of its region with a topology spread constraint.",
            ),
            Self::CoderdCrossRegion => (
                "coderd_cross_region",
                Fail,
                "Run all of coderd in one region, and workspace proxies near distant users.",
            ),
            Self::DatabaseCrossRegion => (
                "database_cross_region",
                Fail,
                "Move the database into coderd's region, or coderd into the database's.",
            ),
            Self::DatabaseSameMetro => (
                "database_same_metro",
                Warning,
                "Move the database into coderd's region, or watch this link: it crosses between two networks.",
            ),
            Self::DatabaseNodesFar => {
                ("database_nodes_far", Warning, "Move the servers of the database near to each other.")
            }
            Self::StandbyLagging => {
                ("standby_lagging", Warning, "Find out what holds the standby up before it has to take over.")
            }
            Self::DatabaseIsStandby => (
                "database_is_standby",
                Fail,
                "Point the connection string at the primary, or at a name that follows it.",
            ),
            Self::DatabasePooled => (
                "database_pooled",
                Warning,
                "Connect coderd to PostgreSQL itself, or through a pooler that keeps sessions.",
            ),
            Self::PubsubMixed => (
                "pubsub_mixed",
                Warning,
                "Finish the update, and give all replicas the same CODER_EXPERIMENTS and each its CODER_CLUSTER_HOST.",
            ),
            Self::PubsubBroken => (
                "pubsub_broken",
                Fail,
                "Look at the server's log and at pg_notification_queue_usage(), and for what stands between it and coderd.",
            ),
            Self::PubsubSlow => (
                "pubsub_slow",
                Warning,
                "Look at the server's load, its commits and long transactions of sessions that listen, and at the way to it.",
            ),
            Self::UnwatchedReplica => (
                "unwatched_replica",
                Warning,
                "Run an agent beside every replica of coderd, and let it join this mesh.",
            ),
            Self::OneWay => (
                "one_way",
                Fail,
                "Allow the missing direction in network policies, security groups and firewalls.",
            ),
            Self::CrossRegionSuspected => (
                "cross_region_suspected",
                Warning,
                "Say where it stands, or find out what makes the way that long.",
            ),
            Self::LabelContradictsMeasurement => (
                "label_contradicts_measurement",
                Warning,
                "Correct the label, or look for a detour on the way.",
            ),
            Self::LabelConflict => {
                ("label_conflict", Warning, "Correct the source that is wrong about the region.")
            }
            Self::LabelOverruled => (
                "label_overruled",
                Info,
                "Remove the setting, or correct it: a more trusted source knows better.",
            ),
            Self::LatencyDomains => (
                "latency_domains",
                Fail,
                "Move the named nodes near to the others, or shorten the way to them.",
            ),
            Self::Detour => ("detour", Info, "Ask for the routes between the two: a shorter way exists."),
            Self::Lopsided => {
                ("lopsided", Info, "Compare the routes of both directions, and the load of both machines.")
            }
            Self::MixedVersions => {
                ("mixed_versions", Warning, "Finish the update, so that all replicas run one version.")
            }
            Self::ClockSkew => {
                ("clock_skew", Warning, "Set the clock by NTP: Coder tells live replicas by its clock.")
            }
            Self::SharedRelay => (
                "shared_relay",
                Warning,
                "Give every replica its own CODER_DERP_SERVER_RELAY_URL, such as its pod's address.",
            ),
            Self::ProxyOtherRegion => {
                ("proxy_other_region", Info, "Run the proxy in the region of the workspaces that it serves.")
            }
            Self::ProvisionerUnreachable => (
                "provisioner_unreachable",
                Warning,
                "See whether the provisioner runs and may be reached from here.",
            ),
            Self::NoDisruptionBudget => {
                ("no_disruption_budget", Info, "Add a PodDisruptionBudget that keeps most of coderd running.")
            }
            Self::HealthThreshold => {
                ("health_threshold", Info, "Set CODER_HEALTH_CHECK_THRESHOLD_DATABASE to the budget.")
            }
        }
    }

    /// The stable word of this code.
    pub fn as_str(self) -> &'static str {
        self.entry().0
    }

    /// How bad it is unless somebody says otherwise.
    pub fn severity(self) -> Severity {
        self.entry().1
    }

    /// What to do, in one sentence.
    pub fn remedy(self) -> &'static str {
        self.entry().2
    }

    /// Where to read on.
    pub fn anchor(self) -> String {
        format!("docs/findings.md#{}", self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

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

impl FromStr for Code {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|code| code.as_str() == text);
        found.ok_or_else(|| SeverityError::Code(text.to_owned()))
    }
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
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_listed_once_and_read_back() {
        let words: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            // The word in JSON is the same.
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.remedy().ends_with('.') && code.remedy().matches(". ").count() == 0, "{code}");
        }
    }

    #[test]
    fn the_docs_have_a_chapter_for_every_code_and_none_besides() {
        let docs = include_str!("../../../docs/findings.md");
        let chapters: Vec<_> = docs.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let listed: Vec<_> = chapters.iter().filter(|chapter| !chapter.contains(' ')).copied().collect();
        assert_eq!(listed, codes, "in the same order");
        for code in Code::ALL {
            assert_eq!(code.anchor(), format!("docs/findings.md#{code}"));
            let chapter = docs.split(&format!("## {code}\n")).nth(1).unwrap();
            let chapter = chapter.split("\n## ").next().unwrap();
            let severity = format!("**Default severity:** {}", code.severity().as_str());
            assert!(chapter.contains(&severity), "{code}: {severity}");
            assert!(chapter.contains("**Evidence:**") && chapter.contains("**Remedy:**"), "{code}");
            let row = format!("| [`{code}`](#{code}) | {} |", code.severity().as_str());
            assert!(docs.contains(&row), "the table has no {row}");
        }
    }

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
