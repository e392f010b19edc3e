//! Health checks: those that Marathon hands to Mesos's executors, and those that it makes itself.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::Instance;
use super::network::{self, Mode, Port};
use crate::executor::health;
use crate::framework::TaskState;
use crate::netns::{self, Netns};

/// Checks that Marathon makes itself, in definitions.
const OF_MARATHON: [&str; 3] = ["HTTP", "HTTPS", "TCP"];
/// Checks that executors make.
const OF_MESOS: [&str; 4] = ["COMMAND", "MESOS_HTTP", "MESOS_HTTPS", "MESOS_TCP"];

/// A check that Marathon makes itself, from its own host.
#[derive(Clone, Debug, PartialEq)]
pub struct MarathonCheck {
    /// Path of a GET request; `None`: a TCP connection.
    path: Option<String>,
    port: PortReference,
    timeout: Duration,
}

/// Port of a check.
#[derive(Clone, Debug, PartialEq)]
enum PortReference {
    Number(u16),
    Index(usize),
    Name(String),
}

/// Checks that an app's health checks are of one kind, and at most one is Mesos's.
///
/// # Errors
/// They are not, or one has an unknown protocol.
pub fn validate(checks: &[Value]) -> Result<()> {
    let (mut marathon, mut mesos) = (0, 0);
    for check in checks {
        match protocol(check) {
            protocol if OF_MARATHON.contains(&protocol) => marathon += 1,
            protocol if OF_MESOS.contains(&protocol) => mesos += 1,
            other => bail!("healthChecks: protocol {other:?}"),
        }
    }
    ensure!(mesos <= 1, "more than one health check of Mesos");
    ensure!(
        mesos == 0 || marathon == 0,
        "health checks of Mesos and of Marathon"
    );
    Ok(())
}

fn protocol(check: &Value) -> &str {
    check["protocol"].as_str().unwrap_or("HTTP")
}

/// Returns `HealthCheck` of an app, whose ports have the numbers `assigned` on the host.
///
/// # Errors
/// A check is for a port that the app does not have.
pub fn of_mesos(
    checks: &[Value],
    ports: &[Port],
    assigned: &[Option<u16>],
) -> Result<Option<Value>> {
    let Some(check) = checks
        .iter()
        .find(|check| OF_MESOS.contains(&protocol(check)))
    else {
        return Ok(None);
    };
    let mut mesos = times(check);
    if protocol(check) == "COMMAND" {
        mesos["type"] = "COMMAND".into();
        mesos["command"] = json!({ "value": check["command"]["value"] });
        return Ok(Some(mesos));
    }
    let port = match reference(check)? {
        PortReference::Number(port) => port,
        reference => {
            let index = reference.index(ports)?;
            // Beside the task it is the port in the container that answers.
            let port = network::container_port(&ports[index], assigned[index]).or(assigned[index]);
            port.context("a health check of a port without a number")?
        }
    };
    let ip = check["ipProtocol"].as_str().unwrap_or("IPv4");
    if protocol(check) == "MESOS_TCP" {
        mesos["type"] = "TCP".into();
        mesos["tcp"] = json!({ "port": port, "protocol": ip });
        return Ok(Some(mesos));
    }
    let scheme = protocol(check).trim_start_matches("MESOS_").to_lowercase();
    mesos["type"] = "HTTP".into();
    mesos["http"] = json!({ "port": port, "protocol": ip, "scheme": scheme });
    if let Some(path) = check["path"].as_str() {
        mesos["http"]["path"] = path.into();
    }
    Ok(Some(mesos))
}

/// Returns `HealthCheck` of a pod's container with endpoints.
///
/// # Errors
/// The check is of no kind, or for an endpoint that the container does not have.
pub fn of_pod(
    check: &Value,
    endpoints: &[Port],
    assigned: &[Option<u16>],
    on_host: bool,
) -> Result<Value> {
    let mut mesos = times(check);
    if !check["exec"].is_null() {
        mesos["type"] = "COMMAND".into();
        mesos["command"] = executable(&check["exec"]["command"])?;
        return Ok(mesos);
    }
    let (kind, key) = match check["http"].is_null() {
        false => ("HTTP", "http"),
        true => ("TCP", "tcp"),
    };
    let name = check[key]["endpoint"].as_str();
    let name = name.context("a health check without http, tcp or exec")?;
    let index = PortReference::Name(name.to_owned()).index(endpoints)?;
    let port = if on_host {
        assigned[index]
    } else {
        endpoints[index].container
    };
    mesos["type"] = kind.into();
    mesos[key] = json!({ "port": port.context("an endpoint without a port")?, "protocol": "IPv4" });
    if kind == "HTTP" {
        let scheme = check["http"]["scheme"].as_str().unwrap_or("HTTP");
        mesos["http"]["scheme"] = scheme.to_lowercase().into();
        if let Some(path) = check["http"]["path"].as_str() {
            mesos["http"]["path"] = path.into();
        }
    }
    Ok(mesos)
}

