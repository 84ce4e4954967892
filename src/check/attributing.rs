//! Coderd's metrics before and after a look: what lies between the two is about the same time as the look.

use std::time::Duration;

use probes::http::HttpUrl;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::now;
use crate::coder_metrics::{Settings, read_all};
use crate::mesh::attribution::{Attribution, OurLink, Page, Pages, judge};
use crate::mesh::report::TargetReport;

/// Less than this between two pages tells nothing that one of them does not.
const GAP_AT_LEAST: Duration = Duration::from_secs(5);

type Read = (Instant, HttpUrl, Result<Page, String>);

/// The first page is on its way, or there.
pub(super) struct Attributing {
    settings: Settings,
    first: JoinHandle<Vec<Read>>,
}

impl Attributing {
    /// Begins to read the first pages; nothing waits for them.
    pub(super) fn begin(settings: Settings) -> Self {
        let first = tokio::spawn(read(settings.clone()));
        Self { settings, first }
    }

    /// Reads the second pages, and holds both beside these targets.
    pub(super) async fn end(self, targets: &[TargetReport]) -> Vec<Attribution> {
        let ours: Vec<_> = targets.iter().filter_map(OurLink::of_target).collect();
        // A task that was lost has told nothing, which is said of each address.
        let first = self.first.await.unwrap_or_default();
        let Some(start) = first.first().map(|(at, ..)| *at) else { return Vec::new() };
        let is_worthwhile = now().duration_since(start) >= GAP_AT_LEAST;
        let second = if is_worthwhile { read(self.settings.clone()).await } else { Vec::new() };
        let mut attributions = Vec::new();
        for (at, place, page) in first {
            let mut pages = Pages::new(self.settings.every);
            take(&mut pages, page, at.duration_since(start));
            let mut age = at.duration_since(start);
            if let Some((at, _, page)) = second.iter().find(|(_, other, _)| *other == place) {
                age = at.duration_since(start);
                take(&mut pages, page.clone(), age);
            }
            attributions.push(judge(&place.to_string(), &ours, &pages, age));
        }
        attributions
    }
}

fn take(pages: &mut Pages, page: Result<Page, String>, at: Duration) {
    match page {
        Ok(page) => drop(pages.read(page, at)),
        Err(why) => drop(pages.failed(why)),
    }
}

async fn read(settings: Settings) -> Vec<Read> {
    let mut all = Vec::new();
    for place in settings.places {
        let read = read_all(vec![place], settings.ca.clone()).await;
        all.extend(read.into_iter().map(|(place, page)| (now(), place, page)));
    }
    all
}
