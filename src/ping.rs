//! A live view of one path: a line for each slot, and a sum at the end. It judges nobody; `check` does.

use std::time::Duration;

use probes::Target;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::agent::measuring::{Event, Job, Measuring, MeasuringError};
use crate::export::ping::{Line, Sum};
use crate::mesh::budget::Limit;
use crate::mesh::peer::Link;
use crate::mesh::schedule::Schedule;
use crate::mesh::series::Series;
use crate::mesh::window::Window;

pub use crate::agent::measuring::Settings as MeasuringSettings;

/// The figures at the end are of so many slots at most: an hour at one a second.
const KEPT: usize = 3600;

/// What is watched.
#[derive(Debug)]
pub struct Settings {
    /// Its name and role.
    pub link: Link,
    /// The path.
    pub target: Target,
    /// What a slot is held against.
    pub limit: Limit,
    /// How many slots; without an end where it is `None`.
    pub count: Option<u64>,
    /// How long one is.
    pub interval: Duration,
    /// Identity and certificates.
    pub measuring: MeasuringSettings,
}

/// Measures until the last slot or until `stop` is done. Each line is handed to `show`, which says whether to go on.
pub async fn run(
    settings: Settings,
    mut show: impl FnMut(Line<'_>) -> bool,
    stop: impl Future<Output = ()>,
) -> Result<Sum, MeasuringError> {
    let Settings { link, target, limit, count, interval, measuring } = settings;
    let measuring = Measuring::start(measuring).await?;
    let schedule = Schedule { slots: count, ..Schedule::endless(interval, &link.target) };
    let job = Job { id: 0, target, schedule, connects: None, trial: true, persistent: true };
    let (sender, mut events) = mpsc::unbounded_channel();
    measuring.begin(vec![job], sender).await?;
    let start = now();
    // Without a limit nothing is an exceedance but silence.
    let mut series = Series::new(Window::new(limit.unwrap_or(Duration::MAX), KEPT));
    let mut stop = std::pin::pin!(stop);
    loop {
        let event = tokio::select! {
            () = &mut stop => break,
            event = events.recv() => event.ok_or(MeasuringError::Ended)?,
        };
        let at = now().duration_since(start);
        let goes_on = match event {
            Event::Opened { sample, .. } => {
                series.opened(&sample, at);
                show(Line::Opened { sample: &sample })
            }
            Event::Reopened { reopened, .. } => {
                series.opened(&reopened.sample, at);
                show(Line::Opened { sample: &reopened.sample })
            }
            Event::Slot { slot, sample, .. } => {
                series.record(&sample, at);
                let is_marked = series.window.last(1).marked() > 0;
                show(Line::Slot { number: slot + 1, sample: &sample, limit, is_marked })
            }
            Event::Sent { .. } | Event::Connected { .. } => true,
            Event::Done { .. } => false,
        };
        if !goes_on {
            break;
        }
    }
    measuring.stop().await;
    Ok(Sum::of(&link, limit, &series))
}

#[expect(
    clippy::disallowed_methods,
    reason = "when an outcome came in; the round trips themselves are the hands'"
)]
fn now() -> Instant {
    Instant::now()
}
