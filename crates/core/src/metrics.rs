//! Metrics in two forms: for Mesos's `/metrics/snapshot`, with the names of the C++ modules
//! for existing dashboards, and in Prometheus's text format.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::time::Duration;

/// Prefix of the names of the master's metrics in Mesos.
pub const MASTER_PREFIX: &str = "overlay/master/";
/// Prefix of the names of the agent's metrics in Mesos.
pub const AGENT_PREFIX: &str = "overlay/slave/";

/// A metric of Mesos's snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Metric {
    /// Whole name.
    pub name: Cow<'static, str>,
    /// Value. Counters begin at 0 with each machine.
    pub value: f64,
}

impl Metric {
    /// Creates a metric.
    pub fn new(name: impl Into<Cow<'static, str>>, value: f64) -> Metric {
        Metric {
            name: name.into(),
            value,
        }
    }

    /// Creates a metric from a count, rounded to 53 bits because metrics of Mesos are floating
    /// point numbers.
    pub fn count(name: impl Into<Cow<'static, str>>, count: u64) -> Metric {
        Metric::new(name, count as f64)
    }
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A count that grows, from 0 with each machine.
    Counter,
    /// A value that goes up and down.
    Gauge,
    /// A distribution of durations in seconds.
    Histogram,
}

/// Description of a metric, or of several that differ in their labels.
#[derive(Debug)]
pub struct Description {
    /// Name in Prometheus: prefix of the module, unit, and `_total` for counters.
    pub name: &'static str,
    /// Type of the metric.
    pub kind: Kind,
    /// Description for operators.
    pub help: &'static str,
}

/// Describes a [`Kind::Counter`].
pub const fn counter(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        kind: Kind::Counter,
        help,
    }
}

/// Describes a [`Kind::Gauge`].
pub const fn gauge(name: &'static str, help: &'static str) -> Description {
    Description {
        name,
        kind: Kind::Gauge,
        help,
    }
}

/// Labels of a metric: fixed names and arbitrary values.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// All metrics of a machine, in both forms.
#[derive(Debug, Default)]
pub struct Numbers {
    snapshot: Vec<Metric>,
    families: Vec<(&'static Description, String)>,
}

impl Numbers {
    /// Adds a metric. `snapshot` is its name in Mesos.
    pub fn add(
        &mut self,
        description: &'static Description,
        labels: Labels<'_>,
        snapshot: impl Into<Cow<'static, str>>,
        value: f64,
    ) {
        self.prometheus_only(description, labels, value);
        self.snapshot_only(snapshot, value);
    }

    /// Adds a metric with an integer value, rounded to 53 bits.
    pub fn count(
        &mut self,
        description: &'static Description,
        labels: Labels<'_>,
        snapshot: impl Into<Cow<'static, str>>,
        value: u64,
    ) {
        self.add(description, labels, snapshot, value as f64);
    }

    /// Adds a metric that Mesos's snapshot does not contain.
    pub fn prometheus_only(
        &mut self,
        description: &'static Description,
        labels: Labels<'_>,
        value: f64,
    ) {
        debug_assert_ne!(description.kind, Kind::Histogram);
        sample(
            self.samples(description),
            description.name,
            "",
            labels,
            value,
        );
    }

    /// Adds a metric that Prometheus gets in another form, or not at all.
    pub fn snapshot_only(&mut self, snapshot: impl Into<Cow<'static, str>>, value: f64) {
        self.snapshot.push(Metric::new(snapshot, value));
    }

    /// Adds a histogram for Prometheus.
    pub fn histogram(&mut self, description: &'static Description, histogram: &Histogram) {
        debug_assert_eq!(description.kind, Kind::Histogram);
        let (name, samples) = (description.name, self.samples(description));
        let mut count = 0;
        for (bound, bucket) in BOUNDS.iter().zip(&histogram.buckets) {
            count += bucket;
            sample(
                samples,
                name,
                "_bucket",
                &[("le", &bound.to_string())],
                count as f64,
            );
        }
        sample(
            samples,
            name,
            "_bucket",
            &[("le", "+Inf")],
            histogram.count as f64,
        );
        sample(samples, name, "_sum", &[], histogram.sum.as_secs_f64());
        sample(samples, name, "_count", &[], histogram.count as f64);
    }

    /// Returns the samples of this description. Prometheus requires that samples of one name
    /// are adjacent.
    fn samples(&mut self, description: &'static Description) -> &mut String {
        let known = self
            .families
            .iter()
            .rposition(|(known, _)| known.name == description.name);
        let index = known.unwrap_or_else(|| {
            self.families.push((description, String::new()));
            self.families.len() - 1
        });
        &mut self.families[index].1
    }

