//! Mesos's bridges, and Docker's.
//!
//! The CNI plugin creates a bridge for the first container and adds the gateway's addresses.
//! It takes an existing bridge with its addresses as it is, so this module creates the bridge
//! before, and looks after it: containers whose bridge is gone, is down or has lost its
//! addresses are cut off. Besides, the kernel takes one or two seconds to find out whether
//! another host has a new IPv6 address (duplicate address detection), in which nobody would
//! reach the first container.
//!
//! Docker creates its bridges itself, before the first container, and the kernel begins the
//! detection when the container comes. An address that is set again before that is exempt.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Desired, Mac};
use overlay_core::host_api::names::parse_bridge_name;
use overlay_core::host_api::problem::{Problem, ProblemKind};
use overlay_core::util::family::Family;

use super::observed::{DeviceDefaults, Kernel, MesosBridge};
use super::op::{DeviceChange, Op};
use super::types::Plan;

/// Returns a hardware address that a bridge keeps when it is created again, so that
/// containers need not resolve it again.
fn mac(addresses: &BTreeSet<IpNet>) -> Mac {
    let [a, b, c, d] = match addresses.first().map(IpNet::addr) {
        Some(IpAddr::V4(ip)) => ip.octets(),
        Some(IpAddr::V6(ip)) => (u128::from(ip) as u32).to_be_bytes(),
        None => [0; 4],
    };
    Mac([0x02, 0x42, a, b, c, d])
}

/// Plans Mesos's bridges.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, defaults: &DeviceDefaults, plan: &mut Plan) {
    for (name, bridge) in desired.mesos_bridges() {
        let (addresses, has_ipv6) = (bridge.gateways(), bridge.has(Family::V6));
        let refused = |overlay| plan.refused.contains_key(overlay);
        if parse_bridge_name(name).is_some_and(|(_, overlay)| refused(overlay)) {
            continue;
        }
        let device: Arc<str> = name.into();
        let missing = match kernel.mesos_bridges.get(name) {
            None => {
                let mac = mac(&addresses);
                plan.ops.push(Op::AddBridge(device.clone(), mac));
                if has_ipv6 {
                    plan.ops.push(Op::SkipDad(device.clone()));
                    if defaults.is_without_ipv6 {
                        plan.ops.push(Op::EnableIpv6(device.clone()));
                    }
                }
                addresses
            }
            Some(bridge) if !bridge.is_bridge => {
                let text = format!(
                    "cannot create bridge {name}: there is a device of this name that is no bridge; remove or \
                     rename it"
                );
                let problem = Problem::new(ProblemKind::Bridge, name, text);
                plan.problems.push(problem);
                continue;
            }
            Some(bridge) => {
                if !bridge.up {
                    let op = Op::SetDevice(device.clone(), DeviceChange::Up);
                    plan.ops.push(op);
                }
                if has_ipv6 && bridge.detects_duplicates {
                    plan.ops.push(Op::SkipDad(device.clone()));
                }
                if has_ipv6 && bridge.is_without_ipv6 {
                    plan.ops.push(Op::EnableIpv6(device.clone()));
                }
                let overlays = desired.overlays.values();
                let ranges: Vec<&IpNet> = overlays.flat_map(|overlay| &overlay.ranges).collect();
                let remaining = remove_wrong(&device, &addresses, &ranges, bridge, plan);
                addresses.difference(&remaining).copied().collect()
            }
        };
        let missing = missing.into_iter();
        plan.ops
            .extend(missing.map(|net| Op::AddAddress(device.clone(), net)));
    }
}

/// Plans that the addresses of Docker's bridges can be used at once. A bridge with containers
/// stays as it is.
pub(super) fn plan_docker(kernel: &Kernel, plan: &mut Plan) {
    for (name, bridge) in &kernel.docker_bridges {
        if bridge.ports > 0 {
            continue;
        }
        let device: Arc<str> = name.as_str().into();
        for net in &bridge.tentative {
            plan.ops.push(Op::RemoveAddress(device.clone(), *net));
            plan.ops.push(Op::AddAddress(device.clone(), *net));
        }
    }
}

