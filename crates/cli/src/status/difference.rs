//! Differences between a host and what its agent wants, as findings.

use std::collections::{BTreeMap, BTreeSet};

use overlay_host::{ObjectKind, Operation, Tense};

use crate::finding::kinds::{difference, host};
use crate::finding::{Finding, Kind};

/// Number of operations that a finding names.
const NAMED: usize = 3;

/// Returns the operations that do not follow from others: what is on a device that is missing
/// comes with the device.
pub fn essential(operations: Vec<Operation>) -> Vec<Operation> {
    let is_device = |operation: &&Operation| {
        matches!(operation.kind(), ObjectKind::Device | ObjectKind::Bridge) && operation.creates()
    };
    let created = operations.iter().filter(is_device);
    let created: BTreeSet<String> = created
        .filter_map(|operation| operation.device().map(str::to_owned))
        .collect();
    let follows = |operation: &Operation| {
        let is_on_created = operation
            .device()
            .is_some_and(|name| created.contains(name));
        is_on_created && !is_device(&operation)
    };
    operations
        .into_iter()
        .filter(|operation| !follows(operation))
        .collect()
}

/// Returns a finding for each kind of object that differs.
pub fn findings(operations: &[Operation]) -> Vec<Finding> {
    let mut kinds: BTreeMap<&'static str, (&'static Kind, Vec<String>)> = BTreeMap::new();
    for operation in operations {
        let kind = kind(operation.kind());
        let (_, sentences) = kinds.entry(kind.code).or_insert((kind, Vec::new()));
        sentences.push(operation.describe(Tense::Infinitive));
    }
    let findings = kinds.into_values().map(|(kind, sentences)| {
        let named = sentences[..sentences.len().min(NAMED)].join("; ");
        let more = match sentences.len() - sentences.len().min(NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        let message = format!("this host is not as its agent wants it, to mend it: {named}{more}");
        kind.finding(
            message,
            "Start the agent if it does not run; otherwise find the program that changes these objects",
        )
    });
    findings.collect()
}

/// Returns the kind of finding for objects that differ.
fn kind(object: ObjectKind) -> &'static Kind {
    match object {
        ObjectKind::Forwarding => &host::FORWARDING_OFF,
        ObjectKind::Device => &difference::DEVICE,
        ObjectKind::Bridge | ObjectKind::Port => &difference::BRIDGE,
        ObjectKind::Address => &difference::ADDRESS,
        ObjectKind::Neighbour => &difference::NEIGHBOUR,
        ObjectKind::FdbEntry => &difference::FDB_ENTRY,
        ObjectKind::Nexthop | ObjectKind::Route => &difference::ROUTE,
        ObjectKind::Rule => &difference::RULE,
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
