//! What links are held against, how often they are measured, and how much of that is shown: keys that have no flag.

use std::time::Duration;

use super::ConfigError;
use super::file::Layers;
use super::targets::parse_limit;
use crate::cli;
use crate::export::collect;
use crate::mesh::budget::{Budgets, Limit};
use crate::mesh::links::{Intervals, Rules};
use crate::mesh::state::Graces;

impl Layers<'_> {
    /// How much is shown of what is measured.
    pub(super) fn shown(&self) -> Result<collect::Settings, ConfigError> {
        let mut shown = collect::Settings::default();
        let at_most = |text: &str| match text.parse::<usize>() {
            Ok(count) if (1..=10_000).contains(&count) => Ok(count),
            _ => Err("it must be a number of targets from 1 to 10000".to_owned()),
        };
        let pairs = |text: &str| text.parse::<bool>().map_err(|_| "it must be true or false".to_owned());
        set(&mut shown.targets_at_most, self.parse("metrics.targets", at_most)?);
        set(&mut shown.pairs, self.parse("metrics.pairs", pairs)?);
        Ok(shown)
    }

    /// Budgets, intervals and graces.
    pub(super) fn rules(&self) -> Result<Rules, ConfigError> {
        let Rules { mut budgets, mut intervals, mut graces } = Rules::default();
        set(&mut budgets.quantile, self.parse("budgets.quantile", cli::quantile)?);
        let Budgets {
            quantile: _,
            coderd_coderd,
            coderd_postgres,
            postgres_postgres,
            proxy,
            provisioner,
            other,
        } = &mut budgets;
        for (limit, key) in [
            (coderd_coderd, "budgets.coderd_coderd"),
            (coderd_postgres, "budgets.coderd_postgres"),
            (postgres_postgres, "budgets.postgres_postgres"),
            (proxy, "budgets.proxy"),
            (provisioner, "budgets.provisioner"),
            (other, "budgets.other"),
        ] {
            set::<Limit>(limit, self.parse(key, parse_limit)?);
        }
        let Intervals { peer, postgres, postgres_connect, tcp, http, relay, relay_fresh, nats } =
            &mut intervals;
        for (interval, key) in [
            (peer, "intervals.peer"),
            (postgres, "intervals.postgres"),
            (tcp, "intervals.tcp"),
            (http, "intervals.http"),
            (relay, "intervals.relay"),
        ] {
            set(interval, self.parse(key, at_least_50_ms)?);
        }
        let never = |text: &str| if text == "never" { Ok(Duration::ZERO) } else { at_least_50_ms(text) };
        set(postgres_connect, self.parse("intervals.postgres_connect", never)?);
        set(relay_fresh, self.parse("intervals.relay_fresh", never)?);
        set(nats, self.parse("intervals.nats", at_least_a_minute)?);
        let Graces { start, rollout } = &mut graces;
        set(start, self.parse("graces.start", cli::duration)?);
        set(rollout, self.parse("graces.rollout", cli::duration)?);
        Ok(Rules { budgets, graces, intervals })
    }
}

fn set<T>(slot: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *slot = value;
    }
}

fn at_least_50_ms(text: &str) -> Result<Duration, String> {
    match cli::duration(text)? {
        interval if interval < Duration::from_millis(50) => {
            Err("no target is asked more than 20 times a second: 50ms or longer".to_owned())
        }
        interval => Ok(interval),
    }
}

fn at_least_a_minute(text: &str) -> Result<Duration, String> {
    match cli::duration(text)? {
        interval if interval < Duration::from_secs(60) => {
            Err("a NATS port is connected to at most once a minute: 60s or longer".to_owned())
        }
        interval => Ok(interval),
    }
}
