//! Containers that are cut off, because the host's end of their veth pair is attached to no
//! bridge: somebody deleted the bridge, or took the port out of it. The address of the
//! container tells to which bridge its port belongs.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::Desired;
use overlay_core::host_api::names::parse_bridge_name;
use overlay_core::host_api::usage::Containerizer;

use super::observed::{Kernel, LoosePort};
use super::op::{Op, Port};
use super::types::{Draining, Plan};

/// Plans that loose ports return to their bridges. Docker's bridges are created by Docker
/// alone, so ports of a missing one are reported.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, plan: &mut Plan) {
    let mut lost = BTreeMap::<&str, Vec<&str>>::new();
    for port in &kernel.loose_ports {
        let Some(bridge) = bridge_of(desired, &plan.draining, port) else {
            continue;
        };
        let bridge = bridge.to_owned();
        let Some((containerizer, overlay)) = parse_bridge_name(&bridge) else {
            continue;
        };
        let is_mesos = containerizer == Containerizer::Mesos;
        let exists = match kernel.mesos_bridges.get(&bridge) {
            Some(found) => found.is_bridge,
            // Bridges of Mesos were planned before.
            None if is_mesos => !plan.refused.contains_key(overlay),
            None => {
                let is_draining = plan.draining.iter().any(|part| part.bridge == bridge);
                is_draining || kernel.docker_bridges.contains_key(&bridge)
            }
        };
        if exists {
            let device: Arc<str> = bridge.as_str().into();
            let port = Port {
                index: port.index,
                name: port.name.as_str().into(),
            };
            plan.ops.push(Op::AttachPort(device.clone(), port.clone()));
            // As the CNI configuration says. Docker's ports have it only without its proxy.
            if is_mesos {
                plan.ops.push(Op::SetHairpin(device, port));
            }
        } else if let Some((name, _)) = desired.docker_bridges().get_key_value(bridge.as_str()) {
            lost.entry(name).or_default().push(&port.name);
        }
    }
    for (bridge, ports) in lost {
        let Some((_, overlay)) = parse_bridge_name(bridge) else {
            continue;
        };
        let sentence = format!(
            "bridge {bridge} is missing, and containers of Docker are cut off (their devices on this host: {}); \
             restart Docker and these containers",
            ports.join(", ")
        );
        plan.overlay_faults.push((overlay.to_owned(), sentence));
    }
}

/// Returns whether a port belongs to a bridge of an overlay.
pub(crate) fn is_ours(desired: &Desired, draining: &[Draining], port: &LoosePort) -> bool {
    bridge_of(desired, draining, port).is_some()
}

/// Returns the bridge that has the container's address in one of its subnets.
fn bridge_of<'a>(
    desired: &'a Desired,
    draining: &'a [Draining],
    port: &LoosePort,
) -> Option<&'a str> {
    let contains = |subnets: &[IpNet]| {
        let mut addresses = port.addresses.iter();
        addresses.any(|address| subnets.iter().any(|subnet| subnet.contains(address)))
    };
    let desired = desired
        .mesos_bridges()
        .into_iter()
        .chain(desired.docker_bridges());
    let desired = desired.map(|(name, bridge)| (name, &bridge.subnets));
    let draining = draining
        .iter()
        .map(|part| (part.bridge.as_str(), &part.subnets));
    let mut all = desired.chain(draining);
    all.find_map(|(name, subnets)| contains(subnets).then_some(name))
}

#[cfg(test)]
mod tests {
    use overlay_core::host_api::desired::{Bridge, Overlay};

    use super::*;
    use crate::reconcile::observed::{DockerBridge, MesosBridge};

    fn desired() -> Desired {
        let bridge = |name: &str, subnets: &[&str]| {
            Some(Bridge {
                name: name.into(),
                subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            })
        };
        let overlay = Overlay {
            mesos_bridge: bridge("m-dcos", &["9.0.1.0/25", "fd01:b::/81"]),
            docker_bridge: bridge("d-dcos", &["9.0.1.128/25"]),
            ..Overlay::default()
        };
        Desired {
            overlays: [("dcos".to_owned(), overlay)].into(),
            ..Desired::default()
        }
    }

    fn port(index: u32, addresses: &[&str]) -> LoosePort {
        LoosePort {
            index,
            name: format!("veth{index}"),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn lines(kernel: &Kernel, plan: &mut Plan) -> Vec<String> {
        super::plan(&desired(), kernel, plan);
        plan.ops.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_port_returns_to_the_bridge_of_its_containers_address() {
        let mut kernel = Kernel {
            loose_ports: vec![
                port(7, &["9.0.1.5"]),
                port(8, &["192.168.0.2"]),
                port(9, &["fd01:b::5"]),
                port(10, &["9.0.1.130"]),
                port(11, &[]),
            ],
            ..Kernel::default()
        };
        let mesos = [
            "attach port veth7 to bridge m-dcos",
            "set port veth7 hairpin on bridge m-dcos",
            "attach port veth9 to bridge m-dcos",
            "set port veth9 hairpin on bridge m-dcos",
        ];
        let mut plan = Plan::default();
        assert_eq!(lines(&kernel, &mut plan), mesos);
        let [(overlay, sentence)] = &plan.overlay_faults[..] else {
            panic!("{plan:?}")
        };
        assert_eq!(overlay, "dcos");
        assert!(
            sentence.starts_with("bridge d-dcos is missing") && sentence.contains("veth10"),
            "{sentence}"
        );
        let docker = [("d-dcos".to_owned(), DockerBridge::default())];
        kernel.docker_bridges = docker.into();
        let mut plan = Plan::default();
        let with_docker = lines(&kernel, &mut plan);
        assert_eq!(with_docker[..4], mesos);
        assert_eq!(with_docker[4..], ["attach port veth10 to bridge d-dcos"]);
        assert!(plan.overlay_faults.is_empty());
    }

    #[test]
    fn no_port_goes_to_what_is_no_bridge_or_was_refused() {
        let loose_ports = vec![port(7, &["9.0.1.5"])];
        let device = [("m-dcos".to_owned(), MesosBridge::default())];
        let kernel = Kernel {
            loose_ports: loose_ports.clone(),
            mesos_bridges: device.into(),
            ..Kernel::default()
        };
        assert_eq!(lines(&kernel, &mut Plan::default()), [""; 0]);
        let kernel = Kernel {
            loose_ports,
            ..Kernel::default()
        };
        let mut refused = Plan {
            refused: [("dcos".to_owned(), "collision".to_owned())].into(),
            ..Plan::default()
        };
        assert_eq!(lines(&kernel, &mut refused), [""; 0]);
    }
}
