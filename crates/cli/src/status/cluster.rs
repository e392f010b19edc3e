//! Examination of the cluster through the endpoints of its leading master.

use super::agents;
use super::found::{Found, clause, cluster_problem};
use super::ranges;
use super::report::{Cluster, Overlay, Vteps};
use crate::answers::{self, MasterState, Overlays};
use crate::connection::candidates::NamedPlace;
use crate::connection::{AskError, ConnectionOptions, Http, Master, Unserved};
use crate::finding::Finding;
use crate::finding::kinds::{cluster, configuration};
use crate::output::Failure;

/// What a look at the cluster shows.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Part of the report.
    pub report: Cluster,
    /// Findings of the look.
    pub found: Vec<Found>,
    /// What operators should know.
    pub notes: Vec<String>,
    /// State of the master; `None`: no master serves.
    pub state: Option<MasterState>,
}

/// Extent of a look.
#[derive(Clone, Copy, Debug)]
pub struct Extent {
    /// Lists all agents.
    pub all: bool,
}

/// Looks at the cluster whose masters `place` names.
///
/// # Errors
/// The master wants a login, or refuses this one.
pub fn look(
    http: &Http,
    place: &NamedPlace,
    options: &ConnectionOptions,
    extent: Extent,
) -> Result<View, Failure> {
    let mut view = View::default();
    view.report.named_by.clone_from(&place.origin);
    let masters = match place.resolve(options) {
        Ok(masters) => masters,
        Err(Failure(sentence)) => {
            view.found.push(unresolved(place, &sentence));
            return Ok(view);
        }
    };
    match Master::among(http, &masters) {
        Ok(master) => ask(&master, extent, &mut view)?,
        Err(unserved) => {
            view.report.master = Some(unserved.master.clone());
            view.report.status.clone_from(&unserved.status);
            view.found.push(why_unserved(&unserved));
        }
    }
    Ok(view)
}

/// Returns the finding for a place that names no master.
fn unresolved(place: &NamedPlace, sentence: &str) -> Found {
    let finding = match place.is_zookeeper() {
        true if sentence.contains("has no master below") => cluster::NO_LEADER.finding(
            clause(sentence),
            "Start the masters, or give the path of Mesos's --zk",
        ),
        true => cluster::ZOOKEEPER_UNREACHABLE
            .finding(clause(sentence), "Start ZooKeeper, or correct the URL"),
        false => cluster::MASTER_UNREACHABLE.finding(
            clause(sentence),
            "Give the address of a master with --master",
        ),
    };
    Found::passing(finding)
}

/// Returns the finding for masters of which none serves.
fn why_unserved(unserved: &Unserved) -> Found {
    let reason = clause(&unserved.reason);
    let (kind, remedy, may_pass) = match unserved.status.as_deref() {
        None if unserved.lacks_module => (
            &cluster::MASTER_WITHOUT_MODULE,
            "Load the module with --modules, or give another --master",
            false,
        ),
        None => (
            &cluster::MASTER_UNREACHABLE,
            "Start the masters, and check that their port can be reached from here",
            false,
        ),
        Some("recovering") => why_recovering(&reason),
        Some("broken") if reason.contains("contradicts") => (
            &configuration::CONTRADICTS_LOG,
            "Restore the old value, or give the changed overlay a new name and a range of its own, and restart the \
             master",
            false,
        ),
        Some("broken") => (&cluster::LOG_UNREADABLE, RESTORE, false),
        // A standby whose leader answers nothing is one of an election.
        Some(_) => (
            &cluster::NO_LEADER,
            "Check that ZooKeeper and a majority of the masters run and reach each other",
            true,
        ),
    };
    // The reason why a master does not answer begins with its address.
    let names_it = reason.starts_with(unserved.master.as_str());
    let finding = kind.finding(reason, remedy);
    Found {
        finding: match names_it {
            true => finding,
            false => finding.about(&unserved.master),
        },
        may_pass,
    }
}

const RESTORE: &str =
    "Free the log of other processes, repair the disk, or restore a backup of the log";

/// Returns kind, remedy and passing of a master that still reads the log.
fn why_recovering(reason: &str) -> (&'static crate::finding::Kind, &'static str, bool) {
    if reason.contains("No quorum of replicas") {
        let remedy = "Check that a majority of the masters run, that the quorum is right, and that their replicas have \
                      recovered";
        return (&cluster::NO_QUORUM, remedy, false);
    }
    if reason.contains("The latest attempt failed") || reason.contains("has not answered for") {
        return (&cluster::LOG_UNREADABLE, RESTORE, false);
    }
    let remedy = "Wait; if it lasts, check that a majority of the masters run and reach each other";
    (&cluster::MASTER_RECOVERING, remedy, true)
}

