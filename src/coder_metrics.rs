//! The door through which coderd's own metrics come in: one page now and then, and nothing that could be felt there.
//!
//! One address after the other, each at most as often as [`Settings::every`] says, on a fresh connection with a deadline and
//! a limit of size, without redirects and proxies. What is wanted is read as it comes; the page is never
//! held. Whoever cannot be read is no reason to stop anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use probes::http::{HttpProbe, HttpUrl, Wish};
use probes::tls::{Trust, client_config};

use crate::mesh::attribution::Page;

mod exposition;
mod page;

use page::Collector;

/// A page is read within this time or not at all.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// No page of coderd's is longer; what is longer is not read.
const LONGEST_PAGE: usize = 16 * 1024 * 1024;
const WISH: Wish<'static> = Wish { accept: "text/plain;version=0.0.4", bearer: None };
/// As often as Coder's own observability chart does.
pub const EVERY_AT_LEAST: Duration = Duration::from_secs(15);
/// Where coderd serves its metrics unless told otherwise.
pub const PORT: u16 = 2112;

/// Whose metrics are read, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The addresses.
    pub places: Vec<HttpUrl>,
    /// Those of the replicas that this agent stands beside as well, at [`PORT`].
    pub beside: bool,
    /// How often, each.
    pub every: Duration,
    /// PEM file of the authorities for `https://` addresses; without one, the system's.
    pub ca: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { places: Vec::new(), beside: false, every: Duration::from_secs(30), ca: None }
    }
}

impl Settings {
    /// Whether there is anything to read.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty() && !self.beside
    }
}

/// Reads all of these once, one after the other. The error is for people and holds no secret.
pub async fn read_all(places: Vec<HttpUrl>, ca: Option<PathBuf>) -> Vec<(HttpUrl, Result<Page, String>)> {
    let mut read = Vec::new();
    for place in places {
        let page = self::read(&place, ca.as_deref()).await;
        read.push((place, page));
    }
    read
}

async fn read(place: &HttpUrl, ca: Option<&std::path::Path>) -> Result<Page, String> {
    let trust = if place.is_tls() { Trust::ChainAndName } else { Trust::Nothing };
    let tls = client_config(trust, ca.filter(|_| place.is_tls()), None).map_err(|error| error.to_string())?;
    let probe = HttpProbe::new(place.clone(), None, Arc::new(tls));
    let mut collector = Collector::default();
    probe
        .read(WISH, DEADLINE, LONGEST_PAGE, |piece| collector.take(piece))
        .await
        .map_err(|failure| failure.detail)?;
    let (mut page, skipped) = collector.finish().map_err(|error| error.to_string())?;
    page.read = SystemTime::UNIX_EPOCH.elapsed().ok();
    if skipped > 0 {
        tracing::debug!(place = %place, skipped, "lines of coderd's metrics were too long to be looked at");
    }
    Ok(page)
}
