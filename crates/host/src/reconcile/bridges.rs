//! The bridges of Mesos's containers, where these have IPv6.
//!
//! The CNI plugin makes a bridge when the first container comes, and gives it the
//! gateway's addresses. The kernel then takes one or two seconds to find out whether
//! somebody else has the IPv6 one (duplicate address detection), and as long nobody
//! reaches the container. A bridge that is there with its addresses the plugin takes as
//! it is. With IPv4 alone there is nothing to gain.
//!
//! Docker makes its bridges itself, before their first container, and the kernel begins
//! to look for duplicates when that comes. An address that is set anew before is not
//! looked for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use overlay_core::host_api::desired::{Backend, Bridge, Desired, Mac};

use super::observed::{FoundBridge, Kernel};
use super::{DeviceChange, Op, Plan};

/// The bridges that there should be, with their addresses; none where the data plane is
/// somebody else's.
pub(crate) fn wanted(desired: &Desired) -> BTreeMap<&str, BTreeSet<IpNet>> {
    let overlays = desired
        .overlays
        .values()
        .filter(|_| desired.backend == Backend::Internal);
    let bridges = overlays.filter_map(|overlay| overlay.mesos_bridge.as_ref());
    let with_ipv6 =
        bridges.filter(|bridge| bridge.subnets.iter().any(|subnet| subnet.addr().is_ipv6()));
    with_ipv6
        .map(|bridge| (bridge.name.as_str(), gateways(bridge)))
        .collect()
}

/// The addresses of a bridge: in each subnet the first one, as `host-local` tells the
/// containers.
fn gateways(bridge: &Bridge) -> BTreeSet<IpNet> {
    let gateway = |subnet: &IpNet| {
        let first = match subnet.network() {
            IpAddr::V4(ip) => Ipv4Addr::from(u32::from(ip).checked_add(1)?).into(),
            IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip).checked_add(1)?).into(),
        };
        // There must be one left for a container.
        let roomy = subnet.max_prefix_len() - subnet.prefix_len() >= 2;
        IpNet::new(first, subnet.prefix_len())
            .ok()
            .filter(|_| roomy)
    };
    bridge.subnets.iter().filter_map(gateway).collect()
}

/// A hardware address that is the same whenever the bridge is made anew, so that
/// containers need not find it out again.
fn mac(addresses: &BTreeSet<IpNet>) -> Mac {
    let [a, b, c, d] = match addresses.first().map(IpNet::addr) {
        Some(IpAddr::V4(ip)) => ip.octets(),
        Some(IpAddr::V6(ip)) => (u128::from(ip) as u32).to_be_bytes(),
        None => [0; 4],
    };
    Mac([0x02, 0x42, a, b, c, d])
}

/// Plans them.
pub(super) fn plan(desired: &Desired, kernel: &Kernel, plan: &mut Plan) {
    for (name, addresses) in wanted(desired) {
        let device: Arc<str> = name.into();
        let missing = match kernel.wanted_bridges.get(name) {
            None => {
                plan.ops
                    .push(Op::AddBridge(device.clone(), mac(&addresses)));
                plan.ops.push(Op::SkipDad(device.clone()));
                addresses
            }
            Some(FoundBridge {
                is_bridge: false, ..
            }) => {
                plan.problems.push(format!(
                    "cannot have bridge {name}: there is a device of this name that is no bridge; remove or \
                     rename it"
                ));
                continue;
            }
            Some(found) => {
                if !found.up {
                    plan.ops
                        .push(Op::SetDevice(device.clone(), DeviceChange::Up));
                }
                if found.detects_duplicates {
                    plan.ops.push(Op::SkipDad(device.clone()));
                }
                let there = remove_wrong(&device, &addresses, found, plan);
                addresses.difference(&there).copied().collect()
            }
        };
        plan.ops.extend(
            missing
                .into_iter()
                .map(|net| Op::AddAddress(device.clone(), net)),
        );
    }
}

/// The names of Docker's bridges that there should be with IPv6.
pub(crate) fn dockers(desired: &Desired) -> BTreeSet<&str> {
    let overlays = desired
        .overlays
        .values()
        .filter(|_| desired.backend == Backend::Internal);
    let bridges = overlays.filter_map(|overlay| overlay.docker_bridge.as_ref());
    let with_ipv6 =
        bridges.filter(|bridge| bridge.subnets.iter().any(|subnet| subnet.addr().is_ipv6()));
    with_ipv6.map(|bridge| bridge.name.as_str()).collect()
}

/// Lets the addresses of Docker's bridges be used at once. Not from under containers.
pub(super) fn settle_dockers(kernel: &Kernel, plan: &mut Plan) {
    for (name, found) in kernel
        .dockers_bridges
        .iter()
        .filter(|(_, found)| found.ports == 0)
    {
        let device: Arc<str> = name.as_str().into();
        for net in &found.tentative {
            plan.ops.push(Op::RemoveAddress(device.clone(), *net));
            plan.ops.push(Op::AddAddress(device.clone(), *net));
        }
    }
}

