//! Variables that OpenTelemetry knows and we do not use. Those of traces, baggage and propagation are nobody's business here: they are
//! for whoever shares the environment.

use super::Reader;

/// What is used instead, whatever is exported.
const ALWAYS: [(&str, &str); 4] = [
    ("OTEL_CONFIG_FILE", "the variables of docs/otlp.md say what is exported"),
    ("OTEL_EXPERIMENTAL_CONFIG_FILE", "the variables of docs/otlp.md say what is exported"),
    ("OTEL_EXPORTER_PROMETHEUS_HOST", "--web says where /metrics is"),
    ("OTEL_EXPORTER_PROMETHEUS_PORT", "--web says where /metrics is"),
];

/// What is used instead, where something is exported.
const OF_EXPORTS: [(&str, &str); 11] = [
    ("OTEL_BLRP_SCHEDULE_DELAY", "events are sent 200 ms after the first of them"),
    ("OTEL_BLRP_EXPORT_TIMEOUT", "OTEL_EXPORTER_OTLP_LOGS_TIMEOUT says how long is waited"),
    ("OTEL_BLRP_MAX_QUEUE_SIZE", "2048 events wait in memory, and 16 MiB of them in --event-spool"),
    ("OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", "up to 512 events are sent at a time"),
    ("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "attributes are as long as they are"),
    ("OTEL_ATTRIBUTE_COUNT_LIMIT", "an event has the attributes of docs/events.md"),
    ("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "attributes are as long as they are"),
    ("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "an event has the attributes of docs/events.md"),
    ("OTEL_METRICS_EXEMPLAR_FILTER", "there are no exemplars"),
    ("OTEL_LOG_LEVEL", "PROBE_LOG says what is logged"),
    ("OTEL_EXPORTER_OTLP_METRIC_INSECURE", "it is called OTEL_EXPORTER_OTLP_METRICS_INSECURE now"),
];

impl Reader<'_> {
    pub(super) fn say_what_is_not_used(&mut self) {
        self.say(&ALWAYS);
    }

    pub(super) fn say_what_is_not_used_of_exports(&mut self) {
        self.say(&OF_EXPORTS);
    }

    fn say(&mut self, variables: &[(&str, &str)]) {
        for (name, instead) in variables {
            if let Some(value) = self.get(name) {
                self.warn(name, &value, &format!("this agent does not use it; {instead}"));
            }
        }
    }
}
