//! Three masters with a real ZooKeeper: leaders are killed, disconnected and stopped in turn, while
//! agents join and leave.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

use anyhow::{Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use testbed::cluster::{Cluster, Placement};
use testbed::http::{Client, Reply};
use testbed::node::Node;
use testbed::{netns, skip, wait};

use crate::common::{LIMIT, all_ok, elected, state, subnets};

const AGENTS: usize = 3;

/// Returns whether a process is a replica of the overlays' log: the first of a thousand replicas.
fn is_overlay_replica(process: &str) -> bool {
    process
        .strip_prefix("log-replica(")
        .is_some_and(|number| number.len() > 4 && number.ends_with("001)"))
}

/// Failure of a leader.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// The process is killed (SIGKILL).
    Kill,
    /// The host is disconnected.
    CutOff,
    /// The process is stopped (SIGSTOP) and continues later without noticing the pause.
    Freeze,
}

struct Drill {
    cluster: Cluster,
    leader: String,
    /// Expected subnets by agent address.
    subnets: BTreeMap<String, String>,
}

fn node<'a>(cluster: &'a mut Cluster, name: &str) -> &'a mut Node {
    cluster
        .masters()
        .find(|master| master.name() == name)
        .unwrap()
}

fn delete(client: &Client, agent: &str) -> Result<Reply> {
    client.post(
        "/overlay-master/agents/delete",
        &json!({ "agents": [agent], "force": true }),
    )
}

