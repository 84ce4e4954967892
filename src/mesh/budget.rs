//! What a link of each class is held against.
//!
//! Coder's scaling guide gives one number, 10 ms, for coderd to coderd and coderd to PostgreSQL, and asks that the
//! servers of one database are close to each other. Provisioners may be far, and workspace proxies sit near workspaces:
//! their links are measured for information only, unless somebody sets a budget.

use std::time::Duration;

use super::peer::Role;

/// A limit of the round trip; `None` is measured for information only.
pub type Limit = Option<Duration>;

/// The limits by class of link, and the quantile that has to stay below them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budgets {
    /// The share of round trips that has to stay below the limit.
    pub quantile: f64,
    /// Between replicas of coderd.
    pub coderd_coderd: Limit,
    /// Between coderd and a PostgreSQL server.
    pub coderd_postgres: Limit,
    /// Between the servers of one database.
    pub postgres_postgres: Limit,
    /// To or from a workspace proxy.
    pub proxy: Limit,
    /// To or from a provisioner.
    pub provisioner: Limit,
    /// Where an end did not say what it is.
    pub other: Limit,
}

impl Default for Budgets {
    fn default() -> Self {
        let ten = Some(Duration::from_millis(10));
        Self {
            quantile: 0.95,
            coderd_coderd: ten,
            coderd_postgres: ten,
            postgres_postgres: ten,
            proxy: None,
            provisioner: None,
            other: ten,
        }
    }
}

impl Budgets {
    /// The same limit for every class that has one.
    pub fn with_limit(self, limit: Duration) -> Self {
        let set = |old: Limit| old.map(|_| limit);
        Self {
            quantile: self.quantile,
            coderd_coderd: set(self.coderd_coderd),
            coderd_postgres: set(self.coderd_postgres),
            postgres_postgres: set(self.postgres_postgres),
            proxy: set(self.proxy),
            provisioner: set(self.provisioner),
            other: set(self.other),
        }
    }

    /// All that are set, of whatever class.
    pub fn limits(&self) -> impl Iterator<Item = Duration> {
        let pairs = [self.coderd_coderd, self.coderd_postgres, self.postgres_postgres];
        pairs.into_iter().chain([self.proxy, self.provisioner, self.other]).flatten()
    }

    /// The limit of a link between these two.
    pub fn limit(&self, one: Option<Role>, other: Option<Role>) -> Limit {
        use Role::{Coderd, Postgres, Provisioner, Proxy, Standby};
        let either = |role: Role| one == Some(role) || other == Some(role);
        if either(Provisioner) {
            return self.provisioner;
        }
        if either(Proxy) {
            return self.proxy;
        }
        match (one, other) {
            (Some(Coderd), Some(Coderd)) => self.coderd_coderd,
            (Some(Coderd), Some(Postgres | Standby)) | (Some(Postgres | Standby), Some(Coderd)) => {
                self.coderd_postgres
            }
            (Some(Postgres | Standby), Some(Postgres | Standby)) => self.postgres_postgres,
            _ => self.other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_has_its_own_limit_whichever_way_it_is_asked() {
        let ms = |ms| Some(Duration::from_millis(ms));
        let budgets = Budgets {
            coderd_coderd: ms(1),
            coderd_postgres: ms(2),
            postgres_postgres: ms(3),
            proxy: ms(4),
            provisioner: None,
            other: ms(6),
            ..Budgets::default()
        };
        for (one, other, limit) in [
            (Some(Role::Coderd), Some(Role::Coderd), ms(1)),
            (Some(Role::Coderd), Some(Role::Postgres), ms(2)),
            (Some(Role::Coderd), Some(Role::Standby), ms(2)),
            (Some(Role::Postgres), Some(Role::Standby), ms(3)),
            (Some(Role::Coderd), Some(Role::Proxy), ms(4)),
            (Some(Role::Proxy), Some(Role::Provisioner), None),
            (None, Some(Role::Provisioner), None),
            (None, Some(Role::Coderd), ms(6)),
            (None, None, ms(6)),
        ] {
            assert_eq!(budgets.limit(one, other), limit, "{one:?} {other:?}");
            assert_eq!(budgets.limit(other, one), limit, "{other:?} {one:?}");
        }
    }
}
