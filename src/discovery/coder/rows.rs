//! From the rows of Coder's tables to sightings.

use probes::postgres::reader::{FromSql, Reader, Row};
use probes::sample::{Failure, Reason};
use probes::target::HostPort;

use super::columns::{CATALOGUE, Queries};
use super::replicas;
use crate::mesh::peer::Role;
use crate::mesh::roster::{Sighting, Status};

/// Begins the key of each row of `workspace_proxies`: the proxies as users know them, and not their replicas.
pub(crate) const PROXY_KEY: &str = "proxy ";
/// A proxy registers every 30 s; one that has not for ten minutes is not there.
const PROXY_SEEN_MS: i64 = 600_000;
const PROVISIONER_SEEN_MS: i64 = 300_000;

/// What may be asked of each table.
pub(super) async fn what_may_be_asked(reader: &Reader) -> Result<Queries, Failure> {
    let rows = reader.rows(CATALOGUE, &[]).await?;
    let rows: Result<Vec<_>, Failure> =
        rows.iter().map(|row| Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?))).collect();
    Ok(Queries::of(rows?.into_iter()))
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Failure> {
    row.try_get(index)
        .map_err(|error| Failure::new(Reason::Protocol, format!("a row of Coder's tables: {error}")))
}

pub(super) fn replica(row: &Row) -> Result<replicas::Row, Failure> {
    let text = |index| Ok(get::<Option<String>>(row, index)?.unwrap_or_default());
    Ok(replicas::Row {
        id: get(row, 0)?,
        age_ms: get::<Option<i64>>(row, 1)?.unwrap_or(i64::MAX),
        stopped_ms: get(row, 2)?,
        host_name: text(3)?,
        relay: text(4)?,
        region_id: get::<Option<i32>>(row, 5)?.unwrap_or_default(),
        primary: get(row, 6)?,
        version: text(7)?,
        cluster_host: text(8)?,
        nats_port: get(row, 9)?,
    })
}

pub(super) fn proxy(row: &Row) -> Result<Option<Sighting>, Failure> {
    let (name, url): (String, String) = (get(row, 0)?, get(row, 1)?);
    let (age_ms, deleted): (Option<i64>, bool) = (get(row, 2)?, get(row, 4)?);
    let version: Option<String> = get(row, 3)?;
    // Without a URL it has never registered.
    let is_there = !deleted && !url.is_empty() && age_ms.is_none_or(|age| age <= PROXY_SEEN_MS);
    Ok(is_there.then(|| Sighting {
        key: format!("{PROXY_KEY}{name}"),
        role: Some(Role::Proxy),
        host_name: replicas::relay(&url).map(|address| address.host),
        relay: Some(url),
        version: version.filter(|version| !version.is_empty()),
        status: Status::Alive,
        ..Sighting::default()
    }))
}

pub(super) fn provisioner(row: &Row) -> Result<Option<Sighting>, Failure> {
    let (id, name): (String, String) = (get(row, 0)?, get(row, 1)?);
    let (age_ms, version): (Option<i64>, Option<String>) = (get(row, 2)?, get(row, 3)?);
    Ok(age_ms.is_some_and(|age| age <= PROVISIONER_SEEN_MS).then(|| Sighting {
        key: format!("provisioner {id}"),
        role: Some(Role::Provisioner),
        host_name: Some(name).filter(|name| !name.is_empty()),
        version: version.filter(|version| !version.is_empty()),
        ..Sighting::default()
    }))
}

/// An agent that may answer where this replica does.
pub(super) fn agent_beside(replica: &Sighting, port: u16) -> Option<Sighting> {
    if replica.role != Some(Role::Coderd) {
        return None;
    }
    let host = replicas::relay(replica.relay.as_deref()?)?.host;
    Some(Sighting {
        key: format!("beside {}", replica.key),
        role: replica.role,
        agent: replica.host_name.clone(),
        reflectors: vec![HostPort { host, port }],
        host_name: replica.host_name.clone(),
        addresses: replica.addresses.clone(),
        status: replica.status,
        ..Sighting::default()
    })
}
