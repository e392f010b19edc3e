//! Metrics in Prometheus's text format.

use std::fmt::{Display, Write};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use super::engine::is_complete;
use super::http::Context;
use super::lookup::Gauges;
use super::metrics::{BOUNDS, Counters, Histogram};

/// A counter with its name and help text.
type Counter = (&'static str, &'static str, fn(&Counters) -> &AtomicU64);

/// Counters without labels.
const COUNTERS: [Counter; 13] = [
    (
        "truncated_total",
        "Answers over UDP that did not fit and were cut.",
        |c| &c.truncated,
    ),
    (
        "rate_limited_dropped_total",
        "Questions above the rate limit that were not answered.",
        |c| &c.dropped,
    ),
    (
        "rate_limited_slipped_total",
        "Questions above the rate limit that were sent to TCP.",
        |c| &c.slipped,
    ),
    ("ignored_total", "Messages that are no requests.", |c| {
        &c.ignored
    }),
    ("tcp_requests_total", "Requests over TCP.", |c| &c.tcp),
    (
        "tcp_refused_connections_total",
        "TCP connections that were closed because there are too many.",
        |c| &c.refused_connections,
    ),
    (
        "forwarded_total",
        "Questions that upstream resolvers were asked.",
        |c| &c.forwarded,
    ),
    (
        "forward_failures_total",
        "Questions that no upstream resolver answered.",
        |c| &c.forward_failures,
    ),
    (
        "transfers_full_total",
        "Whole zones that were sent (AXFR).",
        |c| &c.axfr,
    ),
    (
        "transfers_incremental_total",
        "Changes of zones that were sent (IXFR).",
        |c| &c.ixfr,
    ),
    (
        "transfers_refused_total",
        "Zone transfers that were not allowed.",
        |c| &c.refused_transfers,
    ),
    (
        "notified_total",
        "NOTIFY messages that secondaries answered.",
        |c| &c.notified,
    ),
    (
        "notify_failures_total",
        "NOTIFY messages that secondaries did not answer.",
        |c| &c.notify_failures,
    ),
];

/// Returns all metrics.
pub fn write(context: &Context) -> String {
    let mut text = Text(String::with_capacity(8_192));
    let metrics = &context.engine.metrics;
    text.begin("questions_total", "counter", "Questions, by type.");
    for (rtype, number) in metrics.questions() {
        text.sample("questions_total", &[("type", rtype)], number);
    }
    text.begin("answers_total", "counter", "Answers, by code.");
    for (code, number) in metrics.answers() {
        text.sample("answers_total", &[("code", code)], number);
    }
    for (name, help, counter) in COUNTERS {
        text.one(name, "counter", help, metrics.sum(counter));
    }
    text.histogram(
        "answer_seconds",
        "Times from the arrival of questions to answers from the zones.",
        metrics.times(|counters: &Counters| -> &Histogram { &counters.answer_time }),
    );
    text.histogram(
        "forward_seconds",
        "Times to answers of upstream resolvers.",
        metrics.times(|counters: &Counters| -> &Histogram { &counters.forward_time }),
    );
    text.one(
        "tcp_connections",
        "gauge",
        "Open TCP connections.",
        context.connections.open(),
    );
    zones(&mut text, context);
    if let Some(facts) = &context.facts {
        cluster(&mut text, &facts.gauges());
    }
    text.0
}

fn zones(text: &mut Text, context: &Context) {
    let zones = context.engine.authority.zones();
    text.begin(
        "zone_records",
        "gauge",
        "Records of a zone, without the start of authority.",
    );
    for zone in zones.iter() {
        text.sample(
            "zone_records",
            &[("zone", &zone.apex().to_string())],
            zone.len(),
        );
    }
    text.begin("zone_serial", "gauge", "Serial of a zone.");
    for zone in zones.iter() {
        let serial = zone.soa().serial.into_int();
        text.sample("zone_serial", &[("zone", &zone.apex().to_string())], serial);
    }
    let is_ready = u8::from(is_complete(&zones));
    text.one(
        "ready",
        "gauge",
        "1: all tasks of the cluster are known.",
        is_ready,
    );
    if let Some(age) = zones.age(SystemTime::now()) {
        let help = "Time since the zones were up to date.";
        text.one("zones_age_seconds", "gauge", help, age.as_secs_f64());
    }
}

fn cluster(text: &mut Text, gauges: &Gauges) {
    let connected = u8::from(gauges.is_connected);
    text.one(
        "connected",
        "gauge",
        "1: a leading master sends its events.",
        connected,
    );
    text.one(
        "tasks",
        "gauge",
        "Running tasks with records.",
        gauges.tasks,
    );
    let help = "Running tasks whose agent or framework is not known yet.";
    text.one("waiting_tasks", "gauge", help, gauges.waiting);
    let help = "Running tasks without names, because no letter of theirs is left.";
    text.one("left_out_tasks", "gauge", help, gauges.left_out);
    text.one("agents", "gauge", "Agents.", gauges.agents);
    text.one("frameworks", "gauge", "Frameworks.", gauges.frameworks);
    let help = "Frameworks, agents and tasks for which there was no room.";
    text.one("refused_entries_total", "counter", help, gauges.refused);
    let help = "Failed attempts to follow a master, and streams of events that ended.";
    text.one("master_failures_total", "counter", help, gauges.failures);
    text.one(
        "master_events_total",
        "counter",
        "Parts of masters' events.",
        gauges.events,
    );
    text.one(
        "master_bytes_total",
        "counter",
        "Bytes of masters' events.",
        gauges.bytes,
    );
}

/// Text that grows. A String accepts everything, so errors are left out.
struct Text(String);

impl Text {
    fn begin(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(
            self.0,
            "# HELP mesos_overlay_dns_{name} {help}\n# TYPE mesos_overlay_dns_{name} {kind}\n"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        let _ = writeln!(self.0, "mesos_overlay_dns_{name}{labels} {value}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.begin(name, kind, help);
        self.sample(name, &[], value);
    }

    fn histogram(&mut self, name: &str, help: &str, times: (Vec<u64>, Duration)) {
        self.begin(name, "histogram", help);
        let (counts, sum) = times;
        let bucket = format!("{name}_bucket");
        let mut total = 0;
        for (count, bound) in counts.iter().zip(BOUNDS) {
            total += count;
            let bound = Duration::from_micros(bound).as_secs_f64().to_string();
            self.sample(&bucket, &[("le", &bound)], total);
        }
        total += counts.last().copied().unwrap_or_default();
        self.sample(&bucket, &[("le", "+Inf")], total);
        self.sample(&format!("{name}_sum"), &[], sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], total);
    }
}

/// Returns the value of a label with its special characters escaped.
fn escape(value: &str) -> String {
    value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
