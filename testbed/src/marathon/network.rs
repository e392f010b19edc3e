//! Networks and ports of definitions, and what Mesos gets of them.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value, json};

use super::{BRIDGE, labels, members};

/// Mode of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The network of the agent's host.
    Host,
    /// A bridge on the agent's host, with ports mapped.
    Bridge,
    /// A network with a name.
    Container,
}

/// A network of a definition.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Mode.
    pub mode: Mode,
    /// Name in Mesos: that of the network, or of Mesos's bridge network; empty in mode `host`.
    pub name: String,
    /// Labels, for the network's plugins.
    pub labels: Map<String, Value>,
}

/// A port of a definition: of `portMappings`, `portDefinitions`, or an endpoint of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    /// Name.
    pub name: Option<String>,
    /// Port in the container; 0: the same as on the host. `None` on the network of the host.
    pub container: Option<u16>,
    /// Port on the host; 0: any. `None`: no port on the host.
    pub host: Option<u16>,
    /// Protocols: `tcp`, `udp`.
    pub protocols: Vec<String>,
    /// Labels.
    pub labels: Map<String, Value>,
    /// Networks whose port is mapped; empty: all.
    pub networks: Vec<String>,
}

/// Reads `networks`, whose default is the network of the host.
///
/// # Errors
/// A mode is unknown, modes are mixed, or a network has no name.
pub fn networks(definition: &Value) -> Result<Vec<Network>> {
    let given = definition["networks"].as_array().cloned();
    let given = given.filter(|given| !given.is_empty());
    let given = given.unwrap_or_else(|| vec![json!({ "mode": "host" })]);
    let networks = given.iter().map(network).collect::<Result<Vec<_>>>()?;
    let mode = networks.first().map_or(Mode::Host, |network| network.mode);
    ensure!(
        networks.iter().all(|network| network.mode == mode),
        "networks of several modes"
    );
    ensure!(
        networks.len() == 1 || mode == Mode::Container,
        "several networks that are not of mode container"
    );
    Ok(networks)
}

fn network(given: &Value) -> Result<Network> {
    let name = given["name"].as_str();
    let (mode, name) = match given["mode"].as_str() {
        Some("host") => (Mode::Host, ""),
        Some("container/bridge") => (Mode::Bridge, BRIDGE),
        // The default of the mode is `container`, not `host`.
        Some("container") | None => (
            Mode::Container,
            name.context("a container network without a name, and no default_network_name")?,
        ),
        Some(other) => bail!("networks: mode {other:?}"),
    };
    Ok(Network {
        mode,
        name: name.to_owned(),
        labels: members(&given["labels"]),
    })
}

/// Reads a port of `portMappings` or of a pod's `endpoints`. `bridge` makes the port on the host
/// default to any.
///
/// # Errors
/// A port is not a number up to 65535, or a protocol is unknown.
pub fn mapping(given: &Value, bridge: bool) -> Result<Port> {
    let number = |key: &str| -> Result<Option<u16>> {
        if given[key].is_null() {
            return Ok(None);
        }
        let number = given[key].as_u64().with_context(|| key.to_owned())?;
        Ok(Some(u16::try_from(number).with_context(|| key.to_owned())?))
    };
    let host = number("hostPort")?.or(bridge.then_some(0));
    Ok(Port {
        name: given["name"].as_str().map(str::to_owned),
        container: Some(number("containerPort")?.unwrap_or(0)),
        host,
        protocols: protocols(&given["protocol"])?,
        labels: members(&given["labels"]),
        networks: texts(&given["networkNames"]),
    })
}

/// Reads a port of `portDefinitions`.
///
/// # Errors
/// As those of [`mapping`].
pub fn definition(given: &Value) -> Result<Port> {
    let port = mapping(&json!({ "hostPort": given["port"] }), true)?;
    Ok(Port {
        name: given["name"].as_str().map(str::to_owned),
        container: None,
        protocols: protocols(&given["protocol"])?,
        labels: members(&given["labels"]),
        ..port
    })
}

/// Reads `"tcp"`, `"udp,tcp"` or, of pods, `["tcp"]`.
fn protocols(given: &Value) -> Result<Vec<String>> {
    let all = match given {
        Value::Null => vec!["tcp".to_owned()],
        Value::Array(_) => texts(given),
        _ => {
            let text = given.as_str().context("protocol")?;
            text.split(',').map(str::to_owned).collect()
        }
    };
    let known = |protocol: &String| ["tcp", "udp"].contains(&protocol.as_str());
    ensure!(all.iter().all(known), "protocol {given}");
    Ok(all)
}

