//! `mesos-docker-executor`: runs one task in a Docker container, with the `docker` program.
//!
//! ```text
//! mesos-docker-executor --container=mesos-… --docker=docker --docker_socket=/…/docker.sock
//!     --sandbox_directory=/… --mapped_directory=/mnt/mesos/sandbox …
//! ```
//!
//! Mesos's containerizer gives these flags, and some more that are ignored.

use std::collections::BTreeMap;
use std::env;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::command::{Started, supervise};
use super::health::Place;
use super::process;
use crate::cleanup::RUN_VARIABLE;
use crate::netns::Netns;

/// Longest time until a container runs.
const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks at a container.
const PAUSE: Duration = Duration::from_millis(50);

/// Runs the program.
///
/// # Errors
/// The process was not started by an agent, or the agent stays away.
pub fn main() -> Result<()> {
    let flags = Arc::new(Flags(flags(env::args().skip(1))));
    supervise(move |task| start(&flags, task))
}

/// Flags of the program, by name.
struct Flags(BTreeMap<String, String>);

fn flags(arguments: impl Iterator<Item = String>) -> BTreeMap<String, String> {
    let flag = |argument: String| {
        let (name, value) = argument.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    arguments.filter_map(flag).collect()
}

impl Flags {
    fn get(&self, name: &str) -> Result<&str> {
        self.0
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("no --{name}"))
    }

    /// Returns a `docker` command for the engine.
    fn docker(&self) -> Result<Command> {
        let mut docker = Command::new(self.get("docker")?);
        docker
            .arg("-H")
            .arg(format!("unix://{}", self.get("docker_socket")?))
            .stdin(Stdio::null());
        Ok(docker)
    }
}

fn start(flags: &Arc<Flags>, task: &Value) -> Result<Started> {
    let name = flags.get("container")?.to_owned();
    let mut docker = flags.docker()?;
    docker.arg("run").args(run_arguments(task, flags)?);
    let mut child = docker
        .process_group(0)
        .spawn()
        .context("running docker run")?;
    let container = inspect(flags, &name, &mut child)?;
    let pid = container["State"]["Pid"].as_u64().unwrap_or_default();
    let netns = Netns::open(Path::new(&format!("/proc/{pid}/ns/net")))?;
    let (here, there) = (Arc::clone(flags), name.clone());
    let stopping = Arc::clone(flags);
    Ok(Started {
        child,
        stop: Box::new(move |grace| stop(&stopping, &name, grace)),
        members: members(task, &container),
        place: Place {
            netns: Some(netns),
            run: Box::new(move |command, limit| execute(&here, &there, command, limit)),
        },
    })
}

/// Waits until the container runs, and returns what `docker inspect` says about it.
fn inspect(flags: &Flags, name: &str, child: &mut Child) -> Result<Value> {
    let end = Instant::now() + LIMIT;
    loop {
        let output = flags
            .docker()?
            .args(["inspect", "--type=container", name])
            .output();
        let output = output.context("running docker inspect")?;
        let inspected: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        if inspected[0]["State"]["Pid"]
            .as_u64()
            .is_some_and(|pid| pid > 0)
        {
            return Ok(inspected[0].clone());
        }
        if let Some(status) = child.try_wait()? {
            bail!("docker run ended before its container ran: {status}");
        }
        ensure!(Instant::now() < end, "no container {name} within {LIMIT:?}");
        thread::sleep(PAUSE);
    }
}

fn stop(flags: &Flags, name: &str, grace: Duration) {
    let seconds = grace.as_secs().to_string();
    let stopped = flags
        .docker()
        .and_then(|mut docker| Ok(docker.args(["stop", "-t", &seconds, name]).output()?));
    if let Err(error) = stopped {
        eprintln!("stopping {name}: {error:#}");
    }
}

