//! What a PostgreSQL server knows of its own replication. Nothing here needs more than a login; who may not see the
//! standbys' figures (`pg_monitor`) sees that there are some.

use std::net::IpAddr;
use std::time::Duration;

use probes::postgres::reader::{FromSql, Reader, Row};
use probes::sample::{Failure, Reason};

use crate::mesh::database::{Facts, Load, Standby};

/// `CASE` keeps the function that a standby refuses from being called there.
const SERVER: &str = "\
    SELECT pg_is_in_recovery(), inet_server_addr(), inet_server_port(), \
           CASE WHEN pg_is_in_recovery() \
                THEN (SELECT lpad(to_hex(received_tli), 8, '0') FROM pg_catalog.pg_stat_wal_receiver LIMIT 1) \
                ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END";
const STANDBYS: &str = "\
    SELECT coalesce(application_name, ''), client_addr, state, pid IS NOT NULL AND state IS NULL, \
           (extract(epoch FROM write_lag) * 1000000)::bigint, \
           (extract(epoch FROM flush_lag) * 1000000)::bigint, \
           (extract(epoch FROM replay_lag) * 1000000)::bigint, \
           sync_state, \
           pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() \
                                ELSE pg_current_wal_lsn() END, replay_lsn)::bigint \
    FROM pg_catalog.pg_stat_replication LIMIT 100";

/// It needs no right. A standby has no such queue, although it does not say so.
const QUEUE: &str = "\
    SELECT CASE WHEN pg_is_in_recovery() THEN NULL ELSE (pg_notification_queue_usage() * 1e9)::bigint END";
/// As often as the connection that is measured looks whether there is room: it counts all of the server's processes, in
/// microseconds and without a lock that anybody waits for.
const LOAD_EVERY: Duration = Duration::from_secs(30);

/// Asks the server at the other end of this connection.
pub(super) async fn look(reader: &Reader, name: &str, pooled: Option<bool>) -> Result<Facts, Failure> {
    let rows = reader.rows(SERVER, &[]).await?;
    let row = rows.first().ok_or_else(|| Failure::new(Reason::Protocol, "the server gave no row"))?;
    let standby: bool = get(row, 0)?;
    let (address, port): (Option<IpAddr>, Option<i32>) = (get(row, 1)?, get(row, 2)?);
    let port = port.and_then(|port| u16::try_from(port).ok());
    let mut facts = Facts {
        name: name.to_owned(),
        standby,
        server: address.zip(port),
        timeline: get(row, 3)?,
        pooled,
        ..Facts::default()
    };
    for row in reader.rows(STANDBYS, &[]).await? {
        facts.hidden |= get::<bool>(&row, 3)?;
        facts.standbys.push(Standby {
            name: get(&row, 0)?,
            address: get(&row, 1)?,
            state: get(&row, 2)?,
            write_lag: micros(get(&row, 4)?),
            flush_lag: micros(get(&row, 5)?),
            replay_lag: micros(get(&row, 6)?),
            sync_state: get(&row, 7)?,
            // It may have replayed what the primary wrote after it was asked where it is.
            behind_bytes: get::<Option<i64>>(&row, 8)?.map(|bytes| u64::try_from(bytes).unwrap_or(0)),
        });
    }
    facts.standbys.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
    // Not every server that speaks PostgreSQL's protocol has these; the rest stands without them.
    facts.load = load(reader).await.unwrap_or_else(|failure| {
        tracing::debug!(%failure, "how full the database is cannot be told");
        None
    });
    Ok(facts)
}

async fn load(reader: &Reader) -> Result<Option<Load>, Failure> {
    let Some(room) = reader.room(LOAD_EVERY).await? else { return Ok(None) };
    let count = |connections: i32| u32::try_from(connections).unwrap_or(0);
    let rows = reader.rows(QUEUE, &[]).await?;
    let queue = rows.first().map(|row| get::<Option<i64>>(row, 0)).transpose()?.flatten();
    Ok(Some(Load {
        used: count(room.used),
        usable: count(room.usable),
        queue_used_ppb: queue.and_then(|ppb| u32::try_from(ppb).ok()),
    }))
}

fn micros(us: Option<i64>) -> Option<Duration> {
    us.and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros)
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Failure> {
    row.try_get(index)
        .map_err(|error| Failure::new(Reason::Protocol, format!("a view of PostgreSQL: {error}")))
}