/// Returns `CommandInfo` of a pod's command: `shell` or `argv`.
///
/// # Errors
/// It has neither.
pub fn executable(command: &Value) -> Result<Value> {
    if let Some(shell) = command["shell"].as_str() {
        return Ok(json!({ "shell": true, "value": shell }));
    }
    let argv = command["argv"]
        .as_array()
        .context("a command without shell or argv")?;
    let first = argv.first().context("an empty argv")?;
    Ok(json!({ "shell": false, "value": first, "arguments": argv }))
}

/// Returns the members of `HealthCheck` that all kinds have.
fn times(check: &Value) -> Value {
    let number = |key: &str, default: u64| check[key].as_u64().unwrap_or(default);
    json!({
        "grace_period_seconds": number("gracePeriodSeconds", 300),
        "interval_seconds": number("intervalSeconds", 60),
        "timeout_seconds": number("timeoutSeconds", 20),
        "delay_seconds": number("delaySeconds", 15),
        "consecutive_failures": number("maxConsecutiveFailures", 3),
    })
}

fn reference(check: &Value) -> Result<PortReference> {
    if let Some(port) = check["port"].as_u64() {
        return Ok(PortReference::Number(u16::try_from(port)?));
    }
    let index = check["portIndex"].as_u64().unwrap_or(0);
    Ok(PortReference::Index(usize::try_from(index)?))
}

impl PortReference {
    fn index(&self, ports: &[Port]) -> Result<usize> {
        let index = match self {
            PortReference::Index(index) => Some(*index).filter(|index| *index < ports.len()),
            PortReference::Name(name) => ports
                .iter()
                .position(|port| port.name.as_ref() == Some(name)),
            PortReference::Number(_) => None,
        };
        index.with_context(|| format!("a health check of a port that is not there: {self:?}"))
    }
}

/// Returns the checks that Marathon makes itself.
///
/// # Errors
/// A check is not complete; https is not supported.
pub fn marathon_checks(checks: &[Value]) -> Result<Vec<MarathonCheck>> {
    let own = checks
        .iter()
        .filter(|check| OF_MARATHON.contains(&protocol(check)));
    own.map(|check| {
        ensure!(protocol(check) != "HTTPS", "no health checks by HTTPS");
        let path = check["path"].as_str().unwrap_or_default();
        let path = format!("/{}", path.trim_start_matches('/'));
        Ok(MarathonCheck {
            path: (protocol(check) == "HTTP").then_some(path),
            port: reference(check)?,
            timeout: Duration::from_secs(check["timeoutSeconds"].as_u64().unwrap_or(20)),
        })
    })
    .collect()
}

impl MarathonCheck {
    /// Makes the check once, from the network namespace of Marathon's host.
    ///
    /// # Errors
    /// The instance is not healthy, or has no address.
    pub fn make(&self, instance: &Instance, task: &TaskState, from: Option<&Netns>) -> Result<()> {
        let target = self.target(instance, task)?;
        match &self.path {
            Some(path) => health::get(target, path, from, self.timeout),
            None => netns::connect(from, target, self.timeout).map(drop),
        }
        .with_context(|| format!("asking {target}"))
    }

