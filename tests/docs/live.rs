//! Sample outputs of a real Mesos cluster and a real kernel.

use std::cell::RefCell;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::json;
use testbed::cluster::{Cluster, ClusterConfig, Placement};
use testbed::http::Client;
use testbed::node::Node;
use testbed::{skip, wait};

use crate::blocks::{self, Shell};
use crate::command::{self, Curl};
use crate::{product, steady};

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster of one master and two agents, each on a host of its own.
struct Live(Cluster);

impl Live {
    /// The agents come one after the other, so that each always gets the same subnet.
    fn start() -> Live {
        let mut setup = ClusterConfig::new(2, Placement::Hosts).unwrap();
        setup.agent_config["firewall"] = "iptables".into();
        let mut cluster = Cluster::prepare(&setup).unwrap();
        cluster.master.start().unwrap();
        for index in 0..cluster.agents.len() {
            cluster.agents[index].start().unwrap();
            let name = cluster.agents[index].name().to_owned();
            wait::until(&format!("{name} to be registered"), LIMIT, || {
                cluster.check()?;
                let state = cluster.agents[index]
                    .client()
                    .get("/overlay-agent/overlay")?
                    .json()?;
                Ok(
                    (state["registered"] == true && state["overlays"][0]["subnet"].is_string())
                        .then_some(()),
                )
            })
            .unwrap();
        }
        // Mesos's snapshot lags behind by up to a second.
        wait::until("both agents in the metrics", LIMIT, || {
            let metrics = |node: &Node| node.client().get("/metrics/snapshot")?.json();
            let connected = metrics(&cluster.master)?["overlay/master/agents_connected"] == 2.0;
            let agent = metrics(&cluster.agents[0])?;
            let known = [
                "overlay/slave/peers",
                "overlay/slave/addresses/dcos/mesos/in_use",
            ];
            Ok((connected && known.iter().all(|name| agent[name].is_number())).then_some(()))
        })
        .unwrap();
        let host = cluster.agents[0].host().unwrap();
        wait::until("the route to the second agent", LIMIT, || {
            let routes = host.run("ip", &["route", "show", "dev", "vtep1024"])?;
            Ok(routes.contains("9.0.1.0/24").then_some(()))
        })
        .unwrap();
        Live(cluster)
    }

    fn client(&self, server: &str) -> Client {
        let nodes = std::iter::once(&self.0.master).chain(&self.0.agents);
        let mut at = nodes.filter(|node| node.address().to_string() == server);
        at.next()
            .unwrap_or_else(|| panic!("nobody is at {server}"))
            .client()
    }

    fn curl(&self, arguments: &[String]) -> String {
        let curl = Curl::parse(arguments);
        let query = if curl.query.is_empty() {
            String::new()
        } else {
            format!("?{}", curl.query)
        };
        let content_type = curl.content_type();
        let headers: Vec<(&str, &str)> = content_type
            .iter()
            .map(|value| ("Content-Type", value.as_str()))
            .collect();
        let path = format!("{}{query}", curl.path);
        let reply = self
            .client(&curl.server)
            .request(&curl.method, &path, &headers, curl.body.as_bytes())
            .unwrap();
        let mut printed = String::new();
        if curl.include {
            printed = format!("HTTP/1.1 {}\n", reply_status(reply.status));
            let value = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
            for (name, text) in &reply.headers {
                let words = name
                    .as_str()
                    .split('-')
                    .map(capitalised)
                    .collect::<Vec<_>>();
                printed += &format!("{}: {}\n", words.join("-"), value(text.as_bytes()));
            }
            printed.push('\n');
        }
        printed + &curl.print(reply.status, &reply.text())
    }

    fn run_on_host(&self, words: &[String]) -> String {
        let agent: &Node = &self.0.agents[0];
        let arguments: Vec<&str> = words[1..].iter().map(String::as_str).collect();
        match words[0].as_str() {
            "cat" => {
                let file = words[1].strip_prefix("/etc/mesos/cni/").unwrap();
                let text = fs::read_to_string(agent.dir().join("cni").join(file)).unwrap();
                text.replace(
                    &agent.dir().join("cni-data").display().to_string(),
                    "/var/lib/cni/networks",
                )
            }
            "grep" => {
                let node = if words[2].contains("master") {
                    &self.0.master
                } else {
                    agent
                };
                match words[2].ends_with(".WARNING") {
                    true => wait::until(&words.join(" "), LIMIT, || Ok(warnings(node, &words[1])))
                        .unwrap(),
                    false => grep(&node.log(), &words[1]),
                }
            }
            "mesos-overlay" => self.run_program(&arguments),
            "ip" | "bridge" | "iptables-save" | "ipset" => {
                agent.host().unwrap().run(&words[0], &arguments).unwrap()
            }
            other => panic!("no such command: {other}"),
        }
    }
}