/// Runs a command in the container.
fn execute(flags: &Flags, name: &str, command: &Value, limit: Duration) -> Result<()> {
    let mut docker = flags.docker()?;
    docker.args(["exec", name]);
    let value = command["value"]
        .as_str()
        .context("a command without value")?;
    if process::is_shell(command) {
        docker.args(["/bin/sh", "-c", value]);
    } else {
        docker.arg(value);
        docker.args(process::arguments(command).skip(1));
    }
    docker.stdout(Stdio::null()).stderr(Stdio::null());
    process::wait(docker.process_group(0).spawn()?, limit)
}

/// Returns the members of a status of the running task: the network with the engine's addresses.
fn members(task: &Value, container: &Value) -> Value {
    let networks = container["NetworkSettings"]["Networks"].as_object();
    let endpoints = networks.into_iter().flat_map(serde_json::Map::values);
    let addresses: Vec<Value> = endpoints
        .flat_map(|endpoint| ["IPAddress", "GlobalIPv6Address"].map(|key| endpoint[key].as_str()))
        .filter_map(|ip| ip?.parse::<IpAddr>().ok())
        .map(|ip| {
            let protocol = if ip.is_ipv6() { "IPv6" } else { "IPv4" };
            json!({ "ip_address": ip, "protocol": protocol })
        })
        .collect();
    if addresses.is_empty() {
        return Value::Null; // the network of the host: the agent adds its own address
    }
    let mut network = task["container"]["network_infos"][0].clone();
    if network.is_null() {
        network = json!({});
    }
    network["ip_addresses"] = addresses.into();
    json!({ "container_status": { "network_infos": [network] } })
}

/// Returns the arguments of `docker run` for a task.
///
/// # Errors
/// The task is not one that Mesos's executor would run.
fn run_arguments(task: &Value, flags: &Flags) -> Result<Vec<String>> {
    let (docker, command) = (&task["container"]["docker"], &task["command"]);
    let name = flags.get("container")?;
    let mapped = flags.get("mapped_directory")?;
    let mut arguments = resources(task);
    let sandbox = [("MESOS_SANDBOX", mapped), ("MESOS_CONTAINER_NAME", name)];
    let given: Value = match flags.0.get("task_environment") {
        Some(text) => serde_json::from_str(text).context("--task_environment")?,
        None => Value::Null,
    };
    let given = given.as_object().into_iter().flatten();
    let given = given.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
    for (name, value) in given.chain(process::variables(command)).chain(sandbox) {
        arguments.push(format!("--env={name}={value}"));
    }
    // The clean-up of a run knows its processes by this variable.
    if let Ok(run) = env::var(RUN_VARIABLE) {
        arguments.push(format!("--env={RUN_VARIABLE}={run}"));
    }
    let sandbox = flags.get("sandbox_directory")?;
    arguments.push(format!("--volume={sandbox}:{mapped}"));
    arguments.push(format!("--net={}", network(&task["container"])?));
    for mapping in docker["port_mappings"].as_array().into_iter().flatten() {
        let protocol = mapping["protocol"].as_str().unwrap_or("tcp");
        let (host, container) = (&mapping["host_port"], &mapping["container_port"]);
        arguments.push(format!("--publish={host}:{container}/{protocol}"));
    }
    for parameter in docker["parameters"].as_array().into_iter().flatten() {
        let text = |key: &str| parameter[key].as_str().unwrap_or_default();
        arguments.push(format!("--{}={}", text("key"), text("value")));
    }
    arguments.push(format!("--name={name}"));
    let shell = process::is_shell(command);
    if shell {
        arguments.push("--entrypoint=/bin/sh".into());
    }
    let image = docker["image"]
        .as_str()
        .context("a task without an image")?;
    arguments.push(image.to_owned());
    if shell {
        arguments.push("-c".into());
    }
    arguments.extend(command["value"].as_str().map(str::to_owned));
    arguments.extend(process::arguments(command).map(str::to_owned));
    Ok(arguments)
}

