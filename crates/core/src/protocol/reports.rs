//! Bounds of the texts that agents report, and that masters send to the operators of agents.
//!
//! A master keeps the latest report of every agent and shows it in its state, and an agent keeps
//! the master's sentences. Both cut what the other one sends; an agent reports no more itself.

use std::collections::BTreeMap;

use super::limits::MAX_OVERLAYS;
use crate::proto::AgentOverlayInfo;
use crate::proto::internal::AgentRegisteredMessage;
use crate::util::line::cut;

/// Longest sentence, in characters.
pub const MAX_SENTENCE: usize = 1_000;

/// Largest number of sentences. One mistake can concern thousands of peers.
const MAX_SENTENCES: usize = 32;

/// Largest number of networks of a host.
pub const MAX_NETWORKS: usize = 32;

/// Longest text of all sentences together, in characters.
const MAX_TEXT: usize = 8_000;

/// Longest text of the errors of all overlays together, in characters.
const MAX_OVERLAY_ERRORS: usize = 32_000;

/// Longest error of an overlay after [`MAX_OVERLAY_ERRORS`], in characters.
const MAX_LATER_ERROR: usize = 100;

/// Returns the first of `sentences`, which are shortened. If there are more, the last line says
/// how many.
pub fn bound_sentences(sentences: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut rest = sentences.into_iter().fuse();
    let (mut bounded, mut room) = (Vec::new(), MAX_TEXT);
    while bounded.len() < MAX_SENTENCES && room > 0 {
        let Some(mut sentence) = rest.next() else {
            return bounded;
        };
        cut(&mut sentence, MAX_SENTENCE.min(room));
        room = room.saturating_sub(sentence.chars().count());
        bounded.push(sentence);
    }
    let more = rest.count();
    bounded.extend((more > 0).then(|| format!("… and {more} more")));
    bounded
}

/// Bounds a report: one entry for each overlay of which `is_known` is true, the last one in the
/// report, and shortened texts. Returns how many entries named other overlays.
pub fn bound_report(report: &mut AgentRegisteredMessage, is_known: impl Fn(&str) -> bool) -> usize {
    let all = report.overlays.len() + report.draining.len();
    report
        .overlays
        .retain(|overlay| is_known(&overlay.info.name));
    report.draining.retain(|name| is_known(name));
    let unknown = all - report.overlays.len() - report.draining.len();
    keep_last_of_each(&mut report.overlays);
    report.draining.sort();
    report.draining.dedup();
    report.draining.truncate(MAX_OVERLAYS);
    bound_errors(&mut report.overlays);
    report.host_errors = bound_sentences(std::mem::take(&mut report.host_errors));
    unknown
}

/// Removes all overlays but the last one of each name.
fn keep_last_of_each(overlays: &mut Vec<AgentOverlayInfo>) {
    let mut last = BTreeMap::new();
    for (index, overlay) in overlays.iter().enumerate() {
        last.insert(overlay.info.name.clone(), index);
    }
    if last.len() < overlays.len() {
        let mut index = 0;
        overlays.retain(|overlay| {
            index += 1;
            last.get(&overlay.info.name) == Some(&(index - 1))
        });
    }
    overlays.truncate(MAX_OVERLAYS);
}

/// Shortens the errors of overlays.
pub fn bound_errors(overlays: &mut [AgentOverlayInfo]) {
    let mut room = MAX_OVERLAY_ERRORS;
    let states = overlays
        .iter_mut()
        .filter_map(|overlay| overlay.state.as_mut());
    for error in states.filter_map(|state| state.error.as_mut()) {
        cut(error, MAX_SENTENCE.min(room.max(MAX_LATER_ERROR)));
        room = room.saturating_sub(error.chars().count());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::OverlayInfo;
    use crate::proto::agent_overlay_info::State;

    fn overlay(name: &str, error: &str) -> AgentOverlayInfo {
        AgentOverlayInfo {
            info: OverlayInfo {
                name: name.to_owned(),
                ..OverlayInfo::default()
            },
            state: Some(State {
                status: None,
                error: Some(error.to_owned()),
            }),
            ..AgentOverlayInfo::default()
        }
    }

    fn error(overlay: &AgentOverlayInfo) -> &str {
        overlay.state.as_ref().unwrap().error()
    }

    #[test]
    fn few_short_sentences_stay_as_they_are() {
        let sentences: Vec<_> = (0..32).map(|number| number.to_string()).collect();
        assert_eq!(bound_sentences(sentences.clone()), sentences);
        assert!(bound_sentences([]).is_empty());
    }

    #[test]
    fn the_number_of_further_sentences_is_told() {
        let bounded = bound_sentences((0..149).map(|number| number.to_string()));
        assert_eq!((bounded.len(), &*bounded[31]), (33, "31"));
        assert_eq!(bounded[32], "… and 117 more");
    }

    #[test]
    fn long_sentences_are_cut_and_leave_room_for_few_others() {
        let bounded = bound_sentences((0..40).map(|_| "ä".repeat(5_000)));
        assert_eq!(bounded[0], format!("{}…", "ä".repeat(1_000)));
        let text: usize = bounded
            .iter()
            .map(|sentence| sentence.chars().count())
            .sum();
        assert!((8_000..8_020).contains(&text), "{text}");
        assert_eq!(bounded.last().unwrap(), "… and 32 more");
    }

    #[test]
    fn a_report_keeps_the_last_state_of_each_known_overlay() {
        let mut report = AgentRegisteredMessage {
            overlays: vec![
                overlay("dcos", "old"),
                overlay("web", "its"),
                overlay("other", "unknown"),
                overlay("dcos", "new"),
            ],
            draining: ["web", "other", "web", "x"].map(str::to_owned).to_vec(),
            ..AgentRegisteredMessage::default()
        };
        let unknown = bound_report(&mut report, |name| ["dcos", "web"].contains(&name));
        assert_eq!(unknown, 3);
        let states: Vec<_> = report.overlays.iter().map(error).collect();
        assert_eq!(states, ["its", "new"]);
        assert_eq!(report.draining, ["web"]);
    }

    #[test]
    fn errors_of_many_overlays_are_short() {
        let long = "x".repeat(100_000);
        let mut overlays: Vec<_> = (0..500).map(|n| overlay(&n.to_string(), &long)).collect();
        bound_errors(&mut overlays);
        assert_eq!(error(&overlays[0]).chars().count(), MAX_SENTENCE + 1);
        assert_eq!(error(&overlays[499]).chars().count(), MAX_LATER_ERROR + 1);
        let text: usize = overlays.iter().map(|overlay| error(overlay).len()).sum();
        assert!(text < 32_000 + 500 * 110, "{text}");
    }
}
