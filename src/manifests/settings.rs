//! Rules about coderd's own settings.

use std::time::Duration;

use super::answer::{Answer, Deployment, Running};
use super::environment::Setting;
use crate::mesh::cause::ms;
use crate::mesh::report::CODER_WARNS_AT;
use crate::mesh::rules::{Code, FEW_CODERD};

const PROVISIONERS: &str = "CODER_PROVISIONER_DAEMONS";
const THRESHOLD: &str = "CODER_HEALTH_CHECK_THRESHOLD_DATABASE";
const PROMETHEUS: &str = "CODER_PROMETHEUS_ENABLE";
const DATABASE_METRICS: &str = "CODER_PROMETHEUS_COLLECT_DB_METRICS";
/// How many coderd runs unless told otherwise.
const BUILT_IN: &str = "3";

pub(super) fn built_in_provisioners(deployment: &Deployment<'_>) -> Vec<Answer> {
    let few = u32::try_from(FEW_CODERD).unwrap_or(u32::MAX);
    let matters = |running: &&Running<'_>| {
        let large = running.replicas.is_none_or(|(_, most)| most >= few);
        let external =
            |provisioner: &Running<'_>| provisioner.workload.resource.is_beside(&running.workload.resource);
        large || deployment.provisioners.iter().any(external)
    };
    let judged = deployment.coderd.iter().filter(matters).filter_map(|running| {
        let (count, how) = match running.known(PROVISIONERS, Code::BuiltInProvisioners) {
            Err(unjudged) => return Some(unjudged),
            Ok(Setting::Value(value)) => (value.text(), ""),
            Ok(_) => (BUILT_IN.to_owned(), ", as many as it runs unless told otherwise"),
        };
        let evidence =
            format!("each replica of {} runs {count} provisioners of its own{how}", running.name());
        (count.trim() != "0").then(|| running.wrong(Code::BuiltInProvisioners, evidence))
    });
    judged.collect()
}

pub(super) fn health_threshold(deployment: &Deployment<'_>) -> Vec<Answer> {
    let code = Code::HealthThreshold;
    let judged = deployment.coderd.iter().filter_map(|running| {
        let (threshold, how) = match running.known(THRESHOLD, code) {
            Err(unjudged) => return Some(unjudged),
            Ok(Setting::Value(value)) => match go_duration(value.text().trim()) {
                Some(threshold) => (threshold, ""),
                None => {
                    let text = format!(
                        "{THRESHOLD} of {} is '{}', which is no duration of Go",
                        running.name(),
                        value.in_words()
                    );
                    return Some(Answer::Unjudged { code, text });
                }
            },
            Ok(_) => (CODER_WARNS_AT, ", since it is not set"),
        };
        let evidence = format!(
            "Coder's health page calls the database slow from {} on{how}; the budget ends at {}",
            ms(threshold),
            ms(deployment.budget)
        );
        (threshold > deployment.budget).then(|| running.wrong(code, evidence))
    });
    judged.collect()
}

/// Whether coderd tells its metrics, and those of its queries too.
pub(super) fn metrics(deployment: &Deployment<'_>) -> Vec<Answer> {
    let on = |running: &Running<'_>, variable: &str, code| match running.known(variable, code)? {
        // As Go reads a truth.
        Setting::Value(value) => Ok(["1", "t", "T", "TRUE", "true", "True"].contains(&value.text().trim())),
        _ => Ok(false),
    };
    let judged = deployment.coderd.iter().filter_map(|running| {
        let name = running.name();
        match on(running, PROMETHEUS, Code::PrometheusOff) {
            Err(unjudged) => Some(unjudged),
            Ok(false) => {
                let evidence = format!("{PROMETHEUS} of {name} is not true");
                Some(running.wrong(Code::PrometheusOff, evidence))
            }
            Ok(true) => match on(running, DATABASE_METRICS, Code::DatabaseMetricsOff) {
                Err(unjudged) => Some(unjudged),
                Ok(true) => None,
                Ok(false) => {
                    let evidence = format!("{DATABASE_METRICS} of {name} is not true");
                    Some(running.wrong(Code::DatabaseMetricsOff, evidence))
                }
            },
        }
    });
    judged.collect()
}

/// A duration as Go writes it, like `1m30s` or `1.5ms`; `None` for anything else, and for what is below zero.
fn go_duration(text: &str) -> Option<Duration> {
    let text = text.strip_prefix('+').unwrap_or(text);
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut seconds) = (text, 0.0);
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|letter: char| letter.is_ascii_digit() || letter == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, micros) in [
            ("10ms", Some(10_000)),
            ("1.5ms", Some(1_500)),
            ("1m30s", Some(90_000_000)),
            ("0", Some(0)),
            ("15000µs", Some(15_000)),
            (".5s", Some(500_000)),
            ("10", None),
            ("", None),
            ("ms", None),
            ("10 ms", None),
            ("-1ms", None),
            ("1d", None),
        ] {
            assert_eq!(go_duration(text).map(|duration| duration.as_micros()), micros, "{text}");
        }
    }
}
