//! Executors for the test bed's agents, on Mesos's executor API (version 1, JSON).
//!
//! The package that Mesos is taken from has no executors. These programs take their places in
//! Mesos's `launcher_dir`, under the same names, so that tasks with a command of their own run:
//!
//! * [`command`]: `mesos-executor`, a task with a command;
//! * [`docker`]: `mesos-docker-executor`, a task in a Docker container;
//! * [`group`]: `mesos-default-executor`, groups of tasks (pods of Marathon).
//!
//! They do what Mesos's do, as far as frameworks can see it: states, kill policy, [`health`]
//! checks. Not there: `check`, `max_completion_time`, root file systems of images, and COMMAND
//! health checks in a container of their own.

pub mod command;
pub mod docker;
pub mod group;
pub mod health;
mod process;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use crate::http::Client;
use crate::netns::{self, Netns};
use crate::recordio::Events;

/// Pause between two attempts to subscribe. A restarted agent waits two seconds for its executors.
const RETRY: Duration = Duration::from_millis(100);
/// Longest time without an agent before an executor of a framework with checkpoints exits.
const PATIENCE: Duration = Duration::from_secs(60);
const JSON: [(&str, &str); 2] = [
    ("Content-Type", "application/json"),
    ("Accept", "application/json"),
];

/// Request of the agent to an executor.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The executor is subscribed; its container's id (`ContainerID`).
    Subscribed(Value),
    /// Tasks to launch (`TaskInfo`): one, or those of a group.
    Launch(Vec<Value>),
    /// The task with this id is to be killed, with a grace period if the framework gave one.
    Kill(String, Option<Duration>),
    /// All tasks are to be killed, as the executor ends.
    Shutdown,
}

#[derive(Debug, Default)]
struct State {
    /// Statuses without an acknowledgement, oldest first. They are repeated at each subscription.
    updates: Vec<Value>,
    /// Tasks without an acknowledged status, by id.
    tasks: BTreeMap<String, Value>,
    /// No further update follows: the executor ends with the last acknowledgement.
    complete: bool,
}

/// Connection of an executor with its agent.
#[derive(Debug)]
pub struct Connection {
    agent: Client,
    /// Id of the agent's process in libprocess, such as `slave(1)`.
    process: String,
    framework: Value,
    executor: Value,
    /// Longest time without a subscription before the executor exits.
    patience: Duration,
    state: Mutex<State>,
}

/// Next step after a subscription has ended.
enum Next {
    End,
    Again,
}

impl Connection {
    /// Reads the agent's address and the ids from the environment.
    ///
    /// # Errors
    /// The process was not started by an agent, or cannot reach it.
    pub fn from_environment() -> Result<Connection> {
        let variable =
            |name: &str| env::var(name).with_context(|| format!("{name} in the environment"));
        let endpoint = variable("MESOS_AGENT_ENDPOINT")?;
        let slave = variable("MESOS_SLAVE_PID")?;
        let checkpoint = env::var("MESOS_CHECKPOINT").is_ok_and(|value| value == "1");
        Ok(Connection {
            agent: agent_client(&endpoint)?,
            process: slave.split('@').next().unwrap_or("slave(1)").to_owned(),
            framework: json!({ "value": variable("MESOS_FRAMEWORK_ID")? }),
            executor: json!({ "value": variable("MESOS_EXECUTOR_ID")? }),
            patience: if checkpoint { PATIENCE } else { Duration::ZERO },
            state: Mutex::default(),
        })
    }

    /// Subscribes, again after each lost connection, and hands the agent's events to `handle`.
    /// Returns after a shutdown, or when the last status is acknowledged.
    ///
    /// # Errors
    /// The agent stays away or refuses the subscription.
    pub fn run(&self, mut handle: impl FnMut(Event)) -> Result<()> {
        let mut lost = Instant::now();
        let mut last_error = String::new();
        loop {
            match self.subscription(&mut handle) {
                Ok(Next::End) => return Ok(()),
                Ok(Next::Again) => lost = Instant::now(),
                Err(error) if lost.elapsed() >= self.patience => {
                    return Err(error.context("cannot subscribe to the agent"));
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    if error != last_error {
                        eprintln!("{error}");
                        last_error = error;
                    }
                }
            }
            thread::sleep(RETRY);
        }
    }

