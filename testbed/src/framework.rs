//! A small framework: launches our tasks through Mesos's scheduler API (version 1, JSON), with an
//! executor for each, follows their states and kills them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::paths;
use crate::recordio::Events;
use crate::task::PORT;

const API: &str = "/api/v1/scheduler";
const JSON: [(&str, &str); 2] = [
    ("Content-Type", "application/json"),
    ("Accept", "application/json"),
];
/// Pause between two attempts to subscribe.
const RETRY: Duration = Duration::from_millis(50);

/// A task to launch.
#[derive(Clone, Debug)]
pub struct TaskSpec {
    /// Id of the task and of its executor.
    pub id: String,
    /// Host name of the agent.
    pub agent: String,
    /// CNI network; `None`: the network of the agent's host.
    pub network: Option<String>,
    /// Port mappings: ports of the host (from 31000 on) and of the container.
    pub ports: Vec<(u16, u16)>,
    /// Members of Mesos's `TaskInfo` that replace those of the test bed, such as `name` and
    /// `discovery`; null: none.
    pub info: Value,
}

impl TaskSpec {
    /// Makes a task on a CNI network, or on the network of the agent's host.
    pub fn new(id: &str, agent: &str, network: Option<&str>) -> TaskSpec {
        TaskSpec {
            id: id.into(),
            agent: agent.into(),
            network: network.map(str::to_owned),
            ports: Vec::new(),
            info: Value::Null,
        }
    }
}

/// State of a task, from its status updates.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskState {
    /// State such as `TASK_RUNNING`; empty before the first update.
    pub state: String,
    /// Mesos's explanation; may be empty.
    pub message: String,
    /// Addresses of the container.
    pub ips: Vec<IpAddr>,
    /// Networks of the container, in the order of the status.
    pub networks: Vec<TaskNetwork>,
    /// Port on which [`crate::task`] listens.
    pub port: u16,
    /// Result of the last health check of an executor; `None`: there was none.
    pub healthy: Option<bool>,
}

/// Network of a container, from a status update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TaskNetwork {
    /// Name; empty: it has none, such as the network of the host.
    pub name: String,
    /// Addresses as Mesos writes them: an IPv6 address may have its prefix length behind it.
    pub addresses: Vec<String>,
}

impl TaskNetwork {
    /// Returns the addresses without their prefix lengths.
    pub fn ips(&self) -> impl Iterator<Item = IpAddr> {
        let bare = |text: &String| text.split('/').next()?.parse().ok();
        self.addresses.iter().filter_map(bare)
    }
}

impl TaskState {
    /// Returns the first address of the task, with its port.
    pub fn address(&self) -> Result<SocketAddr> {
        let ip = self.ips.first().context("the task has no address")?;
        Ok(SocketAddr::new(*ip, self.port))
    }

    /// Returns all addresses of the task, with its port.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ips.iter().map(|ip| SocketAddr::new(*ip, self.port))
    }

    fn is_terminal(&self) -> bool {
        ![
            "",
            "TASK_STAGING",
            "TASK_STARTING",
            "TASK_RUNNING",
            "TASK_KILLING",
            "TASK_UNREACHABLE",
        ]
        .contains(&self.state.as_str())
    }
}

#[derive(Debug, Default)]
struct State {
    framework: Value,
    /// Stream id of the subscription; empty: not subscribed.
    stream: String,
    error: String,
    closing: bool,
    offers: BTreeMap<String, Value>,
    tasks: BTreeMap<String, TaskState>,
}

#[derive(Debug)]
struct Shared {
    master: Client,
    name: String,
    user: String,
    state: Mutex<State>,
    changed: Condvar,
}

/// A subscribed framework; dropping it ends its tasks.
#[derive(Debug)]
pub struct Framework {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
}

impl Framework {
    /// Subscribes to a master. Whenever the connection ends, the framework subscribes again under
    /// the same id.
    pub fn subscribe(master: Client) -> Result<Framework> {
        Framework::named("testbed", master)
    }