    /// Returns the metrics for Mesos's snapshot. Names are unique.
    pub fn into_snapshot(self) -> Vec<Metric> {
        self.snapshot
    }

    /// Returns the metrics in Prometheus's text format, version 0.0.4.
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        for (Description { name, kind, help }, samples) in &self.families {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram => "histogram",
            };
            text += &format!("# HELP {name} {help}\n# TYPE {name} {kind}\n{samples}");
        }
        text
    }
}

/// `Content-Type` of Prometheus's text format.
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Appends one sample.
fn sample(text: &mut String, name: &str, suffix: &str, labels: Labels<'_>, value: f64) {
    *text += name;
    *text += suffix;
    for (index, (label, value)) in labels.iter().enumerate() {
        let before = if index == 0 { '{' } else { ',' };
        // Writing to a string does not fail.
        let _ = write!(text, "{before}{label}=\"{}\"", Escaped(value));
    }
    let end = if labels.is_empty() { "" } else { "}" };
    let _ = writeln!(text, "{end} {value}");
}

/// A label's value with escapes, for quotes.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str("\\\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str("\\n"),
            c => f.write_char(c),
        })
    }
}

/// Upper bounds of the buckets of a [`Histogram`], in seconds: from a write to a fast disk to
/// the timeout of a write.
const BOUNDS: [f64; 12] = [
    0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 20.0,
];

/// Distribution of durations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Counts per bucket, not cumulative.
    buckets: [u64; BOUNDS.len()],
    count: u64,
    sum: Duration,
    last: Duration,
}

impl Histogram {
    /// Adds a duration.
    pub fn observe(&mut self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(index) = BOUNDS.iter().position(|bound| seconds <= *bound) {
            self.buckets[index] += 1;
        }
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
        self.last = took;
    }

    /// Returns the sum of all durations.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// Returns the last duration; zero if there was none.
    pub fn last(&self) -> Duration {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static GAUGE: Description = Description {
        name: "a_gauge",
        kind: Kind::Gauge,
        help: "What it is.",
    };
    static TIMES: Description = Description {
        name: "a_seconds",
        kind: Kind::Histogram,
        help: "How long.",
    };

    #[test]
    fn samples_of_one_name_are_adjacent() {
        let mut numbers = Numbers::default();
        numbers.count(
            &GAUGE,
            &[("of", "a\\b\"c\nd"), ("family", "ipv4")],
            "of/a",
            1,
        );
        numbers.histogram(&TIMES, &Histogram::default());
        numbers.count(&GAUGE, &[], "of/b", u64::MAX);
        let text = numbers.to_prometheus();
        let first = "# HELP a_gauge What it is.\n# TYPE a_gauge gauge\n\
                     a_gauge{of=\"a\\\\b\\\"c\\nd\",family=\"ipv4\"} 1\na_gauge 18446744073709552000\n\
                     # HELP a_seconds How long.\n# TYPE a_seconds histogram\n";
        assert!(text.starts_with(first), "{text}");
        let snapshot = numbers.into_snapshot();
        assert_eq!(
            snapshot,
            [Metric::count("of/a", 1), Metric::count("of/b", u64::MAX)]
        );
    }

    #[test]
    fn buckets_are_cumulative() {
        let mut histogram = Histogram::default();
        for ms in [1, 5, 6, 700, 60_000] {
            histogram.observe(Duration::from_millis(ms));
        }
        let mut numbers = Numbers::default();
        numbers.histogram(&TIMES, &histogram);
        let text = numbers.to_prometheus();
        for line in [
            "a_seconds_bucket{le=\"0.0025\"} 1",
            "a_seconds_bucket{le=\"0.005\"} 2",
            "a_seconds_bucket{le=\"0.01\"} 3",
            "a_seconds_bucket{le=\"0.5\"} 3",
            "a_seconds_bucket{le=\"1\"} 4",
            "a_seconds_bucket{le=\"20\"} 4",
            "a_seconds_bucket{le=\"+Inf\"} 5",
            "a_seconds_sum 60.712",
            "a_seconds_count 5",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "no {line} in\n{text}"
            );
        }
        assert_eq!(histogram.last(), Duration::from_secs(60));
        histogram.observe(Duration::from_millis(3));
        assert_eq!(histogram.last(), Duration::from_millis(3));
        assert_eq!(histogram.sum(), Duration::from_millis(60_715));
    }
}
