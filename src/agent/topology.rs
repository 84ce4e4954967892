//! What the whole mesh comes to: who stands where, and what is wrong with that.

use std::time::Duration;

use probes::postgres::conninfo::HostName;

use super::Agent;
use crate::discovery::cloud::claim_of_host_name;
use crate::export::events::Happening;
use crate::mesh::links::Links;
use crate::mesh::roster::{Member, Source};
use crate::mesh::rules::gather::topology;
use crate::mesh::rules::held::{Change, Findings};
use crate::mesh::rules::input::{Row, Vantage};
use crate::mesh::rules::{self, Book};
use crate::mesh::whole::Whole;

/// What has been found, and what no source could see.
#[derive(Debug, Default)]
pub(super) struct Judged {
    pub(super) findings: Findings,
    pub(super) blind: Vec<String>,
}

impl Agent {
    /// Judges all that is known of the mesh, and tells what is news.
    pub(super) fn judge(&mut self) {
        // Without discovery nobody knows who should be there.
        if self.settings.discovery.is_empty() {
            return;
        }
        let now = self.age();
        let identity = self.identity();
        let own = Vantage {
            agent: identity.name.clone(),
            host: identity.host_name.clone(),
            node: identity.node.clone(),
        };
        // What an agent only announced, as anybody may who may log in to the database, proves nothing.
        let proven =
            |member: &Member| !member.is_agent() || member.sources.iter().any(|s| *s != Source::Presence);
        let members: Vec<_> = self.found.members().iter().filter(|member| proven(member)).cloned().collect();
        let rows = rows(&identity.name, &self.links, &self.letters.whole, now);
        let hosts = self.settings.discovery.coder.iter().flat_map(|coder| coder.conninfo.hosts.iter());
        let claims: Vec<_> = hosts
            .filter_map(|host| match &host.host {
                HostName::Tcp(name) => claim_of_host_name(name),
                HostName::Unix(_) => None,
            })
            .collect();
        let database = self.found.database.as_ref().map(|known| (known, claims, now));
        let mut topology = topology(own, &members, rows, database, self.judged.blind.clone());
        let Book { atlas, severities, limits, workspaces } = &self.settings.book;
        topology.set_workspaces(workspaces);
        topology.pubsub = self.settings.discovery.coder.as_ref().map(|_| self.pubsub.standing(now));
        let found = rules::findings(&topology, atlas, limits, severities);
        let grace = self.settings.rules.graces.start;
        for change in self.judged.findings.update(found, grace, now) {
            let (finding, raised) = match &change {
                Change::Raised(finding) => (finding, true),
                Change::Cleared(finding) => (finding, false),
            };
            self.happened(&Happening::Finding { finding, raised });
        }
    }
}

/// The links of all agents.
fn rows(name: &str, links: &Links, whole: &Whole, now: Duration) -> Vec<Row> {
    let own = links.all().map(|(_, watch)| super::letters::row(watch)).map(|row| (name.to_owned(), row));
    let others = whole
        .agents(now)
        .flat_map(|agent| agent.rows.values().map(|row| (agent.identity.name.clone(), row.clone())));
    own.chain(others)
        .map(|(source, row)| Row {
            source,
            target: row.target,
            kind: row.kind,
            state: row.state,
            reason: row.reason,
            min: row.min,
            samples: row.samples,
            span: row.span,
        })
        .collect()
}