/// Plans the removal of addresses of subnets that the agent had before: the plugin adds no
/// container to a bridge with such an address of IPv4, and a peer can have such a subnet. `ranges`
/// are those of the overlays. A bridge with containers, which need them, keeps them. Returns the
/// remaining addresses.
fn remove_wrong(
    device: &Arc<str>,
    wanted: &BTreeSet<IpNet>,
    ranges: &[&IpNet],
    bridge: &MesosBridge,
    plan: &mut Plan,
) -> BTreeSet<IpNet> {
    let mut remaining = bridge.addresses.clone();
    if bridge.ports > 0 {
        return remaining;
    }
    let overlaps = |net: &IpNet| {
        let mut ours = wanted.iter().chain(ranges.iter().copied());
        ours.any(|other| other.contains(net) || net.contains(other))
    };
    let is_wrong =
        |net: &&IpNet| !wanted.contains(*net) && (Family::V4.includes(**net) || overlaps(net));
    for wrong in bridge.addresses.iter().filter(is_wrong) {
        plan.ops.push(Op::RemoveAddress(device.clone(), *wrong));
        // The kernel may remove others of the same subnet with it.
        remaining.retain(|other| other.trunc() != wrong.trunc());
    }
    remaining
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::observed::DockerBridge;
    use overlay_core::host_api::desired::{Backend, Bridge, Overlay};

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn desired(subnets: &[&str]) -> Desired {
        let subnets = subnets.iter().map(|text| net(text)).collect();
        let mesos_bridge = Some(Bridge {
            name: "m-dcos".into(),
            subnets,
        });
        let overlays = [(
            "dcos".to_owned(),
            Overlay {
                mesos_bridge,
                ..Overlay::default()
            },
        )];
        Desired {
            overlays: overlays.into(),
            ..Desired::default()
        }
    }

    const BOTH: &[&str] = &["9.0.1.0/25", "fd01:b::/81"];

    /// Returns the plan for a host with this bridge.
    fn lines(desired: &Desired, found: Option<MesosBridge>) -> Vec<String> {
        let mesos_bridges = found
            .map(|found| ("m-dcos".to_owned(), found))
            .into_iter()
            .collect();
        let mut plan = Plan::default();
        super::plan(
            desired,
            &Kernel {
                mesos_bridges,
                ..Kernel::default()
            },
            &DeviceDefaults::default(),
            &mut plan,
        );
        plan.ops
            .iter()
            .map(ToString::to_string)
            .chain(Problem::texts(&plan.problems))
            .collect()
    }

    fn found(addresses: &[&str], ports: usize) -> Option<MesosBridge> {
        let addresses = addresses.iter().map(|text| net(text)).collect();
        Some(MesosBridge {
            is_bridge: true,
            up: true,
            ports,
            addresses,
            detects_duplicates: false,
            is_without_ipv6: false,
        })
    }

    #[test]
    fn a_bridge_is_made_before_its_first_container_and_kept() {
        assert_eq!(
            lines(&desired(BOTH), None),
            [
                "add device m-dcos bridge address 02:42:09:00:01:01",
                "set device m-dcos accept_dad 0",
                "add address 9.0.1.1/25 dev m-dcos",
                "add address fd01:b::1/81 dev m-dcos",
            ]
        );
        let none = [""; 0];
        assert_eq!(
            lines(&desired(&["9.0.1.0/25"]), None),
            [
                "add device m-dcos bridge address 02:42:09:00:01:01",
                "add address 9.0.1.1/25 dev m-dcos",
            ]
        );
        let flushed = MesosBridge {
            up: false,
            detects_duplicates: true,
            ..found(&[], 1).unwrap()
        };
        assert_eq!(
            lines(&desired(&["9.0.1.0/25"]), Some(flushed)),
            ["set device m-dcos up", "add address 9.0.1.1/25 dev m-dcos"]
        );
        let external = Desired {
            backend: Backend::External,
            ..desired(BOTH)
        };
        assert_eq!(lines(&external, None), none);
        assert_eq!(
            lines(&desired(BOTH), found(&["9.0.1.1/25", "fd01:b::1/81"], 3)),
            none
        );
        let down = MesosBridge {
            up: false,
            detects_duplicates: true,
            ..found(&["9.0.1.1/25"], 1).unwrap()
        };
        assert_eq!(
            lines(&desired(BOTH), Some(down)),
            [
                "set device m-dcos up",
                "set device m-dcos accept_dad 0",
                "add address fd01:b::1/81 dev m-dcos"
            ]
        );
    }

    #[test]
    fn addresses_of_former_subnets_are_removed_once_no_container_needs_them() {
        let before = &["9.0.2.1/25", "9.0.1.9/25", "fd01:c::1/81"];
        let after = [
            "add address 9.0.1.1/25 dev m-dcos",
            "add address fd01:b::1/81 dev m-dcos",
        ];
        assert_eq!(lines(&desired(BOTH), found(before, 1)), after);
        let removed = [
            "remove address 9.0.1.9/25 dev m-dcos",
            "remove address 9.0.2.1/25 dev m-dcos",
        ];
        assert_eq!(
            lines(&desired(BOTH), found(before, 0)),
            [removed, after].concat()
        );
        // An address that the kernel removes with another one is restored.
        let both = &["9.0.1.1/25", "9.0.1.9/25", "fd01:b::1/81"];
        assert_eq!(
            lines(&desired(BOTH), found(both, 0)),
            [removed[0], after[0]]
        );
    }

    #[test]
    fn addresses_of_docker_can_be_used_before_the_first_container() {
        let planned = |ports| {
            let found = DockerBridge {
                ports,
                tentative: [net("fd01:b::8000:0:1/81")].into(),
            };
            let docker_bridges = [("d-dcos".to_owned(), found)].into();
            let mut plan = Plan::default();
            plan_docker(
                &Kernel {
                    docker_bridges,
                    ..Kernel::default()
                },
                &mut plan,
            );
            plan.ops.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let address = "address fd01:b::8000:0:1/81 dev d-dcos";
        assert_eq!(
            planned(0),
            [format!("remove {address}"), format!("add {address}")]
        );
        assert_eq!(planned(1), [""; 0]);
    }

    #[test]
    fn a_device_that_is_no_bridge_stays() {
        let hardware = MesosBridge {
            is_bridge: false,
            ..found(&[], 0).unwrap()
        };
        assert_eq!(
            lines(&desired(BOTH), Some(hardware)),
            [
                "cannot create bridge m-dcos: there is a device of this name that is no bridge; remove or rename it"
            ]
        );
    }

    /// The gateway is the first address of a subnet with room for containers.
    #[test]
    fn subnets_without_room_for_a_container_have_no_gateway() {
        let of = |subnets: &[&str]| {
            let subnets = subnets.iter().map(|text| net(text)).collect();
            Bridge {
                name: "m-dcos".into(),
                subnets,
            }
            .gateways()
        };
        for (subnet, gateway) in [
            ("9.0.1.4/30", Some("9.0.1.5/30")),
            ("9.0.1.4/31", None),
            ("9.0.1.4/32", None),
            ("fd01:b::4/126", Some("fd01:b::5/126")),
            ("fd01:b::4/127", None),
            ("fd01:b::4/128", None),
            // The prefix counts, not the address.
            ("9.0.1.9/25", Some("9.0.1.1/25")),
        ] {
            assert_eq!(
                of(&[subnet]),
                gateway.map(net).into_iter().collect(),
                "{subnet}"
            );
        }
    }

    #[test]
    fn wrong_ipv6_addresses_are_removed_where_they_overlap_ours() {
        let right = ["9.0.1.1/25", "fd01:b::1/81"];
        for (wrong, goes) in [
            ("fd01:b::9/81", true),
            ("fd01:b::1/64", true),
            ("fd01:b::9/128", true),
            ("fd77::1/64", false),
        ] {
            let planned = lines(&desired(BOTH), found(&[right[0], right[1], wrong], 0));
            let removal = format!("remove address {wrong} dev m-dcos");
            assert_eq!(planned.contains(&removal), goes, "{planned:?}");
            assert_eq!(
                lines(&desired(BOTH), found(&[right[0], right[1], wrong], 1)),
                [""; 0]
            );
        }
    }

    #[test]
    fn a_bridge_with_ipv6_alone_has_a_hardware_address_too() {
        assert_eq!(
            lines(&desired(&["fd01:b::/81"]), None)[0],
            "add device m-dcos bridge address 02:42:00:00:00:01"
        );
    }

    #[test]
    fn bridges_are_looked_after_with_the_internal_backend() {
        let docker = |subnets: &[&str], backend| {
            let subnets = subnets.iter().map(|text| net(text)).collect();
            let docker_bridge = Some(Bridge {
                name: "d-dcos".into(),
                subnets,
            });
            let overlays = [(
                "dcos".to_owned(),
                Overlay {
                    docker_bridge,
                    ..Overlay::default()
                },
            )];
            let desired = Desired {
                backend,
                overlays: overlays.into(),
                ..Desired::default()
            };
            let names = desired.docker_bridges().into_keys();
            let names: Vec<String> = names.map(str::to_owned).collect();
            names
        };
        assert_eq!(docker(BOTH, Backend::Internal), ["d-dcos"]);
        assert_eq!(docker(&["9.0.1.128/25"], Backend::Internal), ["d-dcos"]);
        assert_eq!(docker(BOTH, Backend::External), [""; 0]);
        assert_eq!(desired(BOTH).docker_bridges().len(), 0, "a bridge of Mesos");
    }
}
