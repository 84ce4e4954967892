//! Which columns there are and may be read. Coder's tables differ between its versions, and a role may have been granted a
//! part of them: what is asked for is chosen at run time, and never more than is needed.

use std::collections::BTreeMap;

/// One row a column that there is: table, column, whether this role may read it.
pub(super) const CATALOGUE: &str = "\
    SELECT c.relname::text, a.attname::text, \
           pg_catalog.has_column_privilege(c.oid, a.attnum, 'SELECT') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid \
    WHERE c.relname IN ('replicas', 'workspace_proxies', 'provisioner_daemons') \
      AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_catalog.pg_table_is_visible(c.oid) \
      AND a.attnum > 0 AND NOT a.attisdropped";

/// A column that is wanted: its name, how it is read, and what stands in for it where it is not there or may not be read.
type Wanted = (&'static str, &'static str, &'static str);

/// Milliseconds between a time and the database's now; `NULL` stays `NULL`.
macro_rules! age_ms {
    ($column:literal) => {
        concat!("(extract(epoch FROM now() - ", $column, ") * 1000)::bigint")
    };
}

const REPLICAS: &[Wanted] = &[
    ("id", "id::text", ""),
    ("updated_at", age_ms!("updated_at"), ""),
    ("stopped_at", age_ms!("stopped_at"), "NULL::bigint"),
    ("hostname", "hostname::text", "''::text"),
    ("relay_address", "relay_address::text", "''::text"),
    ("region_id", "region_id::int", "0"),
    ("primary", "\"primary\"", "NULL::bool"),
    ("version", "version::text", "''::text"),
    ("cluster_host", "cluster_host::text", "''::text"),
    (NATS_PORT, "nats_port::int", "0"),
];
/// Coder's versions before NATS do not have it, which says something; that it may not be read says nothing.
const NATS_PORT: &str = "nats_port";
const NOT_KNOWN: &str = "NULL::int";
const PROXIES: &[Wanted] = &[
    ("name", "name::text", ""),
    ("url", "url::text", ""),
    ("updated_at", age_ms!("updated_at"), "NULL::bigint"),
    ("version", "version::text", "''::text"),
    ("deleted", "deleted", "false"),
];
const PROVISIONERS: &[Wanted] = &[
    ("id", "id::text", ""),
    ("name", "name::text", "''::text"),
    ("last_seen_at", age_ms!("last_seen_at"), "NULL::bigint"),
    ("version", "version::text", "''::text"),
];
/// More rows than any deployment has; a table that was filled by accident must not fill our memory.
const ROWS_AT_MOST: u32 = 5000;

/// What can be asked of one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Query {
    /// With this statement.
    Ask(String),
    /// There is no such table.
    Missing,
    /// These columns may not be read, and without them there is no use.
    Denied(Vec<&'static str>),
}

impl Query {
    /// Why this table cannot be asked, for people.
    pub(super) fn refusal(&self, table: &str) -> String {
        match self {
            Self::Denied(columns) => format!(
                "this role may not read {} of {table}: docs/discovery.md has the grants",
                columns.join(", ")
            ),
            Self::Missing => format!("there is no table {table} in this database and its search path"),
            Self::Ask(_) => format!("{table} can be read"),
        }
    }
}

/// What can be asked of all tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queries {
    pub(super) replicas: Query,
    pub(super) proxies: Query,
    pub(super) provisioners: Query,
}

impl Queries {
    /// From the rows of [`CATALOGUE`].
    pub(super) fn of(catalogue: impl Iterator<Item = (String, String, bool)>) -> Self {
        let mut tables: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
        for (table, column, readable) in catalogue {
            tables.entry(table).or_default().insert(column, readable);
        }
        let of = |table: &'static str, wanted: &[Wanted], newest: &str| match tables.get(table) {
            None => Query::Missing,
            Some(columns) => query(table, columns, wanted, newest),
        };
        Self {
            replicas: of("replicas", REPLICAS, "updated_at"),
            proxies: of("workspace_proxies", PROXIES, "updated_at"),
            provisioners: of("provisioner_daemons", PROVISIONERS, "last_seen_at"),
        }
    }
}

fn query(table: &str, columns: &BTreeMap<String, bool>, wanted: &[Wanted], newest: &str) -> Query {
    let readable = |name: &str| columns.get(name).copied();
    let denied: Vec<_> = wanted
        .iter()
        .filter(|(name, _, otherwise)| otherwise.is_empty() && readable(name) != Some(true))
        .map(|(name, ..)| *name)
        .collect();
    if !denied.is_empty() {
        return Query::Denied(denied);
    }
    let read = |(name, expression, otherwise): &Wanted| match readable(name) {
        Some(true) => *expression,
        Some(false) if *name == NATS_PORT => NOT_KNOWN,
        _ => *otherwise,
    };
    let list: Vec<_> = wanted.iter().map(read).collect();
    let order = if readable(newest) == Some(true) {
        format!("ORDER BY {newest} DESC NULLS LAST ")
    } else {
        String::new()
    };
    Query::Ask(format!("SELECT {} FROM {table} {order}LIMIT {ROWS_AT_MOST}", list.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(columns: &[(&str, &str, bool)]) -> Queries {
        Queries::of(columns.iter().map(|(table, column, may)| ((*table).into(), (*column).into(), *may)))
    }

    #[test]
    fn what_may_not_be_read_or_is_not_there_is_left_out_of_the_statement() {
        let queries = of(&[
            ("replicas", "id", true),
            ("replicas", "updated_at", true),
            ("replicas", "hostname", true),
            ("replicas", "error", true),
            ("replicas", "version", false),
        ]);
        let Query::Ask(sql) = queries.replicas else { panic!("{:?}", queries.replicas) };
        assert!(
            sql.contains("hostname::text") && sql.contains("''::text") && !sql.contains("version"),
            "{sql}"
        );
        assert!(!sql.contains("error"), "only what is needed: {sql}");
        assert_eq!(queries.proxies, Query::Missing);
    }

    #[test]
    fn a_port_of_nats_that_may_not_be_read_is_not_the_same_as_none() {
        let least = [("replicas", "id", true), ("replicas", "updated_at", true)];
        let sql = |more: &[(&str, &str, bool)]| match of(&[&least[..], more].concat()).replicas {
            Query::Ask(sql) => sql,
            other => panic!("{other:?}"),
        };
        assert!(sql(&[]).contains("''::text, 0 FROM"), "{}", sql(&[]));
        assert!(sql(&[("replicas", "nats_port", true)]).contains("nats_port::int FROM"));
        assert!(sql(&[("replicas", "nats_port", false)]).contains("NULL::int FROM"));
    }

    #[test]
    fn a_table_without_the_least_is_denied_by_name() {
        let queries = of(&[("replicas", "id", false), ("replicas", "updated_at", true)]);
        assert_eq!(queries.replicas, Query::Denied(vec!["id"]));
    }

    #[test]
    fn no_statement_names_a_secret_column() {
        let tables =
            [("replicas", REPLICAS), ("workspace_proxies", PROXIES), ("provisioner_daemons", PROVISIONERS)];
        for (table, wanted) in tables {
            let all = wanted.iter().map(|(column, ..)| (table, *column, true));
            let all: Vec<_> =
                all.chain([(table, "token_hashed_secret", true), (table, "tags", true)]).collect();
            let queries = of(&all);
            for query in [queries.replicas, queries.proxies, queries.provisioners] {
                if let Query::Ask(sql) = query {
                    assert!(
                        !sql.contains("secret") && !sql.contains("SELECT *") && !sql.contains("tags"),
                        "{sql}"
                    );
                }
            }
        }
    }
}
