//! How a running agent is asked.

use probes::http::HttpUrl;

use super::{ConfigError, WEB, fault, read};
use crate::cli::AskArgs;
use crate::client;

/// The agent of this name, which may be a whole address.
pub fn ask(agent: &str, args: &AskArgs) -> Result<client::Settings, ConfigError> {
    let named = agent.trim_end_matches('/');
    let text = match named.split_once("://") {
        Some(_) => named.to_owned(),
        None => {
            let address = probes::HostPort::parse(named, Some(WEB.port()));
            format!("http://{}", address.map_err(|error| fault("AGENT", error))?)
        }
    };
    text.parse::<HttpUrl>().map_err(|error| fault("AGENT", error))?;
    let token = match &args.web_token_file {
        // A variable that a template leaves empty is one that is not set.
        Some(path) if !path.as_os_str().is_empty() => {
            let token = read("--web-token-file", path)?;
            let token = token.lines().next().unwrap_or_default().trim().to_owned();
            if token.is_empty() || token.contains(|c: char| !c.is_ascii_graphic()) {
                let cause = "its first line is no token: printable characters without a space";
                return Err(fault(format!("--web-token-file {}", path.display()), cause));
            }
            Some(token)
        }
        _ => None,
    };
    Ok(client::Settings { agent: text, token, ca: args.web_ca.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_is_a_host_a_host_and_port_or_an_address() {
        for (given, asked) in [
            ("coderd-1", "http://coderd-1:9863"),
            ("10.0.0.7:80", "http://10.0.0.7:80"),
            ("[::1]", "http://[::1]:9863"),
            ("https://probe.example.com/mesh/", "https://probe.example.com/mesh"),
        ] {
            assert_eq!(ask(given, &AskArgs::default()).unwrap().agent, asked);
        }
        for wrong in ["ftp://a", "a:0", "http://u:hunter2@a"] {
            let error = ask(wrong, &AskArgs::default()).unwrap_err().to_string();
            assert!(error.starts_with("AGENT: ") && !error.contains("hunter2"), "{error}");
        }
    }
}
