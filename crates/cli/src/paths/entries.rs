//! Entries of this host's kernel for a peer, compared with what the master says.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use overlay_core::host_api::desired::Mac;
use overlay_core::util::family::Family;
use overlay_host::reconcile::MAIN_TABLE;
use overlay_host::reconcile::observed::{Device, DeviceKind, Route};

use super::local::Local;
use crate::answers::Agent;
use crate::finding::kinds::path;
use crate::finding::{Finding, Kind};

/// Entry or device that is not as the master says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind of finding.
    pub kind: &'static Kind,
    /// Description, which continues "… : " or stands alone, without a full stop.
    pub sentence: String,
}

impl Fault {
    /// Returns the finding about this fault of the host with the agent `own`.
    pub fn finding(&self, own: Ipv4Addr, subject: impl ToString) -> Finding {
        let remedy = format!(
            "Start the agent on this host if it does not run; otherwise it repairs that within seconds, unless something keeps it from it: see host_errors in http://{own}:5051/overlay-agent/overlay and the warnings in its log"
        );
        self.kind
            .finding(self.sentence.clone(), remedy)
            .about(subject)
    }
}

/// Returns what is wrong with the VXLAN device of this host itself.
pub fn device_fault(local: &Local, own: &Agent) -> Option<Fault> {
    let vxlan = own.vxlan()?;
    let name = &vxlan.vtep_name;
    let fault = |sentence: String| {
        Some(Fault {
            kind: &path::DEVICE_WRONG,
            sentence,
        })
    };
    let Some(device) = &local.device else {
        return fault(format!(
            "this host has no device {name}, through which its containers reach other hosts"
        ));
    };
    if !matches!(device.kind, DeviceKind::Vxlan { .. }) {
        return fault(format!("{name} of this host is no VXLAN device"));
    }
    if !device.up {
        return fault(format!("the device {name} of this host is down"));
    }
    if let Some(mac) = own.vtep_mac().filter(|mac| *mac != device.mac) {
        return fault(format!(
            "{name} of this host has the address {}, the master says {mac}",
            device.mac
        ));
    }
    let has = |ip: IpAddr| device.addresses.iter().any(|net| net.addr() == ip);
    let missing = own.vteps().find(|ip| {
        // Without IPv6 on the host the overlays work with IPv4.
        ip.is_ipv4() && !has(*ip)
    });
    match missing {
        Some(ip) => fault(format!(
            "{name} of this host does not have the address {ip}"
        )),
        None => None,
    }
}

/// Returns the rules that are missing on this host, by overlay.
pub fn rule_faults(local: &Local, own: &Agent) -> Vec<(String, Fault)> {
    let mut faults = Vec::new();
    for overlay in &own.overlays {
        for range in overlay.info.ranges() {
            if !has_family(local.device.as_ref(), Family::from(range)) {
                continue;
            }
            let mut rules = local.rules.iter();
            if !rules.any(|rule| rule.from == range.trunc() && rule.table == local.table) {
                let sentence = format!(
                    "the rule \"from {} lookup {}\" is missing, so that packets of this host's containers to other hosts' own addresses do not go through the tunnel",
                    range.trunc(),
                    local.table
                );
                let fault = Fault {
                    kind: &path::RULE_MISSING,
                    sentence,
                };
                faults.push((overlay.info.name.clone(), fault));
            }
        }
    }
    faults
}

/// Returns the first entry for a peer that is not as the master says.
pub fn peer_fault(device: &Device, table: u32, peer: &Agent) -> Option<Fault> {
    let mac = peer.vtep_mac()?;
    let vteps = peer.vteps();
    let mut vteps = vteps.filter(|vtep| has_family(Some(device), Family::from(*vtep)));
    vteps
        .find_map(|vtep| neighbour_fault(device, vtep, mac))
        .or_else(|| fdb_fault(device, mac, peer.ip))
        .or_else(|| route_fault(device, table, peer))
}

