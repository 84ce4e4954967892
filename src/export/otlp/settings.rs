//! OpenTelemetry's standard variables, read once. What cannot be used is said, and never guessed.
//!
//! Two kinds of faults: a malformed value is a warning and counts as not set, as the specification has it; where that
//! would send figures to another place than was meant, or in the open, the signal is off and the fault an error.

use std::path::PathBuf;
use std::time::Duration;

mod endpoint;
mod pairs;
mod unused;
mod values;

pub use endpoint::Endpoint;
pub use pairs::Headers;

/// Where every signal goes unless it says otherwise.
const HTTP_ENDPOINT: &str = "http://localhost:4318";
const GRPC_ENDPOINT: &str = "http://localhost:4317";
const TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(60);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(30);
/// More often would harm whoever receives.
const INTERVAL_AT_LEAST: Duration = Duration::from_millis(100);
/// More seldom is not at all.
const INTERVAL_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// Whoever has not answered until then has forgotten the question.
pub const TIMEOUT_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// What is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Figures.
    Metrics,
    /// Events.
    Logs,
}

impl Signal {
    /// As it is called in messages and in the label `signal`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    fn in_variables(self) -> &'static str {
        match self {
            Self::Metrics => "METRICS",
            Self::Logs => "LOGS",
        }
    }
}

/// How the receiver is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// POST of protobuf.
    HttpProtobuf,
    /// gRPC.
    Grpc,
}

/// What counters and histograms count from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Temporality {
    /// From their beginning on.
    #[default]
    Cumulative,
    /// From the last export on that arrived.
    Delta,
    /// As `Delta`, but for what is read from the system.
    LowMemory,
}

/// The buckets of histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Buckets {
    /// With our edges, the budgets among them.
    #[default]
    Explicit,
    /// Base-2 exponential.
    Exponential,
}

/// Files for TLS, read at each new connection, so that renewed ones are found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The authorities; the system's where it is not given.
    pub authorities: Option<PathBuf>,
    /// Our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// How one signal is handed over.
#[derive(Debug, Clone, PartialEq)]
pub struct Delivery {
    /// How.
    pub protocol: Protocol,
    /// Where to.
    pub endpoint: Endpoint,
    /// What is sent along.
    pub headers: Headers,
    /// For everything from the connect to the last byte of the answer.
    pub timeout: Duration,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// For `https`.
    pub tls: TlsFiles,
}

/// All of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// `None`: metrics are not exported.
    pub metrics: Option<Delivery>,
    /// `None`: events are not exported.
    pub logs: Option<Delivery>,
    /// Between two exports of metrics.
    pub interval: Duration,
    /// For one export of metrics with everything that belongs to it.
    pub export_timeout: Duration,
    /// What counters count from.
    pub temporality: Temporality,
    /// Which buckets histograms have.
    pub buckets: Buckets,
    /// `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`: they win over what we know ourselves.
    pub attributes: Vec<(String, String)>,
}

/// What is to be said of the variables. No header's value is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Something is not as it was asked for.
    Warning(String),
    /// A signal is off that was asked for.
    Error(String),
}

