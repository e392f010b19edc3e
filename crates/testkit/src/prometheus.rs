//! Strict reader of Prometheus's text format, version 0.0.4. Pages that it accepts are accepted by
//! all scrapers.

use std::collections::{BTreeMap, BTreeSet};

/// Samples by name and labels as they are written: `a_total{b="c"}`.
pub type Samples = BTreeMap<String, f64>;

/// Parses a page.
///
/// # Panics
/// The page violates the format.
#[track_caller]
pub fn read(page: &str) -> Samples {
    assert!(page.ends_with('\n'), "the last line has no end");
    let (mut samples, mut families) = (Samples::new(), BTreeSet::new());
    let mut lines = page.lines().peekable();
    while let Some(line) = lines.next() {
        let (name, help) = line
            .strip_prefix("# HELP ")
            .and_then(|rest| rest.split_once(' '))
            .expect(line);
        assert!(is_name(name) && !help.is_empty(), "{line}");
        assert!(families.insert(name), "{name} comes twice");
        let line = lines.next().unwrap_or_default();
        let kind = line.strip_prefix(&format!("# TYPE {name} ")).expect(line);
        assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        let mut family = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            family.push(sample(line));
        }
        assert!(!family.is_empty(), "{name} has no sample");
        check(name, kind, &family);
        for Sample {
            name,
            labels,
            value,
        } in family
        {
            let labels: Vec<_> = labels
                .iter()
                .map(|(label, value)| format!("{label}={value:?}"))
                .collect();
            let key = if labels.is_empty() {
                name
            } else {
                format!("{name}{{{}}}", labels.join(","))
            };
            assert!(!samples.contains_key(&key), "{key} comes twice");
            samples.insert(key, value);
        }
    }
    samples
}

struct Sample {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.bytes().all(fits)
}

#[track_caller]
fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).expect(line);
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    while let Some(inner) = rest.strip_prefix(if labels.is_empty() { '{' } else { ',' }) {
        let (label, after) = inner.split_once("=\"").expect(line);
        assert!(
            is_name(label) && labels.iter().all(|(known, _)| known != label),
            "{line}"
        );
        let (value, after) = quoted(after).expect(line);
        labels.push((label.to_owned(), value));
        rest = after;
    }
    if !labels.is_empty() {
        rest = rest.strip_prefix('}').expect(line);
    }
    let value = rest.strip_prefix(' ').expect(line);
    let value: f64 = value.parse().expect(line);
    assert!(value.is_finite(), "{line}");
    Sample {
        name: name.to_owned(),
        labels,
        value,
    }
}

/// Returns the text up to the closing quote, and the rest.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

#[track_caller]
fn check(name: &str, kind: &str, samples: &[Sample]) {
    match kind {
        "counter" | "gauge" => {
            assert!(
                samples
                    .iter()
                    .all(|sample| sample.name == name && sample.value >= 0.0),
                "{name}"
            );
        }
        "histogram" => {
            let (count, before) = samples.split_last().unwrap();
            let (sum, buckets) = before.split_last().unwrap();
            assert_eq!(
                (count.name.as_str(), sum.name.as_str()),
                (&*format!("{name}_count"), &*format!("{name}_sum"))
            );
            let bounds: Vec<f64> = buckets
                .iter()
                .map(|bucket| {
                    assert_eq!(
                        (&bucket.name, bucket.labels.len()),
                        (&format!("{name}_bucket"), 1)
                    );
                    assert_eq!(bucket.labels[0].0, "le");
                    bucket.labels[0].1.parse().expect("a bound")
                })
                .collect();
            assert!(bounds.is_sorted_by(|a, b| a < b), "{name}: {bounds:?}");
            assert!(
                buckets.is_sorted_by_key(|bucket| bucket.value),
                "{name} is not cumulative"
            );
            let last = buckets.last().unwrap();
            assert_eq!(
                (bounds.last(), last.value),
                (Some(&f64::INFINITY), count.value),
                "{name}"
            );
        }
        _ => panic!("{name} is of the type {kind}"),
    }
}
