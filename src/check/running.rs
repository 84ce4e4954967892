//! A check of a mesh that runs already: what its agents have measured is judged, and nothing is measured here.
//!
//! A machine that builds or deploys is the wrong place to measure from; any agent knows the whole mesh. What nobody has measured is
//! never good: without a judged path, and where an agent is silent, nothing can pass.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::client::{self, AskError};
use crate::export::api::findings;
use crate::export::api::matrix;
use crate::export::running::Running;
use crate::mesh::verdict::Verdict;

const AGAIN: Duration = Duration::from_secs(2);

/// Asks the agent and judges; where there is no answer yet, again until `patience` is over.
pub async fn check(settings: &client::Settings, patience: Duration) -> Result<Running, AskError> {
    let start = now();
    loop {
        let judged = once(settings).await;
        let is_decided = match &judged {
            Ok(running) => running.verdict != Verdict::Inconclusive,
            // A wrong token or address does not become right.
            Err(error) => !matches!(error, AskError::Silent { .. }),
        };
        if is_decided || now().duration_since(start) + AGAIN > patience {
            return judged;
        }
        sleep(AGAIN).await;
    }
}

async fn once(settings: &client::Settings) -> Result<Running, AskError> {
    let matrix: matrix::Document = client::get(settings, "/api/v1/matrix").await?;
    let findings: findings::Document = client::get(settings, "/api/v1/findings").await?;
    Ok(Running::judge(matrix, findings.findings))
}

#[expect(clippy::disallowed_methods, reason = "how long somebody was willing to wait")]
fn now() -> Instant {
    Instant::now()
}