/// A look-up of environment variables.
type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads everything.
pub fn read(env: Environment<'_>) -> (Settings, Vec<Notice>) {
    let mut reader = Reader { env, notices: Vec::new() };
    let disabled = reader.truth("OTEL_SDK_DISABLED");
    let mut settings = Settings {
        metrics: None,
        logs: None,
        interval: INTERVAL,
        export_timeout: EXPORT_TIMEOUT,
        temporality: Temporality::default(),
        buckets: Buckets::default(),
        attributes: Vec::new(),
    };
    if disabled {
        return (settings, reader.notices);
    }
    reader.say_what_is_not_used();
    settings.metrics = reader.delivery(Signal::Metrics);
    settings.logs = reader.delivery(Signal::Logs);
    if settings.metrics.is_none() && settings.logs.is_none() {
        return (settings, reader.notices);
    }
    reader.say_what_is_not_used_of_exports();
    let interval = "OTEL_METRIC_EXPORT_INTERVAL";
    if let Some(value) = reader.get(interval) {
        let within = INTERVAL_AT_LEAST..=INTERVAL_AT_MOST;
        settings.interval = reader.milliseconds(interval, &value, &within).unwrap_or(INTERVAL);
    }
    let timeout = "OTEL_METRIC_EXPORT_TIMEOUT";
    if let Some(value) = reader.get(timeout) {
        settings.export_timeout = reader.timeout(timeout, &value).unwrap_or(EXPORT_TIMEOUT);
    }
    let preference = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    settings.temporality = reader
        .word(preference, |word| match word {
            "cumulative" => Some(Temporality::Cumulative),
            "delta" => Some(Temporality::Delta),
            "lowmemory" => Some(Temporality::LowMemory),
            _ => None,
        })
        .unwrap_or_default();
    settings.buckets = reader
        .word("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", |word| match word {
            "explicit_bucket_histogram" => Some(Buckets::Explicit),
            "base2_exponential_bucket_histogram" => Some(Buckets::Exponential),
            _ => None,
        })
        .unwrap_or_default();
    settings.attributes = reader.attributes();
    (settings, reader.notices)
}

struct Reader<'a> {
    env: Environment<'a>,
    notices: Vec<Notice>,
}

