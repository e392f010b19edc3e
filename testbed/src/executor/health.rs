//! Health checks of tasks, by the rules of Mesos's executors.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::http::Client;
use crate::netns::{self, Netns};

/// Runs a `CommandInfo` where the task is, within a time.
pub type Run = Box<dyn Fn(&Value, Duration) -> Result<()> + Send>;

/// Place where checks are made: beside the task.
pub struct Place {
    /// Network namespace of the task; `None`: that of the executor.
    pub netns: Option<Netns>,
    /// Runs commands of COMMAND checks.
    pub run: Run,
}

/// Health of a task, when it has changed or a check has failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Health {
    /// Result of the last check.
    pub healthy: bool,
    /// The task is to be killed.
    pub kill: bool,
    /// Failure of the last check; empty: it succeeded.
    pub message: String,
}

/// Probe of a `HealthCheck`.
#[derive(Clone, Debug, PartialEq)]
enum Probe {
    /// Path, with its slash, at an address of loopback.
    Http(SocketAddr, String),
    Tcp(SocketAddr),
    /// A `CommandInfo`.
    Command(Value),
}

/// A `HealthCheck` of Mesos, with its defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    probe: Probe,
    delay: Duration,
    interval: Duration,
    timeout: Duration,
    grace: Duration,
    failures: u64,
}

impl Check {
    /// Reads a `HealthCheck`.
    ///
    /// # Errors
    /// Its type is unknown, or something is missing; https is not supported.
    pub fn new(check: &Value) -> Result<Check> {
        let seconds = |key: &str, default: f64| -> Result<Duration> {
            Duration::try_from_secs_f64(check[key].as_f64().unwrap_or(default))
                .with_context(|| format!("{key} of a health check"))
        };
        Ok(Check {
            probe: probe(check)?,
            delay: seconds("delay_seconds", 15.0)?,
            interval: seconds("interval_seconds", 10.0)?,
            timeout: seconds("timeout_seconds", 20.0)?,
            grace: seconds("grace_period_seconds", 10.0)?,
            failures: check["consecutive_failures"].as_u64().unwrap_or(3),
        })
    }

    /// Checks a task on a thread of its own until `report` returns false.
    pub fn start(self, place: Place, mut report: impl FnMut(Health) -> bool + Send + 'static) {
        thread::spawn(move || {
            let mut judge = Judge::new(self.grace, self.failures, Instant::now());
            thread::sleep(self.delay);
            loop {
                let outcome = self.probe.make(&place, self.timeout);
                let message = outcome.err().map(|error| format!("{error:#}"));
                if let Some(health) = judge.judge(Instant::now(), message)
                    && !report(health)
                {
                    return;
                }
                thread::sleep(self.interval);
            }
        });
    }
}

fn probe(check: &Value) -> Result<Probe> {
    let address = |check: &Value| -> Result<SocketAddr> {
        let port = check["port"].as_u64().context("a check without a port")?;
        let ip: IpAddr = match check["protocol"].as_str() {
            Some("IPv6") => Ipv6Addr::LOCALHOST.into(),
            _ => Ipv4Addr::LOCALHOST.into(),
        };
        Ok(SocketAddr::new(ip, u16::try_from(port)?))
    };
    match check["type"].as_str().unwrap_or_default() {
        "HTTP" => {
            let http = &check["http"];
            let scheme = http["scheme"].as_str().unwrap_or("http");
            ensure!(scheme == "http", "no health checks by {scheme}");
            let path = http["path"].as_str().unwrap_or_default();
            let path = format!("/{}", path.trim_start_matches('/'));
            Ok(Probe::Http(address(http)?, path))
        }
        "TCP" => Ok(Probe::Tcp(address(&check["tcp"])?)),
        "COMMAND" => Ok(Probe::Command(check["command"].clone())),
        other => bail!("a health check of type {other:?}"),
    }
}

impl Probe {
    fn make(&self, place: &Place, limit: Duration) -> Result<()> {
        match self {
            Probe::Http(address, path) => get(*address, path, place.netns.as_ref(), limit),
            Probe::Tcp(address) => netns::connect(place.netns.as_ref(), *address, limit).map(drop),
            Probe::Command(command) => (place.run)(command, limit),
        }
    }
}

