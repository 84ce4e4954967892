//! The codes of findings about who stands where: a closed list, each with a severity, a remedy and a chapter in the docs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use super::severities::SeverityError;
use crate::mesh::place::policy::Severity;

mod entry;

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
    /// The queue of NOTIFY fills up.
    NotificationQueueFilling,
    /// The database is short of free connections.
    ConnectionsLow,
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
    /// coderd's relay does not answer, as somebody in the pod of a replica sees it.
    RelayUnreachable,
    /// The same, seen from other pods only.
    RelayUnconfirmed,
    /// The port of a replica's NATS does not answer, as somebody in the pod of a replica sees it.
    NatsUnreachable,
    /// The same, seen from other pods only.
    NatsUnconfirmed,
    /// A relay answers, and the replica's health does not.
    ReplicaUnhealthy,
    /// A replica answers where its relay should, and relays nothing.
    RelayOff,
    /// Something nearer than the replica answers TCP in its place.
    TcpRedirected,
    /// TCP takes far longer than the echo.
    PathsDiffer,
    /// Something changes the number of coderd's replicas by itself.
    AutoscaledCoderd,
    /// Something changes the number of workspace proxies by itself.
    AutoscaledProxy,
    /// Nothing keeps replicas on different machines.
    NoAntiAffinity,
    /// Replicas are kept on different machines only as long as that is convenient.
    SoftAntiAffinity,
    /// What should keep replicas apart is about other pods.
    SelectorMismatch,
    /// Nothing spreads replicas over zones.
    NoZoneSpread,
    /// Replicas may run in different regions.
    SeveralRegions,
    /// Replicas do not tell each other how to reach them.
    RelayUnset,
    /// Replicas tell each other to come in by the front door.
    RelayIsAccessUrl,
    /// Network policies close the relay between replicas.
    RelayBlocked,
    /// Network policies close NATS between replicas.
    NatsBlocked,
    /// Replicas name something else than their own address for NATS.
    ClusterHostNotPodIp,
    /// coderd runs provisioners of its own.
    BuiltInProvisioners,
    /// Several provisioners run in one pod.
    ProvisionersSharePod,
    /// Provisioners run on coderd's machines.
    ProvisionersBesideCoderd,
    /// coderd does not tell its metrics.
    PrometheusOff,
    /// coderd does not tell how long its queries take.
    DatabaseMetricsOff,
}

impl Code {
    /// All of them.
    pub const ALL: [Self; 58] = [
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
        Self::NotificationQueueFilling,
        Self::ConnectionsLow,
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
        Self::RelayUnreachable,
        Self::RelayUnconfirmed,
        Self::NatsUnreachable,
        Self::NatsUnconfirmed,
        Self::ReplicaUnhealthy,
        Self::RelayOff,
        Self::TcpRedirected,
        Self::PathsDiffer,
        Self::AutoscaledCoderd,
        Self::AutoscaledProxy,
        Self::NoAntiAffinity,
        Self::SoftAntiAffinity,
        Self::SelectorMismatch,
        Self::NoZoneSpread,
        Self::SeveralRegions,
        Self::RelayUnset,
        Self::RelayIsAccessUrl,
        Self::RelayBlocked,
        Self::NatsBlocked,
        Self::ClusterHostNotPodIp,
        Self::BuiltInProvisioners,
        Self::ProvisionersSharePod,
        Self::ProvisionersBesideCoderd,
        Self::PrometheusOff,
        Self::DatabaseMetricsOff,
    ];

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

impl FromStr for Code {
    type Err = SeverityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|code| code.as_str() == text);
        found.ok_or_else(|| SeverityError::Code(text.to_owned()))
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
}
