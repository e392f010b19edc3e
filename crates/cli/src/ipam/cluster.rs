//! Comparison of what the master gave to agents, with itself and with what the agents say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::IpNet;
use overlay_core::util::line::one_line;

use super::ask::Answers;
use crate::answers::{Agent, MasterState, OwnAgent};
use crate::finding::Finding;
use crate::finding::kinds::addresses as kinds;

/// Number of findings of one kind. Further ones are left out.
const MOST: usize = 100;

/// Subnet that an agent holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    subnet: IpNet,
    agent: Ipv4Addr,
    overlay: String,
}

/// Finds subnets of the master's state that overlap.
pub fn overlapping(state: &MasterState) -> Vec<Finding> {
    let held = state.agents.iter().flat_map(|agent| {
        agent.overlays.iter().flat_map(move |overlay| {
            let name = one_line(&overlay.info.name, 64).into_owned();
            overlay.subnets().map(move |subnet| Held {
                subnet: subnet.trunc(),
                agent: agent.ip,
                overlay: name.clone(),
            })
        })
    });
    pairs(held.collect())
        .iter()
        .take(MOST)
        .map(double)
        .collect()
}

/// Returns the subnets that overlap another one. In the order of their first addresses, one that
/// contains others comes directly before them.
fn pairs(mut held: Vec<Held>) -> Vec<(Held, Held)> {
    held.sort();
    let mut pairs = Vec::new();
    let mut widest: Option<&Held> = None;
    for next in &held {
        if let Some(before) = widest
            && before.subnet.contains(&next.subnet)
        {
            pairs.push((before.clone(), next.clone()));
            continue;
        }
        widest = Some(next);
    }
    pairs
}

fn double((one, other): &(Held, Held)) -> Finding {
    let message = match one.subnet == other.subnet {
        true => format!(
            "agent {} has this subnet of {}, and agent {} of {}",
            one.agent, one.overlay, other.agent, other.overlay
        ),
        false => format!(
            "agent {} has this subnet of {}, in which agent {} has {} of {}",
            one.agent, one.overlay, other.agent, other.subnet, other.overlay
        ),
    };
    kinds::DOUBLE_SUBNET
        .finding(message, DELETE)
        .about(one.subnet)
}

/// Remedy for agents whose subnets are not their own.
const DELETE: &str =
    "Drain and stop one of the agents, delete it (mesos-overlay agents delete), and start it again";

/// Finds agents whose own subnets are not those of the master.
pub fn differing(state: &MasterState, answers: &Answers) -> Vec<Finding> {
    let by_ip: BTreeMap<Ipv4Addr, &Agent> =
        state.agents.iter().map(|agent| (agent.ip, agent)).collect();
    let mut findings = Vec::new();
    for (ip, own) in &answers.agents {
        if let Some(agent) = by_ip.get(ip) {
            findings.extend(
                differences(agent, own)
                    .into_iter()
                    .take(MOST.saturating_sub(findings.len())),
            );
        }
    }
    findings
}

/// Returns the findings whose agents are found again, as they are found then.
pub fn still(first: &[Finding], second: Vec<Finding>) -> Vec<Finding> {
    let subjects: BTreeSet<_> = first.iter().map(|finding| &finding.subject).collect();
    let mut second = second;
    second.retain(|finding| subjects.contains(&finding.subject));
    second
}

/// Finds agents whose addresses leak.
pub fn leaking(answers: &Answers) -> Vec<Finding> {
    let agents = answers.agents.iter();
    agents
        .filter_map(|(ip, own)| leaks(*ip, own))
        .take(MOST)
        .collect()
}

fn differences(agent: &Agent, own: &OwnAgent) -> Vec<Finding> {
    let mut findings = Vec::new();
    for overlay in &own.overlays {
        let name = &overlay.info.name;
        let given = agent.overlays.iter().find(|given| given.info.name == *name);
        let subnets = |subnets: Vec<IpNet>| match subnets.is_empty() {
            true => "none".to_owned(),
            false => subnets
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        };
        // An agent that gets another list right now has neither.
        let Some(given) = given else { continue };
        let (given, used): (Vec<IpNet>, Vec<IpNet>) =
            (given.subnets().collect(), overlay.subnets().collect());
        if given != used {
            let message = format!(
                "it uses {} of {}, and the master gave it {}",
                subnets(used),
                one_line(name, 64),
                subnets(given)
            );
            findings.push(
                kinds::SUBNET_DIFFERS
                    .finding(
                        message,
                        "Restart the agent; restart containers with addresses of the other subnet",
                    )
                    .about(agent.ip),
            );
        }
    }
    findings
}