    /// Subscribes to a master as the framework with a name.
    pub fn named(name: &str, master: Client) -> Result<Framework> {
        let user = nix::unistd::User::from_uid(nix::unistd::geteuid())?
            .map_or("root".into(), |user| user.name);
        let shared = Arc::new(Shared {
            master,
            name: name.to_owned(),
            user,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let there = Arc::clone(&shared);
        let reader = thread::Builder::new()
            .name("framework".into())
            .spawn(move || there.read())?;
        let framework = Framework {
            shared,
            reader: Some(reader),
        };
        framework.wait_subscribed(Duration::from_secs(10))?;
        Ok(framework)
    }

    /// Waits until the framework is subscribed.
    pub fn wait_subscribed(&self, limit: Duration) -> Result<()> {
        self.shared.wait("the subscription", limit, |state| {
            (!state.stream.is_empty()).then_some(())
        })
    }

    /// Waits for an offer of the agent and launches a task with it.
    pub fn launch(&self, spec: &TaskSpec, limit: Duration) -> Result<()> {
        self.accept(&spec.agent, limit, |offer| {
            let info = task_info(spec, offer)?;
            let launch = json!({ "type": "LAUNCH", "launch": { "task_infos": [info] } });
            Ok((vec![spec.id.clone()], launch))
        })
        .map(drop)
    }

    /// Waits for an offer of the agent and accepts it with an operation (`Offer.Operation`), which
    /// `make` makes of the offer with the ids of its tasks. Returns these ids.
    pub fn accept(
        &self,
        agent: &str,
        limit: Duration,
        make: impl FnOnce(&Value) -> Result<(Vec<String>, Value)>,
    ) -> Result<Vec<String>> {
        let what = format!("an offer of {agent}");
        let offer = self.shared.wait(&what, limit, |state| {
            let (id, _) = state
                .offers
                .iter()
                .find(|(_, offer)| offer["hostname"] == agent)?;
            let id = id.clone();
            state.offers.remove(&id)
        })?;
        let (tasks, operation) = make(&offer)?;
        for task in &tasks {
            let mut state = self.shared.lock();
            state.tasks.insert(task.clone(), TaskState::default());
        }
        // The unused part of the offer is offered again at once.
        let accept = json!({
            "offer_ids": [offer["id"]], "operations": [operation], "filters": { "refuse_seconds": 0 },
        });
        self.shared.call("ACCEPT", Some(("accept", accept)))?;
        Ok(tasks)
    }

    /// Waits until a running task's health, as its executor sees it, satisfies a condition.
    pub fn wait_health(
        &self,
        id: &str,
        limit: Duration,
        is: impl Fn(Option<bool>) -> bool,
    ) -> Result<TaskState> {
        self.shared
            .wait(&format!("the health of task {id}"), limit, |state| {
                let task = state.tasks.get(id)?;
                is(task.healthy).then(|| task.clone())
            })
    }

    /// Waits until a task runs and has an address.
    pub fn wait_running(&self, id: &str, limit: Duration) -> Result<TaskState> {
        let state = self
            .shared
            .wait(&format!("task {id} to run"), limit, |state| {
                let task = state.tasks.get(id)?;
                let running = task.state == "TASK_RUNNING" && !task.ips.is_empty();
                (running || task.is_terminal()).then(|| task.clone())
            })?;
        ensure!(
            !state.is_terminal(),
            "task {id} is {}: {}",
            state.state,
            state.message
        );
        Ok(state)
    }

    /// Waits until a task is in a terminal state.
    pub fn wait_ended(&self, id: &str, limit: Duration) -> Result<TaskState> {
        self.shared
            .wait(&format!("task {id} to end"), limit, |state| {
                let task = state.tasks.get(id)?;
                task.is_terminal().then(|| task.clone())
            })
    }

    /// Returns the state of a task; `None`: it was not launched.
    pub fn task(&self, id: &str) -> Option<TaskState> {
        self.shared.lock().tasks.get(id).cloned()
    }

    /// Kills a task; does not wait for its end.
    pub fn kill(&self, id: &str) -> Result<()> {
        self.shared.call(
            "KILL",
            Some(("kill", json!({ "task_id": { "value": id } }))),
        )
    }

    /// Asks the master for status updates of all tasks.
    pub fn reconcile(&self) -> Result<()> {
        self.shared
            .call("RECONCILE", Some(("reconcile", json!({ "tasks": [] }))))
    }

    /// Ends the subscription without ending the tasks.
    pub fn leave(mut self) {
        self.shared.lock().closing = true;
        self.reader.take(); // the thread ends with this process
    }
}

impl Drop for Framework {
    fn drop(&mut self) {
        let Some(reader) = self.reader.take() else {
            return;
        };
        self.shared.lock().closing = true;
        // The master ends the stream now; if it is down, the stream has ended already.
        let _ = self.shared.call("TEARDOWN", None);
        let _ = reader.join();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut ask: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut state = self.lock();
        loop {
            if let Some(answer) = ask(&mut state) {
                return Ok(answer);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let (error, tasks) = (&state.error, &state.tasks);
                bail!(
                    "timeout after {limit:?} while waiting for {what}; last error {error:?}, tasks {tasks:?}"
                );
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    fn call(&self, kind: &str, content: Option<(&str, Value)>) -> Result<()> {
        let (framework, stream) = {
            let state = self.lock();
            (state.framework.clone(), state.stream.clone())
        };
        let mut body = json!({ "type": kind, "framework_id": framework });
        if let Some((key, content)) = content {
            body[key] = content;
        }
        let headers = [JSON[0], JSON[1], ("Mesos-Stream-Id", &stream)];
        let reply: Reply =
            self.master
                .request("POST", API, &headers, body.to_string().as_bytes())?;
        ensure!(
            reply.status == 202,
            "{kind} was answered with {}: {}",
            reply.status,
            reply.text().trim()
        );
        Ok(())
    }

    fn read(&self) {
        loop {
            let outcome = self.subscription();
            let mut state = self.lock();
            state.stream.clear();
            state.offers.clear();
            if state.closing {
                return;
            }
            if let Err(error) = outcome {
                state.error = format!("{error:#}");
            }
            drop(state);
            thread::sleep(RETRY);
        }
    }

    /// Subscribes and handles events until the stream ends.
    fn subscription(&self) -> Result<()> {
        let mut info = json!({
            "user": self.user, "name": self.name, "roles": ["*"], "checkpoint": true,
            "failover_timeout": 604_800.0, "capabilities": [{ "type": "MULTI_ROLE" }],
        });
        let mut body = json!({ "type": "SUBSCRIBE" });
        let framework = self.lock().framework.clone();
        if !framework.is_null() {
            info["id"] = framework.clone();
            body["framework_id"] = framework;
        }
        body["subscribe"] = json!({ "framework_info": info });
        let stream = self
            .master
            .stream(API, &JSON, body.to_string().as_bytes())?;
        ensure!(
            stream.status == 200,
            "the subscription was answered with {}",
            stream.status
        );
        let id = stream
            .headers
            .get("Mesos-Stream-Id")
            .and_then(|id| id.to_str().ok())
            .unwrap_or("")
            .to_owned();
        for event in Events::new(stream.reader) {
            self.handle(&event?, &id)?;
        }
        Ok(())
    }

    fn handle(&self, event: &Value, stream: &str) -> Result<()> {
        let mut state = self.lock();
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => {
                state.framework = event["subscribed"]["framework_id"].clone();
                state.stream = stream.to_owned();
                state.error.clear();
            }
            "OFFERS" => {
                for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                    let id = offer["id"]["value"].as_str().unwrap_or_default().to_owned();
                    state.offers.insert(id, offer.clone());
                }
            }
            "RESCIND" => {
                let id = event["rescind"]["offer_id"]["value"]
                    .as_str()
                    .unwrap_or_default();
                state.offers.remove(id);
            }
            "UPDATE" => {
                let status = &event["update"]["status"];
                let id = status["task_id"]["value"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                merge(state.tasks.entry(id).or_default(), status);
                drop(state);
                self.changed.notify_all();
                self.acknowledge(status);
                return Ok(());
            }
            "ERROR" => bail!("the master reports an error: {}", event["error"]["message"]),
            _ => {}
        }
        self.changed.notify_all();
        Ok(())
    }

    fn acknowledge(&self, status: &Value) {
        if status["uuid"].is_null() {
            return;
        }
        let content = json!({ "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"] });
        // If this fails, the agent sends the update again.
        let _ = self.call("ACKNOWLEDGE", Some(("acknowledge", content)));
    }
}

/// Merges a status update into the state. Later updates may have no addresses.
fn merge(task: &mut TaskState, status: &Value) {
    task.state = status["state"].as_str().unwrap_or_default().to_owned();
    task.message = status["message"].as_str().unwrap_or_default().to_owned();
    if let Some(healthy) = status["healthy"].as_bool() {
        task.healthy = Some(healthy);
    }
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let infos = status["container_status"]["network_infos"].as_array();
    let network = |info: &Value| {
        let addresses = info["ip_addresses"].as_array().into_iter().flatten();
        let addresses = addresses.map(|address| text(&address["ip_address"]));
        TaskNetwork {
            name: text(&info["name"]),
            addresses: addresses.collect(),
        }
    };
    let networks: Vec<TaskNetwork> = infos.into_iter().flatten().map(network).collect();
    let ips: Vec<IpAddr> = networks.iter().flat_map(TaskNetwork::ips).collect();
    if !ips.is_empty() {
        (task.ips, task.networks) = (ips, networks);
    }
    let data = status["data"]
        .as_str()
        .and_then(|data| BASE64_STANDARD.decode(data).ok());
    let data: Value = data
        .and_then(|data| serde_json::from_slice(&data).ok())
        .unwrap_or_default();
    if let Some(port) = data["port"].as_u64() {
        task.port = u16::try_from(port).unwrap_or(0);
    }
}

fn task_info(spec: &TaskSpec, offer: &Value) -> Result<Value> {
    let resources = |cpus: f64, mem: f64| {
        [("cpus", cpus), ("mem", mem)].map(|(name, value)| {
            json!({
                "name": name, "type": "SCALAR", "scalar": { "value": value },
                "allocation_info": { "role": "*" },
            })
        })
    };
    let program = paths::program("overlay-test-executor")?;
    // On the host's network ports can be taken, so the task chooses a free one.
    let listen = match &spec.network {
        Some(_) => format!("[::]:{PORT}"),
        None => format!("{}:0", spec.agent),
    };
    let mut executor = json!({
        "type": "CUSTOM",
        "executor_id": { "value": spec.id },
        "command": {
            "shell": false, "value": program, "arguments": ["overlay-test-executor", listen],
        },
        "resources": resources(0.05, 32.0),
    });
    let mut task_resources = resources(0.05, 32.0).to_vec();
    if let Some(network) = &spec.network {
        let mappings: Vec<Value> = spec.ports.iter().map(|(host, container)| {
            json!({ "host_port": host, "container_port": container, "protocol": "tcp" })
        }).collect();
        executor["container"] = json!({
            "type": "MESOS", "network_infos": [{ "name": network, "port_mappings": mappings }],
        });
    }
    if !spec.ports.is_empty() {
        let ranges: Vec<Value> = spec
            .ports
            .iter()
            .map(|(host, _)| json!({ "begin": host, "end": host }))
            .collect();
        task_resources.push(json!({
            "name": "ports", "type": "RANGES", "ranges": { "range": ranges },
            "allocation_info": { "role": "*" },
        }));
    }
    let mut info = json!({
        "name": spec.id,
        "task_id": { "value": spec.id },
        "agent_id": offer["agent_id"],
        "resources": task_resources,
        "executor": executor,
    });
    for (member, value) in spec.info.as_object().into_iter().flatten() {
        info[member] = value.clone();
    }
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_updates_do_not_take_the_address_away() {
        let mut task = TaskState::default();
        let data = BASE64_STANDARD.encode(r#"{"port":7}"#);
        let first = json!({
            "state": "TASK_RUNNING", "data": data,
            "container_status": { "network_infos": [{ "ip_addresses": [
                { "ip_address": "9.0.0.2" }, { "ip_address": "fd01:b::2/81" },
            ] }] },
        });
        merge(&mut task, &first);
        merge(
            &mut task,
            &json!({ "state": "TASK_RUNNING", "message": "Reconciliation" }),
        );
        assert_eq!(task.address().unwrap(), "9.0.0.2:7".parse().unwrap());
        assert_eq!(
            task.addresses().last(),
            Some("[fd01:b::2]:7".parse().unwrap())
        );
        assert_eq!(task.networks[0].addresses, ["9.0.0.2", "fd01:b::2/81"]);
        assert!(!task.is_terminal());
    }
}
