//! Coderd's own metrics beside what this agent measures: read now and then, off everybody's way.

use std::collections::BTreeMap;
use std::time::Duration;

use probes::http::HttpUrl;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::Agent;
use crate::coder_metrics::{self, Settings};
use crate::discovery::coder::relay_address;
use crate::mesh::attribution::{Attribution, Origin, OurLink, Page, Pages, judge};
use crate::mesh::peer::Role;
use crate::mesh::roster::beside;
use crate::mesh::schedule::Schedule;
use crate::mesh::standing::{LinkStanding, Standing};

/// What there is to do.
pub(super) enum Step {
    /// It is time to read.
    Due,
    /// These have been read.
    Read(Vec<(HttpUrl, Result<Page, String>)>),
}

/// What coderd's metrics have told.
pub(super) struct Attributing {
    every: Duration,
    /// `None` where nothing is to be read.
    due: Option<Interval>,
    /// At most one reads at a time, one address after the other.
    reading: JoinSet<Vec<(HttpUrl, Result<Page, String>)>>,
    told: BTreeMap<String, Told>,
}

struct Told {
    pages: Pages,
    origin: Option<Origin>,
}

impl Told {
    fn new(every: Duration) -> Self {
        Self { pages: Pages::new(every), origin: None }
    }
}

impl Attributing {
    /// Agents that start together do not read together: `name` says when within the first interval this one begins.
    pub(super) fn new(settings: &Settings, name: &str, now: Instant) -> Self {
        let due = (!settings.is_empty()).then(|| {
            let offset = Schedule::endless(settings.every, &format!("{name} coderd metrics")).at(0);
            let mut due = interval_at(now + offset, settings.every);
            due.set_missed_tick_behavior(MissedTickBehavior::Delay);
            due
        });
        let told = settings.places.iter().map(|place| (place.to_string(), Told::new(settings.every)));
        Self { every: settings.every, due, reading: JoinSet::new(), told: told.collect() }
    }

    /// The next thing to do.
    pub(super) async fn next(&mut self) -> Step {
        let Some(due) = &mut self.due else { return std::future::pending().await };
        if self.reading.is_empty() {
            due.tick().await;
            return Step::Due;
        }
        let read = self.reading.join_next().await;
        // From the last of them on, however long the others took: so none is asked again too soon.
        due.reset();
        Step::Read(read.and_then(Result::ok).unwrap_or_default())
    }

    /// Whose slowness it is, by each of them.
    pub(super) fn told(&self, links: &[LinkStanding], now: Duration) -> Vec<Attribution> {
        let ours: Vec<_> = links.iter().filter_map(OurLink::of_link).collect();
        self.told.iter().map(|(url, told)| judge(url, &ours, &told.pages, now)).collect()
    }
}

impl Agent {
    pub(super) fn attribute(&mut self, step: Step) {
        match step {
            Step::Due => {
                let (places, ca) = (self.metrics_places(), self.settings.metrics.ca.clone());
                // A replica that is gone is not beside us any more.
                let known: Vec<_> = places.iter().map(ToString::to_string).collect();
                self.attributing.told.retain(|url, _| known.contains(url));
                if !places.is_empty() {
                    self.attributing.reading.spawn(coder_metrics::read_all(places, ca));
                }
            }
            Step::Read(read) => {
                for (place, page) in read {
                    self.take_page(&place.to_string(), page);
                }
            }
        }
    }

    /// What was given, and the replicas that we stand beside where those were asked for.
    fn metrics_places(&self) -> Vec<HttpUrl> {
        let mut places = self.settings.metrics.places.clone();
        if self.settings.metrics.beside {
            let own = self.identity().sighting();
            // A database may stand nearer, and has none.
            let replicas = self.found.members().iter().filter(|one| one.facts.role == Some(Role::Coderd));
            for replica in beside(&own, &replicas.cloned().collect::<Vec<_>>()) {
                let Some(mut address) = replica.facts.relay.as_deref().and_then(relay_address) else {
                    continue;
                };
                address.port = coder_metrics::PORT;
                let place = format!("http://{address}/metrics").parse();
                places.extend(place.ok().filter(|place| !places.contains(place)));
            }
        }
        places
    }

    fn take_page(&mut self, url: &str, page: Result<Page, String>) {
        let (now, every) = (self.age(), self.attributing.every);
        let told = self.attributing.told.entry(url.to_owned()).or_insert_with(|| Told::new(every));
        match page {
            Ok(page) => {
                if told.pages.read(page, now) {
                    tracing::info!(url, "coderd's metrics can be read again");
                }
            }
            Err(why) => {
                if told.pages.failed(why.clone()) {
                    tracing::warn!(url, %why, "coderd's metrics cannot be read; measuring goes on");
                }
            }
        }
        let links = Standing::of(&self.links, now).links;
        let attributions = self.attributing.told(&links, now);
        let Some(attribution) = attributions.into_iter().find(|attribution| attribution.url == url) else {
            return;
        };
        let Some(told) = self.attributing.told.get_mut(url) else { return };
        let before = told.origin.replace(attribution.origin);
        if before.is_some_and(|before| before != attribution.origin) {
            tracing::info!(
                url,
                from = before.map_or("-", Origin::as_str),
                to = attribution.origin.as_str(),
                evidence = attribution.sentence,
                "whose slowness it is has changed"
            );
        }
    }
}
