//! Asks a running agent, over its HTTP API. What it answers is read as data and shown as it is.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use probes::http::{HttpProbe, HttpUrl, HttpUrlError, Wish};
use probes::sample::{Failure, Reason};
use probes::tls::{TlsError, Trust, client_config};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::export::api::SCHEMA_VERSION;

const DEADLINE: Duration = Duration::from_secs(10);
/// A mesh of hundreds of agents is a few megabytes.
const LONGEST: usize = 64 * 1024 * 1024;

/// Who is asked, and how.
#[derive(Clone)]
pub struct Settings {
    /// Where the API begins, without a slash at its end.
    pub agent: String,
    /// What it asks for.
    pub token: Option<String>,
    /// Authorities of its certificate.
    pub ca: Option<PathBuf>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("agent", &self.agent).field("ca", &self.ca).finish_non_exhaustive()
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It cannot be asked like that.
    #[error("{0}")]
    Address(#[from] HttpUrlError),
    /// Its certificate cannot be looked at.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// It asks for a token, or for another one.
    #[error(
        "{agent} asks for another token: give the file of its --web-token-file as --web-token-file or PROBE_WEB_TOKEN_FILE"
    )]
    Token {
        /// Who.
        agent: String,
    },
    /// It does not answer.
    #[error(
        "{agent} does not answer {path}: {failure}; is an agent there, and does its --web let others in?"
    )]
    Silent {
        /// Who.
        agent: String,
        /// To what.
        path: String,
        /// Why.
        failure: Failure,
    },
    /// What it answers is not an agent's answer.
    #[error("{agent} answers {path} with something else than an agent of this version does: {cause}")]
    Foreign {
        /// Who.
        agent: String,
        /// To what.
        path: String,
        /// What is wrong with it.
        cause: String,
    },
}

#[derive(Deserialize)]
struct Version {
    schema_version: u32,
}

/// The answer to `GET` of this path, for example `/api/v1/matrix`, as it came.
pub async fn text(settings: &Settings, path: &str) -> Result<String, AskError> {
    let agent = settings.agent.clone();
    let url: HttpUrl = format!("{agent}{path}").parse()?;
    let trust = if url.is_tls() { Trust::ChainAndName } else { Trust::Nothing };
    let tls = client_config(trust, settings.ca.as_deref().filter(|_| url.is_tls()), None)?;
    let probe = HttpProbe::new(url, None, Arc::new(tls));
    let wish = Wish { accept: "application/json", bearer: settings.token.as_deref() };
    let mut bytes = Vec::new();
    let read = probe.read(wish, DEADLINE, LONGEST, |piece| bytes.extend_from_slice(piece)).await;
    read.map_err(|failure| match failure.reason {
        Reason::Status if failure.detail.ends_with("401 Unauthorized") => {
            AskError::Token { agent: agent.clone() }
        }
        _ => AskError::Silent { agent: agent.clone(), path: path.to_owned(), failure },
    })?;
    String::from_utf8(bytes).map_err(|_| AskError::Foreign {
        agent,
        path: path.to_owned(),
        cause: "it is no text".to_owned(),
    })
}

/// The same as a document.
pub async fn get<D: DeserializeOwned>(settings: &Settings, path: &str) -> Result<D, AskError> {
    let text = text(settings, path).await?;
    parse(&text).map_err(|cause| AskError::Foreign {
        agent: settings.agent.clone(),
        path: path.to_owned(),
        cause,
    })
}

fn parse<D: DeserializeOwned>(text: &str) -> Result<D, String> {
    let told = serde_json::from_str::<Version>(text).map_err(|error| error.to_string())?.schema_version;
    if told != SCHEMA_VERSION {
        return Err(format!("its schema_version is {told}, and {SCHEMA_VERSION} is understood here"));
    }
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_schema_version_is_told_before_anything_else_is_read() {
        let read = |text: &str| parse::<crate::export::api::findings::Document>(text).map(|_| ());
        let ours =
            format!(r#"{{"schema_version":{SCHEMA_VERSION},"generated_at":"x","findings":[],"more":1}}"#);
        assert_eq!(read(&ours), Ok(()), "what is added within a version is read over");
        assert!(read(r#"{"schema_version":99}"#).unwrap_err().contains("99"));
        assert!(read("<html>").is_err());
    }

    #[test]
    fn a_token_is_in_no_debug_line() {
        let settings = Settings { agent: "http://a".into(), token: Some("hunter2".into()), ca: None };
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
}
