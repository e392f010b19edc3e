//! Operations as operators see them, in the words of iproute2.

use std::fmt;
use std::sync::Arc;

use overlay_core::host_api::names::parse_bridge_name;

use super::constants::MAIN_TABLE;
use super::op::{
    ChecksumOffload, DeviceChange, NewDevice, NewRoute, OldRoute, OldRule, Op, nexthop_id,
};
use crate::operation::{ObjectKind, Operation, Tense, Verb};

impl Op {
    fn verb(&self) -> Verb {
        match self {
            Op::EnableForwarding(_) | Op::EnableDeviceForwarding(..) | Op::EnableIpv6(_) => {
                Verb::TurnOn
            }
            Op::AddDevice(_)
            | Op::AddBridge(..)
            | Op::AddAddress(..)
            | Op::SetNeighbour(..)
            | Op::SetFdb(..)
            | Op::AddNexthop(..)
            | Op::SetRoute(..)
            | Op::AddRule { .. } => Verb::Add,
            Op::SkipDad(_) | Op::SetTxChecksum(..) | Op::SetDevice(..) | Op::SetHairpin(..) => {
                Verb::Set
            }
            Op::AttachPort(..) => Verb::Attach,
            Op::WriteCni { .. } => Verb::Write,
            Op::RemoveDevice(_)
            | Op::RemoveAddress(..)
            | Op::RemoveNeighbour(..)
            | Op::RemoveFdb(..)
            | Op::RemoveNexthop(..)
            | Op::RemoveRoute(..)
            | Op::RemoveRule(_)
            | Op::RemoveCni { .. } => Verb::Remove,
        }
    }

    fn object_kind(&self) -> ObjectKind {
        match self {
            Op::EnableForwarding(_) | Op::EnableDeviceForwarding(..) => ObjectKind::Forwarding,
            Op::AddBridge(..) => ObjectKind::Bridge,
            Op::RemoveDevice(name) | Op::SetDevice(name, _)
                if parse_bridge_name(name).is_some() =>
            {
                ObjectKind::Bridge
            }
            Op::EnableIpv6(_)
            | Op::AddDevice(_)
            | Op::SkipDad(_)
            | Op::RemoveDevice(_)
            | Op::SetTxChecksum(..)
            | Op::SetDevice(..) => ObjectKind::Device,
            Op::AttachPort(..) | Op::SetHairpin(..) => ObjectKind::Port,
            Op::AddAddress(..) | Op::RemoveAddress(..) => ObjectKind::Address,
            Op::SetNeighbour(..) | Op::RemoveNeighbour(..) => ObjectKind::Neighbour,
            Op::SetFdb(..) | Op::RemoveFdb(..) => ObjectKind::FdbEntry,
            Op::AddNexthop(..) | Op::RemoveNexthop(..) => ObjectKind::Nexthop,
            Op::SetRoute(..) | Op::RemoveRoute(..) => ObjectKind::Route,
            Op::AddRule { .. } | Op::RemoveRule(_) => ObjectKind::Rule,
            Op::WriteCni { .. } | Op::RemoveCni { .. } => ObjectKind::CniFile,
        }
    }

    /// Returns the device that the object is, or is on.
    fn subject(&self) -> Option<Arc<str>> {
        match self {
            Op::AddDevice(device) => Some(device.name.clone()),
            Op::RemoveDevice(name) | Op::SetTxChecksum(name, _) | Op::SkipDad(name) => {
                Some(name.clone())
            }
            _ => self.changed_device().map(Arc::from),
        }
    }

