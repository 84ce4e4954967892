//! Which targets there are, from the start and after a reload: all or nothing.

use std::path::PathBuf;
use std::time::Duration;

use probes::Target;

use super::measuring::{Job, MeasuringError};
use super::{Agent, Settings, identity};
use crate::export::events::Happening;
use crate::mesh::links::{Intervals, RosterChange};
use crate::mesh::peer::Link;
use crate::mesh::schedule::{Schedule, stretch};

/// The contents of a file, and whether they are other ones than last time.
pub(super) struct FileWatch {
    path: Option<PathBuf>,
    last: Option<Vec<u8>>,
}

impl FileWatch {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        let mut watch = Self { path, last: None };
        watch.changed();
        watch
    }

    /// A few kilobytes in the page cache: reading them every 5 s blocks nobody. A file that is missing for a moment, as
    /// while it is replaced, has not changed.
    pub(super) fn changed(&mut self) -> bool {
        let Some(contents) = self.path.as_ref().and_then(|path| std::fs::read(path).ok()) else {
            return false;
        };
        let changed = self.last.as_ref() != Some(&contents);
        self.last = Some(contents);
        changed
    }
}

impl Agent {
    /// Begins to measure what the settings name.
    pub(super) async fn begin(&mut self) -> Result<(), MeasuringError> {
        // A node that turns out to have no server should not have measured the database before that was known.
        let waits = Self::waits_for_kubernetes(&self.settings);
        self.found.is_idle = waits;
        self.targets = self.wanted(&self.settings);
        let links: Vec<Link> = self.targets.iter().map(|(link, _)| link.clone()).collect();
        let added = self.links.handle_roster(&links, Duration::ZERO);
        let jobs = added.iter().filter_map(|change| job(&self.settings, &self.targets, change)).collect();
        self.measuring.begin(jobs, self.events.clone()).await
    }

    /// Reads the settings anew and takes them over, or says why not and stays as it is.
    pub(super) async fn reload(&mut self, load: &(dyn Fn() -> Result<Settings, String> + Send), why: &str) {
        if !self.demand_identity(why) {
            return;
        }
        match load() {
            Err(error) => self.happened(&Happening::Refused { why, error: &error }),
            Ok(settings) if settings == self.settings => {
                // One that was refused before may have been set right by going back to this one.
                self.telemetry.reload_is_in_force = true;
                tracing::info!(why, "the configuration is unchanged");
            }
            Ok(settings) => match self.take_over(settings).await {
                Ok(changed) => self.happened(&Happening::Reloaded { why, changed: &changed }),
                Err(error) => self.happened(&Happening::Refused { why, error: &error }),
            },
        }
    }

    async fn take_over(&mut self, mut settings: Settings) -> Result<String, String> {
        identity::keep(&mut settings, &self.settings);
        let fixed = [
            ("name, role, node, zone or region", settings.own == self.settings.own),
            ("listen, identity or http options", settings.measuring == self.settings.measuring),
            ("web", settings.web == self.settings.web),
            ("discovery", settings.discovery == self.settings.discovery),
            ("coderd_metrics", settings.metrics == self.settings.metrics),
            ("event_spool", settings.otlp == self.settings.otlp),
        ];
        if let Some((what, _)) = fixed.iter().find(|(_, same)| !same) {
            return Err(format!("{what} cannot change while the agent runs: restart it"));
        }
        let rules_differ = settings.rules != self.settings.rules;
        let book_differs = settings.book != self.settings.book;
        let targets = self.wanted(&settings);
        let (added, removed) = self.measure(settings, targets).await?;
        let mut changed = vec![format!("{added} targets added, {removed} removed")];
        if rules_differ {
            changed.push("budgets, intervals or graces are others".to_owned());
        }
        if book_differs {
            changed.push("regions or severities of findings are others".to_owned());
        }
        Ok(changed.join("; "))
    }

