//! LISTEN and NOTIFY with real components: PostgreSQL, a standby, pgbouncer in both modes.

use std::time::Duration;

use probes::postgres::conninfo::Conninfo;
use probes::postgres::reader::Reader;

use crate::house::own_postgres;
use crate::pooler::{Mode, Pooler};

const PATIENCE: Duration = Duration::from_secs(10);

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn conninfo(url: &str) -> Conninfo {
    Conninfo::parse(url, &|_| None).unwrap()
}

#[test]
fn who_keeps_a_session_is_found_out_without_touching_it() {
    let cluster = own_postgres(&[]);
    let keeps = |url: &str| {
        runtime().block_on(async {
            let reader = Reader::open(&conninfo(url), PATIENCE).await.unwrap();
            reader.keeps_session(PATIENCE).await.unwrap()
        })
    };
    assert_eq!(keeps(&cluster.url()), Some(true), "directly");
    for (mode, pool_size, more, expected) in [
        (Mode::Transaction, 1, "", Some(false)),
        (Mode::Transaction, 5, "", Some(false)),
        (Mode::Transaction, 5, "server_round_robin = 1\nmin_pool_size = 2", Some(false)),
        (Mode::Transaction, 5, "ignore_startup_parameters = options", Some(false)),
        (Mode::Session, 5, "", Some(true)),
        (Mode::Session, 5, "ignore_startup_parameters = options\nserver_round_robin = 1", Some(true)),
    ] {
        let pooler = Pooler::start(&cluster, mode, pool_size, more);
        assert_eq!(keeps(&pooler.url()), expected, "{mode:?} {pool_size} {more}: {}", pooler.log());
    }
}