/// Asks the master that serves.
fn ask(master: &Master, extent: Extent, view: &mut View) -> Result<(), Failure> {
    view.report.master = Some(master.address().to_owned());
    view.report.status = Some("serving".to_owned());
    let asked = master
        .state()
        .and_then(|state| Ok((state, master.overlays()?)));
    let (state, overlays) = match asked {
        Ok(answers) => answers,
        Err(error @ AskError::Unauthorized(_)) => return Err(error.into()),
        Err(error) => {
            let remedy = "Ask again; if it lasts, look into the log of the master";
            let finding = cluster::MASTER_UNREACHABLE.finding(clause(&error.to_string()), remedy);
            view.found
                .push(Found::passing(finding.about(master.address())));
            return Ok(());
        }
    };
    view.report.release = state.release.as_deref().map(clause);
    let problems = state.problems.iter();
    view.found
        .extend(problems.map(|problem| Found::lasting(cluster_problem(problem))));
    add_overlays(&overlays, view);
    add_vteps(&state, view);
    let (listed, found) = agents::examine(&state.agents, extent.all);
    view.notes.extend(agents::mixed_releases(&state, &listed));
    view.report.agents = Some(listed);
    view.found.extend(found);
    view.state = Some(state);
    Ok(())
}

fn add_overlays(overlays: &Overlays, view: &mut View) {
    for overlay in &overlays.overlays {
        view.found
            .extend(overlay_finding(overlay).map(Found::lasting));
        if let Some(capacity) = &overlay.agent_subnets {
            let name = clause(&overlay.name);
            let what = format!("overlay {name}");
            let findings = ranges::examine(capacity, &name, &what, "subnets");
            view.found.extend(findings.map(Found::lasting));
        }
        // One that was removed is remembered, and is nothing to look at.
        if overlay.state != "removed" {
            view.report.overlays.push(describe(overlay));
        }
    }
}

fn describe(overlay: &answers::Overlay) -> Overlay {
    let info = overlay.info.as_ref().or(overlay.file.as_ref());
    let ranges = info.map(|info| info.subnet.into_iter().chain(info.subnet6));
    Overlay {
        name: clause(&overlay.name),
        state: clause(&overlay.state),
        source: clause(&overlay.source),
        ranges: ranges
            .into_iter()
            .flatten()
            .map(|net| net.to_string())
            .collect(),
        agents: overlay.agents,
        subnets: overlay.agent_subnets,
    }
}

/// Returns what is wrong with an overlay as a whole.
pub fn overlay_finding(overlay: &answers::Overlay) -> Option<Finding> {
    let name = clause(&overlay.name);
    let holders = overlay_core::util::line::list_first(&overlay.holders, 5);
    let finding = match overlay.state.as_str() {
        "left_out" => {
            let reason = clause(
                overlay
                    .error
                    .as_deref()
                    .unwrap_or("it collides with another"),
            );
            let message = format!("overlay {name} of the configuration is left out: {reason}");
            cluster::OVERLAY_LEFT_OUT.finding(message, "Give one of them another range")
        }
        "draining" => cluster::OVERLAY_DRAINING.finding(
            format!("overlay {name} was removed, and agents still hold it: {holders}"),
            "Stop its containers, or delete agents that are gone",
        ),
        "orphaned" => cluster::OVERLAY_ORPHANED.finding(
            format!("nothing defines overlay {name}, and agents hold subnets of it: {holders}"),
            "Put it back into the file of all masters, or remove it with DELETE",
        ),
        _ => return None,
    };
    Some(finding.about(name))
}

fn add_vteps(state: &MasterState, view: &mut View) {
    let network = &state.network;
    let findings = ranges::examine(&network.vteps, "vteps", "the VTEPs", "addresses");
    view.found.extend(findings.map(Found::lasting));
    let ranges = std::iter::once(&network.vtep_subnet).chain(&network.vtep_subnet6);
    view.report.vteps = Some(Vteps {
        ranges: ranges.map(|range| clause(range)).collect(),
        addresses: network.vteps,
    });
}
