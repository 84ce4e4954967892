//! One name, asked of the name servers: what it has now, or why that cannot be told.
//!
//! «There is nothing» and «I cannot tell» are different answers. Only NOERROR and NXDOMAIN of a server that answers for
//! the name say the first. The search list is walked here and not by the resolver: that one says of a list whatever its
//! last name said, so a server failing for the right name would come out as NXDOMAIN for a wrong one.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::Servers;

/// Aliases of aliases end somewhere; what is longer is a loop.
const LONGEST_CHAIN: usize = 8;

/// What keeps a name server from telling. The texts hold nothing that changes from one try to the next.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Failure {
    /// A code that is neither NOERROR nor NXDOMAIN.
    #[error("the name server answers {0}")]
    Code(String),
    /// Silence.
    #[error("no name server answers")]
    Silence,
    /// Cut short over UDP, and TCP does not bring the rest.
    #[error("the answer is cut short, and TCP does not bring the rest: is TCP port 53 open?")]
    CutShort,
    /// Nothing but the names of other servers.
    #[error("the name server does not answer for this name and refers to others")]
    Referral,
    /// The system's configuration.
    #[error("no name server is configured: {0}")]
    Configuration(String),
    /// Not a name.
    #[error("not a name in DNS: {0}")]
    Name(String),
    /// Everything else.
    #[error("the name server cannot be asked: {0}")]
    Other(String),
}

/// One record, without what is of no use here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    Address(IpAddr),
    Service { target: String, port: u16 },
    Alias(String),
}

/// All records of one type; none is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) facts: BTreeSet<Fact>,
    /// As long as this holds, by the server's account.
    pub(super) ttl: Option<Duration>,
}

/// What came of a name: one answer or failure a type.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) by_type: BTreeMap<RecordType, Result<Answer, Failure>>,
    /// The full name that has records, which is asked first the next time.
    pub(super) settled: Option<Name>,
}

/// Asks name servers.
pub(super) struct Asker {
    resolver: TokioResolver,
    search: Vec<Name>,
    ndots: usize,
    limit: Duration,
}

impl Asker {
    /// `limit` is how long an answer is waited for, with all repetitions.
    pub(super) fn new(servers: Option<&Servers>, limit: Duration) -> Result<Self, Failure> {
        let broken = |error: NetError| Failure::Configuration(error.to_string());
        let (config, mut options) = match servers {
            None => read_system_conf().map_err(broken)?,
            Some(servers) => given(servers)?,
        };
        options.timeout = limit / 2;
        options.attempts = 1;
        let (domain, mut search, servers) = config.into_parts();
        if search.is_empty() {
            search.extend(domain);
        }
        let ndots = options.ndots;
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options);
        builder.options_mut().preserve_intermediates = true;
        Ok(Self { resolver: builder.build().map_err(broken)?, search, ndots, limit })
    }

    /// What was heard before is not believed any more.
    pub(super) fn forget(&self) {
        self.resolver.clear_cache();
    }

    /// Asks for records of these types, along the search list until a name has any. The name that had some before is
    /// asked first: while it fails nobody else is asked, and where it has none no failure of the others counts.
    pub(super) async fn ask(&self, host: &str, types: &[RecordType], settled: Option<&Name>) -> Asked {
        let of_all = |result: &Result<Answer, Failure>| types.iter().map(|t| (*t, result.clone())).collect();
        let candidates = match self.candidates(host) {
            Ok(candidates) => candidates,
            Err(failure) => return Asked { by_type: of_all(&Err(failure)), settled: None },
        };
        let mut nothing = None;
        let mut failed = None;
        for candidate in settled.into_iter().chain(candidates.iter().filter(|name| Some(*name) != settled)) {
            let mut by_type = BTreeMap::new();
            for (kind, answer) in self.all(candidate, types).await {
                by_type.insert(kind, answer);
            }
            let has_records = |answer: &Result<Answer, Failure>| {
                answer.as_ref().is_ok_and(|answer| !answer.facts.is_empty())
            };
            let is_settled = settled == Some(candidate);
            if by_type.values().any(has_records) {
                return Asked { by_type, settled: Some(candidate.clone()) };
            }
            if by_type.values().any(Result::is_err) {
                if is_settled {
                    return Asked { by_type, settled: settled.cloned() };
                }
                failed.get_or_insert(by_type);
            } else if nothing.is_none() {
                // A name that had members and says that it has none any more is believed, whatever becomes of the rest.
                nothing = Some((by_type, is_settled));
            }
        }
        let by_type = match (nothing, failed) {
            (Some((by_type, true)), _) | (Some((by_type, false)), None) => by_type,
            (_, Some(by_type)) => by_type,
            (None, None) => of_all(&Err(Failure::Silence)),
        };
        Asked { by_type, settled: settled.cloned() }
    }

    /// The names that this one is an alias of, nearest first.
    pub(super) async fn aliases(&self, host: &str) -> Result<Vec<String>, Failure> {
        let mut chain = Vec::new();
        let mut host = host.to_owned();
        while chain.len() < LONGEST_CHAIN {
            let mut asked = self.ask(&host, &[RecordType::CNAME], None).await;
            let answer = asked.by_type.remove(&RecordType::CNAME).unwrap_or(Err(Failure::Silence))?;
            let Some(Fact::Alias(next)) = answer.facts.into_iter().next() else { break };
            if chain.contains(&next) {
                break;
            }
            host = format!("{next}.");
            chain.push(next);
        }
        Ok(chain)
    }

    /// The full names that a host may mean, in the order in which they are tried.
    fn candidates(&self, host: &str) -> Result<Vec<Name>, Failure> {
        let name = Name::from_ascii(host).map_err(|error| Failure::Name(error.to_string()))?;
        let mut full = name.clone();
        full.set_fqdn(true);
        if name.is_fqdn() {
            return Ok(vec![full]);
        }
        let searched = self.search.iter().filter_map(|domain| {
            let mut name = name.clone().append_domain(domain).ok()?;
            name.set_fqdn(true);
            Some(name)
        });
        let full_first = usize::from(name.num_labels()).saturating_sub(1) >= self.ndots;
        let mut names: Vec<Name> = searched.collect();
        names.insert(if full_first { 0 } else { names.len() }, full);
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        Ok(names)
    }

    async fn all(&self, name: &Name, types: &[RecordType]) -> Vec<(RecordType, Result<Answer, Failure>)> {
        match types {
            [a, b] => {
                let (first, second) = tokio::join!(self.lookup(name, *a), self.lookup(name, *b));
                vec![(*a, first), (*b, second)]
            }
            types => {
                let mut answers = Vec::new();
                for kind in types {
                    answers.push((*kind, self.lookup(name, *kind).await));
                }
                answers
            }
        }
    }

    async fn lookup(&self, name: &Name, kind: RecordType) -> Result<Answer, Failure> {
        match tokio::time::timeout(self.limit, self.resolver.lookup(name.clone(), kind)).await {
            Err(_) => Err(Failure::Silence),
            Ok(Ok(found)) => Ok(facts(name, kind, found.answers())),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(nothing)))) => match nothing.response_code {
                ResponseCode::NoError | ResponseCode::NXDomain => {
                    // A resolver never refers; a server that does knows nothing of the name.
                    if nothing.ns.is_some() && nothing.soa.is_none() {
                        return Err(Failure::Referral);
                    }
                    let ttl = nothing.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
                    Ok(Answer { facts: BTreeSet::new(), ttl })
                }
                code => Err(Failure::Code(code_word(code))),
            },
            Ok(Err(NetError::Dns(DnsError::ResponseCode(code)))) => Err(Failure::Code(code_word(code))),
            Ok(Err(NetError::Timeout)) => Err(Failure::Silence),
            Ok(Err(NetError::Truncated)) => Err(Failure::CutShort),
            Ok(Err(error)) => Err(Failure::Other(error.to_string())),
        }
    }
}

