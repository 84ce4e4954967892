//! A rendered deployment read as facts, for the static rules: no cluster is asked and no packet is sent.
//!
//! Text comes in with the name of its file, findings go out. On the way there are three steps. `yaml` makes values of
//! text, and an error there ends the run, for what cannot be parsed was not what anybody meant to apply. `facts` makes
//! workloads, policies and guards of values; a field of a wrong type is told and the rest is still judged, but such a run
//! never passes. The rules look at facts only.
//!
//! Nothing that is not written there is taken for good. A setting that comes from a Secret, a policy that names addresses,
//! a resource that cannot be read: what follows from them is listed as not judged, and where it would have been a failure
//! the verdict is inconclusive. Values of Secrets are not even looked at.
//!
//! A resource without a namespace is taken to go to the only namespace that is named, or to coderd's, as `kubectl apply -n`
//! and Helm would have it.

use std::time::Duration;

use serde::Serialize;

use crate::mesh::place::policy::Severity;
use crate::mesh::rules::{Code, Severities, TopologyFinding};
use crate::mesh::verdict::Verdict;

mod answer;
mod apart;
mod count;
mod environment;
mod facts;
mod field;
mod guards;
pub mod json;
mod network;
mod reach;
mod recognise;
mod regions;
mod selector;
mod settings;
pub mod text;
mod workload;
mod yaml;

use answer::Deployment;
pub use field::Fault;
pub use yaml::SyntaxError;

/// More than this many bytes of one file are not read.
pub const FILE_LIMIT_BYTES: usize = 32 << 20;
/// More than this many bytes of all files are not read.
pub const TOTAL_LIMIT_BYTES: usize = 128 << 20;

/// The text of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// What the user calls it.
    pub name: String,
    /// What stands in it: YAML, or JSON where the name ends in `.json`.
    pub text: String,
}

/// What the manifests are held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How bad each finding is.
    pub severities: Severities,
    /// What a round trip between coderd and its database must stay below.
    pub budget: Duration,
}

/// A workload that runs something of Coder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Kind and name, like `Deployment coder/coder`.
    pub resource: String,
    /// What it runs: `coderd`, `proxy` or `provisioner`.
    pub role: &'static str,
    /// By what it was recognised.
    pub recognised_by: &'static str,
    /// How many; `None` where the cluster decides.
    pub replicas: Option<u32>,
    /// Where it is written.
    pub file: String,
}

/// Something that could not be judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unjudged {
    /// The finding that there may be.
    pub code: Code,
    /// How bad it would be.
    pub severity: Severity,
    /// What was not seen.
    pub text: String,
}

/// All that was seen and found.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    /// `fail`, `inconclusive` or `pass`.
    pub verdict: Verdict,
    /// What runs something of Coder.
    pub parts: Vec<Part>,
    /// What is wrong, the worst first.
    pub findings: Vec<TopologyFinding>,
    /// What could not be judged.
    pub unjudged: Vec<Unjudged>,
    /// Fields that are not what Kubernetes takes.
    pub faults: Vec<Fault>,
    /// How many resources were read, and how many of which kinds were of no interest.
    pub read: usize,
    /// See `read`.
    pub ignored: Vec<(String, usize)>,
    /// Resources that were given again later and do not count, with their files.
    pub replaced: Vec<String>,
}

impl Judged {
    /// 0 pass, 1 fail, 2 a resource cannot be read, 3 inconclusive; `warnings_too` is for gates that let no warning pass.
    pub fn exit_code(&self, warnings_too: bool) -> u8 {
        let least = if warnings_too { Severity::Warning } else { Severity::Fail };
        if !self.faults.is_empty() {
            2
        } else if self.findings.iter().any(|finding| finding.severity >= least) {
            1
        } else if self.verdict == Verdict::Inconclusive
            || self.unjudged.iter().any(|unjudged| unjudged.severity >= least)
        {
            3
        } else {
            0
        }
    }
}

/// Judges what is written in these files.
///
/// # Errors
/// When the text of one of them is not YAML, with line and column.
pub fn judge(sources: &[Source], settings: &Settings) -> Result<Judged, SyntaxError> {
    let mut facts = facts::Facts::default();
    for source in sources {
        yaml::documents(source, |document| facts.take(document, &source.name))?;
    }
    facts.settle();
    let deployment = Deployment::of(&facts, settings.budget);
    let (findings, unjudged) = answer::weighed(&deployment, &settings.severities);
    let fails = findings.iter().any(|finding| finding.severity == Severity::Fail);
    let unsure = unjudged.iter().any(|unjudged| unjudged.severity == Severity::Fail);
    let verdict = if fails {
        Verdict::Fail
    } else if deployment.coderd.is_empty() || !facts.faults.is_empty() || unsure {
        Verdict::Inconclusive
    } else {
        Verdict::Pass
    };
    let parts = deployment.parts();
    Ok(Judged {
        verdict,
        parts,
        findings,
        unjudged,
        read: facts.read,
        ignored: facts.ignored.into_iter().collect(),
        replaced: facts.replaced,
        faults: facts.faults,
    })
}