impl Live {
    /// Runs the program on the host of the first agent. Its output has the paths of an
    /// installation instead of the test's.
    fn run_program(&self, arguments: &[&str]) -> String {
        let agent = &self.0.agents[0];
        let mut command = Command::new(product::program());
        command.args(arguments).env_remove("MESOS_MASTER");
        agent.host().unwrap().netns().apply_to(&mut command);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        let dir = agent.dir().display().to_string();
        text.replace(&format!("{dir}/cni-data"), "/var/lib/cni/networks")
            .replace(&format!("{dir}/cni"), "/etc/mesos/cni")
            .replace(&dir, "/etc/mesos/overlay")
    }
}

fn grep(log: &str, word: &str) -> String {
    log.lines()
        .filter(|line| line.contains(word))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// The lines of warnings and errors with this word; `None`: there are none yet.
fn warnings(node: &Node, word: &str) -> Option<String> {
    let lines = grep(&node.log(), word);
    let grave = lines.lines().filter(|line| line.starts_with(['W', 'E']));
    let grave: String = grave.map(|line| format!("{line}\n")).collect();
    (!grave.is_empty()).then_some(grave)
}

fn reply_status(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        503 => "503 Service Unavailable",
        _ => panic!("{status}"),
    }
}

fn capitalised(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

impl Shell for Live {
    fn run(&mut self, command: &str) -> String {
        let output = command::run(command, |words| match words[0].as_str() {
            "curl" => self.curl(&words[1..]),
            _ => self.run_on_host(words),
        });
        output
            .lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }
}

/// A master whose configuration has two mistakes, on a loopback address.
struct BadStart;

impl Shell for BadStart {
    fn run(&mut self, command: &str) -> String {
        let setup = ClusterConfig::new(0, Placement::Loopback).unwrap();
        let mut cluster = Cluster::prepare(&setup).unwrap();
        let master = &mut cluster.master;
        master
            .configure(|config| {
                config["authenticate_http"] = "yes".into();
                config["network"]["vtep_subnet"] = "44.128.0.1/20".into();
            })
            .unwrap();
        master.start().unwrap();
        assert!(!master.wait_ended(LIMIT).unwrap().success());
        let log = master
            .log()
            .replace(&master.dir().display().to_string(), "/etc/mesos/overlay");
        command::run(command, |words| grep(&log, &words[1]))
    }
}

/// An agent without a container engine, on a loopback address.
struct NoEngine;

impl Shell for NoEngine {
    fn run(&mut self, command: &str) -> String {
        let mut setup = ClusterConfig::new(1, Placement::Loopback).unwrap();
        setup.agent_config["network_config"] = json!({ "docker_bridge": true });
        setup.agent_config["max_configuration_attempts"] = 1.into();
        let cluster = Cluster::start(&setup).unwrap();
        let agent = &cluster.agents[0];
        let socket = agent.dir().join("docker.sock").display().to_string();
        let reply = wait::until("the failure", LIMIT, || {
            let reply = agent.client().get("/overlay-agent/overlay")?;
            Ok(reply.text().contains("STATUS_FAILED").then_some(reply))
        });
        let text = reply
            .unwrap()
            .text()
            .replace(&socket, "/var/run/docker.sock");
        command::run(command, |words| {
            assert!(words[2].ends_with("/overlay-agent/overlay"), "{words:?}");
            text
        })
    }
}

/// Checks the blocks of a scenario that needs Mesos, but no rights.
fn check_with_mesos(test: &str, mark: &str, shell: fn() -> Box<dyn Shell>) {
    if skip::require_mesos(test).is_none() {
        return;
    }
    blocks::check(
        |page, block| {
            let played = || blocks::play(&page.body(block), &mut *shell());
            (block.mark == mark).then(played)
        },
        |stands, body| steady::output(stands) == steady::output(body),
    );
}

#[test]
fn sample_outputs_are_what_mesos_says_when_it_cannot_start() {
    let test = "sample_outputs_are_what_mesos_says_when_it_cannot_start";
    check_with_mesos(test, "bad-start", || Box::new(BadStart));
}

#[test]
fn sample_outputs_are_what_an_agent_without_an_engine_says() {
    let test = "sample_outputs_are_what_an_agent_without_an_engine_says";
    check_with_mesos(test, "no-engine", || Box::new(NoEngine));
}

#[test]
fn sample_outputs_are_what_kernel_and_mesos_say() {
    let test = "sample_outputs_are_what_kernel_and_mesos_say";
    if !skip::require_hosts(test) || skip::require_mesos(test).is_none() {
        return;
    }
    let live = RefCell::new(Live::start());
    blocks::check(
        |page, block| {
            let live = || blocks::play(&page.body(block), &mut *live.borrow_mut());
            (block.mark == "live").then(live)
        },
        |stands, body| steady::output(stands) == steady::output(body),
    );
}