    /// Sends a status of a task. It is repeated until the agent acknowledges it.
    ///
    /// `status` has the state and further members of `TaskStatus`. With `last` the executor ends
    /// when all statuses are acknowledged.
    pub fn update(&self, task: &str, status: Value, last: bool) {
        let mut status = status;
        let uuid = BASE64_STANDARD.encode(random_uuid());
        status["task_id"] = json!({ "value": task });
        status["source"] = "SOURCE_EXECUTOR".into();
        status["uuid"] = uuid.into();
        status["executor_id"] = self.executor.clone();
        let mut state = self.lock();
        state.updates.push(status.clone());
        state.complete |= last;
        // Updates of several threads must not overtake each other.
        if let Err(error) = self.send(&status) {
            eprintln!("{}: {error:#}", status["state"]);
        }
    }

    /// Sends a call of the operator API to the agent, whose answer may take any time.
    ///
    /// # Errors
    /// The agent cannot be reached, or refuses the call; the error has its message.
    pub fn operate(&self, call: &Value) -> Result<Value> {
        let path = format!("/{}/api/v1", self.process);
        let mut reply = self
            .agent
            .stream(&path, &JSON, call.to_string().as_bytes())?;
        let mut body = Vec::new();
        reply.reader.read_to_end(&mut body)?;
        ensure!(
            (200..300).contains(&reply.status),
            "{} was answered with {}: {}",
            call["type"],
            reply.status,
            String::from_utf8_lossy(&body).trim()
        );
        match body.is_empty() {
            true => Ok(Value::Null),
            false => serde_json::from_slice(&body).context("an answer that is not JSON"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self) -> String {
        format!("/{}/api/v1/executor", self.process)
    }

    fn call(&self, kind: &str, key: &str, content: Value) -> Value {
        json!({ "type": kind, "framework_id": self.framework, "executor_id": self.executor, key: content })
    }

    fn send(&self, status: &Value) -> Result<()> {
        let call = self.call("UPDATE", "update", json!({ "status": status }));
        let reply = self.agent.post(&self.path(), &call)?;
        ensure!(
            reply.status == 202,
            "answered with {}: {}",
            reply.status,
            reply.text().trim()
        );
        eprintln!("{}", status["state"].as_str().unwrap_or_default());
        Ok(())
    }

    /// Subscribes and handles events until the connection ends or the executor is to end.
    fn subscription(&self, handle: &mut impl FnMut(Event)) -> Result<Next> {
        let unacknowledged = {
            let state = self.lock();
            let updates = state
                .updates
                .iter()
                .map(|status| json!({ "status": status }));
            json!({
                "unacknowledged_tasks": state.tasks.values().collect::<Vec<_>>(),
                "unacknowledged_updates": updates.collect::<Vec<_>>(),
            })
        };
        let body = self
            .call("SUBSCRIBE", "subscribe", unacknowledged)
            .to_string();
        let stream = self.agent.stream(&self.path(), &JSON, body.as_bytes())?;
        ensure!(
            stream.status == 200,
            "the agent answered the subscription with {}",
            stream.status
        );
        eprintln!("subscribed");
        for event in Events::new(stream.reader) {
            let Ok(event) = event else { break }; // the connection was lost
            if let Some(next) = self.handle(&event, handle)? {
                return Ok(next);
            }
        }
        Ok(Next::Again)
    }

    fn handle(&self, event: &Value, handle: &mut impl FnMut(Event)) -> Result<Option<Next>> {
        match event["type"].as_str().unwrap_or_default() {
            "SUBSCRIBED" => handle(Event::Subscribed(
                event["subscribed"]["container_id"].clone(),
            )),
            "LAUNCH" => handle(self.launched(std::slice::from_ref(&event["launch"]["task"]))),
            "LAUNCH_GROUP" => {
                let tasks = &event["launch_group"]["task_group"]["tasks"];
                handle(self.launched(tasks.as_array().map_or(&[][..], Vec::as_slice)));
            }
            "KILL" => {
                let kill = &event["kill"];
                let grace = nanoseconds(&kill["kill_policy"]["grace_period"]);
                handle(Event::Kill(id(&kill["task_id"]), grace));
            }
            "ACKNOWLEDGED" => {
                let acknowledged = &event["acknowledged"];
                let mut state = self.lock();
                state
                    .updates
                    .retain(|status| status["uuid"] != acknowledged["uuid"]);
                state.tasks.remove(&id(&acknowledged["task_id"]));
                if state.complete && state.updates.is_empty() {
                    return Ok(Some(Next::End));
                }
            }
            "SHUTDOWN" => {
                handle(Event::Shutdown);
                return Ok(Some(Next::End));
            }
            "ERROR" => bail!("the agent reports an error: {}", event["error"]["message"]),
            _ => {}
        }
        Ok(None)
    }

    fn launched(&self, tasks: &[Value]) -> Event {
        let mut state = self.lock();
        for task in tasks {
            state.tasks.insert(id(&task["task_id"]), task.clone());
        }
        Event::Launch(tasks.to_vec())
    }
}

/// Returns the value of an id; empty: it has none.
fn id(id: &Value) -> String {
    id["value"].as_str().unwrap_or_default().to_owned()
}

/// Returns a `DurationInfo`; `None`: there is none.
fn nanoseconds(duration: &Value) -> Option<Duration> {
    duration["nanoseconds"].as_u64().map(Duration::from_nanos)
}

/// Returns a status with the time of its making, as Mesos's executors give it.
fn status(state: &str) -> Value {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    json!({ "state": state, "timestamp": now.as_secs_f64() })
}

/// Returns the value of `MESOS_CONTAINER_IP`: the address that connections to the agent have, or to
/// anywhere by IPv6. Nothing is sent. `None`: the container's network leads nowhere.
fn container_ip() -> Option<IpAddr> {
    const DOCUMENTATION: &str = "[2001:db8::1]:9";
    let agent = env::var("MESOS_AGENT_ENDPOINT").unwrap_or_default();
    let source = |local: &str, remote: &str| -> Result<IpAddr> {
        let socket = UdpSocket::bind(local)?;
        socket.connect(remote)?;
        Ok(socket.local_addr()?.ip())
    };
    source("0.0.0.0:0", &agent)
        .or_else(|_| source("[::]:0", DOCUMENTATION))
        .ok()
}

/// Returns a random UUID of version 4. Agents abort on other versions at a subscription.
fn random_uuid() -> [u8; 16] {
    let mut uuid = [(); 16].map(|()| fastrand::u8(..));
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Returns a client of the agent. If the container's network has no route to its host, the client
/// connects from the network namespace of the agent, which is the nearest ancestor in another
/// namespace.
fn agent_client(endpoint: &str) -> Result<Client> {
    let address = endpoint
        .parse()
        .with_context(|| format!("MESOS_AGENT_ENDPOINT {endpoint:?}"))?;
    match netns::connect(None, address, Duration::from_secs(1)) {
        Ok(_) => return Ok(Client::new(endpoint, None)),
        Err(error) => eprintln!("cannot reach the agent from the container: {error:#}"),
    }
    let mine = fs::read_link("/proc/self/ns/net")?;
    let mut pid = std::process::id();
    while pid > 1 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, rest) = stat
            .rsplit_once(')')
            .context("an invalid /proc/<pid>/stat")?;
        pid = rest
            .split_whitespace()
            .nth(1)
            .context("a process without a parent")?
            .parse()?;
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        if pid > 1 && fs::read_link(&path)? != mine {
            eprintln!("connecting from the network namespace of process {pid}");
            return Ok(Client::new(endpoint, Some(Netns::open(&path)?)));
        }
    }
    bail!("cannot reach the agent at {endpoint}")
}
