//! Answers to who asks how everything stands.

use super::Agent;
use crate::mesh::pubsub;
use crate::mesh::standing::{DatabaseStanding, Standing};

impl Agent {
    pub(super) fn standing(&self) -> Standing {
        let now = self.age();
        let mut standing = Standing::of(&self.links, now);
        standing.members = self.found.members().to_vec();
        standing.agents = self.letters.whole.agents(now).cloned().collect();
        standing.letters_dropped = self.letters.whole.dropped();
        standing.sources = self.found.sources(now);
        standing.attribution = self.attributing.told(&standing.links, now);
        let database = self.found.database.iter();
        standing.databases = database
            .map(|known| DatabaseStanding { known: known.clone(), told: now.saturating_sub(known.heard) })
            .collect();
        let moves = self.moves.newest_first();
        standing.moves = moves.map(|one| (now.saturating_sub(one.at), one.clone())).collect();
        standing.pubsub = self
            .settings
            .discovery
            .coder
            .as_ref()
            .map(|_| (pubsub::path(self.found.members()), self.pubsub.standing(now)));
        standing.findings = self.judged.findings.all().into_iter().cloned().collect();
        standing
    }
}