    /// Returns the description without the verb.
    fn object(&self) -> String {
        match self {
            Op::EnableForwarding(family) => format!("{} forwarding", family.pick("IPv4", "IPv6")),
            Op::EnableDeviceForwarding(device, family) => {
                format!(
                    "{} forwarding of device {device}",
                    family.pick("IPv4", "IPv6")
                )
            }
            Op::EnableIpv6(device) => format!("IPv6 of device {device}"),
            Op::AddDevice(device) => format!("device {device}"),
            Op::AddBridge(device, mac) => format!("device {device} bridge address {mac}"),
            Op::SkipDad(device) => format!("device {device} accept_dad 0"),
            Op::AttachPort(bridge, port) => format!("port {} to bridge {bridge}", port.name),
            Op::SetHairpin(bridge, port) => {
                format!("port {} hairpin on bridge {bridge}", port.name)
            }
            Op::RemoveDevice(device) => format!("device {device}"),
            Op::SetTxChecksum(device, offload) => {
                format!("device {device} tx-checksum-ip-generic {offload}")
            }
            Op::SetDevice(device, change) => format!("device {device} {change}"),
            Op::AddAddress(device, net) | Op::RemoveAddress(device, net) => {
                format!("address {net} dev {device}")
            }
            Op::SetNeighbour(device, ip, mac) => {
                format!("neighbour {ip} lladdr {mac} permanent dev {device}")
            }
            Op::RemoveNeighbour(device, ip) => format!("neighbour {ip} dev {device}"),
            Op::SetFdb(device, mac, dst) => {
                format!("FDB entry {mac} dst {dst} self permanent dev {device}")
            }
            Op::RemoveFdb(device, mac, dst) => format!("FDB entry {mac} dst {dst} dev {device}"),
            Op::AddNexthop(device, via) => {
                format!("nexthop id {} via {via} dev {device}", nexthop_id(*via))
            }
            Op::RemoveNexthop(device, id) => format!("nexthop id {id} dev {device}"),
            Op::SetRoute(device, route) => format!("route {route} dev {device}"),
            Op::RemoveRoute(device, route) => format!("route {route} dev {device}"),
            Op::AddRule { from, table, .. } => format!("rule from {from} lookup {table}"),
            Op::RemoveRule(rule) => {
                let OldRule {
                    from,
                    table,
                    priority,
                    ..
                } = rule;
                format!("rule from {from} lookup {table} priority {priority}")
            }
            Op::WriteCni { file, .. } | Op::RemoveCni { file, .. } => {
                format!("CNI configuration {file}")
            }
        }
    }
}

impl From<&Op> for Operation {
    fn from(op: &Op) -> Operation {
        Operation::new(op.verb(), op.object_kind(), op.object()).on(op.subject())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Operation::from(self).describe(Tense::Infinitive))
    }
}

impl fmt::Display for NewDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewDevice {
            name,
            vni,
            port,
            local,
            mac,
            mtu,
        } = self;
        write!(f, "{name} vxlan id {vni} ")?;
        local.map_or(Ok(()), |local| write!(f, "local {local} "))?;
        write!(f, "dstport {port} nolearning address {mac}")?;
        mtu.map_or(Ok(()), |mtu| write!(f, " mtu {mtu}"))
    }
}

impl fmt::Display for ChecksumOffload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ChecksumOffload::On => "on",
            ChecksumOffload::Off => "off",
        })
    }
}

impl fmt::Display for DeviceChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChange::NoLearning => write!(f, "nolearning"),
            DeviceChange::Local(Some(local)) => write!(f, "local {local}"),
            DeviceChange::Local(None) => write!(f, "local any"),
            DeviceChange::DefaultTtl => write!(f, "ttl auto"),
            DeviceChange::NoTos => write!(f, "tos 0"),
            DeviceChange::Mac(mac) => write!(f, "address {mac}"),
            DeviceChange::Mtu(mtu) => write!(f, "mtu {mtu}"),
            DeviceChange::Up => write!(f, "up"),
        }
    }
}

impl fmt::Display for NewRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NewRoute {
            table, dst, via, ..
        } = self;
        write!(f, "{dst} via {via}{}", Table(*table))
    }
}

impl fmt::Display for OldRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, "{}", Table(self.table))
    }
}

/// Prints ` table <number>`, and nothing for the table `main`.
struct Table(u32);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == MAIN_TABLE {
            Ok(())
        } else {
            write!(f, " table {}", self.0)
        }
    }
}
