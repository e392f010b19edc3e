//! Comparison of this host with what its agent wants, without a change.

use std::collections::BTreeMap;
use std::time::Duration;

use overlay_core::agent::DesiredStates;
use overlay_core::host_api::desired::{Backend, Desired, Firewall};
use overlay_core::host_api::engine::EngineDesired;
use overlay_host::{ObjectKind, Operation, Preview, Tense, docker};

use super::difference;
use super::report::{Host, ObjectCount};
use crate::finding::Finding;
use crate::finding::kinds::host;

/// Longest time for an answer of the container engine, unless the agent waits less. That of the agent
/// is 15 s by default.
const ENGINE_LIMIT: Duration = Duration::from_secs(15);

/// Result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Operations that would make the host as it should be, without those that follow from others.
    pub operations: Vec<Operation>,
    /// Objects by kind.
    pub objects: BTreeMap<&'static str, ObjectCount>,
    /// Parts of the host that cannot be as they should be, one sentence each.
    pub errors: Vec<String>,
    /// Finding about a container engine that does not answer.
    pub engine_error: Option<Finding>,
    /// What could not be seen, one sentence each.
    pub notes: Vec<String>,
}

/// Compares this host with desired states. Changes nothing.
pub fn compare(states: &DesiredStates, is_root: bool) -> Comparison {
    let mut comparison = Comparison::default();
    let mut desired = states.host.clone();
    if !is_root && desired.firewall != Firewall::None {
        desired.firewall = Firewall::None;
        let note = "The firewall was not compared; run this command as root.";
        comparison.notes.push(note.to_owned());
    }
    let preview = overlay_host::preview(&desired);
    let mut operations = preview.operations.clone();
    let engine = states.engine.with_mtu_at_most(preview.max_mtu);
    let networks = ask_engine(&engine, &mut comparison);
    operations.extend(networks.into_iter().flatten());
    count(&desired, &engine, &preview, &mut comparison);
    comparison.operations = difference::essential(operations);
    let errors = preview.overlays.into_values().chain(preview.problems);
    // An error of the firewall that was left out above is none of the host's.
    let counts = |error: &String| is_root || !error.starts_with("cannot configure the firewall");
    comparison.errors.extend(errors.filter(counts));
    comparison
}

/// Compares the networks of the container engine. `None`: it could not be asked, or there is
/// nothing to compare.
fn ask_engine(engine: &EngineDesired, comparison: &mut Comparison) -> Option<Vec<Operation>> {
    if engine.networks.is_empty() {
        return None;
    }
    let engine = EngineDesired {
        timeout: engine.timeout.min(ENGINE_LIMIT),
        ..engine.clone()
    };
    match docker::preview(&engine) {
        Ok(preview) => {
            let preview = preview?;
            comparison.errors.extend(preview.notes);
            comparison.errors.extend(preview.conflicts.into_values());
            Some(preview.operations)
        }
        Err(error) if error.contains("ermission denied") => {
            let note = "Docker networks were not compared; run this command as root.";
            comparison.notes.push(note.to_owned());
            None
        }
        Err(error) => {
            comparison.engine_error = Some(engine_finding(&error));
            None
        }
    }
}

fn engine_finding(error: &str) -> Finding {
    let error = super::found::clause(error);
    match error.contains("cannot reach") {
        true => host::ENGINE_ABSENT.finding(
            error,
            "Start Docker, or set docker_socket in agent.json; on agents without Docker, set docker_bridge to false",
        ),
        false => host::ENGINE_HUNG.finding(
            error,
            "Restart Docker; the agent notices by itself when it answers again",
        ),
    }
}

/// Counts the objects of each kind.
fn count(
    desired: &Desired,
    engine: &EngineDesired,
    preview: &Preview,
    comparison: &mut Comparison,
) {
    let objects = &mut comparison.objects;
    let mut add = |kind: ObjectKind, wanted: Option<usize>| {
        objects
            .entry(difference::name(kind))
            .or_insert(ObjectCount {
                wanted,
                differences: 0,
            });
    };
    let wanted = preview.wanted;
    if desired.backend == Backend::Internal {
        add(ObjectKind::Device, Some(wanted.devices));
        add(ObjectKind::Bridge, Some(wanted.bridges));
        add(ObjectKind::Rule, Some(wanted.rules));
        add(ObjectKind::Forwarding, None);
        if let Some(peers) = wanted.peers {
            add(ObjectKind::Neighbour, Some(peers.neighbours));
            add(ObjectKind::FdbEntry, Some(peers.fdb_entries));
            add(ObjectKind::Route, Some(peers.routes));
        }
    }
    add(ObjectKind::CniFile, Some(wanted.cni_files));
    if desired.firewall != Firewall::None {
        add(ObjectKind::Firewall, None);
    }
    if !engine.networks.is_empty() && comparison.engine_error.is_none() {
        add(ObjectKind::DockerNetwork, Some(engine.networks.len()));
    }
}

/// Sets the numbers of differences to those of the operations that count.
pub fn recount(report: &mut Host, operations: &[Operation]) {
    for objects in report.objects.values_mut() {
        objects.differences = 0;
    }
    for operation in operations {
        let objects = report.objects.entry(difference::name(operation.kind()));
        objects.or_default().differences += 1;
    }
    let sentences = operations
        .iter()
        .map(|operation| operation.describe(Tense::Infinitive));
    report.differences = sentences.collect();
}
