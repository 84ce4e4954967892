//! What an error of PostgreSQL or of the line to it means.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use crate::sample::{Failure, Reason};
use crate::tcp::io_failure;

/// The failure behind an error of the driver, with the server's own words where it gave some.
///
/// The server's messages name roles and databases, never a password.
pub(super) fn failure(error: &tokio_postgres::Error, place: &str) -> Failure {
    if let Some(db) = error.as_db_error() {
        let code = db.code();
        let reason = match *code {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => Reason::Auth,
            SqlState::INVALID_CATALOG_NAME | SqlState::INSUFFICIENT_PRIVILEGE => Reason::Database,
            SqlState::TOO_MANY_CONNECTIONS | SqlState::CANNOT_CONNECT_NOW => Reason::Refused,
            SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => Reason::Closed,
            SqlState::QUERY_CANCELED => Reason::Timeout,
            // We write nothing, so this is what a standby says to LISTEN and NOTIFY, in whatever language.
            SqlState::READ_ONLY_SQL_TRANSACTION => Reason::Standby,
            _ => Reason::Protocol,
        };
        return Failure::new(reason, format!("PostgreSQL says: {} (SQLSTATE {})", db.message(), code.code()));
    }
    if error.is_closed() {
        return Failure::new(Reason::Closed, "the server closed the connection");
    }
    let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    // The driver has no public kind for these two.
    match error.to_string().as_str() {
        "error performing TLS handshake" => {
            Failure::new(Reason::Tls, format!("TLS handshake failed: {cause}"))
        }
        "authentication error" | "invalid configuration" => {
            Failure::new(Reason::Auth, format!("authentication failed: {cause}"))
        }
        _ => match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
            Some(io_error) => io_failure(io_error, place),
            None => Failure::new(Reason::Protocol, format!("{error}: {cause}")),
        },
    }
}

/// A pooler or proxy that does not let start-up options through (pgbouncer without `ignore_startup_parameters`,
/// RDS Proxy).
pub(super) fn refuses_options(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|db| {
        let message = db.message();
        message.contains("unsupported startup parameter") || message.contains("command-line options")
    })
}

/// pg_hba.conf has no line for this kind of connection: another one (with or without TLS) may be let in.
pub(super) fn refuses_this_line(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}
