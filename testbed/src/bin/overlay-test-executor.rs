//! Executor of the test tasks: uses Mesos's executor API (version 1, JSON) and serves
//! [`testbed::task`].
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

/// Pause between two attempts to subscribe. A restarted agent waits two seconds for its executors.
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

/// Listens on an address. Without IPv6, `[::]` means every IPv4 address.
fn listen(address: &str) -> Result<TcpListener> {
    let v4 = address.replace("[::]", "0.0.0.0");
    TcpListener::bind(address)
        .or_else(|_| TcpListener::bind(&v4))
        .with_context(|| format!("listening on {address}"))
}

fn run(address: &str) -> Result<()> {
    // Before anything changes the network namespace.
    let listener = listen(address)?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || task::serve(&listener));
    let mut executor = Executor::from_environment(port)?;
    let patience = executor.patience;
    let mut lost = Instant::now();
    let mut last_error = String::new();
    loop {
        match executor.subscribe() {
            Ok(Next::Shutdown) => return Ok(()),
            Ok(Next::Again) => lost = Instant::now(),
            Err(error) if lost.elapsed() >= patience => {
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

/// Next step after a subscription has ended.
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
    /// Longest time without a subscription before the executor exits.
    patience: Duration,
    /// Unacknowledged updates by uuid, which are repeated at each subscription.
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
            agent: agent_client(&endpoint)?,
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

    /// Subscribes and handles events until the connection ends or the agent shuts the executor down.
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
            let Ok(event) = event else { break }; // the connection was lost
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
                    // Each executor gets one task.
                    if self.killed && self.updates.is_empty() {
                        return Ok(Next::Shutdown);
                    }
                }
                "SHUTDOWN" => return Ok(Next::Shutdown),
                "ERROR" => bail!("the agent reports an error: {}", event["error"]["message"]),
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

    /// Sends a status update. Lost updates are repeated at the next subscription.
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
