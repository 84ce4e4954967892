//! A PostgreSQL with Coder's own tables, in the two generations that are about, and somebody who keeps the rows alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use probe::demo::cluster::Cluster;

use crate::house::{own_postgres, sql};

/// Columns as in Coder's dump.sql; the later generation has two more in `replicas`.
const TABLES: &str = "
CREATE TABLE replicas (
    id uuid NOT NULL, created_at timestamptz NOT NULL, started_at timestamptz NOT NULL, stopped_at timestamptz,
    updated_at timestamptz NOT NULL, hostname text NOT NULL, region_id integer NOT NULL, relay_address text NOT NULL,
    database_latency integer NOT NULL, version text NOT NULL, error text DEFAULT ''::text NOT NULL,
    \"primary\" boolean DEFAULT true NOT NULL);
CREATE TABLE workspace_proxies (
    id uuid NOT NULL, name text NOT NULL, display_name text NOT NULL, icon text NOT NULL, url text NOT NULL,
    wildcard_hostname text NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
    deleted boolean NOT NULL, token_hashed_secret bytea NOT NULL, region_id serial NOT NULL,
    derp_enabled boolean DEFAULT true NOT NULL, derp_only boolean DEFAULT false NOT NULL,
    version text DEFAULT ''::text NOT NULL);
CREATE TABLE provisioner_daemons (
    id uuid DEFAULT gen_random_uuid() NOT NULL, created_at timestamptz NOT NULL, name varchar(64) NOT NULL,
    provisioners text[] NOT NULL, replica_id uuid, tags jsonb DEFAULT '{}'::jsonb NOT NULL, last_seen_at timestamptz,
    version text DEFAULT ''::text NOT NULL, api_version text DEFAULT '1.0'::text NOT NULL,
    organization_id uuid NOT NULL, key_id uuid NOT NULL);
";
const NATS_COLUMNS: &str = "
ALTER TABLE replicas ADD cluster_host text DEFAULT ''::text NOT NULL,
    ADD nats_port integer DEFAULT 0 NOT NULL CHECK (nats_port BETWEEN 0 AND 65535);
";

/// Which version of Coder has made the tables.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Generation {
    BeforeNats,
    WithNats,
}

/// Coder's database.
pub(crate) struct Coder {
    pub(crate) cluster: Arc<Cluster>,
    stop: Arc<AtomicBool>,
    keeper: Option<std::thread::JoinHandle<()>>,
}

impl Coder {
    pub(crate) fn new(generation: Generation) -> Self {
        Self::with(generation, own_postgres(&[]))
    }

    /// In this server, which is still empty.
    pub(crate) fn with(generation: Generation, cluster: Cluster) -> Self {
        let cluster = Arc::new(cluster);
        sql(&cluster, TABLES);
        if generation == Generation::WithNats {
            sql(&cluster, NATS_COLUMNS);
        }
        Self { cluster, stop: Arc::default(), keeper: None }
    }

    /// A replica that has just started, with its relay at this address.
    pub(crate) fn add_replica(&self, host_name: &str, relay: &str) {
        sql(
            &self.cluster,
            &format!(
                "INSERT INTO replicas (id, created_at, started_at, updated_at, hostname, region_id, relay_address, \
                 database_latency, version) \
                 VALUES (gen_random_uuid(), now(), now(), now(), '{host_name}', 999, '{relay}', 900, 'v2.33.5')"
            ),
        );
    }

    /// Writes the rows of these hosts again and again, as their replicas do.
    pub(crate) fn keep_alive(&mut self) {
        let (cluster, stop) = (Arc::clone(&self.cluster), Arc::clone(&self.stop));
        self.keeper = Some(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                sql(
                    &cluster,
                    "UPDATE replicas SET updated_at = now() WHERE stopped_at IS NULL AND error <> 'killed'",
                );
                std::thread::park_timeout(Duration::from_secs(2));
            }
        }));
    }

    /// As coderd does when it is stopped cleanly.
    pub(crate) fn stop_replica(&self, host_name: &str) {
        sql(
            &self.cluster,
            &format!(
                "UPDATE replicas SET stopped_at = now(), updated_at = now(), \"primary\" = false, database_latency = 0 \
                 WHERE hostname = '{host_name}'; NOTIFY replica, 'x'"
            ),
        );
    }

    /// Its row is written no more.
    pub(crate) fn kill_replica(&self, host_name: &str) {
        sql(&self.cluster, &format!("UPDATE replicas SET error = 'killed' WHERE hostname = '{host_name}'"));
    }
}

impl Drop for Coder {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            let _ = keeper.join();
        }
    }
}
