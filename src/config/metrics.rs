//! Whose metrics are read: from words to the settings of that door.

use std::path::PathBuf;
use std::time::Duration;

use probes::http::HttpUrl;

use super::{ConfigError, fault};
use crate::cli::MetricsArgs;
use crate::coder_metrics::Settings;

const KEY: &str = "--coderd-metrics";
/// Instead of an address: that of the replica beside an agent.
const AUTO: &str = "auto";

/// Of an agent; `every` is how often, where that was said.
pub(super) fn of_agent(
    args: &MetricsArgs,
    ca: Option<&PathBuf>,
    every: Option<Duration>,
) -> Result<Settings, ConfigError> {
    let given = args.coderd_metrics.iter().filter(|text| *text != AUTO);
    let beside = args.coderd_metrics.iter().any(|text| text == AUTO);
    let default = Settings::default();
    Ok(Settings { places: places(given)?, beside, every: every.unwrap_or(default.every), ca: ca.cloned() })
}

/// Of a check, which stands beside nobody.
pub(super) fn of_check(args: &MetricsArgs, ca: Option<&PathBuf>) -> Result<Settings, ConfigError> {
    if args.coderd_metrics.iter().any(|text| text == AUTO) {
        return Err(fault(KEY, "auto is for agents: name the address, like http://coderd-1:2112/metrics"));
    }
    of_agent(args, ca, None)
}

fn places<'a>(given: impl Iterator<Item = &'a String>) -> Result<Vec<HttpUrl>, ConfigError> {
    let mut places: Vec<HttpUrl> = Vec::new();
    for text in given.filter(|text| !text.is_empty()) {
        let place: HttpUrl = text.parse().map_err(|error| fault(KEY, error))?;
        if places.iter().any(|other| other.to_string() == place.to_string()) {
            return Err(fault(KEY, format!("'{place}' is given twice")));
        }
        places.push(place);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(texts: &[&str]) -> MetricsArgs {
        MetricsArgs { coderd_metrics: texts.iter().map(|text| (*text).to_owned()).collect() }
    }

    #[test]
    fn addresses_are_read_and_auto_is_for_agents() {
        let settings = of_agent(&args(&["http://a:2112/metrics", "auto"]), None, None).unwrap();
        assert_eq!((settings.places.len(), settings.beside), (1, true));
        assert_eq!(settings.every, Duration::from_secs(30));
        assert!(of_check(&args(&["auto"]), None).unwrap_err().to_string().contains("auto is for agents"));
        assert!(of_check(&args(&[""]), None).unwrap().is_empty(), "a variable that a template leaves empty");
    }

    #[test]
    fn a_fault_says_what_is_wrong_and_shows_no_secret() {
        for (texts, part) in [
            (&["http://user:hunter2@a:2112/"][..], "user or password"),
            (&["a:2112"][..], "scheme"),
            (&["http://a/?token=hunter2", "http://a/?token=hunter2"][..], "'http://a/' is given twice"),
        ] {
            let error = of_agent(&args(texts), None, None).unwrap_err().to_string();
            assert!(error.starts_with("--coderd-metrics: ") && error.contains(part), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
