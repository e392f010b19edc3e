//! Examination of the agents that a master shows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::found::{Found, clause, host_error, overlay_error};
use super::report::{Agent, AgentState, Agents};
use crate::answers::{self, MasterState};
use crate::finding::Kind;
use crate::finding::kinds::cluster;
use crate::output::page::count;

/// Number of agents that are listed, unless all are demanded.
const LISTED: usize = 10;

/// Number of findings of one kind about agents, unless all are demanded.
const FINDINGS: usize = 5;

/// Time within which a disconnected agent registers again after an election or a restart, in
/// seconds.
const RETURN: u64 = 5;

/// Name of releases that do not say what they are.
pub const UNKNOWN_RELEASE: &str = "unknown";

/// Examines the agents. Returns them, the worst first, and what is wrong.
pub fn examine(agents: &[answers::Agent], all: bool) -> (Agents, Vec<Found>) {
    let mut found = Vec::new();
    let mut listed: Vec<Agent> = agents.iter().map(describe).collect();
    for agent in agents {
        found.extend(findings(agent));
    }
    let is = |state: AgentState| move |agent: &&Agent| agent.state == state;
    let lost = listed.iter().filter(is(AgentState::Lost)).count();
    let with_errors = listed.iter().filter(|agent| !agent.errors.is_empty());
    let mut report = Agents {
        total: agents.len(),
        connected: agents.len() - lost,
        lost,
        with_errors: with_errors.count(),
        releases: releases(agents),
        ..Agents::default()
    };
    listed.sort_by_key(|agent| (Reverse(agent.state), agent.ip));
    if !all {
        report.unlisted = listed.len().saturating_sub(LISTED);
        listed.truncate(LISTED);
        found = limited(found);
    }
    report.listed = listed;
    (report, found)
}

/// Returns a note about masters and agents of different releases.
pub fn mixed_releases(state: &MasterState, agents: &Agents) -> Option<String> {
    let master = clause(state.release.as_deref().unwrap_or(UNKNOWN_RELEASE));
    let is_mixed = agents.releases.keys().any(|release| *release != master);
    let releases = agents.releases.iter();
    let releases: Vec<String> = releases
        .map(|(release, number)| format!("{release} on {}", count(*number, "agent")))
        .collect();
    is_mixed.then(|| {
        format!(
            "Masters and agents are of different releases: {master} on the master, {}. That is supported, and usual \
             during an upgrade.",
            releases.join(", ")
        )
    })
}

fn releases(agents: &[answers::Agent]) -> BTreeMap<String, usize> {
    let mut releases = BTreeMap::new();
    // The release of an agent that is away may have changed.
    for agent in agents.iter().filter(|agent| agent.connected) {
        let release = agent.release.as_deref().unwrap_or(UNKNOWN_RELEASE);
        *releases.entry(clause(release)).or_default() += 1;
    }
    releases
}

fn describe(agent: &answers::Agent) -> Agent {
    let overlays = agent.overlays.iter();
    let states = || overlays.clone().map(|overlay| overlay.state.as_ref());
    let has_failed = |state: Option<&answers::OverlayState>| {
        state.is_some_and(|state| state.status == "STATUS_FAILED")
    };
    let is_ok = |state: Option<&answers::OverlayState>| {
        state.is_some_and(|state| state.status == "STATUS_OK")
    };
    let state = match agent {
        _ if !agent.connected => AgentState::Lost,
        _ if states().any(has_failed) => AgentState::Failed,
        _ if !agent.host_errors.is_empty() => AgentState::HostErrors,
        _ if !states().all(is_ok) => AgentState::Configuring,
        _ => AgentState::Ok,
    };
    let errors = states().flatten().filter_map(|state| state.error.as_ref());
    Agent {
        ip: agent.ip,
        state,
        since_seconds: agent.since_seconds,
        release: agent.release.as_deref().map(clause),
        errors: errors
            .chain(&agent.host_errors)
            .map(|error| clause(error))
            .collect(),
    }
}

fn findings(agent: &answers::Agent) -> Vec<Found> {
    let subject = agent.ip.to_string();
    if !agent.connected {
        let message = match agent.since_seconds {
            Some(seconds) => format!("the agent is not connected to the master for {seconds} s"),
            None => "the agent has not registered since this master runs".to_owned(),
        };
        let remedy = format!(
            "Start the Mesos agent; if its host is gone for good, mesos-overlay agents delete {subject}"
        );
        let finding = cluster::AGENT_LOST.finding(message, remedy).about(&subject);
        let may_pass = agent.since_seconds.is_none_or(|seconds| seconds < RETURN);
        return vec![Found { finding, may_pass }];
    }
    let errors = agent.host_errors.iter();
    let mut found: Vec<Found> = errors
        .map(|error| Found::lasting(host_error(&subject, error)))
        .collect();
    found.extend(overlay_states(&subject, &agent.overlays));
    found
}

