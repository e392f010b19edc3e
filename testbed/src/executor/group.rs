//! `mesos-default-executor`: runs groups of tasks, each in a container nested in the executor's.
//!
//! All tasks of the executor share its network. COMMAND health checks run in the executor's
//! container, not in one of their own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::command::GRACE;
use super::health::{Check, Health, Place};
use super::{Connection, Event, container_ip, id, nanoseconds, process, random_uuid, status};

/// Signal numbers of `KILL_CONTAINER`.
const SIGKILL: u8 = 9;
const SIGTERM: u8 = 15;

/// Runs the program.
///
/// # Errors
/// The process was not started by an agent, or the agent stays away.
pub fn main() -> Result<()> {
    let pod = Arc::new(Pod {
        connection: Connection::from_environment()?,
        tasks: Mutex::default(),
    });
    let mut container = Value::Null;
    let here = Arc::clone(&pod);
    pod.connection.run(move |event| match event {
        Event::Subscribed(id) => container = id,
        Event::Launch(tasks) => here.launch(&tasks, &container),
        Event::Kill(id, grace) => {
            let task = here.lock().get(&id).cloned();
            if let Some(task) = task {
                let pod = Arc::clone(&here);
                thread::spawn(move || pod.kill(&task, grace));
            }
        }
        Event::Shutdown => here.kill_all(),
    })
}

/// All tasks of the executor.
struct Pod {
    connection: Connection,
    /// Tasks that have not ended, by id.
    tasks: Mutex<BTreeMap<String, Arc<Task>>>,
}

/// A task in a container of its own.
struct Task {
    id: String,
    /// `ContainerID`.
    container: Value,
    grace: Duration,
    killed: AtomicBool,
    unhealthy: AtomicBool,
}

impl Pod {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<Task>>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn launch(self: &Arc<Pod>, tasks: &[Value], parent: &Value) {
        let made: Vec<_> = tasks
            .iter()
            .map(|info| (info, Arc::new(Task::new(info, parent))))
            .collect();
        // All of them, before the first one can end.
        for (_, task) in &made {
            self.lock().insert(task.id.clone(), Arc::clone(task));
            let mut starting = status("TASK_STARTING");
            starting["container_status"] = json!({ "container_id": task.container });
            self.connection.update(&task.id, starting, false);
        }
        for (info, task) in made {
            if let Err(error) = self.start(info, &task) {
                self.ended(&task, "TASK_FAILED", format!("{error:#}"));
            }
        }
    }

    /// Starts a container, checks its health, and waits for its end on another thread.
    fn start(self: &Arc<Pod>, info: &Value, task: &Arc<Task>) -> Result<()> {
        let check = &info["health_check"];
        let check = (!check.is_null()).then(|| Check::new(check)).transpose()?;
        let mut command = info["command"].clone();
        if let Some(ip) = container_ip() {
            let mut variables: Vec<Value> = process::variables(&command)
                .map(|(name, value)| json!({ "name": name, "value": value }))
                .collect();
            variables.push(json!({ "name": "MESOS_CONTAINER_IP", "value": ip }));
            command["environment"] = json!({ "variables": variables });
        }
        let mut launch = json!({
            "container_id": task.container, "command": command, "resources": info["resources"],
        });
        if !info["container"].is_null() {
            launch["container"] = info["container"].clone();
        }
        self.connection
            .operate(&json!({ "type": "LAUNCH_CONTAINER", "launch_container": launch }))?;
        self.connection
            .update(&task.id, task.status("TASK_RUNNING"), false);
        if let Some(check) = check {
            let (pod, task) = (Arc::clone(self), Arc::clone(task));
            let place = Place {
                netns: None,
                run: Box::new(process::run),
            };
            check.start(place, move |health| pod.report(&task, &health));
        }
        let (pod, task) = (Arc::clone(self), Arc::clone(task));
        thread::spawn(move || match pod.wait(&task) {
            Ok((state, message)) => pod.ended(&task, state, message),
            Err(error) => pod.ended(&task, "TASK_FAILED", format!("{error:#}")),
        });
        Ok(())
    }

    /// Waits until the container ends, and returns the state of its task with a message.
    fn wait(&self, task: &Task) -> Result<(&'static str, String)> {
        let call = json!({
            "type": "WAIT_CONTAINER", "wait_container": { "container_id": task.container },
        });
        let answer = self.connection.operate(&call)?;
        // A status as of waitpid(2); 0: success.
        let status = answer["wait_container"]["exit_status"].as_i64();
        let state = match (task.killed.load(Ordering::SeqCst), status) {
            (true, _) => "TASK_KILLED",
            (false, Some(0)) => "TASK_FINISHED",
            (false, _) => "TASK_FAILED",
        };
        let status = status.map_or("unknown".into(), |status| status.to_string());
        Ok((state, format!("Command ended with wait status {status}")))
    }

    /// Reports the end of a task. If it failed, the others are killed.
    fn ended(self: &Arc<Pod>, task: &Task, state: &str, message: String) {
        let none_left = {
            let mut tasks = self.lock();
            if tasks.remove(&task.id).is_none() {
                return;
            }
            tasks.is_empty()
        };
        let mut last = task.status(state);
        last["message"] = message.into();
        if task.unhealthy.load(Ordering::SeqCst) {
            last["healthy"] = false.into();
        }
        self.connection.update(&task.id, last, none_left);
        if state != "TASK_FINISHED" {
            let pod = Arc::clone(self);
            thread::spawn(move || pod.kill_all());
        }
    }

    fn kill_all(&self) {
        let tasks: Vec<_> = self.lock().values().cloned().collect();
        for task in tasks {
            self.kill(&task, None);
        }
    }

    fn kill(&self, task: &Task, grace: Option<Duration>) {
        if task.killed.swap(true, Ordering::SeqCst) {
            return;
        }
        self.signal(task, SIGTERM);
        let here = || self.lock().contains_key(&task.id);
        let gone = crate::wait::until("the task to end", grace.unwrap_or(task.grace), || {
            Ok((!here()).then_some(()))
        });
        if gone.is_err() {
            self.signal(task, SIGKILL);
        }
    }

    fn signal(&self, task: &Task, signal: u8) {
        let kill = json!({ "container_id": task.container, "signal": signal });
        let call = json!({ "type": "KILL_CONTAINER", "kill_container": kill });
        if let Err(error) = self.connection.operate(&call) {
            eprintln!("killing {}: {error:#}", task.id);
        }
    }

    fn report(self: &Arc<Pod>, task: &Arc<Task>, health: &Health) -> bool {
        if !self.lock().contains_key(&task.id) {
            return false;
        }
        let mut status = task.status("TASK_RUNNING");
        status["healthy"] = health.healthy.into();
        status["message"] = health.message.clone().into();
        status["reason"] = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED".into();
        self.connection.update(&task.id, status, false);
        if health.kill {
            task.unhealthy.store(true, Ordering::SeqCst);
            self.kill(task, None);
        }
        !health.kill
    }
}

impl Task {
    fn new(info: &Value, parent: &Value) -> Task {
        let value: String = random_uuid()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Task {
            id: id(&info["task_id"]),
            container: json!({ "value": value, "parent": parent }),
            grace: nanoseconds(&info["kill_policy"]["grace_period"]).unwrap_or(GRACE),
            killed: AtomicBool::new(false),
            unhealthy: AtomicBool::new(false),
        }
    }

    /// Returns a status with the id of the container, by which the agent finds its addresses.
    fn status(&self, state: &str) -> Value {
        let mut status = status(state);
        status["container_status"] = json!({ "container_id": self.container });
        status
    }
}
