//! Losses by a change of an overlay, in sentences without a full stop.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::util::line::list_first;

use crate::answers::{Agent, MasterState, Overlay, OverlayInfo};
use crate::output::page::count;

/// Number of agents that a sentence names.
const NAMED: usize = 5;

/// Agents that hold a subnet of one overlay.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holders {
    connected: Vec<String>,
    away: Vec<String>,
}

impl Holders {
    /// Finds the holders in the state and among those that the overlay names.
    pub fn new(overlay: &Overlay, state: &MasterState) -> Holders {
        let named: BTreeSet<Ipv4Addr> = overlay
            .holders
            .iter()
            .filter_map(|ip| ip.parse().ok())
            .collect();
        let holds = |agent: &&Agent| {
            let mut overlays = agent.overlays.iter();
            let has_subnet = overlays
                .any(|held| held.info.name == overlay.name && held.subnets().next().is_some());
            has_subnet || named.contains(&agent.ip)
        };
        let (connected, away): (Vec<&Agent>, Vec<&Agent>) = state
            .agents
            .iter()
            .filter(holds)
            .partition(|agent| agent.connected);
        let names = |agents: Vec<&Agent>| agents.iter().map(|agent| agent.ip.to_string()).collect();
        Holders {
            connected: names(connected),
            away: names(away),
        }
    }

    fn is_empty(&self) -> bool {
        self.connected.is_empty() && self.away.is_empty()
    }

    fn all(&self) -> Vec<String> {
        self.connected.iter().chain(&self.away).cloned().collect()
    }
}

/// Returns what is lost when an overlay is removed, or frees its ranges at once with `force`.
pub fn of_removal(overlay: &Overlay, holders: &Holders, force: bool) -> Vec<String> {
    let name = &overlay.name;
    let mut losses = vec![format!("no container can join network {name} any more")];
    if holders.is_empty() {
        losses.push("no agent holds a subnet of it; its ranges are free at once".to_owned());
        return losses;
    }
    losses.push(held(holders, "hold subnets of it"));
    match force {
        true => losses.push(format!(
            "--force frees these subnets at once: containers that still run on {name} then have addresses that others can get"
        )),
        false => losses.extend(draining(holders)),
    }
    losses.push(in_use(name));
    losses
}

/// Returns what happens with `force`, which permits a range that hosts lie in.
pub fn of_force(force: bool) -> Vec<String> {
    let sentence = "--force permits a range that contains addresses of hosts: containers and these hosts do not reach each other";
    force.then(|| sentence.to_owned()).into_iter().collect()
}

/// Returns what is lost when a definition takes the place of another one.
pub fn of_change(
    name: &str,
    from: &OverlayInfo,
    to: &OverlayInfo,
    holders: &Holders,
) -> Vec<String> {
    let mut losses = Vec::new();
    for (from, to) in [(from.subnet, to.subnet), (from.subnet6, to.subnet6)] {
        match (from, to) {
            (Some(from), None) => losses.push(format!("{name} loses its range {from}")),
            (Some(from), Some(to)) if !to.contains(&from) => {
                losses.push(smaller(name, from, to));
            }
            _ => {}
        }
    }
    if from.enabled && !to.enabled {
        losses.push(format!(
            "no container can join network {name} as long as it is disabled"
        ));
        if !holders.is_empty() {
            losses.push(held(holders, "hold subnets of it, and keep them"));
            losses.push(
                "their hosts remove the network; what running containers need stays until they end"
                    .to_owned(),
            );
            losses.push(in_use(name));
        }
    }
    losses
}

fn smaller(name: &str, from: IpNet, to: IpNet) -> String {
    match from.contains(&to) {
        true => {
            format!(
                "{name} loses the part of {from} that is not in {to}, and has fewer subnets for agents"
            )
        }
        false => format!("{name} loses its range {from}, and gets {to} instead"),
    }
}

fn held(holders: &Holders, what: &str) -> String {
    let all = holders.all();
    let verb = match all.len() {
        1 => what
            .replacen("hold ", "holds ", 1)
            .replacen("and keep them", "and keeps them", 1),
        _ => what.to_owned(),
    };
    format!(
        "{} {verb}: {}",
        count(all.len(), "agent"),
        list_first(&all, NAMED)
    )
}

/// Returns how an overlay drains, as docs/networks.md describes it.
fn draining(holders: &Holders) -> Vec<String> {
    let mut sentences = vec![
        "it drains: hosts remove it when no container uses it, and its ranges are free when all agents have released it".to_owned(),
    ];
    if !holders.away.is_empty() {
        let away = list_first(&holders.away, NAMED);
        sentences.push(match holders.away.len() {
            1 => format!("agent {away} is not connected: it keeps its subnet until it returns or is deleted"),
            number => format!("{number} of the agents are not connected: they keep their subnets until they return or are deleted: {away}"),
        });
    }
    sentences
}

fn in_use(name: &str) -> String {
    format!(
        "only the agents know how many addresses its containers have: mesos-overlay ipam show --overlay {name} --ask-agents"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> OverlayInfo {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn only_what_takes_something_away_is_a_loss() {
        let both =
            r#"{"name":"a","subnet":"10.0.0.0/16","prefix":24,"subnet6":"fd00::/64","prefix6":80}"#;
        for (to, losses) in [
            (both, vec![]),
            (&both.replace("/16", "/15"), vec![]),
            (&both.replace("24", "26"), vec![]),
            (
                &both.replace("/16", "/17"),
                vec![
                    "a loses the part of 10.0.0.0/16 that is not in 10.0.0.0/17, and has fewer subnets for agents",
                ],
            ),
            (
                &both.replace("10.0", "10.9"),
                vec!["a loses its range 10.0.0.0/16, and gets 10.9.0.0/16 instead"],
            ),
            (
                r#"{"name":"a","subnet":"10.0.0.0/16","prefix":24}"#,
                vec!["a loses its range fd00::/64"],
            ),
            (
                &both.replace("{", r#"{"enabled":false,"#),
                vec!["no container can join network a as long as it is disabled"],
            ),
        ] {
            assert_eq!(
                of_change("a", &info(both), &info(to), &Holders::default()),
                losses,
                "{to}"
            );
        }
    }

    #[test]
    fn a_removal_names_who_holds_subnets() {
        let overlay = Overlay {
            name: "a".into(),
            ..Overlay::default()
        };
        let state = r#"{"network":{"vtep_subnet":"44.0.0.0/8"},"agents":[
            {"ip":"10.0.0.1","connected":true,"overlays":[{"info":{"name":"a"},"subnet":"9.0.0.0/24"}]},
            {"ip":"10.0.0.2","overlays":[{"info":{"name":"a"},"subnet6":"fd00::/80"}]},
            {"ip":"10.0.0.3","connected":true,"overlays":[{"info":{"name":"a"}},{"info":{"name":"b"},"subnet":"8.0.0.0/24"}]}]}"#;
        let holders = Holders::new(&overlay, &serde_json::from_str(state).unwrap());
        let text = of_removal(&overlay, &holders, false).join("\n");
        for part in [
            "2 agents hold subnets of it: 10.0.0.1, 10.0.0.2\n",
            "it drains",
            "agent 10.0.0.2 is not connected: it keeps its subnet",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let forced = of_removal(&overlay, &holders, true).join("\n");
        assert!(
            forced.contains("--force frees") && !forced.contains("drains"),
            "{forced}"
        );
        let nobody = of_removal(&overlay, &Holders::default(), false);
        assert_eq!(nobody.len(), 2, "{nobody:?}");
    }
}