/// Sends a deletion without waiting for the answer.
fn ask(client: &Client, agent: &str) -> TcpStream {
    let server = client.server().parse().unwrap();
    let mut stream = netns::connect(client.netns(), server, LIMIT).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let body = json!({ "agents": [agent], "force": true }).to_string();
    let path = "/overlay-master/agents/delete";
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

impl Drill {
    fn master(&mut self, name: &str) -> &mut Node {
        node(&mut self.cluster, name)
    }

    /// Starts leaders again that ended because ZooKeeper's session was over, which a busy machine
    /// can cause. Operators' init systems do the same.
    fn restart_expired(&mut self, but: Option<&str>) -> Result<()> {
        let others = self
            .cluster
            .masters()
            .filter(|master| Some(master.name()) != but && master.pid().is_some());
        for master in others {
            if let Err(ended) = master.check() {
                let reasons = ["Lost leadership", "Lost candidacy as a leader"];
                let log = master.log();
                let is_expired = reasons.iter().any(|reason| log.contains(reason));
                ensure!(is_expired, "{ended:#}");
                master.restart()?;
            }
        }
        Ok(())
    }

    /// Waits until a master other than `but` serves and reports all agents as OK.
    #[track_caller]
    fn wait_leader(&mut self, but: Option<&str>, agents: usize) -> Value {
        wait::until("the agents at a new leader", LIMIT, || {
            self.restart_expired(but)?;
            let others = self
                .cluster
                .masters()
                .filter(|master| Some(master.name()) != but);
            let (mut serving, mut others_say) = (Vec::new(), Vec::new());
            for master in others.filter(|master| master.pid().is_some()) {
                match state(master) {
                    Ok(state) => serving.push((master.name().to_owned(), state)),
                    Err(error) => others_say.push(format!("{}: {error:#}", master.name())),
                }
            }
            ensure!(serving.len() < 2, "{} masters serve at once", serving.len());
            let Some((name, state)) = serving.pop() else {
                bail!("no master serves: {}", others_say.join("; "));
            };
            ensure!(all_ok(&state, agents), "{name} has {state}");
            self.leader = name;
            Ok(Some(state))
        })
        .unwrap()
    }

    /// Stops an agent and deletes it at the leader.
    #[track_caller]
    fn an_agent_goes(&mut self, index: usize) {
        let ip = self.cluster.agents[index].ip();
        self.cluster.agents[index].kill().unwrap();
        let leader = self.leader.clone();
        let reply = delete(&self.master(&leader).client(), &ip).unwrap();
        assert_eq!(reply.status, 200, "{}", reply.text());
        self.subnets.remove(&ip);
        assert_eq!(
            subnets(&reply.json().unwrap()),
            self.subnets,
            "what was said to be done"
        );
    }

    /// Starts the agent again, which gets the lowest free subnet, its previous one.
    fn an_agent_comes(&mut self, index: usize) {
        self.cluster.agents[index].start().unwrap();
        let state = self.wait_leader(None, AGENTS);
        let now = subnets(&state);
        let ip = self.cluster.agents[index].ip();
        let own = now[&ip].clone();
        assert!(
            !self.subnets.values().any(|held| *held == own),
            "{own} of {ip} is in {:?}",
            self.subnets
        );
        self.subnets.insert(ip, own);
        assert_eq!(now, self.subnets);
    }

    /// Makes the leader fail; a deletion that only it receives must not be confirmed.
    #[track_caller]
    fn strike(&mut self, blow: Blow, agent: usize) {
        let (old, before) = (self.leader.clone(), self.subnets.clone());
        let (victim, client) = (self.cluster.agents[agent].ip(), self.master(&old).client());
        let pid = Pid::from_raw(self.master(&old).pid().unwrap().cast_signed());
        match blow {
            Blow::Kill => self.master(&old).kill().unwrap(),
            Blow::CutOff => {
                self.cluster
                    .underlay()
                    .unwrap()
                    .set_connected(&old, false)
                    .unwrap();
                self.assert_not_done(delete(&client, &victim));
                // A Mesos master that loses the leadership exits.
                self.master(&old).wait_ended(LIMIT).unwrap();
                self.master(&old).kill().unwrap();
                self.cluster
                    .underlay()
                    .unwrap()
                    .set_connected(&old, true)
                    .unwrap();
            }
            Blow::Freeze => {
                kill(pid, Signal::SIGSTOP).unwrap();
                self.wait_leader(Some(&old), AGENTS);
                // The old leader finds this request when it continues.
                let mut asked = ask(&client, &victim);
                kill(pid, Signal::SIGCONT).unwrap();
                // The only allowed answers before it exits are none or 503.
                let mut reply = String::new();
                let _ = asked.read_to_string(&mut reply);
                assert!(
                    reply.is_empty() || reply.starts_with("HTTP/1.1 503 "),
                    "{reply}"
                );
                self.master(&old).wait_ended(LIMIT).unwrap();
                self.master(&old).kill().unwrap();
            }
        }
        let state = self.wait_leader(Some(&old), AGENTS);
        assert_eq!(subnets(&state), before, "after {blow:?}");
    }

    #[track_caller]
    fn assert_not_done(&self, reply: Result<Reply>) {
        // No answer: the master has exited.
        if let Ok(reply) = reply {
            assert_eq!(reply.status, 503, "{}", reply.text());
        }
    }

    /// Asserts that replicas of Mesos's registry and of the overlays' log never took part in each
    /// other's log, including replicas of killed masters that ZooKeeper still listed.
    #[track_caller]
    fn assert_logs_stay_apart(&mut self) {
        let logs: Vec<_> = self
            .cluster
            .masters()
            .map(|master| master.log_file())
            .collect();
        let logs = logs
            .into_iter()
            .map(|file| std::fs::read_to_string(file).unwrap());
        let mut seen = [false; 2];
        for line in logs.flat_map(|log| log.lines().map(str::to_owned).collect::<Vec<_>>()) {
            let Some((_, group)) = line.split_once("ZooKeeper group PIDs: {") else {
                continue;
            };
            let replicas: Vec<&str> = group
                .split(',')
                .filter_map(|pid| pid.split('@').next())
                .collect();
            let ours = replicas
                .iter()
                .filter(|replica| is_overlay_replica(replica.trim()))
                .count();
            assert!(
                ours == 0 || ours == replicas.len(),
                "replicas of two logs are in one group: {line}"
            );
            seen[usize::from(ours > 0)] |= !group.trim_start().starts_with('}');
        }
        assert_eq!(
            seen, [true; 2],
            "the groups of both logs are in the masters' logs"
        );
    }

    /// Starts the old leader again, which must stay a standby.
    #[track_caller]
    fn comes_back(&mut self, old: &str) {
        self.master(old).start().unwrap();
        let (client, leader) = (self.master(old).client(), self.leader.clone());
        let leader = self.master(&leader).address().to_string();
        wait::until("the standby's answer", LIMIT, || {
            let reply = client.get("/overlay-master/state")?;
            Ok((reply.status == 503 && reply.text().contains(&leader)).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn leaders_fall_again_and_again_and_nothing_is_lost() {
    let test = "leaders_fall_again_and_again_and_nothing_is_lost";
    if !skip::require_hosts(test) {
        return;
    }
    let Some(mut setup) = elected(test, AGENTS) else {
        return;
    };
    setup.place = Placement::Hosts;
    // A dead leader is replaced after this time.
    setup
        .environment
        .push(("MESOS_ZK_SESSION_TIMEOUT".into(), "2secs".into()));
    let cluster = Cluster::start(&setup).unwrap();
    let mut drill = Drill {
        cluster,
        leader: String::new(),
        subnets: BTreeMap::new(),
    };
    drill.subnets = subnets(&drill.wait_leader(None, AGENTS));
    for (round, blow) in [Blow::Kill, Blow::CutOff, Blow::Freeze, Blow::Kill]
        .into_iter()
        .enumerate()
    {
        let old = drill.leader.clone();
        let agent = round % AGENTS;
        // A second replica must not fail while one is recovering.
        drill.cluster.wait_replicas(LIMIT).unwrap();
        drill.strike(blow, agent);
        assert_ne!(drill.leader, old);
        drill.an_agent_goes(agent);
        drill.comes_back(&old);
        drill.an_agent_comes(agent);
    }
    drill.assert_logs_stay_apart();
}