fn resources(task: &Value) -> Vec<String> {
    let sum = |name: &str| -> f64 {
        let all = [&task["resources"], &task["executor"]["resources"]];
        let all = all.into_iter().filter_map(Value::as_array).flatten();
        let mine = all.filter(|resource| resource["name"] == name);
        mine.filter_map(|resource| resource["scalar"]["value"].as_f64())
            .sum()
    };
    // The least that Mesos gives: two shares, and 32 MB.
    let shares = (sum("cpus") * 1024.0).max(2.0).floor();
    let bytes = sum("mem").max(32.0).floor() * 1_048_576.0;
    vec![
        format!("--cpu-shares={shares}"),
        format!("--memory={bytes}"),
    ]
}

fn network(container: &Value) -> Result<String> {
    let named = container["network_infos"].as_array();
    Ok(match container["docker"]["network"].as_str() {
        None | Some("HOST") => "host".to_owned(),
        Some("BRIDGE") => "bridge".to_owned(),
        Some("NONE") => "none".to_owned(),
        Some("USER") => match named.map_or(&[][..], Vec::as_slice) {
            [network] => {
                let name = network["name"].as_str();
                name.context("a network without a name")?.to_owned()
            }
            networks => bail!("Docker needs one network, not {}", networks.len()),
        },
        Some(other) => bail!("network {other:?}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test_flags() -> Flags {
        let given = "--container=mesos-1 --docker=docker --docker_socket=/d.sock --help=false \
                     --sandbox_directory=/sandbox --mapped_directory=/mnt/mesos/sandbox";
        Flags(flags(given.split_whitespace().map(str::to_owned)))
    }

    fn task() -> Value {
        json!({
            "resources": [
                { "name": "cpus", "scalar": { "value": 0.5 } }, { "name": "mem", "scalar": { "value": 64.0 } },
            ],
            "container": {
                "type": "DOCKER", "network_infos": [{ "name": "dcos" }],
                "docker": {
                    "image": "busybox", "network": "USER",
                    "port_mappings": [{ "host_port": 31000, "container_port": 80, "protocol": "tcp" }],
                    "parameters": [{ "key": "label", "value": "a=b" }],
                },
            },
            "command": {
                "value": "httpd -f", "environment": { "variables": [{ "name": "A", "value": "b c" }] },
            },
        })
    }

    #[test]
    fn a_task_is_a_docker_run() {
        let arguments = run_arguments(&task(), &test_flags()).unwrap();
        let expected = [
            "--cpu-shares=512",
            "--memory=67108864",
            "--env=A=b c",
            "--env=MESOS_SANDBOX=/mnt/mesos/sandbox",
            "--env=MESOS_CONTAINER_NAME=mesos-1",
            "--volume=/sandbox:/mnt/mesos/sandbox",
            "--net=dcos",
            "--publish=31000:80/tcp",
            "--label=a=b",
            "--name=mesos-1",
            "--entrypoint=/bin/sh",
            "busybox",
            "-c",
            "httpd -f",
        ];
        assert_eq!(arguments, expected);
    }

    #[test]
    fn without_a_shell_the_image_has_the_entrypoint() {
        let mut task = task();
        task["command"] = json!({ "shell": false, "arguments": ["httpd", "-f"] });
        let arguments = run_arguments(&task, &test_flags()).unwrap();
        assert!(arguments.ends_with(&["busybox".into(), "httpd".into(), "-f".into()]));
        task["container"]["network_infos"] = json!([{ "name": "a" }, { "name": "b" }]);
        assert!(run_arguments(&task, &test_flags()).is_err());
    }

    #[test]
    fn the_addresses_are_those_of_the_engine() {
        let container = |v4: &str, v6: &str| {
            json!({ "NetworkSettings": { "Networks": { "dcos": {
                "IPAddress": v4, "GlobalIPv6Address": v6,
            } } } })
        };
        let both = members(&task(), &container("9.0.0.130", "fd01:b::5"));
        let network = &both["container_status"]["network_infos"][0];
        assert_eq!(network["name"], "dcos");
        let addresses = json!([
            { "ip_address": "9.0.0.130", "protocol": "IPv4" },
            { "ip_address": "fd01:b::5", "protocol": "IPv6" },
        ]);
        assert_eq!(network["ip_addresses"], addresses);
        assert_eq!(members(&task(), &container("", "")), Value::Null);
    }
}
