//! Sentences and findings of `trace` about routes, forwarding and addresses.

use std::net::IpAddr;

use overlay_core::util::family::Family;
use overlay_host::lookup::{DropReason, Way};
use overlay_host::reconcile::MAIN_TABLE;

use crate::finding::Finding;
use crate::finding::kinds::{cluster, host};
use crate::paths::model::Place;

/// Returns the finding about an address that nobody has.
pub fn nobody(ip: IpAddr, place: &Place<'_>) -> Finding {
    let why = match place {
        Place::Unassigned(overlay, range) => format!(
            "{ip} is in the range {range} of the overlay {overlay}, and no agent has that part of it"
        ),
        Place::UnassignedVtep(range) => {
            format!("{ip} is in the range {range} of the VTEPs, and no agent has it")
        }
        Place::WithoutBridge(agent, subnet) => format!(
            "{ip} is in the subnet {subnet} of the agent {}, and in that of none of its bridges",
            agent.ip
        ),
        _ => format!("{ip} is no address of the overlays"),
    };
    let remedy = "Check the address: \"mesos-overlay whois\" shows who has one";
    cluster::NOT_FOUND.finding(why, remedy).about(ip)
}

/// Returns the finding about a device whose packets are not forwarded.
pub fn forwarding_finding(device: &str, family: Family) -> Finding {
    let (all, of_device) = match family {
        Family::V4 => ("net.ipv4.ip_forward", "net.ipv4.conf"),
        Family::V6 => ("net.ipv6.conf.all.forwarding", "net.ipv6.conf"),
    };
    host::FORWARDING_OFF
        .finding(
            format!(
                "this host does not forward {} packets that arrive on {device}",
                crate::ping::family_word(family)
            ),
            format!(
                "Set {all}=1 and {of_device}.{device}.forwarding=1 with sysctl, and start the agent"
            ),
        )
        .about(device)
}

/// Returns a route as iproute2 writes it.
pub fn written(way: &Way) -> String {
    let via = way.via.map_or(String::new(), |via| format!(" via {via}"));
    let device = way.device.as_ref();
    let device = device.map_or(String::new(), |device| format!(" dev {device}"));
    let table = match way.table {
        MAIN_TABLE => String::new(),
        table => format!(" table {table}"),
    };
    let prefix = match way.prefix.prefix_len() {
        0 => "default".to_owned(),
        length if length == way.prefix.max_prefix_len() => way.prefix.addr().to_string(),
        _ => way.prefix.to_string(),
    };
    format!("{prefix}{via}{device}{table}")
}

/// Returns a reason in a word.
pub fn word(reason: DropReason) -> &'static str {
    match reason {
        DropReason::NoRoute => "no route",
        DropReason::Unreachable => "unreachable",
        DropReason::Prohibited => "prohibited",
        DropReason::Invalid => "invalid",
        DropReason::ReversePath => "dropped by rp_filter",
    }
}
