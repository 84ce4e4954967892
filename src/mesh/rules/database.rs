//! Rules about what a database says of itself.

use std::time::Duration;

use super::input::Database;
use super::seen::Seen;
use super::{Code, Draft};
use crate::mesh::database::Load;

/// A standby this far behind would lose that much if it took over now.
const LAG: Duration = Duration::from_secs(10);

pub(super) fn standby_lagging(seen: &Seen<'_>) -> Vec<Draft> {
    let mut drafts = Vec::new();
    for database in &seen.topology.databases {
        for standby in &database.standbys {
            if let Some(lag) = standby.lag.filter(|lag| *lag >= LAG) {
                let evidence =
                    format!("{} is {:.0} s behind {}", standby.name, lag.as_secs_f64(), database.name);
                drafts.push(Draft::new(Code::StandbyLagging, [standby.name.clone()], evidence));
            }
        }
    }
    drafts
}

/// From this share on; PostgreSQL itself begins to warn in its log then, and NOTIFY fails when it is full.
const QUEUE_FILLS: f64 = 0.5;

pub(super) fn notification_queue_filling(seen: &Seen<'_>) -> Vec<Draft> {
    let usage = |database: &Database| database.load?.queue_usage().filter(|usage| *usage >= QUEUE_FILLS);
    let full = seen.topology.databases.iter().filter_map(|database| Some((database, usage(database)?)));
    full.map(|(database, usage)| {
        let evidence = format!("the notification queue of {} is {:.0} % full", database.name, usage * 100.0);
        Draft::new(Code::NotificationQueueFilling, [database.name.clone()], evidence)
    })
    .collect()
}

pub(super) fn connections_low(seen: &Seen<'_>) -> Vec<Draft> {
    let short = seen
        .topology
        .databases
        .iter()
        .filter_map(|database| Some((database, database.load.filter(Load::is_short_of_connections)?)));
    short
        .map(|(database, load)| {
            let evidence =
                format!("{} of {} connections of {} are taken", load.used, load.usable, database.name);
            Draft::new(Code::ConnectionsLow, [database.name.clone()], evidence)
        })
        .collect()
}

pub(super) fn is_standby(seen: &Seen<'_>) -> Vec<Draft> {
    let standbys = seen.topology.databases.iter().filter(|database| database.standby == Some(true));
    standbys
        .map(|database| {
            let evidence =
                format!("{} is in recovery: coderd can neither write nor listen there", database.name);
            Draft::new(Code::DatabaseIsStandby, [database.name.clone()], evidence)
        })
        .collect()
}

pub(super) fn pooled(seen: &Seen<'_>) -> Vec<Draft> {
    let pooled = seen.topology.databases.iter().filter(|database| database.pooled == Some(true));
    pooled
        .map(|database| {
            let evidence = format!(
                "a session with {} ends with its transaction, so LISTEN hears nothing and replicas miss each other's news",
                database.name
            );
            Draft::new(Code::DatabasePooled, [database.name.clone()], evidence)
        })
        .collect()
}