/// Returns what is wrong with the neighbour entry of a tunnel's end.
pub fn neighbour_fault(device: &Device, vtep: IpAddr, mac: Mac) -> Option<Fault> {
    let found = device.neighbours.get(&vtep);
    let found = found.and_then(|neighbour| neighbour.mac);
    let sentence = match found {
        Some(found) if found == mac => return None,
        Some(found) => {
            format!("the neighbour entry of {vtep} is {found}, the master says {mac}")
        }
        None => format!("the neighbour entry of {vtep} is missing, the master says {mac}"),
    };
    Some(Fault {
        kind: &path::NEIGHBOUR_WRONG,
        sentence,
    })
}

/// Returns where a VXLAN device sends packets to a hardware address.
pub fn fdb_destinations(device: &Device, mac: Mac) -> Vec<IpAddr> {
    let first = (mac, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let entries = device.fdb.range(first..);
    let entries = entries.take_while(|((found, _), _)| *found == mac);
    entries.map(|((_, to), _)| *to).collect()
}

/// Returns what is wrong with the FDB entry of a tunnel's end.
pub fn fdb_fault(device: &Device, mac: Mac, host: Ipv4Addr) -> Option<Fault> {
    let destinations = fdb_destinations(device, mac);
    let sentence = match destinations.as_slice() {
        [only] if *only == IpAddr::V4(host) => return None,
        [] => format!("the FDB entry {mac} is missing, the master says {host}"),
        [other, ..] if destinations.contains(&host.into()) => {
            format!("the FDB entry {mac} points to {other} as well, the master says {host}")
        }
        [other, ..] => format!("the FDB entry {mac} points to {other}, the master says {host}"),
    };
    Some(Fault {
        kind: &path::FDB_WRONG,
        sentence,
    })
}

/// Returns what is wrong with the routes to a peer's subnets and to the peer itself.
fn route_fault(device: &Device, table: u32, peer: &Agent) -> Option<Fault> {
    let to_subnets = peer.overlays.iter().flat_map(|overlay| overlay.subnets());
    let mut wanted: Vec<(u32, IpNet)> = to_subnets
        .map(|subnet| (MAIN_TABLE, subnet.trunc()))
        .collect();
    wanted.push((table, IpNet::from(IpAddr::V4(peer.ip))));
    let mut faults = wanted.into_iter().filter_map(|(table, subnet)| {
        let via = peer.vtep(Family::from(subnet))?;
        let is_usable = has_family(Some(device), Family::from(subnet));
        is_usable.then(|| single_route_fault(device, table, subnet, via))?
    });
    faults.next()
}

/// Returns what is wrong with one route.
fn single_route_fault(device: &Device, table: u32, subnet: IpNet, via: IpAddr) -> Option<Fault> {
    let first = Route {
        table,
        dst: subnet,
        via: None,
        metric: 0,
        protocol: 0,
        plain: false,
        nexthop: None,
    };
    let routes = device.routes.range(first..);
    let mut routes = routes.take_while(|route| route.table == table && route.dst == subnet);
    let found = routes.next();
    let in_table = match table {
        MAIN_TABLE => String::new(),
        table => format!(" in table {table}"),
    };
    let sentence = match found {
        Some(route) if route.via == Some(via) => return None,
        Some(route) => {
            let found = route
                .via
                .map_or("no gateway".to_owned(), |via| format!("the gateway {via}"));
            format!("the route to {subnet}{in_table} has {found}, the master says {via}")
        }
        None => format!(
            "the route to {subnet}{in_table} over the VXLAN device is missing, the master says via {via}"
        ),
    };
    Some(Fault {
        kind: &path::ROUTE_WRONG,
        sentence,
    })
}

/// Returns whether the VXLAN device has an address of a family, so that there is a tunnel for it.
pub fn has_family(device: Option<&Device>, family: Family) -> bool {
    let mut addresses = device.into_iter().flat_map(|device| &device.addresses);
    addresses.any(|net| family.includes(*net))
}

#[cfg(test)]
pub mod samples {
    //! Kernel objects for tests.

    use std::collections::{BTreeMap, BTreeSet};

    use overlay_host::reconcile::observed::{FdbEntry, Neighbour, Tunnel};

    use super::*;
    use crate::paths::model::Model;

    /// Returns the VXLAN device of this host that is as the model says.
    pub fn device(model: &Model) -> Device {
        let own = model.own().unwrap();
        let vxlan = own.vxlan().unwrap();
        let mut device = Device {
            kind: DeviceKind::Vxlan {
                vni: Some(1024),
                port: 64000,
                learning: false,
            },
            mac: own.vtep_mac().unwrap(),
            mtu: 1450,
            up: true,
            is_without_ipv6: false,
            tunnel: Tunnel::default(),
            addresses: std::iter::once(vxlan.vtep_ip)
                .chain(vxlan.vtep_ip6)
                .collect(),
            neighbours: BTreeMap::new(),
            fdb: BTreeMap::new(),
            routes: BTreeSet::new(),
        };
        for peer in model.peers() {
            let mac = peer.vtep_mac().unwrap();
            for vtep in peer.vteps() {
                let mac = Some(mac);
                device.neighbours.insert(
                    vtep,
                    Neighbour {
                        mac,
                        permanent: true,
                    },
                );
            }
            let entry = FdbEntry {
                permanent: true,
                plain: true,
            };
            device.fdb.insert((mac, peer.ip.into()), entry);
            let subnets = peer.overlays.iter().flat_map(|overlay| overlay.subnets());
            let subnets = subnets.map(|subnet| (MAIN_TABLE, subnet));
            let own = (42, IpNet::from(IpAddr::V4(peer.ip)));
            for (table, dst) in subnets.chain([own]) {
                device.routes.insert(Route {
                    table,
                    dst,
                    via: peer.vtep(Family::from(dst)),
                    metric: 0,
                    protocol: 142,
                    plain: true,
                    nexthop: None,
                });
            }
        }
        device
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paths::model::{self, Model};

    #[test]
    fn each_wrong_entry_is_named() {
        let model = model::samples::cluster(3);
        let right = samples::device(&model);
        let peer = model.locate("10.0.0.2".parse().unwrap()).agent().unwrap();
        let fault = |change: &dyn Fn(&mut Device)| {
            let mut device = right.clone();
            change(&mut device);
            peer_fault(&device, 42, peer).map(|fault| (fault.kind.code, fault.sentence))
        };
        assert_eq!(fault(&|_| {}), None);
        let mac = peer.vtep_mac().unwrap();
        let vtep: IpAddr = "44.128.0.2".parse().unwrap();
        let other: IpAddr = "10.0.0.9".parse().unwrap();
        let (code, sentence) = fault(&|device| {
            let entry = device.fdb.remove(&(mac, peer.ip.into())).unwrap();
            device.fdb.insert((mac, other), entry);
        })
        .unwrap();
        assert_eq!(code, "fdb-wrong");
        assert_eq!(
            sentence,
            "the FDB entry 70:b3:d5:80:00:02 points to 10.0.0.9, the master says 10.0.0.2"
        );
        for (change, expected) in [
            (
                &(|device: &mut Device| _ = device.neighbours.remove(&vtep))
                    as &dyn Fn(&mut Device),
                "neighbour-wrong",
            ),
            (&|device| device.fdb.clear(), "fdb-wrong"),
            (
                &|device| device.routes.retain(|route| route.table != 42),
                "route-wrong",
            ),
            (
                &|device| device.routes.retain(|route| route.dst.addr().is_ipv4()),
                "route-wrong",
            ),
        ] {
            assert_eq!(fault(change).unwrap().0, expected);
        }
    }

    #[test]
    fn entries_of_a_family_without_a_tunnel_are_not_missed() {
        let model = model::samples::cluster(2);
        let mut device = samples::device(&model);
        device.addresses.retain(|net| net.addr().is_ipv4());
        device.neighbours.retain(|ip, _| ip.is_ipv4());
        device.routes.retain(|route| route.dst.addr().is_ipv4());
        let peer = model.peers().next().unwrap();
        assert_eq!(peer_fault(&device, 42, peer), None);
    }

    #[test]
    fn a_model_of_the_kernel_has_the_same_peers() {
        let model = model::samples::cluster(3);
        let device = samples::device(&model);
        let own = model.own().unwrap().clone();
        let found = Model::of_kernel(&device, "vtep1024", &[], Some((own.ip, own.overlays)));
        assert_eq!(found.peers().count(), 2);
        for peer in found.peers() {
            assert_eq!(peer_fault(&device, 42, peer), None);
            let gateway = peer.gateway("dcos", Family::V6).unwrap();
            assert_eq!(gateway.overlay, "dcos");
        }
    }
}
