//! Metrics, health and lookup over HTTP.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use overlay_dns::server::Config;
use overlay_dns::server::lookup::{Facts, Found, Gauges, State, Task};
use overlay_dns::zone::{DomainName, Knowledge};
use testkit::prometheus;

use crate::support::{Bed, ZONE, config, isolated, name};

/// A cluster with one task.
#[derive(Debug)]
struct OneTask;

impl Facts for OneTask {
    fn gauges(&self) -> Gauges {
        Gauges {
            tasks: 1,
            ..Gauges::default()
        }
    }

    fn tasks_of_name(&self, owner: &DomainName) -> Vec<Task> {
        let is_its = owner.to_string() == name("web");
        is_its.then(web).into_iter().collect()
    }

    fn tasks_of_address(&self, address: IpAddr) -> Vec<Task> {
        let is_its = address.to_string() == "9.0.0.1";
        is_its.then(web).into_iter().collect()
    }
}

fn web() -> Task {
    Task {
        id: "web.1".to_owned(),
        ..Task::default()
    }
}

/// Starts a server with metrics, and returns their address.
fn start() -> Result<(Bed, SocketAddr)> {
    let bed = Bed::start(Config {
        http: Some("127.0.0.1:0".parse()?),
        facts: Some(Arc::new(OneTask)),
        ..config()
    })?;
    let http = bed.server.http().context("no HTTP")?;
    Ok((bed, http))
}

/// Returns status and body of an answer.
fn get(http: SocketAddr, path: &str) -> Result<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let mut answer = agent.get(format!("http://{http}{path}")).call()?;
    Ok((
        answer.status().as_u16(),
        answer.body_mut().read_to_string()?,
    ))
}

#[test]
fn questions_are_counted() -> Result<()> {
    isolated("questions_are_counted", || {
        let (bed, http) = start()?;
        for _ in 0..3 {
            bed.dig(&[&name("web")])?;
        }
        bed.dig(&[&name("none"), "AAAA"])?;
        bed.dig(&["+tcp", "example.org", "TXT"])?;
        bed.dig(&["+ignore", "+noedns", &name("many")])?;
        let (status, text) = get(http, "/metrics")?;
        ensure!(status == 200);
        let values = prometheus::read(&text);
        let own = |name: &str| values.get(&format!("mesos_overlay_dns_{name}")).copied();
        for (name, expected) in [
            ("questions_total{type=\"A\"}", 4.0),
            ("questions_total{type=\"AAAA\"}", 1.0),
            ("questions_total{type=\"other\"}", 1.0),
            ("answers_total{code=\"NOERROR\"}", 4.0),
            ("answers_total{code=\"NXDOMAIN\"}", 1.0),
            ("answers_total{code=\"REFUSED\"}", 1.0),
            ("truncated_total", 1.0),
            ("tcp_requests_total", 1.0),
            ("answer_seconds_count", 6.0),
            ("answer_seconds_bucket{le=\"+Inf\"}", 6.0),
            ("ready", 1.0),
            ("zones_age_seconds", 0.0),
            (&format!("zone_records{{zone=\"{ZONE}\"}}"), 205.0),
        ] {
            ensure!(
                own(name) == Some(expected),
                "{name} is {:?} in\n{text}",
                own(name)
            );
        }
        Ok(())
    })
}

#[test]
fn every_metric_is_described() -> Result<()> {
    isolated("every_metric_is_described", || {
        let (_bed, http) = start()?;
        let (_, text) = get(http, "/metrics")?;
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
        let page = std::fs::read_to_string(page)?;
        let (_, section) = page.split_once("## Name server").context("no section")?;
        let types = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE mesos_overlay_dns_"));
        let names: Vec<&str> = types.filter_map(|line| line.split(' ').next()).collect();
        ensure!(names.len() > 25, "{names:?}");
        for name in names {
            let is_described =
                section.contains(&format!("`{name}`")) || section.contains(&format!("`{name}{{"));
            ensure!(is_described, "docs/metrics.md does not have {name}");
        }
        Ok(())
    })
}

#[test]
fn health_is_for_load_balancers() -> Result<()> {
    isolated("health_is_for_load_balancers", || {
        let (bed, http) = start()?;
        ensure!(get(http, "/health")?.0 == 200);
        bed.authority
            .update(|zones| zones.set_knowledge(Knowledge::Partial));
        ensure!(get(http, "/health")?.0 == 503);
        ensure!(get(http, "/other")?.0 == 404);
        Ok(())
    })
}

#[test]
fn names_and_addresses_are_looked_up() -> Result<()> {
    isolated("names_and_addresses_are_looked_up", || {
        let (_bed, http) = start()?;
        let find = |wanted: &str| -> Result<Found> {
            let (status, text) = get(http, &format!("/lookup/{wanted}"))?;
            ensure!(status == 200, "{text}");
            Ok(serde_json::from_str(&text)?)
        };
        let found = find(&name("web").to_uppercase())?;
        ensure!(
            found.zone.as_deref() == Some(ZONE) && found.exists,
            "{found:?}"
        );
        ensure!(
            found.records.len() == 1 && found.records[0].data == "9.0.0.1",
            "{found:?}"
        );
        ensure!(
            found.tasks == [web()] && find("9.0.0.1")?.tasks == [web()],
            "{found:?}"
        );
        let found = find("9.0.0.2")?;
        ensure!(
            found.records.len() == 1 && found.records[0].name == name("both"),
            "{found:?}"
        );
        ensure!(!find(&name("none"))?.exists && find("example.org")?.zone.is_none());
        ensure!(find("fd01:b::2")?.knowledge == State::Complete);
        ensure!(get(http, "/lookup/a..b")?.0 == 400);
        Ok(())
    })
}