    /// Returns what Marathon asks: on a container network the first address of the status, as it is
    /// written there, else the agent's host. The port on the host, if there is one, is preferred to that
    /// in the container, whichever of the two addresses it is.
    fn target(&self, instance: &Instance, task: &TaskState) -> Result<SocketAddr> {
        let on_network = instance.networks[0].mode == Mode::Container;
        let mut addresses = task.networks.iter().flat_map(|network| &network.addresses);
        let host = match on_network {
            true => addresses.next().context("no effective IP address")?,
            false => &instance.agent,
        };
        let port = match &self.port {
            PortReference::Number(port) => *port,
            reference => {
                let index = reference.index(&instance.ports)?;
                let port = instance.host_ports[index].or(instance.ports[index].container);
                port.context("no effective port")?
            }
        };
        // A URL or a socket's address of Java: an IPv6 address with its prefix length is neither.
        let text = format!("{host}:{port}");
        let found = text.to_socket_addrs().with_context(|| text.clone())?.next();
        found.with_context(|| format!("no address {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::TaskNetwork;
    use crate::marathon::app::App;

    fn app(host_port: Value) -> Value {
        json!({
            "id": "/web", "cmd": "serve", "networks": [{ "mode": "container", "name": "dcos" }],
            "container": { "portMappings": [{ "containerPort": 80, "hostPort": host_port }] },
        })
    }

    fn health_check(check: Value, host_port: Value) -> Value {
        let mut definition = app(host_port);
        definition["healthChecks"] = json!([check]);
        let app = App::new(&definition).unwrap();
        let assigned: Vec<_> = app
            .ports
            .iter()
            .map(|port| port.host.map(|_| 31000))
            .collect();
        app.task_info("id", &json!({}), &assigned).unwrap()["health_check"].clone()
    }

    #[test]
    fn checks_of_mesos_ask_the_port_in_the_container() {
        let defaults = json!({
            "grace_period_seconds": 300, "interval_seconds": 60, "timeout_seconds": 20,
            "delay_seconds": 15, "consecutive_failures": 3,
        });
        for (check, expected) in [
            (
                json!({ "protocol": "MESOS_HTTP", "path": "/ready" }),
                json!({ "type": "HTTP", "http": { "port": 80, "protocol": "IPv4", "scheme": "http", "path": "/ready" } }),
            ),
            (
                json!({ "protocol": "MESOS_TCP", "ipProtocol": "IPv6" }),
                json!({ "type": "TCP", "tcp": { "port": 80, "protocol": "IPv6" } }),
            ),
            (
                json!({ "protocol": "MESOS_TCP", "port": 99 }),
                json!({ "type": "TCP", "tcp": { "port": 99, "protocol": "IPv4" } }),
            ),
            (
                json!({ "protocol": "COMMAND", "command": { "value": "test -e x" } }),
                json!({ "type": "COMMAND", "command": { "value": "test -e x" } }),
            ),
        ] {
            for host_port in [Value::Null, json!(0)] {
                let mut expected = expected.clone();
                for (key, value) in defaults.as_object().unwrap() {
                    expected[key] = value.clone();
                }
                assert_eq!(health_check(check.clone(), host_port), expected);
            }
        }
        assert_eq!(
            health_check(json!({ "protocol": "HTTP" }), Value::Null),
            Value::Null
        );
    }

    #[test]
    fn kinds_are_not_mixed() {
        let check = |protocol: &str| json!({ "protocol": protocol });
        assert!(validate(&[check("HTTP"), check("TCP")]).is_ok());
        for checks in [
            ["HTTP", "MESOS_HTTP"],
            ["MESOS_TCP", "COMMAND"],
            ["TCP", "PING"],
        ] {
            assert!(validate(&checks.map(check)).is_err(), "{checks:?}");
        }
    }

    /// Returns what Marathon asks of an instance with these addresses and a port on the host.
    fn target(mode: Mode, addresses: &[&str], host_port: Option<u16>) -> Result<String> {
        let mut definition = app(host_port.map_or(Value::Null, Value::from));
        if mode == Mode::Bridge {
            definition["networks"] = json!([{ "mode": "container/bridge" }]);
        }
        let app = App::new(&definition).unwrap();
        let instance = Instance {
            tasks: Vec::new(),
            agent: "10.77.1.1".into(),
            networks: app.networks,
            ports: app.ports,
            host_ports: vec![host_port],
            checks: Vec::new(),
        };
        let task = TaskState {
            networks: vec![TaskNetwork {
                name: "dcos".into(),
                addresses: addresses.iter().map(ToString::to_string).collect(),
            }],
            ..TaskState::default()
        };
        let check = &marathon_checks(&[json!({ "protocol": "HTTP" })]).unwrap()[0];
        check
            .target(&instance, &task)
            .map(|target| target.to_string())
    }

    #[test]
    fn marathon_asks_the_first_address_of_the_container() {
        let both = ["9.0.0.2", "fd01:b::2/80"];
        assert_eq!(target(Mode::Container, &both, None).unwrap(), "9.0.0.2:80");
        // Neither the container's port there, nor the host's address.
        assert_eq!(
            target(Mode::Container, &both, Some(31000)).unwrap(),
            "9.0.0.2:31000"
        );
        assert_eq!(
            target(Mode::Bridge, &both, Some(31000)).unwrap(),
            "10.77.1.1:31000"
        );
        assert!(target(Mode::Container, &["fd01:b::2/80"], None).is_err());
        assert!(target(Mode::Container, &[], None).is_err());
    }
}
