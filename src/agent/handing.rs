//! What the agent hands to an OTLP receiver: its events, its figures, and where it stands.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Agent, Settings};
use crate::export::events::Event;
use crate::export::metrics::Metrics;
use crate::export::otlp::resource::Place;
use crate::export::otlp::settings::{Buckets, Notice};
use crate::export::otlp::spool::{Limits, SpoolError};
use crate::export::otlp::tallies::{Tallies, Tally};
use crate::export::otlp::{Asked, Handle, Pace, Setup};
use crate::mesh::links::Links;
use crate::mesh::place;

/// The tasks that hand over, and what they are told.
pub(super) struct Handing {
    handle: Option<Handle>,
    /// They are asked for in the last export as well, when the handle is gone.
    tally: Tally,
    place: watch::Sender<Place>,
}

impl Handing {
    /// Begins with what was asked for, which may be nothing. `take` yields the figures of that moment.
    pub(super) async fn start<T, F>(asked: &Asked, take: T) -> Result<Self, SpoolError>
    where
        T: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Option<Arc<Metrics>>> + Send + 'static,
    {
        for notice in &asked.notices {
            match notice {
                Notice::Warning(text) => tracing::warn!("{text}"),
                Notice::Error(text) => tracing::error!("{text}"),
            }
        }
        let (place, known) = watch::channel(Place::default());
        let setup = Setup {
            settings: asked.settings.clone(),
            spool: asked.spool.clone(),
            limits: Limits::default(),
            speaker: asked.speaker.clone(),
            place: known,
            pace: Pace::default(),
        };
        let handle = Handle::start(setup, take).await?;
        Ok(Self { tally: handle.tally(), handle: Some(handle), place })
    }

    pub(super) fn tell(&self, event: Event) {
        if let Some(handle) = &self.handle {
            handle.tell(event);
        }
    }

    pub(super) fn tallies(&self) -> Tallies {
        self.tally.read()
    }

    /// One last export, for which somebody has to answer what `take` asks.
    pub(super) fn stop(&mut self) -> impl Future<Output = ()> + use<> {
        let handle = self.handle.take();
        async move {
            if let Some(handle) = handle {
                handle.stop().await;
            }
        }
    }
}

/// No links yet, with histograms of the kinds that somebody asks for.
pub(super) fn links(settings: &Settings) -> Links {
    let links = Links::new(settings.own.clone(), settings.rules);
    let asked = &settings.otlp.settings;
    let wants_exponential = asked.metrics.is_some() && asked.buckets == Buckets::Exponential;
    if wants_exponential { links.exponential() } else { links }
}

impl Agent {
    /// Where we stand may become known, or better known, at any time.
    pub(super) fn say_where(&self) {
        let weighed = place::Place::weigh(&self.identity().claims, &self.settings.book.atlas);
        let region = weighed.region.as_ref();
        let own = &self.settings.own;
        let place = Place {
            provider: region.and_then(|region| region.provider.clone()),
            region: region.map(|region| region.region.clone()).or_else(|| own.region.clone()),
            zone: own.zone.clone().or_else(|| weighed.zones.first().cloned()),
        };
        self.handing.place.send_if_modified(|known| {
            let is_news = *known != place;
            *known = place;
            is_news
        });
    }
}
