//! Differences between a host and what its agent wants, as findings.

use std::collections::{BTreeMap, BTreeSet};

use overlay_core::host_api::names::parse_bridge_name;
use overlay_host::{ObjectKind, Operation, Tense};

use crate::finding::kinds::{difference, host, path};
use crate::finding::{Finding, Kind};

/// Number of operations that a finding names.
const NAMED: usize = 3;

/// Returns the operations that do not follow from others: what is on a device comes and goes with the
/// device, with its addresses, and with its being up.
pub fn essential(operations: Vec<Operation>) -> Vec<Operation> {
    let devices_of = |is_cause: fn(ObjectKind) -> bool| -> BTreeSet<String> {
        let causes = operations
            .iter()
            .filter(|operation| is_cause(operation.kind()));
        causes
            .filter_map(|operation| operation.device().map(str::to_owned))
            .collect()
    };
    let wrong = devices_of(|kind| matches!(kind, ObjectKind::Device | ObjectKind::Bridge));
    let unaddressed = devices_of(|kind| kind == ObjectKind::Address);
    let follows = |operation: &Operation| {
        let is_on = |devices: &BTreeSet<String>| {
            operation
                .device()
                .is_some_and(|device| devices.contains(device))
        };
        match operation.kind() {
            ObjectKind::Device | ObjectKind::Bridge => false,
            ObjectKind::Neighbour | ObjectKind::Nexthop | ObjectKind::Route => {
                is_on(&wrong) || is_on(&unaddressed)
            }
            _ => is_on(&wrong),
        }
    };
    let kept: Vec<bool> = operations
        .iter()
        .map(|operation| !follows(operation))
        .collect();
    let operations = operations.into_iter().zip(kept);
    operations
        .filter_map(|(operation, is_kept)| is_kept.then_some(operation))
        .collect()
}

/// Returns a finding for each kind of object that differs.
pub fn findings(operations: &[Operation]) -> Vec<Finding> {
    let mut kinds: BTreeMap<&'static str, (&'static Kind, Vec<String>)> = BTreeMap::new();
    for operation in operations {
        let kind = kind(operation);
        let (_, sentences) = kinds.entry(kind.code).or_insert((kind, Vec::new()));
        sentences.push(operation.describe(Tense::Infinitive));
    }
    let findings = kinds.into_values().map(|(kind, sentences)| {
        let named = sentences[..sentences.len().min(NAMED)].join("; ");
        let more = match sentences.len() - sentences.len().min(NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let message = format!("this host is not as its agent wants it; needed: {named}{more}");
        kind.finding(
            message,
            "Start the agent if it does not run; otherwise find the program that changes these objects",
        )
    });
    findings.collect()
}

/// Returns the kind of finding for an object that differs.
fn kind(operation: &Operation) -> &'static Kind {
    let is_on_bridge = operation
        .device()
        .is_some_and(|device| parse_bridge_name(device).is_some());
    match operation.kind() {
        ObjectKind::Forwarding => &host::FORWARDING_OFF,
        ObjectKind::Device | ObjectKind::Address if !is_on_bridge => &path::DEVICE_WRONG,
        ObjectKind::Device | ObjectKind::Address | ObjectKind::Bridge | ObjectKind::Port => {
            &difference::BRIDGE
        }
        ObjectKind::Neighbour => &path::NEIGHBOUR_WRONG,
        ObjectKind::FdbEntry => &path::FDB_WRONG,
        ObjectKind::Nexthop | ObjectKind::Route => &path::ROUTE_WRONG,
        ObjectKind::Rule => &path::RULE_MISSING,
        ObjectKind::CniFile => &difference::CNI_FILE,
        ObjectKind::Firewall => &difference::FIREWALL,
        ObjectKind::DockerNetwork => &difference::DOCKER_NETWORK,
    }
}

/// Returns the name of a kind of objects in the report.
pub fn name(object: ObjectKind) -> &'static str {
    match object {
        ObjectKind::Forwarding => "forwarding",
        ObjectKind::Device | ObjectKind::Address => "vxlan_device",
        ObjectKind::Bridge | ObjectKind::Port => "bridges",
        ObjectKind::Neighbour => "neighbours",
        ObjectKind::FdbEntry => "fdb_entries",
        ObjectKind::Nexthop | ObjectKind::Route => "routes",
        ObjectKind::Rule => "rules",
        ObjectKind::CniFile => "cni_files",
        ObjectKind::Firewall => "firewall",
        ObjectKind::DockerNetwork => "docker_networks",
    }
}