fn texts(given: &Value) -> Vec<String> {
    let texts = given.as_array().into_iter().flatten();
    texts
        .filter_map(|text| text.as_str().map(str::to_owned))
        .collect()
}

/// Assigns a port of the offer to each port that asks for one on the host.
///
/// # Errors
/// The offer does not have it, or has too few.
pub fn assign(ports: &[Port], offer: &Value) -> Result<Vec<Option<u16>>> {
    let resources = offer["resources"].as_array().into_iter().flatten();
    let ranges = resources
        .filter(|resource| resource["name"] == "ports")
        .filter_map(|resource| resource["ranges"]["range"].as_array())
        .flatten();
    let mut free: Vec<u16> = ranges
        .filter_map(|range| {
            let bound = |key: &str| u16::try_from(range[key].as_u64()?).ok();
            Some(bound("begin")?..=bound("end")?)
        })
        .flatten()
        .collect();
    let mut take = |wanted: u16| -> Result<u16> {
        let index = free.iter().position(|port| wanted == 0 || *port == wanted);
        let index = index.with_context(|| format!("the offer has no port {wanted}"))?;
        Ok(free.remove(index))
    };
    // Those that ask for a certain port come first, so that nobody else takes it.
    let mut assigned: Vec<Option<u16>> = vec![None; ports.len()];
    for certain in [true, false] {
        for (port, slot) in ports.iter().zip(&mut assigned) {
            if let Some(wanted) = port.host.filter(|wanted| (*wanted != 0) == certain) {
                *slot = Some(take(wanted)?);
            }
        }
    }
    Ok(assigned)
}

/// Returns a port of the container, which may be that of the host.
pub fn container_port(port: &Port, assigned: Option<u16>) -> Option<u16> {
    match port.container {
        Some(0) => assigned.or(Some(0)),
        other => other,
    }
}

/// Returns `DiscoveryInfo.ports`.
///
/// A port on the host is announced once for each protocol, with the label `network-scope` = `host`;
/// another one for each protocol and each of its networks, with `network-scope` = `container` and
/// `network-name`. On the network of the host there are no such labels.
pub fn discovery(networks: &[Network], ports: &[Port], assigned: &[Option<u16>]) -> Vec<Value> {
    let mut all = Vec::new();
    let on_host = networks.iter().all(|network| network.mode == Mode::Host);
    for (port, assigned) in ports.iter().zip(assigned) {
        for protocol in &port.protocols {
            let mut add = |number: u16, more: &[(&str, &str)]| {
                let mut map = port.labels.clone();
                for (key, value) in more {
                    map.insert((*key).to_owned(), (*value).into());
                }
                let mut announced = json!({ "number": number, "protocol": protocol });
                if let Some(name) = &port.name {
                    announced["name"] = name.clone().into();
                }
                if !map.is_empty() {
                    announced["labels"] = labels(&map);
                }
                all.push(announced);
            };
            match assigned {
                Some(number) if on_host => add(*number, &[]),
                Some(number) => add(*number, &[("network-scope", "host")]),
                None => {
                    let named = networks
                        .iter()
                        .filter(|network| network.mode == Mode::Container)
                        .filter(|network| belongs(port, network));
                    for network in named {
                        let name = network.name.as_str();
                        let scope = [("network-scope", "container"), ("network-name", name)];
                        add(port.container.unwrap_or(0), &scope);
                    }
                }
            }
        }
    }
    all
}

fn belongs(port: &Port, network: &Network) -> bool {
    port.networks.is_empty() || port.networks.contains(&network.name)
}

/// Returns `NetworkInfo`s for Mesos's containerizer, with mappings of the ports on the host.
/// `each_protocol` makes a mapping for each protocol, as for pods; apps have one with all.
pub fn network_infos(
    networks: &[Network],
    ports: &[Port],
    assigned: &[Option<u16>],
    each_protocol: bool,
) -> Vec<Value> {
    let info = |network: &Network| {
        let mut mappings = Vec::new();
        for (port, assigned) in ports.iter().zip(assigned) {
            let Some(host) = assigned.filter(|_| belongs(port, network)) else {
                continue;
            };
            let protocols = match each_protocol {
                true => port.protocols.clone(),
                false => vec![port.protocols.join(",")],
            };
            let container = container_port(port, Some(host));
            mappings.extend(protocols.iter().map(|protocol| {
                json!({ "host_port": host, "container_port": container, "protocol": protocol })
            }));
        }
        json!({ "name": network.name, "labels": labels(&network.labels), "port_mappings": mappings })
    };
    let networks = networks.iter().filter(|network| network.mode != Mode::Host);
    networks.map(info).collect()
}