/// Returns the findings for the states of overlays on the agent `subject`. Overlays that fail for the
/// same reason are one finding.
pub fn overlay_states(subject: &str, overlays: &[answers::AgentOverlay]) -> Vec<Found> {
    let mut reasons = BTreeSet::new();
    let error = |overlay: &answers::AgentOverlay| overlay.state.as_ref()?.error.clone();
    let mut is_new =
        |overlay: &&answers::AgentOverlay| error(overlay).is_none_or(|error| reasons.insert(error));
    let overlays = overlays.iter().filter(|overlay| is_new(overlay));
    overlays
        .filter_map(|overlay| overlay_state(subject, overlay))
        .collect()
}

/// Returns the finding for the state of an overlay on the agent `subject`.
fn overlay_state(subject: &str, overlay: &answers::AgentOverlay) -> Option<Found> {
    let name = &clause(&overlay.info.name);
    let state = overlay.state.as_ref();
    let error = state.and_then(|state| state.error.as_deref());
    let finding = match (state.map(|state| state.status.as_str()), error) {
        (Some("STATUS_OK"), _) => return None,
        (Some("STATUS_FAILED"), error) => {
            let error = error.unwrap_or("the agent gives no reason");
            return Some(Found::lasting(overlay_error(subject, name, error)));
        }
        (Some(_), Some(error)) => {
            let message = format!("overlay {name} is not in place yet: {}", clause(error));
            cluster::OVERLAY_CONFIGURING.finding(message, "Resolve the error")
        }
        (Some(_), None) => cluster::OVERLAY_CONFIGURING.finding(
            format!("the agent still configures overlay {name}"),
            "Wait; if it lasts, look into the log of the agent",
        ),
        (None, _) => cluster::OVERLAY_CONFIGURING.finding(
            format!("the agent has not reported the state of overlay {name}"),
            "Wait; if it lasts, look into the log of the agent",
        ),
    };
    Some(Found::passing(finding.about(subject)))
}

/// Returns the first findings of each kind, and one that counts the others.
fn limited(found: Vec<Found>) -> Vec<Found> {
    let mut numbers: BTreeMap<&'static str, usize> = BTreeMap::new();
    let mut kept: Vec<Found> = Vec::new();
    let mut last: BTreeMap<&'static str, Found> = BTreeMap::new();
    for one in found {
        let number = numbers.entry(one.finding.code).or_default();
        *number += 1;
        match *number <= FINDINGS {
            true => kept.push(one),
            false => _ = last.insert(one.finding.code, one),
        }
    }
    for (code, mut one) in last {
        let more = numbers[code] - FINDINGS;
        one.finding.subject = None;
        one.finding.message = match more {
            1 => "the same holds for 1 more agent; --all lists all".to_owned(),
            more => format!("the same holds for {more} more agents; --all lists all"),
        };
        one.may_pass = false;
        kept.push(one);
    }
    kept
}

/// Returns a finding of this kind about an agent.
pub fn about(kind: &Kind, subject: &str, sentence: &str, remedy: &str) -> Found {
    Found::lasting(kind.finding(clause(sentence), remedy).about(subject))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn agent(number: u8, connected: bool, status: &str) -> answers::Agent {
        let overlay = json!({"info": {"name": "dcos"}, "state": {"status": status, "error": "e"}});
        serde_json::from_value(json!({
            "ip": format!("10.0.0.{number}"),
            "connected": connected,
            "since_seconds": 60,
            "overlays": [overlay],
        }))
        .unwrap()
    }

    #[test]
    fn the_worst_agents_come_first_and_the_others_are_counted() {
        let mut agents: Vec<_> = (1..=9).map(|n| agent(n, true, "STATUS_OK")).collect();
        agents.push(agent(10, true, "STATUS_FAILED"));
        agents.extend((11..=23).map(|n| agent(n, false, "STATUS_OK")));
        let (report, found) = examine(&agents, false);
        assert_eq!((report.total, report.connected, report.lost), (23, 10, 13));
        assert_eq!((report.listed.len(), report.unlisted), (10, 13));
        assert!(report.listed.iter().all(|a| a.state == AgentState::Lost));
        let lost = found.iter().filter(|f| f.finding.code == "agent-lost");
        let lost: Vec<_> = lost.collect();
        assert_eq!(lost.len(), 6);
        assert!(lost[5].finding.message.contains("8 more agents"));

        let (report, found) = examine(&agents, true);
        assert_eq!((report.listed.len(), report.unlisted), (23, 0));
        assert_eq!(report.listed[13].state, AgentState::Failed);
        assert_eq!(found.len(), 14);
    }
}
