//! The executor of our tasks: speaks Mesos's executor API (version 1, JSON) to its
//! agent and serves [`testbed::task`].
//!
//! ```text
//! overlay-test-executor [ADDRESS:PORT]          under an agent; listens there
//! overlay-test-executor --alone ADDRESS:PORT    without Mesos
//! ```

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};
use testbed::http::Client;
use testbed::netns::{self, Netns};
use testbed::recordio::Events;
use testbed::task;

/// From one attempt to reach the agent to the next. A restarted agent waits two
/// seconds for its executors.
const RETRY: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let outcome = match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--alone", address] => listen(address).map(|listener| task::serve(&listener)),
        [] => run("[::]:7007"),
        [address] => run(address),
        _ => Err(anyhow::anyhow!(
            "usage: overlay-test-executor [--alone] [ADDRESS:PORT]"
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("overlay-test-executor: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where there is no IPv6, `[::]` means every IPv4 address.
fn listen(address: &str) -> Result<TcpListener> {
    let v4 = address.replace("[::]", "0.0.0.0");
    TcpListener::bind(address)
        .or_else(|_| TcpListener::bind(&v4))
        .with_context(|| format!("listening on {address}"))
}

fn run(address: &str) -> Result<()> {
    // Before anything changes its network namespace.
    let listener = listen(address)?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || task::serve(&listener));
    let mut executor = Executor::from_environment(port)?;
    let patience = executor.patience;
    let mut lost = Instant::now();
    let mut told = String::new();
    loop {
        match executor.subscribe() {
            Ok(Next::Shutdown) => return Ok(()),
            Ok(Next::Again) => lost = Instant::now(),
            Err(error) if lost.elapsed() >= patience => {
                return Err(error.context("the agent is gone"));
            }
            Err(error) => {
                let error = format!("{error:#}");
                if error != told {
                    eprintln!("{error}");
                    told = error;
                }
            }
        }
        thread::sleep(RETRY);
    }
}

/// What comes after a subscription.
enum Next {
    Shutdown,
    Again,
}

struct Executor {
    agent: Client,
    path: String,
    framework: Value,
    executor: Value,
    port: u16,
    /// How long the agent may be away.
    patience: Duration,
    /// Not yet acknowledged by uuid: what an agent that restarts must be told again.
    updates: BTreeMap<String, Value>,
    tasks: BTreeMap<String, Value>,
    killed: bool,
}

impl Executor {
    fn from_environment(port: u16) -> Result<Executor> {
        let variable =
            |name: &str| env::var(name).with_context(|| format!("{name} in the environment"));
        let endpoint = variable("MESOS_AGENT_ENDPOINT")?;
        let slave = variable("MESOS_SLAVE_PID")?;
        let id = slave.split('@').next().unwrap_or("slave(1)").to_owned();
        let checkpoint = env::var("MESOS_CHECKPOINT").is_ok_and(|value| value == "1");
        Ok(Executor {
            agent: reach(&endpoint)?,
            path: format!("/{id}/api/v1/executor"),
            framework: json!({ "value": variable("MESOS_FRAMEWORK_ID")? }),
            executor: json!({ "value": variable("MESOS_EXECUTOR_ID")? }),
            port,
            patience: if checkpoint {
                Duration::from_secs(60)
            } else {
                Duration::ZERO
            },
            updates: BTreeMap::new(),
            tasks: BTreeMap::new(),
            killed: false,
        })
    }

    fn call(&self, kind: &str, key: &str, content: Value) -> Value {
        json!({ "type": kind, "framework_id": self.framework, "executor_id": self.executor, key: content })
    }

    /// Subscribes and handles events until the agent goes away or shuts us down.
    fn subscribe(&mut self) -> Result<Next> {
        let unacknowledged = json!({
            "unacknowledged_tasks": self.tasks.values().collect::<Vec<_>>(),
            "unacknowledged_updates":
                self.updates.values().map(|status| json!({ "status": status })).collect::<Vec<_>>(),
        });
        let body = self
            .call("SUBSCRIBE", "subscribe", unacknowledged)
            .to_string();
        let headers = [
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
        ];
        let stream = self.agent.stream(&self.path, &headers, body.as_bytes())?;
        if stream.status != 200 {
            bail!("the agent answered the subscription with {}", stream.status);
        }
        eprintln!("subscribed");
        for event in Events::new(stream.reader) {
            let Ok(event) = event else { break }; // the agent died
            match event["type"].as_str().unwrap_or_default() {
                "LAUNCH" => self.launch(&event["launch"]["task"])?,
                "KILL" => {
                    self.killed = true;
                    self.update(&event["kill"]["task_id"], "TASK_KILLED", None)?;
                }
                "ACKNOWLEDGED" => {
                    let acknowledged = &event["acknowledged"];
                    self.updates
                        .remove(acknowledged["uuid"].as_str().unwrap_or_default());
                    self.tasks.remove(
                        acknowledged["task_id"]["value"]
                            .as_str()
                            .unwrap_or_default(),
                    );
                    // One task is all that an executor gets here.
                    if self.killed && self.updates.is_empty() {
                        return Ok(Next::Shutdown);
                    }
                }
                "SHUTDOWN" => return Ok(Next::Shutdown),
                "ERROR" => bail!("the agent says: {}", event["error"]["message"]),
                _ => {}
            }
        }
        Ok(Next::Again)
    }

    fn launch(&mut self, task: &Value) -> Result<()> {
        let id = task["task_id"]["value"]
            .as_str()
            .context("a task without an id")?;
        self.tasks.insert(id.to_owned(), task.clone());
        self.update(
            &task["task_id"],
            "TASK_RUNNING",
            Some(json!({ "port": self.port })),
        )
    }

    /// Sends an update; one that gets lost is sent again with the next subscription.
    fn update(&mut self, task: &Value, state: &str, data: Option<Value>) -> Result<()> {
        let uuid = BASE64_STANDARD.encode(random_uuid());
        let mut status = json!({
            "task_id": task,
            "state": state,
            "source": "SOURCE_EXECUTOR",
            "uuid": uuid,
            "executor_id": self.executor,
        });
        if let Some(data) = data {
            status["data"] = BASE64_STANDARD.encode(data.to_string()).into();
        }
        self.updates.insert(uuid, status.clone());
        let reply = self.agent.post(
            &self.path,
            &self.call("UPDATE", "update", json!({ "status": status })),
        )?;
        if reply.status != 202 {
            bail!(
                "the agent answered {state} with {}: {}",
                reply.status,
                reply.text().trim()
            );
        }
        eprintln!("{state}");
        Ok(())
    }
}

/// Version 4. An agent aborts when it is told anything else at a subscription.
fn random_uuid() -> [u8; 16] {
    let mut uuid = [(); 16].map(|()| fastrand::u8(..));
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// The way to the agent: straight, if the container's network leads to its host;
/// otherwise (a network without a way there) through the network namespace of the nearest
/// ancestor that is in another one, which is the agent.
fn reach(endpoint: &str) -> Result<Client> {
    let address = endpoint
        .parse()
        .with_context(|| format!("MESOS_AGENT_ENDPOINT {endpoint:?}"))?;
    match netns::connect(None, address, Duration::from_secs(1)) {
        Ok(_) => return Ok(Client::new(endpoint, None)),
        Err(error) => eprintln!("the agent is not to be reached from here: {error:#}"),
    }
    let mine = fs::read_link("/proc/self/ns/net")?;
    let mut pid = std::process::id();
    while pid > 1 {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, rest) = stat
            .rsplit_once(')')
            .context("a strange /proc/<pid>/stat")?;
        pid = rest
            .split_whitespace()
            .nth(1)
            .context("a process without a parent")?
            .parse()?;
        let path = PathBuf::from(format!("/proc/{pid}/ns/net"));
        if pid > 1 && fs::read_link(&path)? != mine {
            eprintln!("going through the network namespace of process {pid}");
            return Ok(Client::new(endpoint, Some(Netns::open(&path)?)));
        }
    }
    bail!("there is no way to the agent at {endpoint}")
}
