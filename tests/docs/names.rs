//! Every key, endpoint and metric of the product has its description.

use std::collections::BTreeSet;

use crate::blocks::Shell;
use crate::{cluster, page, product};

/// An object with a key like this is told which keys there are.
const UNKNOWN: &str = "~~~~~~~~";

/// The keys of the object in `file` at `path`, as the parser itself lists them.
fn keys(file: &str, path: &str, text: &str) -> Vec<String> {
    let (errors, warnings) = product::read_config(file, text);
    assert!(errors.is_empty(), "{errors:?}");
    let place = if path.is_empty() {
        UNKNOWN.to_owned()
    } else {
        format!("{path}.{UNKNOWN}")
    };
    let line = warnings
        .iter()
        .find(|line| line.contains(&format!(" {place}: ")));
    let line = line.unwrap_or_else(|| panic!("no line about {place}: {warnings:?}"));
    let (_, keys) = line
        .split_once("the known keys are ")
        .unwrap_or_else(|| panic!("{line}"));
    keys.split(", ").map(str::to_owned).collect()
}

fn master_json(path: &str) -> String {
    let extra = |here: &str| {
        if here == path {
            format!(r#", "{UNKNOWN}": 0"#)
        } else {
            String::new()
        }
    };
    format!(
        r#"{{"replicated_log_dir": "/l"{}, "zk": {{"url": "zk://a:1/b", "quorum": 1{}}}, "network": {{
            "vtep_subnet": "44.128.0.0/20", "vtep_mac_oui": "70:B3:D5:00:00:00"{}, "overlays": [
            {{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24{}}}]}}}}"#,
        extra(""),
        extra("zk"),
        extra("network"),
        extra("network.overlays[0]")
    )
}

fn agent_json(path: &str) -> String {
    let extra = |here: &str| {
        if here == path {
            format!(r#", "{UNKNOWN}": 0"#)
        } else {
            String::new()
        }
    };
    let (top, inner) = (extra(""), extra("network_config"));
    format!(r#"{{"cni_dir": "/c"{top}, "network_config": {{"enable_ipv6": true{inner}}}}}"#)
}

/// The headings of a page that name one thing in code style.
fn headings(text: &str) -> BTreeSet<&str> {
    text.lines()
        .filter(|line| line.starts_with('#'))
        .filter_map(|line| {
            line.trim_start_matches('#')
                .trim()
                .strip_prefix('`')?
                .strip_suffix('`')
        })
        .collect()
}

#[test]
fn every_key_has_an_item_with_its_default() {
    let page = page::read("docs/configuration.md");
    let described = headings(&page.text);
    let mut known = BTreeSet::new();
    for path in ["", "zk", "network", "network.overlays[0]"] {
        let prefix = path.replace("[0]", "[]");
        let join = |key: String| {
            if path.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            }
        };
        known.extend(
            keys("master.json", path, &master_json(path))
                .into_iter()
                .map(join),
        );
    }
    for path in ["", "network_config"] {
        let join = |key: String| {
            if path.is_empty() {
                key
            } else {
                format!("{path}.{key}")
            }
        };
        known.extend(
            keys("agent.json", path, &agent_json(path))
                .into_iter()
                .map(join),
        );
    }
    let known: BTreeSet<&str> = known.iter().map(String::as_str).collect();
    assert_eq!(described, known, "described and known keys");
    for item in page
        .text
        .split("\n###")
        .skip(1)
        .filter(|item| item.trim_start_matches('#').starts_with(" `"))
    {
        let text = item.split("\n## ").next().unwrap();
        let says =
            text.contains("Default: ") || text.contains("Default:\n") || text.contains("Required");
        assert!(says, "neither default nor required: {text}");
    }
}

/// The methods and paths of all endpoints. A method that none has is answered with those there are.
fn endpoints() -> Vec<String> {
    let mut endpoints = Vec::new();
    for path in product::endpoints() {
        let server = if path.starts_with("/overlay-master/") {
            "10.77.0.1:5050"
        } else {
            "10.77.1.1:5051"
        };
        let url = format!("http://{server}{}", path.replace("<name>", "dcos"));
        let answer = cluster::scenario("cluster").run(&format!("curl -X TRACE {url}"));
        let methods = answer
            .trim()
            .strip_prefix("This endpoint takes ")
            .and_then(|m| m.strip_suffix('.'));
        let methods = methods
            .unwrap_or_else(|| panic!("{path}: {answer}"))
            .split(", ");
        endpoints.extend(
            methods
                .filter(|m| *m != "HEAD")
                .map(|method| format!("{method} {path}")),
        );
    }
    endpoints
}

#[test]
fn every_endpoint_is_described() {
    let page = page::read("docs/api.md");
    let text = page.text.replace("&lt;", "<").replace("&gt;", ">");
    let mut headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    headings.retain(|heading| heading.contains(" /"));
    for endpoint in endpoints() {
        assert!(
            headings.contains(&endpoint.as_str()),
            "no section about {endpoint}"
        );
        assert!(
            text.contains(&format!("| `{endpoint}` |")),
            "{endpoint} is not in the table"
        );
        headings.retain(|heading| *heading != endpoint);
    }
    assert!(headings.is_empty(), "there is no {headings:?}");
}

/// The names of all metrics that the answer of an endpoint has.
fn metrics(url: &str) -> BTreeSet<String> {
    let text = cluster::scenario("cluster").run(&format!("curl -s http://{url}"));
    let name = |line: &str| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned());
    text.lines().filter_map(name).collect()
}

#[test]
fn every_metric_is_described() {
    let page = page::read("docs/metrics.md");
    for (url, prefix) in [
        (
            "10.77.0.1:5050/overlay-master/metrics",
            "mesos_overlay_master_",
        ),
        (
            "10.77.1.1:5051/overlay-agent/metrics",
            "mesos_overlay_agent_",
        ),
    ] {
        let names = metrics(url);
        assert!(names.len() > 8, "{names:?}");
        for name in names {
            let short = name.strip_prefix(prefix).unwrap();
            let described = page.text.lines().filter(|line| line.starts_with("| `"));
            let mut cells = described.filter_map(|line| line.split('|').nth(1));
            let found =
                cells.any(|cell| cell.split(['`', '{', ',', ' ']).any(|word| word == short));
            assert!(found, "docs/metrics.md does not have {name}");
        }
    }
}