/// Makes a GET request, whose answer must have a status from 200 to 399.
///
/// # Errors
/// There is no such answer within the limit.
pub fn get(to: SocketAddr, path: &str, from: Option<&Netns>, limit: Duration) -> Result<()> {
    let client = Client::new(to, from.cloned()).with_limit(limit);
    let status = client.get(path)?.status;
    ensure!((200..400).contains(&status), "answered with {status}");
    Ok(())
}

/// Rules by which results of checks become the health of a task.
#[derive(Debug)]
struct Judge {
    grace: Duration,
    start: Instant,
    limit: u64,
    failures: u64,
    /// No check has succeeded yet.
    starting: bool,
}

impl Judge {
    fn new(grace: Duration, limit: u64, start: Instant) -> Judge {
        Judge {
            grace,
            start,
            limit,
            failures: 0,
            starting: true,
        }
    }

    /// Takes the failure of a check, or its success, and returns what is to be reported.
    fn judge(&mut self, now: Instant, failure: Option<String>) -> Option<Health> {
        let Some(message) = failure else {
            let news = self.starting || self.failures > 0;
            (self.starting, self.failures) = (false, 0);
            return news.then(|| Health {
                healthy: true,
                kill: false,
                message: String::new(),
            });
        };
        let since = now.saturating_duration_since(self.start);
        if self.starting && !self.grace.is_zero() && since <= self.grace {
            return None;
        }
        self.failures += 1;
        Some(Health {
            healthy: false,
            kill: self.failures >= self.limit,
            message,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use serde_json::json;

    use super::*;

    fn health(healthy: bool, kill: bool) -> Option<(bool, bool)> {
        Some((healthy, kill))
    }

    #[test]
    fn failures_are_counted_after_the_grace_period() {
        let start = Instant::now();
        let mut judge = Judge::new(Duration::from_secs(10), 2, start);
        let mut ask = |second, ok: bool| {
            let failure = (!ok).then(|| "no".to_owned());
            let outcome = judge.judge(start + Duration::from_secs(second), failure);
            outcome.map(|health| (health.healthy, health.kill))
        };
        assert_eq!(ask(1, false), None, "the grace period");
        assert_eq!(ask(11, false), health(false, false));
        assert_eq!(ask(12, true), health(true, false));
        assert_eq!(ask(13, true), None, "nothing new");
        assert_eq!(ask(14, false), health(false, false));
        assert_eq!(ask(15, false), health(false, true));
    }

    #[test]
    fn no_failures_allowed_means_a_kill_at_the_first() {
        let start = Instant::now();
        let mut judge = Judge::new(Duration::ZERO, 0, start);
        let health = judge.judge(start, Some("no".into())).unwrap();
        assert!(health.kill && !health.healthy);
    }

    #[test]
    fn a_success_ends_the_grace_period() {
        let start = Instant::now();
        let mut judge = Judge::new(Duration::from_secs(60), 3, start);
        assert!(judge.judge(start, None).unwrap().healthy);
        assert!(!judge.judge(start, Some("no".into())).unwrap().healthy);
    }

    fn here() -> Place {
        Place {
            netns: None,
            run: Box::new(super::super::process::run),
        }
    }

    fn make(check: Value) -> Result<()> {
        Check::new(&check)?
            .probe
            .make(&here(), Duration::from_secs(5))
    }

    #[test]
    fn every_kind_of_check_succeeds_and_fails() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in server.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).unwrap_or(0);
                let status = match request[..length].starts_with(b"GET /good ") {
                    true => "302 Found",
                    false => "500 Error",
                };
                let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
            }
        });
        let http = |path: &str| json!({ "type": "HTTP", "http": { "port": port, "path": path } });
        make(http("/good")).unwrap();
        make(http("good")).unwrap();
        assert!(make(http("/bad")).is_err());
        let tcp = |protocol: &str| json!({ "type": "TCP", "tcp": { "port": port, "protocol": protocol } });
        make(tcp("IPv4")).unwrap();
        assert!(make(tcp("IPv6")).is_err(), "it listens on IPv4 only");
        let command = |value: &str| json!({ "type": "COMMAND", "command": { "value": value } });
        make(command("exit 0")).unwrap();
        assert!(make(command("exit 1")).is_err());
        assert!(make(json!({ "type": "UNKNOWN" })).is_err());
    }
}
