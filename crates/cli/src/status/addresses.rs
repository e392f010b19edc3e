//! Use of an agent's addresses for containers.

use super::found::{Found, clause};
use crate::answers::AgentOverlay;
use crate::finding::kinds::addresses;

/// Returns findings about addresses of an overlay on the agent `subject` that are all in use, or
/// nearly so.
pub fn findings(subject: &str, overlay: &AgentOverlay) -> Vec<Found> {
    let mut found = Vec::new();
    for (containerizer, use_of) in &overlay.addresses {
        let (Some(in_use), Some(total)) = (use_of.in_use, use_of.total) else {
            continue;
        };
        let what = format!(
            "addresses of overlay {} for {containerizer} containers on this agent",
            clause(&overlay.info.name)
        );
        let free = total.saturating_sub(in_use);
        let finding = match free {
            0 if total > 0 => addresses::EXHAUSTED.finding(
                format!("all {total} {what} are in use"),
                "Start fewer containers on this agent, or give agents larger subnets",
            ),
            _ if total > 0 && free <= total / 10 => addresses::NEARLY_EXHAUSTED.finding(
                format!("{in_use} of {total} {what} are in use"),
                "Start fewer containers on this agent, or give agents larger subnets",
            ),
            _ => continue,
        };
        found.push(Found::lasting(finding.about(subject)));
    }
    found
}
