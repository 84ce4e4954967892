//! An agent on a node without any server leaves the database alone: there may be hundreds of such nodes.
//!
//! It needs somebody else who tells where the servers are, so that it learns when one comes to its node: Kubernetes does, and
//! there all nodes have one configuration. Elsewhere each machine has its own, and who is given a database measures it.

use std::time::Duration;

use probes::Target;

use super::Agent;
use super::found::Found;
use crate::mesh::neighbours::Stance;
use crate::mesh::peer::Role;
use crate::mesh::pubsub::Pubsub;
use crate::mesh::roster::Source;

/// Kubernetes gets so long to tell whether this node has a server, before the database is asked.
const TELLS_WITHIN: Duration = Duration::from_secs(10);
/// What comes from the database.
const SOURCES: [Source; 3] = [Source::Coder, Source::Presence, Source::Postgres];

impl Agent {
    /// Whether to wait with the database until Kubernetes has told.
    pub(super) fn waits_for_kubernetes(settings: &super::Settings) -> bool {
        settings.discovery.sources().contains(&Source::Kubernetes)
    }

    /// Takes the database up or leaves it, as where we stand demands.
    pub(super) fn rest_or_work(&mut self, stance: Stance) {
        let now = self.age();
        // Who is idle only by what the database told would not know any more that it is.
        let kubernetes = self.found.members().iter().any(|member| {
            member.facts.role == Some(Role::Coderd) && member.sources.contains(&Source::Kubernetes)
        });
        let has_time = Self::waits_for_kubernetes(&self.settings) && now < TELLS_WITHIN;
        let undecided = has_time && !self.found.knows(Source::Kubernetes);
        let is_idle = stance == Stance::Idle;
        let wanted = !(undecided || (is_idle && kubernetes));
        self.found.is_idle = is_idle || undecided;
        let changed = self.database_wanted.send_if_modified(|was| std::mem::replace(was, wanted) != wanted);
        // Whoever begins idle never wanted it, and says so all the same once it is decided.
        let leaves = !wanted && !undecided && self.has_database();
        if leaves && !self.found.leaves_database {
            tracing::info!("no server of the deployment is on this node: the database is left alone");
        }
        self.found.leaves_database = leaves;
        if changed && !wanted {
            self.found.forget_database();
            self.pubsub = Pubsub::new(self.links.scale().exponential);
        }
    }

    /// Whether there is one that could be left alone.
    fn has_database(&self) -> bool {
        let targets = &self.settings.targets;
        self.settings.discovery.coder.is_some()
            || targets.iter().any(|(_, target)| matches!(target, Target::Postgres(_)))
    }

    /// Whether news of this source still counts: what was on its way when the database was left does not.
    pub(super) fn listens_to(&self, source: Source) -> bool {
        *self.database_wanted.borrow() || !SOURCES.contains(&source)
    }

    /// Whether this is a database that is left alone.
    pub(super) fn is_left_alone(&self, settings: &super::Settings, target: &Target) -> bool {
        self.found.is_idle && Self::waits_for_kubernetes(settings) && matches!(target, Target::Postgres(_))
    }
}

impl Found {
    fn forget_database(&mut self) {
        self.database = None;
        for source in SOURCES {
            self.forget(source);
        }
    }
}
