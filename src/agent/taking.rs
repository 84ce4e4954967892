//! Takes in what the measuring thread tells.

use std::time::Duration;

use super::measuring::{self, MeasuringError};
use super::{Agent, telemetry};
use crate::export::events::Happening;
use crate::mesh::schedule::Schedule;
use crate::mesh::state::Change;

/// Bare connects on suspicion: one a second for ten seconds.
const CONNECTS_EVERY: Duration = Duration::from_secs(1);
const CONNECTS_FOR: Duration = Duration::from_secs(10);

impl Agent {
    pub(super) fn take(&mut self, event: measuring::Event) -> Result<(), MeasuringError> {
        let (age, id) = (self.age(), event.job());
        let is_opened = matches!(event, measuring::Event::Opened { .. } | measuring::Event::Reopened { .. });
        // What was still on its way when its link was taken off the list is nobody's.
        let Some(watch) = self.links.get_mut(id) else { return Ok(()) };
        let changes = match event {
            measuring::Event::Opened { sample, .. } => {
                watch.opened(&sample, age);
                Vec::new()
            }
            measuring::Event::Reopened { reopened, .. } => {
                watch.opened(&reopened.sample, age.saturating_sub(reopened.ago));
                Vec::new()
            }
            measuring::Event::Sent { slot, late, .. } => {
                watch.sent(slot, age);
                self.own.sent(late);
                Vec::new()
            }
            measuring::Event::Slot { slot, sample, .. } => watch.outcome(slot, &sample, age),
            measuring::Event::Connected { sample, .. } => {
                watch.connected(&sample, age);
                Vec::new()
            }
            measuring::Event::Done { .. } => Vec::new(),
        };
        if watch.wants_connects(age) {
            let name = format!("{} {} on suspicion", self.settings.own.name, watch.link.target);
            self.measuring.connects(id, Schedule::over(CONNECTS_FOR, CONNECTS_EVERY, &name))?;
        }
        for change in changes {
            self.tell(id, &change);
        }
        if is_opened {
            self.hear_connection(id);
        }
        Ok(())
    }

    pub(super) fn tell(&mut self, id: u32, change: &Change) {
        let Some(watch) = self.links.get(id) else { return };
        let (link, figures) = (watch.link.clone(), telemetry::figures(watch));
        match change {
            Change::State { from, to, findings } => {
                self.happened(&Happening::State { link: &link, from: *from, to: *to, findings, figures });
            }
            Change::Route(change) => self.happened(&Happening::Route { link: &link, change: *change }),
        }
    }
}
