//! What a PostgreSQL server knows of its own replication. Nothing here needs more than a login; who may not see the
//! standbys' figures (`pg_monitor`) sees that there are some.

use std::net::IpAddr;
use std::time::Duration;

use probes::postgres::reader::{FromSql, Reader, Row};
use probes::sample::{Failure, Reason};

use crate::mesh::database::{Facts, Standby};

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
           (extract(epoch FROM replay_lag) * 1000000)::bigint \
    FROM pg_catalog.pg_stat_replication LIMIT 100";

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
        });
    }
    facts.standbys.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
    Ok(facts)
}

fn micros(us: Option<i64>) -> Option<Duration> {
    us.and_then(|us| u64::try_from(us).ok()).map(Duration::from_micros)
}

fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, Failure> {
    row.try_get(index)
        .map_err(|error| Failure::new(Reason::Protocol, format!("a view of PostgreSQL: {error}")))
}