    /// Measures these targets by these settings from now on; how many are new, and how many are gone. Nothing changes
    /// where it fails.
    pub(super) async fn measure(
        &mut self,
        settings: Settings,
        targets: Vec<(Link, Target)>,
    ) -> Result<(usize, usize), String> {
        let mut links = self.links.clone();
        links.set_rules(settings.rules);
        let wanted: Vec<Link> = targets.iter().map(|(link, _)| link.clone()).collect();
        let mut changes = links.handle_roster(&wanted, self.age());
        let (added, removed) = (
            changes.iter().filter(|change| matches!(change, RosterChange::Added(..))).count(),
            changes.iter().filter(|change| matches!(change, RosterChange::Removed(_))).count(),
        );
        // Another rhythm or another password is another job on the same link.
        let rhythm_differs = settings.rules.intervals != self.settings.rules.intervals
            || (stretch_of(&settings, &targets) - stretch_of(&self.settings, &self.targets)).abs()
                > f64::EPSILON;
        for (place, (link, target)) in targets.iter().enumerate() {
            let before =
                self.targets.iter().find(|(old, _)| old.target == link.target && old.kind == link.kind);
            let Some((old, old_target)) = before else { continue };
            if rhythm_differs || old_target != target || old.every != link.every {
                let id = links.all().find(|(_, w)| w.link.target == link.target && w.link.kind == link.kind);
                changes.extend(id.map(|(id, _)| RosterChange::Added(id, place)));
            }
        }
        let jobs: Vec<_> = changes.iter().filter_map(|change| job(&settings, &targets, change)).collect();
        // The new ones first: only they can fail. A job of the same id is replaced.
        self.measuring.begin(jobs, self.events.clone()).await.map_err(|error| error.to_string())?;
        for change in &changes {
            if let RosterChange::Removed(id) = change {
                self.measuring.end(*id).map_err(|error| error.to_string())?;
            }
        }
        let before = std::mem::replace(&mut self.links, links);
        if settings.shown != self.settings.shown {
            self.telemetry.show(settings.shown);
        }
        (self.settings, self.targets) = (settings, targets);
        for change in &changes {
            match change {
                RosterChange::Added(id, _) if before.get(*id).is_none() => {
                    let link = self.links.get(*id).map(|watch| watch.link.clone());
                    link.iter().for_each(|link| self.happened(&Happening::Added(link)));
                }
                RosterChange::Added(..) => {}
                RosterChange::Removed(id) => {
                    before
                        .get(*id)
                        .into_iter()
                        .for_each(|watch| self.happened(&Happening::Removed(&watch.link)));
                }
            }
        }
        Ok((added, removed))
    }
}

fn stretch_of(settings: &Settings, targets: &[(Link, Target)]) -> f64 {
    stretch(targets.iter().map(|(link, _)| settings.rules.intervals.of(link)))
}

/// What has to be done for a link that is new.
fn job(settings: &Settings, targets: &[(Link, Target)], change: &RosterChange) -> Option<Job> {
    let RosterChange::Added(id, place) = change else { return None };
    let (link, target) = targets.get(*place)?;
    let stretch = stretch_of(settings, targets);
    let name = format!("{} {}", settings.own.name, link.target);
    let Intervals { postgres_connect, relay_fresh, .. } = settings.rules.intervals;
    let connects = match target {
        Target::Postgres(_) => postgres_connect,
        Target::Relay(_) => relay_fresh,
        _ => Duration::ZERO,
    };
    let schedule = Schedule::endless(settings.rules.intervals.of(link).mul_f64(stretch), &name);
    Some(Job {
        id: *id,
        target: target.clone(),
        schedule: Schedule { steady: matches!(target, Target::Nats(_)), ..schedule },
        connects: (!connects.is_zero()).then(|| Schedule::endless(connects, &name)),
        // Hundreds of agents may learn of a proxy in the same instant: each asks first at its own place in the minute.
        trial: !matches!(target, Target::Nats(_) | Target::Proxy(_)),
        persistent: true,
    })
}

#[cfg(test)]
mod tests {
    use probes::target::Kind;

    use super::*;
    use crate::mesh::peer::Role;

    #[test]
    fn a_proxy_is_not_asked_at_the_instant_that_hundreds_learn_of_it() {
        let settings = Settings {
            own: crate::mesh::peer::Own { name: "a".into(), ..Default::default() },
            measuring: Default::default(),
            web: std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into(),
            targets: Vec::new(),
            rules: Default::default(),
            discovery: Default::default(),
            book: Default::default(),
            metrics: Default::default(),
            shown: Default::default(),
            otlp: crate::export::otlp::Asked::of("a", "here", None, &|_| None),
            in_words: Vec::new(),
        };
        let url = "https://eu.example.com/latency-check";
        let every = Some(Duration::from_secs(60));
        let link = Link { every, ..Link::to("eu", Kind::Http, Some(Role::Proxy)) };
        let of = |target| {
            let targets = [(link.clone(), target)];
            job(&settings, &targets, &RosterChange::Added(0, 0)).unwrap()
        };
        let found = of(Target::Proxy(url.parse().unwrap()));
        assert!(!found.trial && !found.schedule.steady, "its first slot is somewhere in the first minute");
        assert!(of(Target::Http(url.parse().unwrap())).trial, "one that was given is tried out as ever");
    }
}