/// Takes away addresses of another subnet that the agent had before: the plugin adds no
/// container to a bridge that has one. Not from under containers, who need it. Gives
/// what is there afterwards.
fn remove_wrong(
    device: &Arc<str>,
    wanted: &BTreeSet<IpNet>,
    found: &FoundBridge,
    plan: &mut Plan,
) -> BTreeSet<IpNet> {
    let mut there = found.addresses.clone();
    let overlaps = |net: &IpNet| {
        wanted
            .iter()
            .any(|other| other.contains(net) || net.contains(other))
    };
    let wrong = |net: &&IpNet| !wanted.contains(net) && (net.addr().is_ipv4() || overlaps(net));
    for wrong in found
        .addresses
        .iter()
        .filter(wrong)
        .filter(|_| found.ports == 0)
    {
        plan.ops.push(Op::RemoveAddress(device.clone(), *wrong));
        // The kernel may take others of the same subnet with it.
        there.retain(|other| other.trunc() != wrong.trunc());
    }
    there
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::observed::DockersBridge;
    use overlay_core::host_api::desired::Overlay;

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

    /// What is planned where there is this.
    fn lines(desired: &Desired, found: Option<FoundBridge>) -> Vec<String> {
        let wanted_bridges = found
            .map(|found| ("m-dcos".to_owned(), found))
            .into_iter()
            .collect();
        let mut plan = Plan::default();
        super::plan(
            desired,
            &Kernel {
                wanted_bridges,
                ..Kernel::default()
            },
            &mut plan,
        );
        plan.ops
            .iter()
            .map(ToString::to_string)
            .chain(plan.problems)
            .collect()
    }

    fn found(addresses: &[&str], ports: usize) -> Option<FoundBridge> {
        let addresses = addresses.iter().map(|text| net(text)).collect();
        Some(FoundBridge {
            is_bridge: true,
            up: true,
            ports,
            addresses,
            detects_duplicates: false,
        })
    }

    #[test]
    fn a_bridge_with_ipv6_is_made_before_its_first_container() {
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
            none,
            "the plugin does it as well"
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
        let down = FoundBridge {
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
    fn the_addresses_of_former_subnets_go_when_no_container_has_them() {
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
        // One that the kernel takes away with another one comes back.
        let both = &["9.0.1.1/25", "9.0.1.9/25", "fd01:b::1/81"];
        assert_eq!(
            lines(&desired(BOTH), found(both, 0)),
            [removed[0], after[0]]
        );
    }

    #[test]
    fn dockers_addresses_are_settled_before_the_first_container() {
        let planned = |ports| {
            let found = DockersBridge {
                ports,
                tentative: [net("fd01:b::8000:0:1/81")].into(),
            };
            let dockers_bridges = [("d-dcos".to_owned(), found)].into();
            let mut plan = Plan::default();
            settle_dockers(
                &Kernel {
                    dockers_bridges,
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
    fn what_is_no_bridge_stays() {
        let hardware = FoundBridge {
            is_bridge: false,
            ..found(&[], 0).unwrap()
        };
        assert_eq!(
            lines(&desired(BOTH), Some(hardware)),
            [
                "cannot have bridge m-dcos: there is a device of this name that is no bridge; remove or rename it"
            ]
        );
    }

    /// A bridge's own address is the first one of each subnet that has room for more.
    #[test]
    fn subnets_without_room_for_a_container_have_no_gateway() {
        let of = |subnets: &[&str]| {
            let subnets = subnets.iter().map(|text| net(text)).collect();
            gateways(&Bridge {
                name: "m-dcos".into(),
                subnets,
            })
        };
        for (subnet, gateway) in [
            ("9.0.1.4/30", Some("9.0.1.5/30")),
            ("9.0.1.4/31", None),
            ("9.0.1.4/32", None),
            ("fd01:b::4/126", Some("fd01:b::5/126")),
            ("fd01:b::4/127", None),
            ("fd01:b::4/128", None),
            // Whatever address it is written with.
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
    fn wrong_addresses_of_ipv6_go_where_they_overlap_ours() {
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
    fn a_bridge_of_ipv6_alone_has_an_address_of_its_own_too() {
        assert_eq!(
            lines(&desired(&["fd01:b::/81"]), None)[0],
            "add device m-dcos bridge address 02:42:00:00:00:01"
        );
    }

    #[test]
    fn dockers_bridges_matter_where_they_have_ipv6_and_are_ours_to_see_to() {
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
            let names: Vec<String> = dockers(&desired).into_iter().map(str::to_owned).collect();
            names
        };
        assert_eq!(docker(BOTH, Backend::Internal), ["d-dcos"]);
        assert_eq!(docker(&["9.0.1.128/25"], Backend::Internal), [""; 0]);
        assert_eq!(docker(BOTH, Backend::External), [""; 0]);
        assert_eq!(dockers(&desired(BOTH)).len(), 0, "that one is of Mesos");
    }
}
