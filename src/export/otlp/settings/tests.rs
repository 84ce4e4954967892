//! The standard variables, as a table.

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

fn of(pairs: Variables<'_>) -> (Settings, Vec<Notice>) {
    read(&|name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
}

fn quiet(pairs: &[(&str, &str)]) -> Settings {
    let (settings, notices) = of(pairs);
    assert_eq!(notices, [], "{pairs:?}");
    settings
}

const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");

fn is_on(settings: &Settings) -> (bool, bool) {
    (settings.metrics.is_some(), settings.logs.is_some())
}

#[test]
fn a_signal_is_exported_where_somebody_asks_for_it() {
    let cases: &[(Variables<'_>, (bool, bool))] = &[
        (&[], (false, false)),
        (&[ENDPOINT], (true, true)),
        (&[("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://collector/in")], (false, true)),
        (&[("OTEL_METRICS_EXPORTER", "otlp")], (true, false)),
        (&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "none")], (false, true)),
        (&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "prometheus")], (false, true)),
        (&[ENDPOINT, ("OTEL_METRICS_EXPORTER", "Prometheus, OTLP")], (true, true)),
        (&[ENDPOINT, ("OTEL_SDK_DISABLED", "TRUE")], (false, false)),
        (&[ENDPOINT, ("OTEL_SDK_DISABLED", "")], (true, true)),
    ];
    for (pairs, expected) in cases {
        assert_eq!(is_on(&quiet(pairs)), *expected, "{pairs:?}");
    }
    let (settings, notices) = of(&[ENDPOINT, ("OTEL_LOGS_EXPORTER", "console")]);
    assert_eq!((is_on(&settings), notices.len()), ((true, false), 1), "asked for something else");
    let (settings, notices) = of(&[ENDPOINT, ("OTEL_LOGS_EXPORTER", "otpl")]);
    assert_eq!((is_on(&settings), notices.len()), ((true, true), 1), "a misspelt word counts as not set");
}

