//! `mesos-executor`: runs the command of one task, in the container that Mesos made.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::health::{Check, Health, Place};
use super::{Connection, Event, container_ip, id, nanoseconds, process, status};

/// Grace period of tasks without a kill policy: Mesos's default of
/// `--executor_shutdown_grace_period`.
pub(super) const GRACE: Duration = Duration::from_secs(5);

/// Ends a task, with a grace period.
pub type Stop = Box<dyn Fn(Duration) + Send + Sync>;

/// A task that was started.
pub struct Started {
    /// Process that ends with the task, and its result.
    pub child: Child,
    /// Ends the task.
    pub stop: Stop,
    /// Members of every status of the running task.
    pub members: Value,
    /// Place where health checks are made.
    pub place: Place,
}

/// A running task.
struct Task {
    id: String,
    grace: Duration,
    members: Value,
    stop: Stop,
    killed: AtomicBool,
    unhealthy: AtomicBool,
    ended: AtomicBool,
}

/// Runs the program.
///
/// # Errors
/// The process was not started by an agent, or the agent stays away.
pub fn main() -> Result<()> {
    supervise(|task| {
        let mut command = process::command(&task["command"])?;
        if let Some(ip) = container_ip() {
            command.env("MESOS_CONTAINER_IP", ip.to_string());
        }
        let child = command.spawn().context("starting the command")?;
        let leader = child.id();
        Ok(Started {
            child,
            stop: Box::new(move |grace| process::end_group(leader, grace)),
            members: Value::Null,
            place: Place {
                netns: None,
                run: Box::new(process::run),
            },
        })
    })
}

/// Serves an agent: starts the one task that it launches, checks its health, and reports its states.
///
/// # Errors
/// As those of [`Connection`].
pub fn supervise(start: impl Fn(&Value) -> Result<Started>) -> Result<()> {
    let connection = Arc::new(Connection::from_environment()?);
    let mut running: Option<Arc<Task>> = None;
    connection.run(|event| match event {
        Event::Launch(tasks) => {
            for task in tasks {
                running = launch(&connection, &task, &start);
            }
        }
        Event::Kill(_, grace) => {
            if let Some(task) = running.clone() {
                let grace = grace.unwrap_or(task.grace);
                thread::spawn(move || task.kill(grace));
            }
        }
        Event::Shutdown => {
            if let Some(task) = &running {
                task.kill(task.grace);
            }
        }
        Event::Subscribed(_) => {}
    })
}

fn launch(
    connection: &Arc<Connection>,
    task: &Value,
    start: impl Fn(&Value) -> Result<Started>,
) -> Option<Arc<Task>> {
    let id = id(&task["task_id"]);
    connection.update(&id, status("TASK_STARTING"), false);
    let check = &task["health_check"];
    let prepared = (!check.is_null()).then(|| Check::new(check)).transpose();
    let started = prepared.and_then(|check| Ok((check, start(task)?)));
    let (check, started) = match started {
        Ok(started) => started,
        Err(error) => {
            let mut failed = status("TASK_FAILED");
            failed["message"] = format!("{error:#}").into();
            connection.update(&id, failed, true);
            return None;
        }
    };
    let running = Arc::new(Task {
        id,
        grace: nanoseconds(&task["kill_policy"]["grace_period"]).unwrap_or(GRACE),
        members: started.members,
        stop: started.stop,
        killed: AtomicBool::new(false),
        unhealthy: AtomicBool::new(false),
        ended: AtomicBool::new(false),
    });
    connection.update(&running.id, running.status("TASK_RUNNING"), false);
    running.reap(connection, started.child);
    if let Some(check) = check {
        let (connection, task) = (Arc::clone(connection), Arc::clone(&running));
        check.start(started.place, move |health| {
            task.report(&connection, &health)
        });
    }
    Some(running)
}

impl Task {
    fn status(&self, state: &str) -> Value {
        let mut status = status(state);
        for (key, value) in self.members.as_object().into_iter().flatten() {
            status[key] = value.clone();
        }
        status
    }

    fn kill(&self, grace: Duration) {
        self.killed.store(true, Ordering::SeqCst);
        if !self.ended.load(Ordering::SeqCst) {
            (self.stop)(grace);
        }
    }

    /// Reports the end of the task, when it comes.
    fn reap(self: &Arc<Task>, connection: &Arc<Connection>, mut child: Child) {
        let (task, connection) = (Arc::clone(self), Arc::clone(connection));
        thread::spawn(move || {
            let outcome = child.wait();
            task.ended.store(true, Ordering::SeqCst);
            let killed = task.killed.load(Ordering::SeqCst);
            let (state, message) = match outcome {
                Ok(outcome) => ended(outcome, killed),
                Err(error) => ("TASK_FAILED", error.to_string()),
            };
            let mut last = status(state);
            last["message"] = message.into();
            if task.unhealthy.load(Ordering::SeqCst) {
                last["healthy"] = false.into();
            }
            connection.update(&task.id, last, true);
        });
    }

    /// Reports health, and kills a task that is not healthy any more. Returns false when nothing is
    /// to be checked any more.
    fn report(&self, connection: &Connection, health: &Health) -> bool {
        if self.ended.load(Ordering::SeqCst) {
            return false;
        }
        let mut status = self.status("TASK_RUNNING");
        status["healthy"] = health.healthy.into();
        status["message"] = health.message.clone().into();
        status["reason"] = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED".into();
        connection.update(&self.id, status, false);
        if health.kill {
            self.unhealthy.store(true, Ordering::SeqCst);
            self.kill(self.grace);
        }
        !health.kill
    }
}

/// Returns the state of a task that has ended, with a message.
fn ended(outcome: ExitStatus, killed: bool) -> (&'static str, String) {
    let message = match (outcome.code(), outcome.signal()) {
        (Some(code), _) => format!("Command exited with status {code}"),
        (None, signal) => format!("Command terminated with signal {}", signal.unwrap_or(0)),
    };
    let state = match (killed, outcome.success()) {
        (true, _) => "TASK_KILLED",
        (false, true) => "TASK_FINISHED",
        (false, false) => "TASK_FAILED",
    };
    (state, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_process_is_a_state() {
        let outcome = |code| ExitStatus::from_raw(code);
        assert_eq!(ended(outcome(0), false).0, "TASK_FINISHED");
        assert_eq!(ended(outcome(15), true).0, "TASK_KILLED");
        let failed = ended(outcome(3 << 8), false);
        assert_eq!(
            failed,
            ("TASK_FAILED", "Command exited with status 3".into())
        );
    }
}