fn leaks(ip: Ipv4Addr, own: &OwnAgent) -> Option<Finding> {
    let leaked = own.overlays.iter().filter_map(|overlay| {
        let numbers = overlay.addresses.get("mesos")?;
        let leaked = numbers.leaked.filter(|leaked| *leaked > 0)?;
        Some(format!("{leaked} of {}", one_line(&overlay.info.name, 64)))
    });
    let leaked: Vec<String> = leaked.collect();
    (!leaked.is_empty()).then(|| {
        let message = format!("addresses are reserved for containers that do not exist: {}", leaked.join(", "));
        kinds::LEAKED
            .finding(message, "Give leaked addresses back on that host: mesos-overlay ipam check --report FILE, then mesos-overlay ipam release --report FILE")
            .about(ip)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent(ip: &str, subnets: &[&str]) -> String {
        let overlays = subnets.iter().enumerate().map(|(index, subnet)| {
            let key = if subnet.contains(':') {
                "subnet6"
            } else {
                "subnet"
            };
            format!(r#"{{"info":{{"name":"o{index}"}},"{key}":"{subnet}"}}"#)
        });
        let overlays: Vec<String> = overlays.collect();
        format!(
            r#"{{"ip":"{ip}","connected":true,"overlays":[{}]}}"#,
            overlays.join(",")
        )
    }

    fn state(agents: &[String]) -> MasterState {
        let text = format!(
            r#"{{"network":{{"vtep_subnet":"44.0.0.0/8"}},"agents":[{}]}}"#,
            agents.join(",")
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn subnets_that_overlap_are_found_in_both_families() {
        let whole = state(&[
            agent("10.0.0.1", &["9.0.0.0/24", "fd00::/80"]),
            agent("10.0.0.2", &["9.0.1.0/24", "fd00:0:0:0:1::/80"]),
        ]);
        assert_eq!(overlapping(&whole), []);
        let broken = state(&[
            agent("10.0.0.1", &["9.0.0.0/23", "fd00::/80"]),
            agent("10.0.0.2", &["9.0.0.0/24", "fd00::/80"]),
            agent("10.0.0.3", &["9.0.1.0/24", "fd01::/80"]),
        ]);
        let found = overlapping(&broken);
        let subjects: Vec<String> = found
            .iter()
            .filter_map(|finding| finding.subject.clone())
            .collect();
        assert_eq!(subjects, ["9.0.0.0/23", "9.0.0.0/23", "fd00::/80"]);
        assert!(
            found[0]
                .message
                .contains("in which agent 10.0.0.2 has 9.0.0.0/24 of o0"),
            "{found:?}"
        );
        assert!(
            found[2]
                .message
                .contains("agent 10.0.0.1 has this subnet of o1, and agent 10.0.0.2 of o1"),
            "{found:?}"
        );
    }

    #[test]
    fn agents_that_say_something_else_are_found() {
        let state = state(&[
            agent("10.0.0.1", &["9.0.0.0/24"]),
            agent("10.0.0.2", &["9.0.1.0/24"]),
        ]);
        let answer = |text: &str| serde_json::from_str::<OwnAgent>(text).unwrap();
        let own = |ip: &str, subnets: &[&str]| (ip.parse().unwrap(), answer(&agent(ip, subnets)));
        let mut answers = Answers {
            agents: vec![
                own("10.0.0.1", &["9.0.0.0/24"]),
                own("10.0.0.2", &["9.0.7.0/24"]),
            ],
            ..Answers::default()
        };
        let found = differing(&state, &answers);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(still(&found, found.clone()), found);
        assert_eq!(still(&found, Vec::new()), []);
        assert_eq!(still(&[], found.clone()), []);
        assert_eq!(
            (found[0].code, found[0].subject.as_deref()),
            ("subnet-differs", Some("10.0.0.2"))
        );
        let lost = r#"{"ip":"10.0.0.1","overlays":[{"info":{"name":"o0"},"subnet":"9.0.0.0/24","addresses":{"mesos":{"leaked":3}}}]}"#;
        answers.agents = vec![("10.0.0.1".parse().unwrap(), answer(lost))];
        let found = leaking(&answers);
        assert_eq!(found[0].code, "leaked-addresses");
        assert!(
            found[0].message.ends_with("do not exist: 3 of o0"),
            "{found:?}"
        );
    }

    /// The comparison of 10,000 agents takes no noticeable time.
    #[test]
    fn many_agents_are_compared_in_order() {
        let agents: Vec<String> = (0..10_000_u32)
            .map(|n| {
                agent(
                    &Ipv4Addr::from(0x0a00_0000 + n).to_string(),
                    &[&format!("9.{}.{}.0/24", n / 256, n % 256)],
                )
            })
            .collect();
        assert_eq!(overlapping(&state(&agents)), []);
    }
}
