//! What to do about a target, by the reason of its verdict.

use probes::sample::Reason as Failed;
use probes::target::Kind;

use super::percent;
use crate::mesh::cause::Reason;
use crate::mesh::peer::Link;
use crate::mesh::verdict::{Judgement, Rule};
use crate::mesh::window::View;

/// The next step for whoever reads the report.
pub(super) fn hint(link: &Link, view: &View<'_>, judgement: &Judgement, rule: &Rule) -> Option<String> {
    let text = match judgement.reason() {
        Reason::WithinBudget | Reason::NoBudget | Reason::Reachable => return None,
        Reason::Floor | Reason::Placement | Reason::RouteChange | Reason::Margin => {
            "the two are too far apart: put them into one region, or look for a detour (VPN, proxy, firewall) on the way"
        }
        Reason::Jitter | Reason::Tail => {
            "the way is short enough but not steady: look for a saturated link, CPU limits or a noisy neighbour"
        }
        Reason::Loss | Reason::Recovering => {
            "look for an overloaded link, a full connection-tracking table or a firewall that drops on the way"
        }
        Reason::Server if link.kind == Kind::Peer => {
            "the agent at the other end gets too little CPU: give it some (no CPU limit) and run it again"
        }
        Reason::Server => {
            "the time is spent in PostgreSQL, not in the network: look at its CPU, locks and disk"
        }
        Reason::ServerOrProxy => {
            "the network to what accepts the connection is fast enough: look at the server's CPU (starved backends answer late) and at poolers or proxies before it"
        }
        Reason::Borderline => {
            "too close to the budget to tell: give it longer with --time-limit or --thorough"
        }
        Reason::SelfNoise => {
            "this machine was too busy to measure: give the probe CPU (no CPU limit) and run it again"
        }
        Reason::TooFewSamples => {
            return Some(format!(
                "a pass at p{} needs at least {} clean round trips, {} were measured: give it longer with --time-limit",
                percent(rule.quantile),
                rule.fewest_to_pass(),
                view.judged()
            ));
        }
        Reason::NoReply(failed) => match (failed, link.kind) {
            (Failed::Resolve, _) => "check the spelling of the name and this machine's DNS",
            (Failed::Unreachable | Failed::Timeout, Kind::Peer) => {
                "check that `probe agent` runs there and that UDP to its port is allowed (firewall, NetworkPolicy)"
            }
            (Failed::Refused, Kind::Peer) => "check that `probe agent` runs there and listens on this port",
            (Failed::Auth, Kind::Peer) => {
                "give both agents the same mesh secret (PROBE_MESH_SECRET_FILE), or certificates of one CA"
            }
            (Failed::Unreachable | Failed::Timeout, _) => {
                "check the address and that TCP to this port is allowed (firewall, NetworkPolicy, security group)"
            }
            (Failed::Refused, _) => "check that the server runs and listens on this address and port",
            (Failed::Auth, _) => {
                "check user and password in the connection string, and the server's pg_hba.conf"
            }
            (Failed::Standby, _) => {
                "point the connection string at the primary, or at a name that follows it"
            }
            (Failed::Pooled, _) => "connect to PostgreSQL itself, or through a pooler that keeps sessions",
            (Failed::Database, _) => {
                "check the database's name in the connection string, and the role's rights on it"
            }
            (Failed::Tls, Kind::Postgres) => "check sslmode and sslrootcert in the connection string",
            (Failed::Tls, _) => {
                "check the CA (--http-ca) and the name (--http-sni) that the certificate is for"
            }
            (Failed::ConnectionsLow, _) => {
                "raise max_connections or close idle connections, then run it again"
            }
            (Failed::Password, _) => {
                "run the password command by hand as this user, or look into the password file: a token may need credentials"
            }
            (Failed::Closed | Failed::Left, _) => {
                "the other side ended the connection: see its log for a restart or a crash"
            }
            (Failed::Status, _) => "ask the server's log why it does not answer with success",
            (Failed::NoRelay, _) => "set CODER_DERP_SERVER_ENABLE to true, unless it is false on purpose",
            (Failed::Protocol, _) => "check that the address is that of the kind of server that was named",
            (Failed::Local, _) => {
                "this machine refused: check open files (ulimit -n), permissions and local firewall"
            }
        },
    };
    Some(text.to_owned())
}