#[test]
fn the_endpoint_is_the_one_that_the_specification_says() {
    let cases: &[(Variables<'_>, &str, &str)] = &[
        (&[ENDPOINT], "http://collector:4318/v1/metrics", "http://collector:4318/v1/logs"),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example/otlp/")],
            "https://c.example/otlp/v1/metrics",
            "https://c.example/otlp/v1/logs",
        ),
        (
            &[ENDPOINT, ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m:9/api")],
            "http://m:9/api",
            "http://collector:4318/v1/logs",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[fd00::1]:4318")],
            "http://[fd00::1]:4318/v1/metrics",
            "http://[fd00::1]:4318/v1/logs",
        ),
        (
            &[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_LOGS_EXPORTER", "otlp")],
            "http://localhost:4318/v1/metrics",
            "http://localhost:4318/v1/logs",
        ),
        (
            &[
                ("OTEL_METRICS_EXPORTER", "otlp"),
                ("OTEL_LOGS_EXPORTER", "otlp"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ],
            "http://localhost:4317",
            "http://localhost:4317",
        ),
        (
            &[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317")],
            "https://c:4317",
            "https://c:4317",
        ),
        (
            &[
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "c"),
                ("OTEL_EXPORTER_OTLP_INSECURE", "true"),
                ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "false"),
            ],
            "http://c",
            "https://c",
        ),
    ];
    for (pairs, metrics, logs) in cases {
        let settings = quiet(pairs);
        let shown = |delivery: &Option<Delivery>| delivery.as_ref().unwrap().endpoint.to_string();
        assert_eq!((shown(&settings.metrics), shown(&settings.logs)), ((*metrics).into(), (*logs).into()));
    }
    let bracketed = quiet(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://[fd00::1]:4318")]).metrics.unwrap();
    assert_eq!((bracketed.endpoint.host(), bracketed.endpoint.port()), ("fd00::1", 4318));
    let query = quiet(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "https://c?key=geheim")]).metrics.unwrap();
    assert_eq!(query.endpoint.uri().query(), Some("key=geheim"));
    assert!(!format!("{query:?}").contains("geheim"), "{query:?}");
    assert_eq!(query.endpoint.port(), 443);
}

#[test]
fn an_endpoint_that_is_no_url_turns_its_signal_off_and_shows_no_password() {
    for bad in [
        "collector",
        "collector:4318",
        "unix:///run/x",
        "http://",
        "http://:4318",
        "http://c:port",
        "http://c:99999",
        "http://a b",
        "http://name:geheim@c:4318",
        "name:geheim@c",
        "ftp://c?key=geheim",
    ] {
        let (settings, notices) = of(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", bad), ENDPOINT]);
        assert_eq!(is_on(&settings), (false, true), "{bad}");
        let [Notice::Error(text)] = notices.as_slice() else { panic!("{bad}: {notices:?}") };
        assert!(text.starts_with("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "), "{text}");
        assert!(!text.contains("geheim"), "{text}");
    }
}

#[test]
fn a_malformed_value_is_a_warning_with_name_and_value_and_counts_as_not_set() {
    let usual = quiet(&[ENDPOINT]);
    for (name, value) in [
        ("OTEL_SDK_DISABLED", "maybe"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "60s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "0"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "drop"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1.5"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/xml"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
    ] {
        let (settings, notices) = of(&[ENDPOINT, (name, value)]);
        assert_eq!(settings, usual, "{name}={value}");
        let [Notice::Warning(text)] = notices.as_slice() else { panic!("{name}={value}: {notices:?}") };
        assert!(text.starts_with(&format!("{name}={value}: ")), "{text}");
    }
}

#[test]
fn a_known_variable_that_is_not_used_is_said_with_what_is_used_instead() {
    for (name, value, instead) in [
        ("OTEL_CONFIG_FILE", "/etc/otel.yaml", "docs/otlp.md"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "9464", "--web"),
        ("OTEL_BLRP_EXPORT_TIMEOUT", "1000", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "1", "--event-spool"),
        ("OTEL_LOG_LEVEL", "debug", "PROBE_LOG"),
        ("OTEL_EXPORTER_OTLP_LOGS_INSECURE", "true", "scheme"),
    ] {
        let (settings, notices) = of(&[ENDPOINT, (name, value)]);
        assert_eq!(is_on(&settings), (true, true));
        let [Notice::Warning(text)] = notices.as_slice() else { panic!("{name}: {notices:?}") };
        assert!(text.starts_with(&format!("{name}={value}: ")) && text.contains(instead), "{text}");
    }
    let file = ("OTEL_CONFIG_FILE", "/etc/otel.yaml");
    assert_eq!(of(&[file]).1.len(), 1, "whoever gives it wants to export");
    assert_eq!(of(&[("OTEL_LOG_LEVEL", "debug"), ("OTEL_TRACES_SAMPLER", "always_on")]).1, [], "not ours");
    assert_eq!(of(&[ENDPOINT, ("OTEL_BSP_MAX_QUEUE_SIZE", "1"), ("OTEL_PROPAGATORS", "b3")]).1, []);
}

#[test]
fn what_is_too_short_or_too_long_is_clamped_and_said() {
    for (name, value, used) in [
        ("OTEL_METRIC_EXPORT_INTERVAL", "99", "100"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "18446744073709551615", "86400000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "18446744073709551615", "600000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "600001", "600000"),
    ] {
        let (settings, notices) = of(&[ENDPOINT, (name, value)]);
        assert_eq!(notices, [Notice::Warning(format!("{name}={value}: {used} is used"))]);
        let metrics = settings.metrics.unwrap();
        let shown = [settings.interval, settings.export_timeout, metrics.timeout].map(|one| one.as_millis());
        assert!(shown.contains(&used.parse().unwrap()), "{shown:?}");
    }
}

#[test]
fn every_value_is_read_and_a_signals_own_goes_first() {
    let settings = quiet(&[
        ENDPOINT,
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_METRIC_EXPORT_TIMEOUT", "7000"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory"),
        ("OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "BASE2_EXPONENTIAL_BUCKET_HISTOGRAM"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "3000"),
        ("OTEL_EXPORTER_OTLP_LOGS_TIMEOUT", "4000"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "grpc"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,team=a%2Cb,team=c%20d"),
        ("OTEL_SERVICE_NAME", "mine"),
    ]);
    assert_eq!(
        (settings.interval, settings.export_timeout),
        (Duration::from_secs(15), Duration::from_secs(7))
    );
    assert_eq!((settings.temporality, settings.buckets), (Temporality::LowMemory, Buckets::Exponential));
    let (metrics, logs) = (settings.metrics.unwrap(), settings.logs.unwrap());
    assert_eq!((metrics.timeout, logs.timeout), (Duration::from_secs(3), Duration::from_secs(4)));
    assert_eq!((metrics.gzip, logs.gzip), (true, false));
    assert_eq!((metrics.protocol, logs.protocol), (Protocol::HttpProtobuf, Protocol::Grpc));
    let expected = [("team", "c d"), ("service.name", "mine")];
    assert_eq!(settings.attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
}

#[test]
fn headers_are_decoded_left_out_where_they_are_bad_and_never_shown() {
    let name = "OTEL_EXPORTER_OTLP_HEADERS";
    let list = "authorization=Bearer%20geheim1, X-Tenant = a=b ,x-bad=%g1geheim2,geheim3,host=geheim4,x-line=geheim5%0A";
    let (settings, notices) = of(&[ENDPOINT, (name, list)]);
    let metrics = settings.metrics.unwrap();
    let read: Vec<_> = metrics
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.to_str().unwrap(), value.is_sensitive()))
        .collect();
    assert_eq!(read, [("authorization", "Bearer geheim1", true), ("x-tenant", "a=b", true)]);
    assert_eq!(notices.len(), 8, "four a signal: {notices:?}");
    let shown = format!("{metrics:?} {notices:?}");
    assert!(!shown.contains("geheim"), "{shown}");
    assert!(shown.contains("entry 3 is left out: the value of x-bad"), "{shown}");
    let own = quiet(&[ENDPOINT, (name, "a=1"), ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "b=2")]);
    assert_eq!(format!("{:?}", own.logs.unwrap().headers), "[\"b\"]");
}

#[test]
fn half_a_client_certificate_turns_the_signal_off() {
    for half in ["OTEL_EXPORTER_OTLP_CLIENT_KEY", "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"] {
        let (settings, notices) = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c"), (half, "/x")]);
        assert_eq!(is_on(&settings), (false, false));
        assert!(notices.iter().all(|notice| matches!(notice, Notice::Error(_))), "{notices:?}");
    }
    let (settings, notices) = of(&[ENDPOINT, ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem")]);
    assert_eq!(is_on(&settings), (true, true));
    assert_eq!(notices.len(), 2, "plaintext was asked for, and the certificate is of no use: {notices:?}");
}