fn code_word(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        ResponseCode::Unknown(number) => format!("code {number}"),
        code => code.to_str().to_owned(),
    }
}

fn given(servers: &Servers) -> Result<(ResolverConfig, ResolverOpts), Failure> {
    let mut search = Vec::new();
    for domain in &servers.search {
        search.push(Name::from_ascii(domain).map_err(|error| Failure::Configuration(error.to_string()))?);
    }
    let at = |address: &SocketAddr| {
        let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
            connection.port = address.port();
            connection
        });
        NameServerConfig::new(address.ip(), true, connections.to_vec())
    };
    let config = ResolverConfig::from_parts(None, search, servers.addresses.iter().map(at).collect());
    let mut options = ResolverOpts::default();
    options.ndots = servers.ndots;
    options.use_hosts_file = ResolveHosts::Never;
    Ok((config, options))
}

/// The facts about this name among the records: its own and those of what it is an alias of. Others were not asked for.
fn facts(name: &Name, kind: RecordType, records: &[Record]) -> Answer {
    let mut owners = BTreeSet::from([name.clone()]);
    for _ in 0..LONGEST_CHAIN {
        let aliases = records.iter().filter(|record| owners.contains(&record.name));
        let targets: Vec<_> = aliases
            .filter_map(|record| match &record.data {
                RData::CNAME(target) => Some(target.0.clone()),
                _ => None,
            })
            .collect();
        owners.extend(targets);
    }
    let mut answer = Answer { facts: BTreeSet::new(), ttl: None };
    for record in records.iter().filter(|record| owners.contains(&record.name)) {
        let ttl = Duration::from_secs(record.ttl.into());
        answer.ttl = Some(answer.ttl.map_or(ttl, |shortest| shortest.min(ttl)));
        if record.record_type() != kind {
            continue;
        }
        answer.facts.extend(match &record.data {
            RData::A(address) => Some(Fact::Address(IpAddr::V4(address.0))),
            RData::AAAA(address) => Some(Fact::Address(IpAddr::V6(address.0))),
            // The root as a target says that the service is not offered, and no port is 0.
            RData::SRV(service) if !service.target.is_root() && service.port > 0 => {
                Some(Fact::Service { target: plain(&service.target), port: service.port })
            }
            RData::CNAME(target) => Some(Fact::Alias(plain(&target.0))),
            _ => None,
        });
    }
    answer
}

/// Without the last dot, in small letters.
fn plain(name: &Name) -> String {
    let text = name.to_lowercase().to_ascii();
    text.strip_suffix('.').unwrap_or(&text).to_owned()
}