impl Reader<'_> {
    /// An empty variable is one that is not set.
    fn get(&self, name: &str) -> Option<String> {
        (self.env)(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty())
    }

    /// The signal's own variable before the one for all, with the name of the one that was found.
    fn of(&self, signal: Signal, what: &str) -> Option<(String, String)> {
        let names = [
            format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.in_variables()),
            format!("OTEL_EXPORTER_OTLP_{what}"),
        ];
        names.into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn warn(&mut self, name: &str, value: &str, why: &str) {
        self.notices.push(Notice::Warning(format!("{name}={value}: {why}")));
    }

    /// Whether this signal is asked for: by name, or by an endpoint. `OTEL_TRACES_EXPORTER` is nobody's business here.
    fn wanted(&mut self, signal: Signal) -> bool {
        let has_endpoint = self.of(signal, "ENDPOINT").is_some();
        let name = format!("OTEL_{}_EXPORTER", signal.in_variables());
        let Some(list) = self.get(&name) else { return has_endpoint };
        let (mut otlp, mut others) = (false, false);
        for word in
            list.split(',').map(|word| word.trim().to_ascii_lowercase()).filter(|word| !word.is_empty())
        {
            match word.as_str() {
                "otlp" => otlp = true,
                "none" => others = true,
                // That page is always there.
                "prometheus" if signal == Signal::Metrics => others = true,
                "console" | "logging" => {
                    others = true;
                    self.warn(&name, &word, "this agent has no such exporter; events are in its log anyway");
                }
                _ => self.warn(&name, &word, "not a known exporter: it is otlp or none"),
            }
        }
        otlp || (has_endpoint && !others)
    }

    fn delivery(&mut self, signal: Signal) -> Option<Delivery> {
        if !self.wanted(signal) {
            return None;
        }
        let protocol = self.protocol(signal);
        let endpoint = self.endpoint(signal, protocol);
        let tls = self.tls(signal);
        let headers = match self.of(signal, "HEADERS") {
            Some((name, list)) => {
                let (headers, notices) = Headers::parse(&name, &list);
                self.notices.extend(notices.into_iter().map(Notice::Warning));
                headers
            }
            None => Headers::default(),
        };
        let timeout = self.of(signal, "TIMEOUT").and_then(|(name, value)| self.timeout(&name, &value));
        let gzip = match self.of(signal, "COMPRESSION") {
            Some((_, value)) if value.eq_ignore_ascii_case("gzip") => true,
            Some((_, value)) if value.eq_ignore_ascii_case("none") => false,
            Some((name, value)) => {
                self.warn(&name, &value, "neither gzip nor none; nothing is compressed");
                false
            }
            None => false,
        };
        let (Ok(endpoint), Ok(tls)) = (endpoint, tls) else { return None };
        if !endpoint.is_tls() && tls != TlsFiles::default() {
            let text = format!(
                "{} goes to {endpoint} without TLS: the certificates that are given for it are not used; write https:// to use them",
                signal.as_str()
            );
            self.notices.push(Notice::Warning(text));
        }
        Some(Delivery { protocol, endpoint, headers, timeout: timeout.unwrap_or(TIMEOUT), gzip, tls })
    }

    fn protocol(&mut self, signal: Signal) -> Protocol {
        let Some((name, value)) = self.of(signal, "PROTOCOL") else { return Protocol::HttpProtobuf };
        match value.to_ascii_lowercase().as_str() {
            "grpc" => Protocol::Grpc,
            "http/protobuf" => Protocol::HttpProtobuf,
            "http/json" => {
                self.warn(&name, &value, "this agent does not write JSON; http/protobuf is used, which every receiver on that port reads");
                Protocol::HttpProtobuf
            }
            _ => {
                self.warn(&name, &value, "neither grpc nor http/protobuf; http/protobuf is used");
                Protocol::HttpProtobuf
            }
        }
    }

    fn endpoint(&mut self, signal: Signal, protocol: Protocol) -> Result<Endpoint, ()> {
        let insecure = match self.of(signal, "INSECURE") {
            Some((name, _)) if protocol == Protocol::Grpc => self.truth(&name),
            Some((name, value)) => {
                self.warn(
                    &name,
                    &value,
                    "not used over HTTP; the endpoint's scheme says whether there is TLS",
                );
                false
            }
            None => false,
        };
        let own = self.get(&format!("OTEL_EXPORTER_OTLP_{}_ENDPOINT", signal.in_variables()));
        let (name, value) = self.of(signal, "ENDPOINT").unwrap_or_else(|| {
            let usual = if protocol == Protocol::Grpc { GRPC_ENDPOINT } else { HTTP_ENDPOINT };
            ("OTEL_EXPORTER_OTLP_ENDPOINT".to_owned(), usual.to_owned())
        });
        let parsed = match protocol {
            Protocol::Grpc => Endpoint::of_grpc(&value, insecure),
            Protocol::HttpProtobuf if own.is_some() => Endpoint::of_http(&value, ""),
            Protocol::HttpProtobuf => Endpoint::of_http(&value, &format!("v1/{}", signal.as_str())),
        };
        parsed.map_err(|why| {
            let text = format!("{name}: {why}; no {} are exported", signal.as_str());
            self.notices.push(Notice::Error(text));
        })
    }

    fn tls(&mut self, signal: Signal) -> Result<TlsFiles, ()> {
        let path = |what| self.of(signal, what).map(|(_, path)| PathBuf::from(path));
        let (authorities, certificate, key) =
            (path("CERTIFICATE"), path("CLIENT_CERTIFICATE"), path("CLIENT_KEY"));
        let missing = match (&certificate, &key) {
            (Some(_), None) => Some("CLIENT_KEY"),
            (None, Some(_)) => Some("CLIENT_CERTIFICATE"),
            _ => None,
        };
        if let Some(missing) = missing {
            let text = format!(
                "OTEL_EXPORTER_OTLP_{missing} is missing: a client certificate and its key go together; no {} are exported",
                signal.as_str()
            );
            self.notices.push(Notice::Error(text));
            return Err(());
        }
        Ok(TlsFiles { authorities, client: certificate.zip(key) })
    }

    fn attributes(&mut self) -> Vec<(String, String)> {
        let mut attributes = Vec::new();
        if let Some(list) = self.get("OTEL_RESOURCE_ATTRIBUTES") {
            match pairs::attributes(&list) {
                Ok(read) => attributes = read,
                Err(why) => {
                    self.warn("OTEL_RESOURCE_ATTRIBUTES", &list, &format!("{why}; none of it is used"));
                }
            }
        }
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            attributes.retain(|(key, _)| key != "service.name");
            attributes.push(("service.name".to_owned(), name));
        }
        attributes
    }
}

#[cfg(test)]
mod tests;
