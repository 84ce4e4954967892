//! What the demo's agents tell at their own doors, as any reader of `/api/v1/report` sees it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::{Request, StatusCode};
use probes::http::exchange::{LONGEST_HEAD, ask};
use serde_json::Value;
use tokio::net::TcpStream;

const LONGEST_BODY: usize = 4 * 1024 * 1024;
const PATIENCE: Duration = Duration::from_secs(2);

/// The reports of all agents that answered, by name.
#[derive(Debug, Clone, Default)]
pub struct Picture {
    reports: BTreeMap<&'static str, Value>,
}

impl Picture {
    /// Asks these agents. Who does not answer is not in it.
    pub async fn take(doors: &[(&'static str, SocketAddr)]) -> Self {
        let mut reports = BTreeMap::new();
        for (name, door) in doors {
            match get(*door, "/api/v1/report").await {
                Ok((StatusCode::OK, body)) => match serde_json::from_slice(&body) {
                    Ok(report) => drop(reports.insert(*name, report)),
                    Err(error) => tracing::debug!(name, %error, "an agent's report is no JSON"),
                },
                Ok((status, _)) => tracing::debug!(name, %status, "an agent does not report"),
                Err(error) => tracing::debug!(name, %error, "an agent does not answer"),
            }
        }
        Self { reports }
    }

    /// These states of paths: source, target, state.
    #[cfg(test)]
    pub(super) fn of(states: &[(&'static str, &'static str, &'static str)]) -> Self {
        let mut reports = BTreeMap::<_, Value>::new();
        for (source, target, state) in states {
            let report = reports.entry(*source).or_insert_with(|| serde_json::json!({ "links": [] }));
            let link = serde_json::json!({
                "name": target, "state": state, "rtt_us": { "p50": 900.0 }, "budget_us": 10_000.0
            });
            report["links"].as_array_mut().unwrap().push(link);
        }
        Self { reports }
    }

    /// All that a source says of its links.
    pub fn links(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.reports.iter().flat_map(|(source, report)| {
            report["links"].as_array().into_iter().flatten().map(move |link| (*source, link))
        })
    }

    /// One of them.
    pub fn link(&self, source: &str, target: &str) -> Option<&Value> {
        let links = self.reports.get(source)?["links"].as_array()?;
        links.iter().find(|link| link["name"] == target)
    }

    /// Its state; empty where nothing is known.
    pub fn state(&self, source: &str, target: &str) -> &str {
        self.link(source, target).and_then(|link| link["state"].as_str()).unwrap_or_default()
    }

    /// Whether it answers, and half of its round trips are within the budget.
    pub fn is_near(&self, source: &str, target: &str) -> bool {
        let answers = !["unreachable", "left", ""].contains(&self.state(source, target));
        let figures = self.link(source, target).map(|link| (&link["rtt_us"]["p50"], &link["budget_us"]));
        let figures = figures.and_then(|(p50, budget)| Some((p50.as_f64()?, budget.as_f64()?)));
        answers && figures.is_some_and(|(p50, budget)| p50 < budget)
    }

    /// The first reason of its state, with its evidence.
    pub fn reason(&self, source: &str, target: &str) -> Option<String> {
        let first = self.link(source, target)?["findings"].get(0)?;
        Some(format!("{}: {}", first["reason"].as_str()?, first["evidence"].as_str()?))
    }

    /// The findings that are news to this agent.
    pub fn findings(&self, agent: &str) -> impl Iterator<Item = &Value> {
        let all = self.reports.get(agent).and_then(|report| report["findings"].as_array());
        all.into_iter().flatten().filter(|finding| finding["news"] == true)
    }

    /// Who answered.
    pub fn agents(&self) -> impl Iterator<Item = &'static str> {
        self.reports.keys().copied()
    }
}

/// Whether this agent says that it is ready.
pub async fn is_ready(door: SocketAddr) -> bool {
    get(door, "/readyz").await.is_ok_and(|(status, _)| status == StatusCode::OK)
}

async fn get(door: SocketAddr, path: &str) -> io::Result<(StatusCode, Vec<u8>)> {
    let request = Request::get(path).header(hyper::header::HOST, door.to_string());
    let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
    let exchange = async {
        let answer =
            ask(TcpStream::connect(door).await?, request, LONGEST_HEAD).await.map_err(io::Error::other)?;
        Ok((answer.status, answer.body(LONGEST_BODY).await.map_err(io::Error::other)?))
    };
    tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| io::ErrorKind::TimedOut)?
}
