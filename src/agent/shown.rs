//! Answers to who asks how everything stands.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Agent, letters, wall};
use crate::export::api::findings::Finding;
use crate::export::api::matrix::Document;
use crate::export::api::path::{History, Own, Span};
use crate::export::api::placement::Placed;
use crate::export::api::{Anchor, Picture};
use crate::export::standing;
use crate::mesh::matrix::{self, Sight};
use crate::mesh::place::placed;
use crate::mesh::pubsub;
use crate::mesh::standing::{DatabaseStanding, LinkStanding, Standing};

/// Who asks again sooner gets the same picture. A little less than the second in which the stream asks again.
const FRESH_FOR: Duration = Duration::from_millis(900);
/// Instants are told by where the wall clock stood at the start, so that they stay the same from picture to picture. By so much it
/// may go wrong.
const CLOCK_MAY_DRIFT: Duration = Duration::from_secs(1);

/// What was shown last.
#[derive(Debug)]
pub(super) struct Shown {
    /// By the wall clock, when the agent began.
    began: SystemTime,
    made: u64,
    picture: Option<(Duration, Arc<Picture>)>,
}

impl Shown {
    pub(super) fn new(began: SystemTime) -> Self {
        Self { began, made: 0, picture: None }
    }

    fn anchor(&mut self, age: Duration) -> Anchor {
        let (told, real) = (self.began + age, wall());
        let off = real.duration_since(told).unwrap_or_else(|error| error.duration());
        if off > CLOCK_MAY_DRIFT {
            self.began = real.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        }
        Anchor { age, wall: self.began + age }
    }
}

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

    /// The whole mesh, at most a second old.
    pub(super) fn picture(&mut self) -> Arc<Picture> {
        let now = self.age();
        if let Some((at, picture)) = &self.shown.picture
            && now.saturating_sub(*at) < FRESH_FOR
        {
            return Arc::clone(picture);
        }
        let anchor = self.shown.anchor(now);
        self.shown.made += 1;
        let identity = self.identity();
        let findings: Vec<_> = self.judged.findings.all().into_iter().cloned().collect();
        let (atlas, members) = (&self.settings.book.atlas, self.found.members());
        let sight = Sight {
            own: &identity,
            rows: self.links.all().map(|(_, watch)| letters::row(watch)).collect(),
            whole: &self.letters.whole,
            members,
            atlas,
            findings: &findings,
            now,
        };
        let matrix = matrix::picture(&sight);
        let others = self.letters.whole.all().map(|agent| &agent.identity);
        let placed = placed::everybody(members, others.chain([&identity]));
        let quantile = self.settings.rules.budgets.quantile;
        let picture = Arc::new(Picture {
            number: self.shown.made,
            life: self.telemetry.life().to_owned(),
            matrix: Document::of(&matrix, &identity.name, quantile, &anchor),
            placed: placed.iter().map(|one| Placed::of(one, atlas)).collect(),
            findings: findings.iter().map(|held| Finding::of(held, &anchor)).collect(),
            events: self.telemetry.lately().cloned().collect(),
        });
        self.shown.picture = Some((now, Arc::clone(&picture)));
        picture
    }

    /// What is known of one of our own links; `None` where it is not ours any more.
    pub(super) fn link(&mut self, target: &str, kind: &str, span: Span) -> Option<Own> {
        let now = self.age();
        let anchor = self.shown.anchor(now);
        let (_, watch) = self
            .links
            .all()
            .find(|(_, watch)| watch.link.target == target && watch.link.kind.as_str() == kind)?;
        let measured =
            self.targets.iter().find(|(link, _)| link.target == target && link.kind == watch.link.kind);
        Some(Own {
            detail: standing::detail(&LinkStanding::of(watch, now)),
            history: History::of(watch.history(), span, &anchor),
            address: measured.map_or_else(|| target.to_owned(), |(_, target)| target.to_string()),
        })
    }
}
